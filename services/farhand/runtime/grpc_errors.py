"""Every error that leaves a server: one place turns exceptions into canonical codes with details.

A FarhandError becomes its own code with google.rpc.ErrorInfo (and BadRequest,
RetryInfo). Bytes that are no message become INVALID_ARGUMENT MALFORMED_REQUEST.
Anything else is logged with its traceback under an id, and the caller gets INTERNAL
with that id. Never UNKNOWN, which is what grpc.aio makes of an exception.
"""

import asyncio
import contextlib
import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from farhand.kernel.errors import DOMAIN, FarhandError, MalformedRequest, Unavailable, Violation, leaves
from farhand.runtime import wire

DETAILS_KEY = "grpc-status-details-bin"
# HTTP/2 headers: many clients and proxies take 8 KiB in all, and the details travel as base64.
_MOST_DETAILS = 4096
_LONGEST_MESSAGE = 1000

log = logging.getLogger(__name__)

Translate = Callable[[BaseException], FarhandError | None]


def status_of(error: FarhandError) -> status_pb2.Status:
    """The google.rpc.Status of an error: code, message, ErrorInfo, and what else it has to tell."""
    return _status(error, error.message, list(error.violations))


def bounded_status_of(error: FarhandError) -> status_pb2.Status:
    """The same, cut so that it fits into the trailers of a call; a cut is marked."""
    message = error.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    violations = list(error.violations)
    status = _status(error, message, violations)
    while status.ByteSize() > _MOST_DETAILS and violations:
        violations = violations[: len(violations) // 2]
        left_out = len(error.violations) - len(violations)
        status = _status(error, message, [*violations, Violation("", f"… and {left_out} more")])
    if status.ByteSize() > _MOST_DETAILS:
        short = type(error)(message[:200], retry_delay=error.retry_delay)
        status = _status(short, short.message, [])
    return status


def _status(error: FarhandError, message: str, violations: list[Violation]) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if violations:
        bad = error_details_pb2.BadRequest()
        for violation in violations:
            bad.field_violations.add(field=violation.path, description=violation.description)
        status.details.add().Pack(bad)
    for detail in error.details:
        status.details.add().Pack(detail)
    if error.retry_delay is not None:
        delay = wire.duration(error.retry_delay) or Duration()
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


class Malformed:
    """Stands for a request whose bytes are no message; `guarded` raises for it inside of the handler's own try."""

    def __init__(self, error: Exception) -> None:
        # The parser's own words name a C++ file; a person is helped by the field at most.
        self.reason = str(error)

    def error(self) -> MalformedRequest:
        """What to tell the caller."""
        return MalformedRequest(
            "The request is not a valid message of its type; a string that is not UTF-8 is one cause. "
            f"The parser says: {self.reason}."
        )


def tolerant(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """A deserializer that answers Malformed instead of raising, since grpc.aio makes UNKNOWN of that."""
    if deserialize is None:
        return None

    def attempt(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except (DecodeError, ValueError) as error:
            return Malformed(error)

    return attempt


class Requests:
    """The requests of a stream; a malformed one raises in the handler that reads it."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return well_formed(await self._requests.__anext__())


def well_formed(request: Any) -> Any:
    """The request; MalformedRequest where it could not be read."""
    if isinstance(request, Malformed):
        raise request.error()
    return request


class ErrorMapper:
    """Ends a call with the status that its error deserves."""

    def __init__(self, translate: Translate | None = None) -> None:
        """translate: what other exceptions mean, e.g. `database_error`; None where they mean nothing to users."""
        self._translate = translate

    async def abort(self, context: Any, method: str, error: BaseException) -> NoReturn:
        """Never returns: raises grpc's own AbortError, or the error itself where it is not ours to answer."""
        inner = list(leaves(error))
        for leaf in inner:
            # Already answered by the handler; or the task is being cancelled, or the process ends.
            if isinstance(leaf, grpc.aio.AbortError):
                raise leaf
        for leaf in inner:
            if not isinstance(leaf, Exception):
                raise leaf
        status = bounded_status_of(self.error_for(method, error))
        await context.abort(
            _CODES[status.code],
            status.message,
            trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
        )
        raise AssertionError("abort returned")

    def error_for(self, method: str, error: BaseException) -> FarhandError:
        """What to tell the caller; logs what is our own fault."""
        inner = list(leaves(error))
        for leaf in inner:
            if isinstance(leaf, FarhandError):
                return leaf
        for leaf in inner:
            meaning = self._meaning(leaf)
            if meaning is not None:
                log.warning("unavailable", extra={"method": method, "cause": repr(leaf)})
                return meaning
        error_id = secrets.token_hex(6)
        log.error("internal error", exc_info=error, extra={"method": method, "error_id": error_id})
        return FarhandError(
            f"Something went wrong in the server; its log tells more under the id {error_id}.",
            metadata={"error_id": error_id},
        )

    def _meaning(self, error: BaseException) -> FarhandError | None:
        if self._translate is not None and (meaning := self._translate(error)) is not None:
            return meaning
        if isinstance(error, grpc.aio.AioRpcError) and error.code() in _PASSING:
            return Unavailable("A service that this one needs can't be reached now. Try again.", retry_delay=1.0)
        return None


_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def guarded(
    method: str,
    handler: "grpc.RpcMethodHandler[Any, Any]",
    mapper: ErrorMapper,
    deserialize: Callable[[bytes], Any] | None = None,
) -> "grpc.RpcMethodHandler[Any, Any]":
    """The same handler, whose every error goes through the mapper.

    deserialize: read requests with this instead of the handler's own. Handlers that
    yield stay async generators and those that write to the context stay coroutines,
    since grpc.aio tells them apart by that.
    """
    inner = _behaviour(handler)
    serialize = handler.response_serializer or bytes

    def requests(given: Any) -> Any:
        return Requests(given) if handler.request_streaming else well_formed(given)

    # Responses are serialized here, not by grpc.aio: one of the wrong type is UNKNOWN to that.
    async def answer(given: Any, context: Any) -> bytes:
        try:
            return serialize(await inner(requests(given), context))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            await mapper.abort(context, method, error)

    async def stream(given: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            # A caller that hangs up between two answers ends the handler now, not when it is collected.
            async with contextlib.aclosing(inner(requests(given), context)) as responses:
                async for response in responses:
                    yield serialize(response)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            await mapper.abort(context, method, error)

    async def write(given: Any, context: Any) -> None:
        try:
            await inner(requests(given), context)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            await mapper.abort(context, method, error)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    read = tolerant(deserialize or handler.request_deserializer)
    if not handler.response_streaming:
        return make(answer, request_deserializer=read)
    if inspect.isasyncgenfunction(inner):
        return make(stream, request_deserializer=read)
    return make(write, request_deserializer=read, response_serializer=handler.response_serializer)


def _behaviour(handler: "grpc.RpcMethodHandler[Any, Any]") -> Callable[[Any, Any], Any]:
    for behaviour in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream):
        if behaviour is not None:
            return behaviour
    raise AssertionError("a handler without behaviour")
