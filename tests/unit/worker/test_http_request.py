"""HTTP requests, to a server that answers as the test wrote it."""

import asyncio
import gzip
import logging
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from farhand.runtime import dev_certs
from farhand.worker.runners import CommandEnd
from farhand.worker.tasks.base import Files, Level, Outcome, OutcomeState
from farhand.worker.tasks.http_request import HttpRequest
from tests.fixtures.http_server import Server, answer, listening

LIMIT = 256 * 1024


class Context:
    """What a run gives a task, as far as a request needs it."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self.properties = properties
        self.env: Mapping[str, str] = {}
        self.scope: Mapping[str, Any] = {}
        self.lines: list[tuple[str, Level]] = []

    def log(self, text: str, level: Level = Level.WARN) -> None:
        self.lines.append((text, level))

    def say(self, text: str, level: Level = Level.INFO) -> None:
        raise AssertionError

    @property
    def files(self) -> Files:
        raise AssertionError

    def folder(self) -> Path:
        raise AssertionError

    async def run_process(self, *_: object, **__: object) -> int:
        raise AssertionError

    async def run_command(self, *_: object, **__: object) -> CommandEnd:
        raise AssertionError


async def ask(uri: str, **properties: Any) -> Outcome:
    context = Context({"uri": uri, **properties})
    task = HttpRequest()
    assert task.validate(context.properties) == []
    outcome = await task.run(context)
    failed = outcome.state is OutcomeState.FAILED
    assert context.lines == ([(outcome.message, Level.ERROR)] if failed else [])
    return outcome


async def test_code_headers_and_body_are_outputs(http_server: Server) -> None:
    http_server.answers["/data?a=1"] = answer(b"gr\xc3\xbc\xc3\x9fe", "201 Created", "X-One: 1", "x-one: 2")
    outcome = await ask(f"{http_server.uri}/data?a=1")
    assert outcome.state is OutcomeState.SUCCESS
    assert outcome.outputs["code"] == 201
    assert outcome.outputs["headers"]["x-one"] == ["1", "2"]
    assert outcome.outputs["body"] == "grüße"


async def test_method_headers_and_body_are_sent(http_server: Server) -> None:
    http_server.answers["/"] = answer()
    headers = {"Authorization": "Bearer x", "X-Count": 3, "X-On": True}
    await ask(f"{http_server.uri}/", method="post", headers=headers, body="grüße\r\n")
    head, _, body = http_server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    sent = head.lower().split(b"\r\n")
    for line in (b"authorization: bearer x", b"x-count: 3", b"x-on: true", b"content-type: text/plain; charset=utf-8"):
        assert line in sent
    assert body == "grüße\r\n".encode()


async def test_a_map_is_sent_as_json_and_a_content_type_can_be_said(http_server: Server) -> None:
    http_server.answers["/"] = answer()
    await ask(f"{http_server.uri}/", method="PUT", body={"a": [1]})
    await ask(f"{http_server.uri}/", method="PUT", body='{"a": 1}', contentType="application/json")
    for request, body in zip(http_server.requests, (b'{"a": [1]}', b'{"a": 1}'), strict=True):
        assert b"content-type: application/json\r\n" in request.lower()
        assert request.endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops"])
async def test_a_code_of_400_or_more_fails_and_the_outputs_are_kept(http_server: Server, status: str) -> None:
    http_server.answers["/x"] = answer(b"why", status)
    outcome = await ask(f"{http_server.uri}/x")
    assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "RESPONSE_FAILED")
    assert outcome.message == f"GET {http_server.uri}/x: the server answered {status}"
    assert (outcome.outputs["code"], outcome.outputs["body"]) == (int(status[:3]), "why")


@pytest.mark.parametrize("allow", [True, "true"])
async def test_unless_that_is_allowed(http_server: Server, allow: object) -> None:
    http_server.answers["/x"] = answer(b"why", "404 Not Found")
    outcome = await ask(f"{http_server.uri}/x", options={"allowFailed": allow})
    assert (outcome.state, outcome.outputs["code"]) == (OutcomeState.SUCCESS, 404)


async def test_redirects_are_followed_so_far_and_not_at_all_if_that_is_said(http_server: Server) -> None:
    http_server.answers |= {
        "/a": answer(b"", "302 Found", "Location: /b"),
        "/b": answer(b"there"),
        "/round": answer(b"", "302 Found", "Location: /round"),
        "/out": answer(b"", "302 Found", "Location: file:///etc/passwd"),
    }
    assert (await ask(f"{http_server.uri}/a")).outputs["body"] == "there"
    assert (await ask(f"{http_server.uri}/a", options={"followRedirects": False})).outputs["code"] == 302
    assert (await ask(f"{http_server.uri}/round")).message.endswith("/round: more than 10 redirects")
    assert "it leads to an address that is not http:// or https://" in (await ask(f"{http_server.uri}/out")).message


@pytest.mark.parametrize(
    ("answered", "message"),
    [
        (answer(b"x" * (LIMIT + 1)), f"the answer is larger than {LIMIT} bytes"),
        (answer(gzip.compress(b"x" * 50_000_000), "200 OK", "Content-Encoding: gzip"), "the answer is larger than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "the server broke off, or speaks no HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "the server broke off, or speaks no HTTP"),
        (b"", "the server broke off, or speaks no HTTP"),
        (answer(b"no gzip", "200 OK", "Content-Encoding: gzip"), "the answer is packed, and can't be unpacked"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n", "the server broke off, or speaks no HTTP"),
    ],
)
async def test_an_answer_that_is_none_is_a_clear_failure(http_server: Server, answered: bytes, message: str) -> None:
    http_server.answers["/"] = answered
    outcome = await ask(f"{http_server.uri}/")
    assert outcome.state is OutcomeState.FAILED
    assert outcome.reason in ("OUTPUT_TOO_LARGE", "REQUEST_FAILED")
    assert message in outcome.message


async def test_an_endless_answer_is_read_up_to_the_limit(http_server: Server) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    http_server.answers["/"] = endless
    assert (await ask(f"{http_server.uri}/")).reason == "OUTPUT_TOO_LARGE"


async def test_packed_and_binary_bodies_become_texts(http_server: Server) -> None:
    http_server.answers |= {
        "/gzip": answer(gzip.compress(b"hello"), "200 OK", "Content-Encoding: gzip"),
        "/binary": answer(b"\x00\xff\xfe"),
        "/latin": answer(b"\xfc", "200 OK", "Content-Type: text/plain; charset=iso-8859-1"),
        "/strange": answer(b"a", "200 OK", "Content-Type: text/plain; charset=zlib"),
    }
    paths = ("/gzip", "/binary", "/latin", "/strange")
    bodies = [(await ask(http_server.uri + path)).outputs["body"] for path in paths]
    assert bodies == ["hello", "\ufffd\ufffd\ufffd", "ü", "a"]


async def test_a_server_that_hangs_ends_with_the_timeout(http_server: Server) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    http_server.answers["/"] = silent
    outcome = await ask(f"{http_server.uri}/", timeout="PT0.2S")
    assert (outcome.reason, outcome.message) == (
        "REQUEST_FAILED",
        f"GET {http_server.uri}/: no whole answer within 200ms",
    )


async def test_a_request_that_is_cancelled_ends_at_once(http_server: Server) -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    http_server.answers["/"] = silent
    task = asyncio.create_task(ask(f"{http_server.uri}/"))
    await http_server.came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nobody_there_no_such_host_and_no_trust_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, listener = await listening()
    listener.close()
    await listener.wait_closed()
    outcome = await ask(f"{server.uri}/")
    assert (outcome.reason, outcome.message) == (
        "REQUEST_FAILED",
        f"GET {server.uri}/: can't connect: Connection refused",
    )

    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", nowhere)
        unknown = await ask("http://example.invalid/")
    assert unknown.message == (
        "GET http://example.invalid/: can't connect: its name leads nowhere: Name or service not known"
    )

    dev_certs.make(tmp_path / "certs", [])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key")
    server, listener = await listening(tls)
    server.answers["/"] = answer(b"trusted")
    assert "can't connect: the server's certificate is not trusted: " in (await ask(f"{server.uri}/")).message
    plain = await ask(server.uri.replace("https", "http") + "/")
    assert "GET http://" in plain.message
    listener.close()


async def test_the_machines_certificates_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev_certs.make(tmp_path / "certs", [])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certs" / "ca.crt"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certs" / "server.crt", tmp_path / "certs" / "server.key")
    server, listener = await listening(tls)
    server.answers["/"] = answer(b"trusted")
    assert (await ask(f"{server.uri}/")).outputs["body"] == "trusted"
    listener.close()


async def test_what_may_be_secret_in_an_address_is_in_no_message_and_in_no_log(
    http_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    http_server.answers["/x?token=secret"] = answer(b"", "403 Forbidden")
    outcome = await ask(f"{http_server.uri.replace('//', '//user:secret@')}/x?token=secret")
    assert outcome.message == f"GET {http_server.uri}/x: the server answered 403 Forbidden"
    assert "secret" not in caplog.text
    assert b"authorization: basic" in http_server.requests[0].lower()
