"""The way an error looks to whoever called."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import pytest

from farhand.runtime.grpc_channel import RemoteError, remote_error

T = TypeVar("T")


async def refused(call: Awaitable[object]) -> RemoteError:
    """What a call is refused with; it has to be."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return remote_error(caught.value)


async def streamed(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a stream of requests. One that is refused while it still writes sometimes loses the refusal: the
    client of grpc.aio makes an INTERNAL of its own of a write that fails. Who streams calls again, as the worker does.
    """
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INTERNAL or error.details() != "Internal error from Core":
                raise
