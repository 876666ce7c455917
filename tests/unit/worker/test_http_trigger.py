"""The HTTP trigger: what an answer has to be so that it fires, and what is no answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from farhand.worker.runners import CommandEnd
from farhand.worker.tasks.base import Files, Level, Outcome, OutcomeState
from farhand.worker.triggers.base import Evaluated
from farhand.worker.triggers.http import HttpTrigger
from tests.fixtures.http_server import Server, answer


class Context:
    """What a run gives an evaluation, as far as a request needs it."""

    def __init__(self, properties: Mapping[str, Any], scope: Mapping[str, Any]) -> None:
        self.properties = properties
        self.scope = scope
        self.env: Mapping[str, str] = {}
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


async def evaluate(uri: str, **properties: Any) -> Outcome:
    context = Context({"uri": uri, **properties}, {"vars": {"wanted": "ready"}, "trigger": {"id": "t", "state": None}})
    trigger = Evaluated(HttpTrigger(), HttpTrigger.later)
    assert trigger.validate(context.properties) == []
    outcome = await trigger.run(context)
    failed = outcome.state is OutcomeState.FAILED
    assert context.lines == ([(outcome.message, Level.ERROR)] if failed else [])
    return outcome


async def test_an_answer_fires_and_is_the_executions_trigger(http_server: Server) -> None:
    http_server.answers["/"] = answer(b"hi", "200 OK", "X-One: 1")
    outcome = await evaluate(f"{http_server.uri}/")
    assert outcome.outputs["fired"] is True
    assert outcome.outputs["variables"]["code"] == 200
    assert outcome.outputs["variables"]["body"] == "hi"
    assert outcome.outputs["variables"]["headers"]["x-one"] == ["1"]


async def test_a_code_from_400_on_is_no_failure_and_does_not_fire(http_server: Server) -> None:
    http_server.answers["/"] = answer(b"", "404 Not Found")
    outcome = await evaluate(f"{http_server.uri}/")
    assert outcome.state is OutcomeState.SUCCESS
    message = "the server answered 404 Not Found, which does not fulfil the condition"
    assert outcome.outputs == {"fired": False, "state": {}, "message": message}


@pytest.mark.parametrize(
    ("condition", "fires"),
    [
        ("{{ response.body == vars.wanted }}", True),
        ("{{ (response.body | upper) == vars.wanted }}", False),
        ("{{ response.statusCode == 503 and response.headers['x-one'] == ['1'] }}", True),
        ("{{ response.headers['x-two'] | default('') }}", False),
        (True, True),
        ("false", False),
    ],
)
async def test_the_condition_sees_the_answer_and_the_flow(http_server: Server, condition: object, fires: bool) -> None:
    http_server.answers["/"] = answer(b"ready", "503 Busy", "X-One: 1")
    outcome = await evaluate(f"{http_server.uri}/", responseCondition=condition)
    assert outcome.outputs["fired"] is fires


@pytest.mark.parametrize("condition", ["{{ response.boddy }}", "{{ nobody }}", "{{ [1] | length / 0 }}"])
async def test_a_condition_that_cant_be_rendered_fails_with_its_name(http_server: Server, condition: str) -> None:
    http_server.answers["/"] = answer(b"ready")
    outcome = await evaluate(f"{http_server.uri}/", responseCondition=condition)
    assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "EXPRESSION_FAILED")
    assert outcome.message.startswith("responseCondition: ")


async def test_no_answer_is_a_failure() -> None:
    outcome = await evaluate("http://127.0.0.1:1/")
    assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "REQUEST_FAILED")
    assert outcome.message == "GET http://127.0.0.1:1/: can't connect: Connection refused"


def test_what_is_wrong_is_told_before_anybody_is_called() -> None:
    properties = {"uri": "ftp://x", "responseCondition": [], "options": {"allowFailed": True}, "timeout": "PT1S"}
    wrong = [f"{each.path}: {each.description}" for each in HttpTrigger().validate(properties)]
    assert wrong == [
        "timeout: is no property of io.kestra.plugin.core.http.Trigger. "
        "It has body, contentType, headers, method, options, responseCondition, uri.",
        "uri: must be an address such as https://example.com/data, not 'ftp://x'",
        "allowFailed: is no property of options. It has followRedirects.",
        "responseCondition: must be a string, not a list",
    ]
