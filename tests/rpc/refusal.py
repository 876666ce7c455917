"""The way an error looks to whoever called."""

from collections.abc import Awaitable

import grpc
import pytest

from farhand.runtime.grpc_channel import RemoteError, remote_error


async def refused(call: Awaitable[object]) -> RemoteError:
    """What a call is refused with; it has to be."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return remote_error(caught.value)
