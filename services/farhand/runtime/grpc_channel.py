"""gRPC channels, all made alike, and what an error from the other side says.

TLS with the configured authority, or the system's; plaintext only to loopback.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from farhand.kernel.errors import Violation
from farhand.runtime import transport, wire
from farhand.runtime.address import Address
from farhand.runtime.service import StartupError
from farhand.runtime.settings import DialSettings

_DETAILS_KEY = "grpc-status-details-bin"

_OPTIONS: list[tuple[str, int]] = [
    *transport.KEEPALIVE,
    *transport.SIZES,
    # gRPC's own pause between attempts grows to 2 minutes; a server that is back must be found soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Channels to one address would share one connection, and whoever leaves a dead one would dial into it again.
    ("grpc.use_local_subchannel_pool", 1),
    # Retries are ours: only the caller knows what is idempotent.
    ("grpc.enable_retries", 0),
]


def make_channel(address: str, dial: DialSettings, *, at: str | None = None) -> grpc.aio.Channel:
    """A channel for asyncio. StartupError where files can't be read or a token would travel in the clear.

    `at`: connect to this IP:PORT, one of those that `address` stands for; TLS and whoever routes by name
    still see the name of `address`.
    """
    target, credentials, token = _dial(address, dial)
    options: list[tuple[str, int | str]] = [*_OPTIONS]
    if at is not None and at != target:
        options.append(("grpc.default_authority", target))
        if credentials is not None:
            options.append(("grpc.ssl_target_name_override", Address.parse(address).host))
        target = at
    if credentials is None:
        interceptors = [] if token is None else _bearer_interceptors(token)
        return grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    return grpc.aio.secure_channel(target, credentials, options=options)


def make_blocking_channel(address: str, dial: DialSettings) -> grpc.Channel:
    """The same for synchronous code, such as the CLI."""
    target, credentials, token = _dial(address, dial)
    if credentials is None:
        channel = grpc.insecure_channel(target, options=_OPTIONS)
        return channel if token is None else grpc.intercept_channel(channel, _BlockingBearer(token))
    return grpc.secure_channel(target, credentials, options=_OPTIONS)


@dataclass
class RemoteError:
    """What a server said when it refused: the google.rpc.Status of a call, decoded."""

    code: grpc.StatusCode
    message: str
    reason: str = ""  # google.rpc.ErrorInfo.reason; empty where the server is not Farhand, or not reached
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    retry_delay: float | None = None  # seconds


def remote_error(error: grpc.RpcError) -> RemoteError:
    """Decode an error of either kind of channel."""
    call: Any = error
    result = RemoteError(code=call.code(), message=call.details() or "")
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            _decode(value, result)
    return result


def _decode(raw: bytes, result: RemoteError) -> None:
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return
    decode_details(status, result)


def decode_details(status: status_pb2.Status, result: RemoteError) -> None:
    """Put a status's details into the result."""
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Unpack(info):
            result.reason = info.reason
            result.metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            result.violations = [Violation(item.field, item.description) for item in bad.field_violations]
        elif detail.Unpack(retry):
            result.retry_delay = wire.seconds(retry.retry_delay)


def status_error(status: status_pb2.Status) -> RemoteError:
    """The same for a status inside of a message, e.g. of a row of a batch."""
    code = next((code for code in grpc.StatusCode if code.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    result = RemoteError(code=code, message=status.message)
    decode_details(status, result)
    return result


def _dial(text: str, dial: DialSettings) -> tuple[str, grpc.ChannelCredentials | None, str | None]:
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise StartupError(str(error)) from None
    token = _token(dial)
    if address.loopback and dial.tls_ca is None:
        return str(address), None, token
    credentials = grpc.ssl_channel_credentials(None if dial.tls_ca is None else _read(dial.tls_ca, "--tls-ca"))
    if token is not None:
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    return str(address), credentials, token


def _token(dial: DialSettings) -> str | None:
    if dial.token is not None:
        return dial.token
    if dial.token_file is not None:
        return _read(dial.token_file, "--token-file").decode("utf-8", "replace").strip()
    return None


def _read(path: Any, flag: str) -> bytes:
    try:
        content: bytes = path.read_bytes()
    except OSError as error:
        raise StartupError(f"{flag} {path} can't be read: {error.strerror}.") from None
    return content


def _with_token(details: Any, token: str) -> Any:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add("authorization", f"Bearer {token}")
    return details._replace(metadata=metadata)


class _UnaryUnaryBearer(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request)


class _UnaryStreamBearer(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request)


class _StreamUnaryBearer(grpc.aio.StreamUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request_iterator)


class _StreamStreamBearer(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_with_token(client_call_details, self._token), request_iterator)


def _bearer_interceptors(token: str) -> list[grpc.aio.ClientInterceptor]:
    """One for each kind of call: call credentials do not travel over plaintext, so the token goes by metadata."""
    return [_UnaryUnaryBearer(token), _UnaryStreamBearer(token), _StreamUnaryBearer(token), _StreamStreamBearer(token)]


class _BlockingBearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    def __init__(self, token: str) -> None:
        self._token = token

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self._token}")]
        return continuation(_Details(details, metadata), request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._call(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._call(continuation, client_call_details, request_iterator)


class _Details(grpc.ClientCallDetails):
    def __init__(self, other: Any, metadata: Sequence[tuple[str, str]]) -> None:
        self.method = other.method
        self.timeout = other.timeout
        self.metadata = tuple(metadata)
        self.credentials = other.credentials
        self.wait_for_ready = other.wait_for_ready
        self.compression = other.compression
