"""One HTTP request from the worker, for the types that make some.

The answer is an output, so it is bounded as outputs are: it is read as far as that,
decompressed no further, and larger ones are none.

httpx is imported, and the machine's certificates are read, by the first request.
"""

import asyncio
import json
import logging
import os
import re
import socket
import ssl
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from farhand.kernel.durations import format_duration, parse_duration
from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.output_limit import OUTPUT_LIMIT

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0  # without a byte from the server
MOST_REDIRECTS = 10

KNOWN = frozenset({"uri", "method", "headers", "body", "contentType", "options"})
_CHARSETS = re.compile(
    r"us-ascii|utf-(8|16|16le|16be)|iso-8859-([1-9]|1[0134-6])|windows-125[0-8]|koi8-[ru]|shift_jis|euc-(jp|kr)|gb(k|2312|18030)|big5",
    re.IGNORECASE,
)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Method(StrEnum):
    """What is asked of the server."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    OPTIONS = "OPTIONS"


class AnswerTooLarge(Exception):
    """The answer's body is over the limit of outputs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    code: int
    phrase: str  # that came with the code
    headers: Mapping[str, list[str]]  # each name's values, names in lower case
    body: str

    @property
    def outputs(self) -> dict[str, Any]:
        """As outputs of a task, or variables of a trigger."""
        return {"code": self.code, "headers": dict(self.headers), "body": self.body}


class NoAnswer(Exception):
    """There is no answer that can be used: a reason (protos/README.md) and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class HttpCaller:
    """Makes the requests of a type."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    async def ask(self, properties: Mapping[str, Any]) -> Answer:
        """The answer, whatever its code. Raises NoAnswer."""
        options = check.structured(properties.get("options")) or {}
        limit = parse_duration(properties.get("timeout") or "0s") or None
        what = described(properties)
        try:
            async with asyncio.timeout(limit):
                return await self._ask(properties, check.truth(options.get("followRedirects"), True))
        except TimeoutError:
            message = f"{what}: no whole answer within {format_duration(limit or 0.0)}"
            raise NoAnswer("REQUEST_FAILED", message) from None
        except AnswerTooLarge:
            message = f"{what}: the answer is larger than {OUTPUT_LIMIT} bytes; let a script load it into a file"
            raise NoAnswer("OUTPUT_TOO_LARGE", message) from None
        except Exception as error:
            if (reason := _reason(error)) is None:
                raise
            raise NoAnswer("REQUEST_FAILED", f"{what}: {reason}") from None

    async def _ask(self, properties: Mapping[str, Any], follow: bool) -> Answer:
        if self._tls is None:
            self._tls = await asyncio.to_thread(_first_time)
        import httpx

        headers, content = _message(properties)
        async with (
            httpx.AsyncClient(
                verify=self._tls,
                follow_redirects=follow,
                max_redirects=MOST_REDIRECTS,
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            ) as client,
            client.stream(_method(properties), properties["uri"], headers=headers, content=content) as response,
        ):
            body = await _read(response)
            answered: dict[str, list[str]] = {}
            for name, value in response.headers.multi_items():
                answered.setdefault(name.lower(), []).append(value.replace("\0", "\ufffd"))
            text = body.decode(_charset(response), "replace").replace("\0", "\ufffd")
            return Answer(response.status_code, response.reason_phrase, answered, text)


def described(properties: Mapping[str, Any]) -> str:
    """The request in messages: "GET https://example.com/data"."""
    return f"{_method(properties)} {_without_secrets(properties['uri'])}"


def violations_of(properties: Mapping[str, Any], options: Collection[str]) -> list[Violation]:
    """All that is wrong with what is asked, before anybody is called. `options`: those that the type knows."""
    violations = _check_uri(properties.get("uri"))
    violations += check.one_of("method", properties.get("method"), Method)
    violations += _check_headers(properties.get("headers"))
    if not isinstance(body := properties.get("body"), list | dict):
        violations += check.scalar("body", body)
    violations += check.string("contentType", properties.get("contentType"))
    chosen = check.structured(properties.get("options"))
    if isinstance(chosen, dict):
        violations += check.unknown_properties("options", chosen, options)
        for name in sorted(set(options) & chosen.keys()):
            violations += check.boolean(f"options.{name}", chosen[name])
    elif chosen is not None:
        violations.append(Violation("options", f"must be a map, not {kind(chosen)}"))
    return violations


