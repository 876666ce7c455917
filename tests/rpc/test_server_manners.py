"""What every server of ours does alike: who may call, how errors look, where it may listen.

A throw-away service with one method of each of gRPC's four kinds stands in for all.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from farhand.api.scheduler.v1.job_pb2 import JobSpec
from farhand.api.scheduler.v1.job_service_pb2 import BatchSubmitJobsRequest
from farhand.kernel.errors import FarhandError, InvalidArgument, NotFound, ShuttingDown, Unavailable, Violation
from farhand.runtime import dev_certs, grpc_server, security
from farhand.runtime.door import Door
from farhand.runtime.grpc_channel import RemoteError, make_blocking_channel, make_channel, remote_error
from farhand.runtime.grpc_server import RawBatch, add_standard_services, bind, lenient, make_server
from farhand.runtime.security import Role, Tokens
from farhand.runtime.service import StartupError
from farhand.runtime.settings import DialSettings, ListenSettings

SERVICE = "farhand.test.Echo"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
LOOPBACK = ListenSettings(listen="127.0.0.1:0")
EVERYONE = {f"/{SERVICE}/{kind}": frozenset(Role) for kind in KINDS}

Do = Callable[[str], Awaitable[str]]


class Echo:
    """Answers each request with what `do` makes of it."""

    def __init__(self, do: Do) -> None:
        self.do = do

    async def unary_unary(self, request: StringValue, context: Any) -> StringValue:
        return StringValue(value=await self.do(request.value))

    async def unary_stream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield StringValue(value="first")
        yield StringValue(value=await self.do(request.value))

    async def stream_unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        return StringValue(value=",".join([await self.do(request.value) async for request in requests]))

    async def stream_stream(self, requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield StringValue(value=await self.do(request.value))

    def add_to(self, server: grpc.aio.Server) -> None:
        handlers = {
            kind: getattr(grpc, f"{kind}_rpc_method_handler")(
                getattr(self, kind), StringValue.FromString, StringValue.SerializeToString
            )
            for kind in KINDS
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])


def serialized(message: Message) -> bytes:
    return message.SerializeToString()


async def same(text: str) -> str:
    return text


@contextlib.asynccontextmanager
async def serving(
    do: Do = same, listen: ListenSettings = LOOPBACK, tokens: Tokens | None = None, **options: Any
) -> AsyncIterator[str]:
    """A server with the Echo service; gives its address."""
    server = make_server(listen, tokens, options.pop("access", EVERYONE), **options)
    Echo(do).add_to(server)
    add_standard_services(server, [SERVICE])
    address = await bind(server, listen)
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)


async def ask(address: str, kind: str, *requests: Message, dial: DialSettings | None = None) -> list[str]:
    """Call a method of any kind; the values of the answers."""
    async with make_channel(address, dial or DialSettings()) as channel:
        call = getattr(channel, kind)(f"/{SERVICE}/{kind}", serialized, StringValue.FromString)

        async def stream() -> AsyncIterator[Message]:
            for request in requests:
                yield request

        sent = stream() if kind.startswith("stream") else requests[0]
        if kind.endswith("stream"):
            return [answer.value async for answer in call(sent)]
        return [(await call(sent)).value]


async def refused(address: str, kind: str, *requests: Message, dial: DialSettings | None = None) -> RemoteError:
    """The same for a call that has to fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(address, kind, *requests, dial=dial)
    return remote_error(caught.value)


async def empty_call(channel: grpc.aio.Channel, method: str) -> None:
    await channel.unary_unary(method, serialized)(StringValue())


HELLO = StringValue(value="hello")
NOT_UTF8 = BytesValue(value=b"\xff\xfe")  # the same field as StringValue's, on the wire


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_call_goes_through(kind: str) -> None:
    async with serving() as address:
        answers = await ask(address, kind, HELLO)
    assert answers == (["first", "hello"] if kind == "unary_stream" else ["hello"])


