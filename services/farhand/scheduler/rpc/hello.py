"""From a worker's hello and its credential to an opening: who it is, for which group, and what it holds."""

from collections.abc import Callable, Iterable

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.errors import GroupNotAllowed, InvalidArgument, NotFound, VersionUnsupported, Violation
from farhand.kernel.job_id import decode
from farhand.kernel.names import check_task_type, check_text, check_worker_id, group_key, group_label, not_found
from farhand.kernel.protocol import PROTOCOL_VERSION, agree
from farhand.runtime import wire
from farhand.runtime.security import Identity
from farhand.scheduler.core.declared import Group
from farhand.scheduler.loops.enqueue import Declarations
from farhand.scheduler.store.sessions import Opening

MOST_SLOTS = 10_000
MOST_TASK_TYPES = 1000
LONGEST_LEASE_MS = 7 * 24 * 3600 * 1000

_PHASE = {
    pb.HELD_PHASE_RECEIVED: "RECEIVED",
    pb.HELD_PHASE_RUNNING: "RUNNING",
    pb.HELD_PHASE_FINISHED: "FINISHED",
    pb.HELD_PHASE_SELF_FENCED: "SELF_FENCED",
}


class Welcomer:
    """See the module. `lease_of` tells a group's lease in ms."""

    def __init__(
        self, declarations: Declarations, lease_of: Callable[[str], int], *, replica: str, version: str
    ) -> None:
        self._declarations = declarations
        self._lease_of = lease_of
        self._replica = replica
        self._version = version

    async def opening(self, hello: pb.Hello, caller: Identity) -> tuple[Opening, int]:
        """What to open, and the lease in ms that the worker counts with (0: none yet). Raises what a worker is
        refused for: VersionUnsupported, InvalidArgument, GroupNotAllowed, NotFound, Unavailable."""
        if agree(PROTOCOL_VERSION, hello.protocol_version) is None:
            raise VersionUnsupported(
                f"This scheduler speaks version {PROTOCOL_VERSION} of the worker protocol, the worker "
                f"{hello.protocol_version}. Install farhand {self._version} on the worker.",
                metadata={"install": self._version},
            )
        violations = _check(hello)
        if violations:
            raise InvalidArgument.of(*violations)
        group = await self._group(group_key(hello.worker_group), caller)
        counted_ms = int(wire.seconds(hello.lease) * 1000) if hello.HasField("lease") else 0
        return Opening(
            worker_id=hello.worker_id,
            incarnation=hello.incarnation,
            group_uid=group.uid,
            subject=caller.subject,
            tenants=None if caller.tenants is None else sorted(caller.tenants),
            lease_ms=max(counted_ms, self._lease_of(group.uid)),
            draining=hello.draining,
            slots=hello.slots,
            task_types=sorted(set(hello.task_types)),
            host=hello.host,
            version=hello.version,
            boot_id=hello.boot_id,
            replica=self._replica,
            held=held_jobs(hello.held),
            dead_incarnations=list(hello.dead_incarnations),
        ), counted_ms

    async def _group(self, key: str, caller: Identity) -> Group:
        if not caller.admits_group(key):
            raise GroupNotAllowed(
                f"This credential is for worker group {group_label(caller.worker_group or '')}, not for "
                f"{group_label(key)}. Start the worker with that group, or with another token."
            )
        group = self._declarations.declared.groups.get(key)
        if group is None or group.deleting:
            await self._declarations.catch_up()
            group = self._declarations.declared.groups.get(key)
        if group is None:
            known = self._declarations.declared.groups
            raise not_found("worker group", key, known, f"`farhand worker-group create {key}` makes it.")
        if group.deleting:
            raise NotFound(f"Worker group {group_label(key)} is being deleted.")
        return group


def held_jobs(held: Iterable[pb.HeldJob]) -> dict[int, tuple[int, str]]:
    """fence → (key, phase) of what a worker holds; what can't be understood is left out."""
    return {
        job.fence: (key, _PHASE[job.phase])
        for job in held
        if job.phase in _PHASE and (key := decode(job.job_id)) is not None
    }


def _check(hello: pb.Hello) -> list[Violation]:
    violations = check_worker_id("hello.worker_id", hello.worker_id)
    if len(hello.incarnation) != 16:
        violations.append(Violation("hello.incarnation", f"has {len(hello.incarnation)} bytes; 16 are expected"))
    if not 1 <= hello.slots <= MOST_SLOTS:
        violations.append(Violation("hello.slots", f"is {hello.slots}; 1 to {MOST_SLOTS} are allowed"))
    if len(hello.task_types) > MOST_TASK_TYPES:
        violations.append(Violation("hello.task_types", f"has {len(hello.task_types)}; at most {MOST_TASK_TYPES}"))
    else:
        for index, task_type in enumerate(hello.task_types):
            violations += check_task_type(f"hello.task_types[{index}]", task_type)
    for field in ("host", "version", "boot_id"):
        violations += check_text(f"hello.{field}", getattr(hello, field), 255)
    if hello.HasField("lease") and not 0 < wire.seconds(hello.lease) * 1000 <= LONGEST_LEASE_MS:
        violations.append(Violation("hello.lease", "is not between 0 and 7 days"))
    for index, held in enumerate(hello.held):
        if decode(held.job_id) is None:
            violations.append(Violation(f"hello.held[{index}].job_id", "is not a job's id"))
        if held.phase not in _PHASE:
            violations.append(Violation(f"hello.held[{index}].phase", f"is {held.phase}; that is unknown"))
    if any(len(incarnation) != 16 for incarnation in hello.dead_incarnations):
        violations.append(Violation("hello.dead_incarnations", "are 16 bytes each"))
    return violations
