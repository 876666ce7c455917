"""Which errors of a call pass by themselves, and calls that wait for that."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from farhand.cli.backoff import Backoff

if TYPE_CHECKING:
    import grpc

Answer = TypeVar("Answer")


def passes(error: "grpc.RpcError") -> bool:
    """Whether the same call may work later: the server restarts, or something between us and it broke.

    A server of ours gives every error of its own a reason; one without comes from the
    transport, where a cut stream is any of these codes.
    """
    import grpc

    from farhand.runtime.grpc_channel import remote_error

    transport = (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )
    code = error.code()
    return code is grpc.StatusCode.UNAVAILABLE or (code in transport and not remote_error(error).reason)


async def patiently(
    call: Callable[[], Awaitable[Answer]], backoff: Backoff, failed: "Callable[[grpc.RpcError], None] | None" = None
) -> Answer:
    """The answer of a call that is safe to repeat, repeated until it works; `failed` hears of each failure."""
    import grpc

    while True:
        try:
            return await call()
        except grpc.RpcError as error:
            if not passes(error):
                raise
            if failed is not None:
                failed(error)
        await backoff.wait()
