"""The address of an output file: `farhand:///main/0abc…/0abc…/42/plots/loss.png`.

Its parts are the tenant, what the job belongs to (itself, so far: decision 0022), the
job, the fence of the assignment that wrote it, and the path
in the task's working folder. The fence is in it so that a run whose job was given to
another can't overwrite what that one stored. An address is no permission: whoever
reads it looks at the tenant.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from farhand.kernel.file_paths import check_path
from farhand.kernel.job_id import decode
from farhand.kernel.names import check_tenant

SCHEME = "farhand:///"
LARGEST_FENCE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class FileUri:
    """One output file."""

    tenant: str
    owner: str  # what the job belongs to: its own id
    job_id: str
    fence: int
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.tenant}/{self.owner}/{self.job_id}/{self.fence}/{quote(self.path)}"

    @property
    def key(self) -> str:
        """Where a file store has it."""
        return f"{owner_key(self.tenant, self.owner)}/{self.job_id}/{self.fence}/{self.path}"


def owner_key(tenant: str, owner: str) -> str:
    """What the keys of all files of an owner begin with, before the "/"."""
    return f"{tenant}/{owner}"


def is_uri(text: str) -> bool:
    """Whether a text means to be such an address."""
    return text.startswith(SCHEME)


def parse_uri(text: str) -> FileUri:
    """The parts of an address. Raises ValueError with what is wrong with it."""
    if not is_uri(text):
        raise ValueError(f"is no address of a file; one begins with {SCHEME}")
    parts = text.removeprefix(SCHEME).split("/", 4)
    if len(parts) < 5:
        raise ValueError(f"has too few parts; one is {SCHEME}TENANT/OWNER/JOB/FENCE/PATH")
    tenant, owner, job_id, fence, quoted = parts
    try:
        path = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise ValueError("has a path that is not UTF-8") from None
    if check_tenant("", tenant):
        raise ValueError("names no tenant")
    if decode(owner) is None or decode(job_id) is None:
        raise ValueError("names no job")
    if not (fence.isascii() and fence.isdecimal()) or not 0 < int(fence[:20]) <= LARGEST_FENCE:
        raise ValueError("has no fence")
    if wrong := check_path("", path):
        raise ValueError(f"has a path that can't be: {wrong[0].description}")
    return FileUri(tenant, owner, job_id, int(fence), path)
