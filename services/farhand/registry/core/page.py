"""Page sizes and page tokens (AIP-158).

A token holds the key after which the next page begins, bound by a digest to the
list and its filters. It is no secret and no permission: who may see what is
decided anew for each page.
"""

import base64
import binascii
import hashlib

from farhand.kernel.errors import InvalidArgument, Violation

_DEFAULT_SIZE = 50
_LARGEST_SIZE = 1000
_DIGEST = 8  # bytes
_NOT_OURS = "is not a token of this list with these filters; leave it empty to start again"


def size(page_size: int) -> int:
    """How many to read: 0 is 50, over 1,000 is 1,000. InvalidArgument when it is negative."""
    if page_size < 0:
        raise InvalidArgument.of(Violation("page_size", "must not be negative"))
    return min(page_size or _DEFAULT_SIZE, _LARGEST_SIZE)


def token(scope: tuple[str, ...], after: str) -> str:
    """The token for the page after this key; scope: the list's name and its filters."""
    return base64.urlsafe_b64encode(_digest(scope, after) + after.encode()).decode().rstrip("=")


def after(scope: tuple[str, ...], page_token: str) -> str | None:
    """The key of a token, None for the first page. InvalidArgument when the token is not ours."""
    if not page_token:
        return None
    try:
        content = base64.b64decode(page_token + "=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
        key = content[_DIGEST:].decode()
    except (binascii.Error, ValueError):
        raise not_ours() from None
    if content[:_DIGEST] != _digest(scope, key) or "\0" in key:
        raise not_ours()
    return key


def not_ours() -> InvalidArgument:
    """The error for a token that is none of the list's."""
    return InvalidArgument.of(Violation("page_token", _NOT_OURS))


def _digest(scope: tuple[str, ...], after_key: str) -> bytes:
    parts = "".join(f"{len(part)}:{part}" for part in (*scope, after_key))
    return hashlib.sha256(parts.encode()).digest()[:_DIGEST]
