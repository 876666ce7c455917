"""gRPC servers, all made alike: transport options, TLS, who may call, errors, standard services.

For the server's extra only (health checking, reflection, channelz).
"""

import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from farhand.kernel.errors import FarhandError, PermissionDenied, Unauthenticated
from farhand.runtime import security, transport
from farhand.runtime.address import Address
from farhand.runtime.door import Door
from farhand.runtime.grpc_errors import ErrorMapper, Translate, guarded, status_of
from farhand.runtime.raw_batch import RawBatch, lenient
from farhand.runtime.security import LOCAL, Identity, Role, Tokens
from farhand.runtime.service import StartupError
from farhand.runtime.settings import ListenSettings

__all__ = ["HealthServicer", "RawBatch", "add_standard_services", "bind", "lenient", "make_server", "status_of"]

log = logging.getLogger(__name__)

# Probes and tools call these without a credential.
_OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
# channelz tells the addresses of all peers: for operators.
_OPERATOR_SERVICES = ("grpc.channelz.v1.Channelz",)

_OPTIONS: list[tuple[str, int]] = [
    *transport.KEEPALIVE,
    *transport.SIZES,
    # Workers ping every 30 s; a client that pings faster than this is told to calm down.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Else two processes could share the port, each with half of the calls.
    ("grpc.so_reuseport", 0),
    # No max_connection_age: a scheduler sends old streams on by itself, and cuts off those that don't go.
]


def make_server(
    settings: ListenSettings,
    tokens: Tokens | None,
    access: Mapping[str, frozenset[Role]],
    *,
    translate: Translate | None = None,
    lenient: Mapping[str, Callable[[bytes], Any]] | None = None,
    door: Door | None = None,
) -> grpc.aio.Server:
    """A server, not yet bound.

    access: full method name ("/package.Service/Method") → the roles that may call
    it; a method that is not in it may be called by nobody. tokens: None on loopback
    makes everyone LOCAL. translate: what other exceptions mean (`database_error`).
    lenient: deserializers for batches, by full method name. door: to be closed before
    the server is stopped. StartupError where it would listen beyond loopback without
    TLS and tokens.
    """
    address = security.check_listen(settings)
    if tokens is None and not address.loopback:
        raise StartupError(f"{address} can be reached from other machines, so it needs tokens: give --tokens FILE.")
    return grpc.aio.server(
        interceptors=[_Gate(tokens, access, ErrorMapper(translate), lenient or {}, door or Door())], options=_OPTIONS
    )


async def bind(server: grpc.aio.Server, settings: ListenSettings) -> str:
    """Bind the server to its address; gives "host:port" with the real port. StartupError says why it can't."""
    address = security.check_listen(settings)
    _probe(address)
    try:
        if settings.tls_cert is not None and settings.tls_key is not None:
            port = server.add_secure_port(str(address), _credentials(settings))
        else:
            port = server.add_insecure_port(str(address))
    except RuntimeError:
        raise _cannot_listen(address, "the port was taken just now") from None
    return str(Address(address.host, port))


class HealthServicer(health_aio.HealthServicer):  # type: ignore[misc]  # the library is untyped
    """grpc.health.v1 for the server ("") and each of its services, serving until `enter_graceful_shutdown()`."""

    def __init__(self, service_names: Iterable[str]) -> None:
        super().__init__()
        for name in service_names:
            self._server_status[name] = health_pb2.HealthCheckResponse.SERVING


def add_standard_services(server: grpc.aio.Server, service_names: Iterable[str]) -> HealthServicer:
    """Health, reflection and channelz beside the named services ("package.Service")."""
    names = list(service_names)
    health = HealthServicer(names)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection([*names, *_OPEN_SERVICES], server)
    channelz.add_channelz_servicer(server)
    return health


class _Gate(grpc.aio.ServerInterceptor):
    """Every call passes here: who calls, may they, and what becomes of errors."""

    def __init__(
        self,
        tokens: Tokens | None,
        access: Mapping[str, frozenset[Role]],
        mapper: ErrorMapper,
        lenient: Mapping[str, Callable[[bytes], Any]],
        door: Door,
    ) -> None:
        self._tokens = tokens
        self._access = access
        self._mapper = mapper
        self._lenient = lenient
        self._door = door
        self._guarded: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None  # grpc answers UNIMPLEMENTED
        method = handler_call_details.method
        try:
            self._door.enter()
            # Runs in the call's own task, and so does the handler.
            security.set_caller(self._admit(method, handler_call_details.invocation_metadata))
        except FarhandError as error:
            return _refusing(method, handler, self._mapper, error)
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            deserialize = self._lenient.get(method)
            known = (handler, guarded(method, handler, self._mapper, deserialize))
            self._guarded[method] = known
        return known[1]

    def _admit(self, method: str, metadata: Any) -> Identity:
        service = method.rpartition("/")[0].removeprefix("/")
        if service in _OPEN_SERVICES:
            return Identity("", Role.CLIENT, frozenset())
        caller = LOCAL if self._tokens is None else self._identify(self._tokens, metadata)
        roles = frozenset({Role.ADMIN}) if service in _OPERATOR_SERVICES else self._access.get(method)
        if roles is None or not caller.may(roles):
            who = f"role {caller.role}" if not caller.local else "anyone"
            raise PermissionDenied(f"{method} is not open to {who}.")
        return caller

    @staticmethod
    def _identify(tokens: Tokens, metadata: Any) -> Identity:
        value = next((value for key, value in metadata if key == "authorization"), None)
        if value is None:
            raise Unauthenticated("This server asks for a token; give FARHAND_TOKEN, --token-file or --token.")
        scheme, _, token = (value if isinstance(value, str) else "").partition(" ")
        caller = tokens.identify(token.strip()) if scheme.lower() == "bearer" else None
        if caller is None:
            raise Unauthenticated("The token is not known to this server; check FARHAND_TOKEN or --token-file.")
        return caller


def _refusing(method: str, handler: Any, mapper: ErrorMapper, error: FarhandError) -> Any:
    """A handler of the same kind that only answers the error; the request's bytes are not even read."""

    async def refuse(_: Any, context: Any) -> Any:
        await mapper.abort(context, method, error)

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse)
    return grpc.unary_unary_rpc_method_handler(refuse)


def _credentials(settings: ListenSettings) -> grpc.ServerCredentials:
    assert settings.tls_cert is not None and settings.tls_key is not None
    try:
        # gRPC's own complaint about a bad pair names neither file nor reason.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartupError(
            f"The certificate {settings.tls_cert} with the key {settings.tls_key} can't be used: {reason}."
        ) from None
    return grpc.ssl_server_credentials([pair])


def _probe(address: Address) -> None:
    """Find out in plain words what would stop gRPC from binding; its own error only says that it did not."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise _cannot_listen(address, f"the host is not known ({error.strerror})") from None
    for family, kind, protocol, _, where in found:
        with socket.socket(family, kind, protocol) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                attempt.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                attempt.bind(where)
                attempt.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _cannot_listen(address, f"port {address.port} is in use") from None
                raise _cannot_listen(address, error.strerror or str(error)) from None


def _cannot_listen(address: Address, reason: str) -> StartupError:
    return StartupError(f"Can't listen on {address}: {reason}. Stop the other process, or choose --listen HOST:PORT.")
