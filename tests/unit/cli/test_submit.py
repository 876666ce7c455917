"""When a submit is worth another attempt."""

import pytest

from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.cli.backoff import Backoff
from farhand.cli.failure import CommandFailed
from farhand.cli.submit import SubmitTrace, submit
from farhand.kernel.errors import Unavailable
from farhand.kernel.names import not_found
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.settings import DialSettings
from tests.unit.cli.scripted_servers import ScriptedServers


class Counted(Backoff):
    """Waits for nothing, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    async def wait(self) -> None:
        self.waits += 1


async def refused(address: str) -> tuple[CommandFailed, int]:
    """The failure of a submit, and how many times it waited for another attempt."""
    backoff = Counted()
    request = SubmitJobRequest(request_id="r1")
    async with make_channel(address, DialSettings()) as channel:
        with pytest.raises(CommandFailed) as caught:
            await submit(JobServiceStub(channel), request, SubmitTrace(), address, backoff)
    return caught.value, backoff.waits


async def test_where_nothing_listens_there_is_no_second_attempt(unused_address: str) -> None:
    _, waits = await refused(unused_address)
    assert waits == 0


async def test_a_refusal_is_final(servers: ScriptedServers) -> None:
    servers.on["SubmitJob"] = not_found("worker group", "x")
    _, waits = await refused(servers.address)
    assert waits == 0


async def test_a_scheduler_that_stays_unavailable_is_given_up_with_the_id_to_repeat(servers: ScriptedServers) -> None:
    servers.on["SubmitJob"] = Unavailable("The registry can't be reached.")
    failure, waits = await refused(servers.address)
    assert waits == 4
    assert [request.request_id for request in servers.requests["SubmitJob"]] == ["r1"] * 5
    assert failure.message == "The registry can't be reached."
    assert "--request-id r1" in failure.details[-1]
