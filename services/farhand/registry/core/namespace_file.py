"""A namespace file: what tasks of a namespace, and of those below it, may have beside them."""

from dataclasses import dataclass
from datetime import datetime

from farhand.kernel import names
from farhand.kernel.errors import Violation
from farhand.kernel.file_paths import check_path

LARGEST = 64 << 20  # bytes
_DIGEST = 64  # hexadecimal digits


@dataclass(frozen=True, slots=True)
class NamespaceFile:
    """A stored file; its content is elsewhere, under its digest."""

    tenant: str
    namespace: str
    path: str
    digest: bytes  # SHA-256
    size: int  # bytes
    create_time: datetime | None = None
    update_time: datetime | None = None


def check(namespace: str, path: str, digest: str, size: int) -> list[Violation]:
    """What is wrong with a file that is announced; the digest may be empty and the size 0 where they are not known."""
    violations = names.check_namespace("file.namespace", namespace) + check_path("file.path", path)
    if digest and not _is_digest(digest):
        violations.append(Violation("file.digest", f"must be {_DIGEST} hexadecimal digits, a SHA-256"))
    if size < 0:
        violations.append(Violation("file.size", "must not be negative"))
    return violations + check_size(size)


def check_size(size: int) -> list[Violation]:
    """What is wrong with so many bytes."""
    if size > LARGEST:
        return [Violation("file.size", f"is over {LARGEST >> 20} MiB, the most that a namespace file may have")]
    return []


def check_content(announced_digest: str, announced_size: int, digest: bytes, size: int) -> list[Violation]:
    """What came is what was announced."""
    violations: list[Violation] = []
    if announced_digest and announced_digest.lower() != digest.hex():
        violations.append(Violation("file.digest", f"is not that of the content, which has {digest.hex()}"))
    if announced_size and announced_size != size:
        violations.append(Violation("file.size", f"is {announced_size:,}, but {size:,} bytes came"))
    return violations


def read_digest(path: str, text: str) -> tuple[bytes | None, list[Violation]]:
    """A digest that was asked for; None for an empty text."""
    if not text:
        return None, []
    if not _is_digest(text):
        return None, [Violation(path, f"must be {_DIGEST} hexadecimal digits, a SHA-256")]
    return bytes.fromhex(text), []


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST and text.isascii() and all(sign in "0123456789abcdefABCDEF" for sign in text)