@pytest.mark.parametrize("kind", KINDS)
async def test_our_error_arrives_with_code_reason_metadata_fields_and_delay(kind: str) -> None:
    async def fail(text: str) -> str:
        raise InvalidArgument(
            "spec.type: must not be empty",
            metadata={"near": "gpu"},
            violations=[Violation("spec.type", "must not be empty")],
            retry_delay=1.5,
        )

    async with serving(fail) as address:
        error = await refused(address, kind, HELLO)
    assert error == RemoteError(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        message="spec.type: must not be empty",
        reason="INVALID_ARGUMENT",
        metadata={"near": "gpu"},
        violations=[Violation("spec.type", "must not be empty")],
        retry_delay=1.5,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_inside_of_a_task_group_keeps_its_code(kind: str) -> None:
    async def fail(text: str) -> str:
        async def inner() -> None:
            raise NotFound("There is no worker group 'gpuu'.")

        async with asyncio.TaskGroup() as outer_group, asyncio.TaskGroup() as group:
            outer_group.create_task(asyncio.Event().wait())
            group.create_task(inner())
        return text

    async with serving(fail) as address:
        error = await refused(address, kind, HELLO)
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unforeseen_error_is_internal_with_an_id_that_the_log_has_too(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(text: str) -> str:
        raise KeyError("secret detail")

    async with serving(fail) as address:
        error = await refused(address, kind, HELLO)
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret detail" not in error.message
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert error.metadata["error_id"] in error.message
    assert vars(record)["error_id"] == error.metadata["error_id"]
    assert record.exc_info is not None and isinstance(record.exc_info[1], KeyError)


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_are_no_message_are_malformed_not_unknown(kind: str) -> None:
    async with serving() as address:
        error = await refused(address, kind, NOT_UTF8)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


async def test_a_malformed_message_in_mid_stream_ends_the_stream_after_the_good_ones() -> None:
    async with serving() as address, make_channel(address, DialSettings()) as channel:
        call: Any = channel.stream_stream(f"/{SERVICE}/stream_stream", serialized, StringValue.FromString)()
        await call.write(HELLO)
        assert (await call.read()).value == "hello"
        await call.write(NOT_UTF8)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert remote_error(caught.value).reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_of_the_wrong_type_is_internal_not_unknown(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(Echo):
        async def unary_unary(self, request: Any, context: Any) -> Any:
            return None

        async def stream_unary(self, requests: Any, context: Any) -> Any:
            return None

        async def unary_stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield None

        async def stream_stream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
            yield None

    server = make_server(LOOPBACK, None, EVERYONE)
    Wrong(same).add_to(server)
    address = await bind(server, LOOPBACK)
    await server.start()
    error = await refused(address, kind, HELLO)
    await server.stop(None)
    assert error.code is grpc.StatusCode.INTERNAL
    assert [vars(record)["error_id"] for record in caplog.records] == [error.metadata["error_id"]]


async def test_other_errors_mean_what_the_service_says_they_mean() -> None:
    async def fail(text: str) -> str:
        raise ConnectionResetError

    def translate(error: BaseException) -> FarhandError | None:
        return Unavailable("no database", retry_delay=2.0) if isinstance(error, OSError) else None

    async with serving(fail, translate=translate) as address:
        error = await refused(address, "unary_unary", HELLO)
    assert (error.code, error.message, error.retry_delay) == (grpc.StatusCode.UNAVAILABLE, "no database", 2.0)


async def test_callers_of_a_server_that_stops_are_told_to_call_another_and_none_is_cancelled() -> None:
    door = Door()
    server = make_server(LOOPBACK, None, EVERYONE, door=door)
    Echo(same).add_to(server)
    address = await bind(server, LOOPBACK)
    await server.start()
    begun = asyncio.Event()

    async def until_refused() -> RemoteError:
        async with make_channel(address, DialSettings()) as channel:
            call = channel.unary_unary(f"/{SERVICE}/unary_unary", serialized, StringValue.FromString)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                while True:
                    await call(HELLO)
                    begun.set()
        return remote_error(told.value)

    callers = [asyncio.create_task(until_refused()) for _ in range(20)]
    await begun.wait()
    await door.close()
    await server.stop(1.0)
    assert {(error.code, error.reason) for error in await asyncio.gather(*callers)} == {
        (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    }


async def test_a_handler_may_still_answer_by_abort(caplog: pytest.LogCaptureFixture) -> None:
    class Aborting(Echo):
        async def unary_unary(self, request: StringValue, context: Any) -> StringValue:
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "too far")
            raise AssertionError

    server = make_server(LOOPBACK, None, EVERYONE)
    Aborting(same).add_to(server)
    address = await bind(server, LOOPBACK)
    await server.start()
    error = await refused(address, "unary_unary", HELLO)
    await server.stop(None)
    assert (error.code, error.message) == (grpc.StatusCode.OUT_OF_RANGE, "too far")
    assert caplog.records == []


async def test_an_error_too_large_for_trailers_is_cut_and_says_so() -> None:
    async def fail(text: str) -> str:
        raise InvalidArgument.of(*(Violation(f"specs[{row}].type", "must not be empty ☹") for row in range(1000)))

    async with serving(fail) as address:
        error = await refused(address, "unary_unary", HELLO)
    assert error.reason == "INVALID_ARGUMENT"
    assert len(error.message) <= 1000
    assert 5 < len(error.violations) < 1000
    left_out = 1000 - (len(error.violations) - 1)
    assert error.violations[-1].description == f"… and {left_out} more"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_a_caller_that_hangs_up_cancels_the_handler(kind: str) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(text: str) -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return text

    async with serving(wait) as address:
        asking = asyncio.create_task(ask(address, kind, HELLO))
        await began.wait()
        asking.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)


async def test_a_batch_loses_only_its_malformed_rows() -> None:
    seen: list[RawBatch[BatchSubmitJobsRequest]] = []

    async def submit(batch: RawBatch[BatchSubmitJobsRequest], context: Any) -> StringValue:
        seen.append(batch)
        return StringValue()

    method = "/farhand.test.Batch/Submit"
    server = make_server(
        LOOPBACK, None, {method: frozenset({Role.CLIENT})}, lenient={method: lenient(BatchSubmitJobsRequest, "specs")}
    )
    handler = grpc.unary_unary_rpc_method_handler(
        submit, BatchSubmitJobsRequest.FromString, StringValue.SerializeToString
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("farhand.test.Batch", {"Submit": handler})])
    address = await bind(server, LOOPBACK)
    await server.start()
    raw = BatchSubmitJobsRequest(
        request_id="r1", specs=[JobSpec(tenant=name) for name in ("a", "BAD", "c")]
    ).SerializeToString()
    async with make_channel(address, DialSettings()) as channel:
        call = channel.unary_unary(method, bytes, StringValue.FromString)
        await call(raw.replace(b"BAD", b"\xff\xfe\xfd"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(raw.replace(b"r1", b"\xff\xff"))
    await server.stop(None)
    (batch,) = seen
    assert [spec.tenant for spec in batch.request.specs] == ["a", "", "c"]
    assert batch.request.request_id == "r1"
    assert list(batch.malformed) == [1]
    assert remote_error(caught.value).reason == "MALFORMED_REQUEST"


# Who may call


def tokens(tmp_path: Path, **given: str) -> tuple[Tokens, dict[str, str]]:
    """The tokens of a fresh dev-certs folder, and their plain text by name."""
    dev_certs.make(tmp_path / "certs", [])
    texts = {path.stem: path.read_text().strip() for path in (tmp_path / "certs").glob("*.token")}
    return Tokens.load(tmp_path / "certs" / "tokens.toml"), texts


@pytest.mark.parametrize("kind", KINDS)
async def test_without_tokens_everyone_on_loopback_is_local(kind: str) -> None:
    async def who(text: str) -> str:
        caller = security.identity(None)
        return f"{caller.local} {caller.tenants} {caller.worker_group}"

    async with serving(who) as address:
        assert (await ask(address, kind, HELLO))[-1] == "True None None"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_makes_the_caller_known_in_the_handler(kind: str, tmp_path: Path) -> None:
    known, texts = tokens(tmp_path)

    async def who(text: str) -> str:
        caller = security.identity(None)
        return f"{caller.subject} {caller.role} {caller.worker_group}"

    async with serving(who, tokens=known) as address:
        first, second = await asyncio.gather(
            ask(address, kind, HELLO, dial=DialSettings(token=texts["worker-gpu"])),
            ask(address, kind, HELLO, dial=DialSettings(token=texts["worker"])),
        )
    assert first[-1] == "worker-gpu worker gpu"
    assert second[-1] == "worker worker "


@pytest.mark.parametrize(("name", "served"), [("schedulers.test", True), ("stranger.test", False)])
async def test_one_address_of_a_name_is_dialled_and_the_name_is_checked(
    name: str, served: bool, tmp_path: Path
) -> None:
    certs = tmp_path / "certs"
    dev_certs.make(certs, ["schedulers.test"])
    listen = ListenSettings(listen="127.0.0.1:0", tls_cert=certs / "server.crt", tls_key=certs / "server.key")
    async with serving(listen=listen) as address:
        port = address.rpartition(":")[2]
        async with make_channel(f"{name}:{port}", DialSettings(tls_ca=certs / "ca.crt"), at=address) as channel:
            call = channel.unary_unary(f"/{SERVICE}/unary_unary", serialized, StringValue.FromString)
            if served:
                assert (await call(HELLO)).value == HELLO.value
            else:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(HELLO)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", KINDS)
async def test_no_token_and_a_wrong_token_are_unauthenticated(kind: str, tmp_path: Path) -> None:
    known, _ = tokens(tmp_path)
    async with serving(tokens=known) as address:
        without = await refused(address, kind, HELLO)
        wrong = await refused(address, kind, HELLO, dial=DialSettings(token="guess"))
    assert (without.code, without.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert "FARHAND_TOKEN" in without.message
    assert wrong.code is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_role_that_the_table_does_not_name_is_denied_before_the_handler(kind: str, tmp_path: Path) -> None:
    known, texts = tokens(tmp_path)
    called = []

    async def note(text: str) -> str:
        called.append(text)
        return text

    access = {f"/{SERVICE}/{kind}": frozenset({Role.ADMIN})}
    async with serving(note, tokens=known, access=access) as address:
        error = await refused(address, kind, HELLO, dial=DialSettings(token=texts["client"]))
        assert called == []
        await ask(address, kind, HELLO, dial=DialSettings(token=texts["admin"]))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert "client" in error.message


async def test_a_method_that_the_table_forgot_is_open_to_nobody() -> None:
    async with serving(access={}) as address:
        error = await refused(address, "unary_unary", HELLO)
    assert error.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_method_that_is_not_there_is_unimplemented() -> None:
    async with serving() as address, make_channel(address, DialSettings()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await empty_call(channel, "/farhand.test.Echo/Nothing")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_and_reflection_ask_for_no_token_and_channelz_does(tmp_path: Path) -> None:
    known, texts = tokens(tmp_path)
    server = make_server(LOOPBACK, known, EVERYONE)
    health = add_standard_services(server, [SERVICE])
    address = await bind(server, LOOPBACK)
    await server.start()
    async with make_channel(address, DialSettings()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        await health.enter_graceful_shutdown()
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watching.cancel()
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        services = {service.name for service in (await listing.read()).list_services_response.service}
        assert SERVICE in services
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await empty_call(channel, "/grpc.channelz.v1.Channelz/GetServers")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with make_channel(address, DialSettings(token=texts["admin"])) as channel:
        await empty_call(channel, "/grpc.channelz.v1.Channelz/GetServers")
    await server.stop(None)


# Where it listens


def certified(tmp_path: Path, listen: str) -> tuple[ListenSettings, Path]:
    folder = tmp_path / "certs"
    dev_certs.make(folder, ["farhand.example"])
    return (
        ListenSettings(
            listen=listen,
            tls_cert=folder / "server.crt",
            tls_key=folder / "server.key",
            tokens=folder / "tokens.toml",
        ),
        folder,
    )


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7401", "farhand.example:7401"])
def test_beyond_loopback_a_server_refuses_to_start_without_tls_and_tokens(listen: str) -> None:
    with pytest.raises(StartupError, match="farhand admin dev-certs"):
        make_server(ListenSettings(listen=listen), None, {})


def test_beyond_loopback_certificates_without_tokens_are_not_enough(tmp_path: Path) -> None:
    settings, _ = certified(tmp_path, "0.0.0.0:0")
    with pytest.raises(StartupError, match="--tokens"):
        make_server(ListenSettings(listen="0.0.0.0:0", tls_cert=settings.tls_cert, tls_key=settings.tls_key), None, {})
    with pytest.raises(StartupError, match="--tokens missing"):
        security.check_listen(ListenSettings(listen="[::]:0", tls_cert=settings.tls_cert, tls_key=settings.tls_key))
    with pytest.raises(StartupError, match="--tokens"):
        make_server(settings, None, {})  # the file is named, yet was not loaded


@pytest.mark.parametrize("kind", KINDS)
async def test_tls_and_token_go_end_to_end_beyond_loopback(kind: str, tmp_path: Path) -> None:
    settings, folder = certified(tmp_path, "0.0.0.0:0")
    dial = DialSettings(tls_ca=folder / "ca.crt", token_file=folder / "client.token")
    assert settings.tokens is not None
    async with serving(listen=settings, tokens=Tokens.load(settings.tokens)) as address:
        port = address.rpartition(":")[2]
        assert (await ask(f"localhost:{port}", kind, HELLO, dial=dial))[-1] == "hello"
        without = await refused(f"localhost:{port}", kind, HELLO, dial=DialSettings(tls_ca=folder / "ca.crt"))
        assert without.code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_client_speaks_plaintext_to_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, secured = [], []
    monkeypatch.setattr(grpc.aio, "insecure_channel", lambda target, **_: plain.append(target))
    monkeypatch.setattr(grpc.aio, "secure_channel", lambda target, *_, **__: secured.append(target))
    for address in ("127.0.0.1:7402", "scheduler:7402", "192.0.2.1:7402", "[::1]:7402", "localhost:7402"):
        make_channel(address, DialSettings(token="secret"))
    assert plain == ["127.0.0.1:7402", "[::1]:7402", "localhost:7402"]
    assert secured == ["scheduler:7402", "192.0.2.1:7402"]


async def test_a_server_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    settings, _ = certified(tmp_path, "127.0.0.1:0")
    dev_certs.make(tmp_path / "other", [])
    assert settings.tokens is not None
    async with serving(listen=settings, tokens=Tokens.load(settings.tokens)) as address:
        error = await refused(address, "unary_unary", HELLO, dial=DialSettings(tls_ca=tmp_path / "other" / "ca.crt"))
    assert error.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("tls", [False, True])
async def test_the_blocking_channel_authenticates_too(tls: bool, tmp_path: Path) -> None:
    settings, folder = certified(tmp_path, "127.0.0.1:0")
    assert settings.tokens is not None
    listen = settings if tls else LOOPBACK
    dial = DialSettings(tls_ca=folder / "ca.crt" if tls else None, token_file=folder / "client.token")

    def call(address: str) -> str:
        with make_blocking_channel(address, dial) as channel:
            method = channel.unary_unary(
                f"/{SERVICE}/unary_unary", StringValue.SerializeToString, StringValue.FromString
            )
            return str(method(HELLO, timeout=10).value)

    async with serving(listen=listen, tokens=Tokens.load(settings.tokens)) as address:
        assert await asyncio.to_thread(call, address) == "hello"


async def test_the_blocking_channel_reads_the_details_of_errors() -> None:
    async def fail(text: str) -> str:
        raise ShuttingDown("Another will answer.", retry_delay=0.5)

    def call(address: str) -> RemoteError:
        with make_blocking_channel(address, DialSettings()) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/unary_unary", serialized)(HELLO, timeout=10)
        return remote_error(caught.value)

    async with serving(fail) as address:
        error = await asyncio.to_thread(call, address)
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    assert (error.message, error.retry_delay) == ("Another will answer.", 0.5)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_port_in_use_is_one_clear_line(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = ListenSettings(listen=f"{host}:{port}")
        with pytest.raises(StartupError, match=f"port {port} is in use.*--listen"):
            await bind(make_server(settings, None, {}), settings)


async def test_two_servers_never_share_a_port() -> None:
    async with serving() as address:
        settings = ListenSettings(listen=address)
        with pytest.raises(StartupError, match="in use"):
            await bind(make_server(settings, None, {}), settings)


async def test_a_key_that_is_not_the_certificates_is_one_clear_line(tmp_path: Path) -> None:
    settings, folder = certified(tmp_path, "127.0.0.1:0")
    wrong = ListenSettings(listen="127.0.0.1:0", tls_cert=settings.tls_cert, tls_key=folder / "ca.key")
    with pytest.raises(StartupError, match=r"server\.crt.*ca\.key"):
        await bind(make_server(wrong, None, {}), wrong)


def test_one_place_names_the_size_of_a_message() -> None:
    options = dict(grpc_server._OPTIONS)
    assert options["grpc.max_receive_message_length"] == 16 * 1024 * 1024
    assert options["grpc.so_reuseport"] == 0
