"""Who may call what."""

import grpc
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from farhand.registry.rpc.access import ACCESS, SERVICE_NAMES
from farhand.runtime.security import Role
from tests.rpc.registry.registry_house import House

METHODS = sorted(
    f"/{name}/{method.name}" for name in SERVICE_NAMES for method in Default().FindServiceByName(name).methods
)


def test_every_method_of_every_service_is_in_the_table_and_nothing_else() -> None:
    assert sorted(ACCESS) == METHODS
    assert len(SERVICE_NAMES) == 7


async def test_every_method_is_served_and_refuses_who_may_not(house: House) -> None:
    callers = {"admin": Role.ADMIN, "service": Role.SERVICE, "acme": Role.CLIENT, "worker": Role.WORKER}
    for method in METHODS:
        for caller, role in callers.items():
            code = await answer(house, method, caller)
            if role in ACCESS[method]:
                assert code in (None, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND) or (
                    method.endswith("/DeleteWorkerGroup") and code is grpc.StatusCode.FAILED_PRECONDITION
                ), (caller, method, code)
            else:
                assert code is grpc.StatusCode.PERMISSION_DENIED, (caller, method, code)


async def answer(house: House, method: str, caller: str) -> grpc.StatusCode | None:
    """How an empty request ends; None: well. A stream is left after its first message."""
    service, _, name = method[1:].rpartition("/")
    descriptor = Default().FindServiceByName(service).FindMethodByName(name)
    request = GetMessageClass(descriptor.input_type)()
    parse = GetMessageClass(descriptor.output_type).FromString
    channel = house.channel(caller)
    try:
        if descriptor.server_streaming:
            stream = channel.unary_stream(method, type(request).SerializeToString, parse)(request)
            await stream.read()
            stream.cancel()
        else:
            await channel.unary_unary(method, type(request).SerializeToString, parse)(request)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


def test_workers_may_call_nothing_here() -> None:
    assert not any(Role.WORKER in roles for roles in ACCESS.values())