def _first_time() -> ssl.SSLContext:
    """What takes long: the import, and the machine's certificates."""
    import httpx  # noqa: F401

    for name in ("httpx", "httpcore"):  # they would log whole addresses, and what is secret in them
        logging.getLogger(name).setLevel(logging.WARNING)
    return ssl.create_default_context()


async def _read(response: "httpx.Response") -> bytes:
    """The body, within the limit. What is packed is unpacked here, since httpx would unpack without a bound."""
    packed = response.headers.get("content-encoding", "").lower() in ("gzip", "x-gzip", "deflate")
    unpacker = zlib.decompressobj(47) if packed else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += unpacker.decompress(chunk, OUTPUT_LIMIT + 1) if unpacker else chunk
        if len(body) > OUTPUT_LIMIT or (unpacker and unpacker.unconsumed_tail):
            raise AnswerTooLarge
    return bytes(body)


def _message(properties: Mapping[str, Any]) -> tuple[dict[str, str], bytes | None]:
    """The headers and the body that are sent."""
    own = check.structured(properties.get("headers")) or {}
    headers = {name.lower(): check.variable(value) for name, value in own.items()}
    body = properties.get("body")
    if body is not None:
        usual = "application/json" if isinstance(body, list | dict) else "text/plain; charset=utf-8"
        headers.setdefault("content-type", properties.get("contentType") or usual)
        text = json.dumps(body) if isinstance(body, list | dict) else check.variable(body)
        return {"accept-encoding": "identity", **headers}, text.encode()
    return {"accept-encoding": "identity", **headers}, None


def _method(properties: Mapping[str, Any]) -> str:
    return str(properties.get("method") or Method.GET).upper()


def _charset(response: "httpx.Response") -> str:
    """The one that the answer names, if it is one for texts of the web."""
    name = response.charset_encoding or ""
    return name if _CHARSETS.fullmatch(name) else "utf-8"


def _reason(error: BaseException) -> str | None:
    """Why there is no answer, in words; None where that is a defect of ours."""
    import httpx

    match error:
        case httpx.ConnectTimeout():
            return f"no connection within {format_duration(CONNECT_SECONDS)}"
        case httpx.TimeoutException():
            return f"the server said nothing for {format_duration(SILENCE_SECONDS)}"
        case httpx.TooManyRedirects():
            return f"more than {MOST_REDIRECTS} redirects"
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return "it leads to an address that is not http:// or https://"
        case httpx.ConnectError():
            return f"can't connect: {_root(error)}"
        case httpx.RemoteProtocolError():
            return f"the server broke off, or speaks no HTTP: {error}"
        case httpx.TransportError():
            return f"the connection failed: {_root(error)}"
        case zlib.error():
            return "the answer is packed, and can't be unpacked"
    return None


def _root(error: BaseException) -> str:
    """The system's own word, which httpx wraps several times."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    match error:
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with it: {error.reason or error}"
        case socket.gaierror():
            return f"its name leads nowhere: {error.strerror}"
        case OSError(errno=int(number)):
            return os.strerror(number)
    return str(error) or type(error).__name__


def _check_uri(value: Any) -> list[Violation]:
    if violations := check.string("uri", value, required=True):
        return violations
    try:
        parts = urlsplit(value)
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well or any(character <= " " for character in value):
        return [Violation("uri", f"must be an address such as https://example.com/data, not {shown(_plain(value))}")]
    return []


def _check_headers(value: Any) -> list[Violation]:
    headers = check.structured(value)
    if headers is None:
        return []
    if not isinstance(headers, dict):
        return [Violation("headers", f"must be a map of names to values, not {kind(headers)}")]
    violations = []
    for name, item in headers.items():
        if not _HEADER.fullmatch(name):
            violations.append(Violation("headers", f"{shown(name)} can't be the name of a header"))
        elif not isinstance(item, str | int | float):
            violations.append(Violation(f"headers.{name}", f"must be a string, not {kind(item)}"))
        elif isinstance(item, str) and not all(" " <= character <= "~" or character == "\t" for character in item):
            violations.append(Violation(f"headers.{name}", "must be ASCII on one line"))
    return violations


def _without_secrets(uri: str) -> str:
    """The address without what may be secret in it: user, password, query."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return _plain(f"{parts.scheme}://{host}{port}{parts.path}")


def _plain(uri: str) -> str:
    """Cut before the query, without user and password, and safe to show."""
    text = re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])
    return shown(text, 200).strip("'\"")
