"""The life of a process: readiness, signals, exit codes, JSON logs and traces, each with a real process."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farhand.runtime import telemetry
from tests.fixtures.otlp import OtlpReceiver

SERVICES = Path(__file__).with_name("services.py")


class Story:
    """A running story; `ready` is its ready line."""

    def __init__(self, name: str, **environment: str) -> None:
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(SERVICES), name],
            env={**os.environ, "FARHAND_READY_FD": str(writing), **environment},
            pass_fds=(writing,),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writing)
        self._pipe = os.fdopen(reading)

    @property
    def ready(self) -> Any:
        return json.loads(self._pipe.readline())

    def close(self) -> None:
        self._pipe.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Its exit code and what it wrote to stderr."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def stories() -> Iterator[list[Story]]:
    started: list[Story] = []
    yield started
    for story in started:
        story.close()


def start(stories: list[Story], name: str, **environment: str) -> Story:
    stories.append(Story(name, **environment))
    return stories[-1]


def lines(errors: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in errors.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_says_when_it_is_ready_and_ends_in_order_on_a_signal(
    stories: list[Story], number: signal.Signals
) -> None:
    story = start(stories, "until_stopped")
    ready = story.ready
    assert (ready["ready"], ready["address"]) == (True, "127.0.0.1:1234")
    story.process.send_signal(number)
    code, errors = story.end()
    assert code == 0
    assert [line["message"] for line in lines(errors)] == ["ready", "stopping", "drained"]


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_deaf_service_at_once(
    stories: list[Story], number: signal.Signals, expected: int
) -> None:
    story = start(stories, "deaf")
    assert story.ready == {"ready": True}
    story.process.send_signal(number)
    assert story.process.stdout is not None
    assert story.process.stdout.readline() == "told once\n"
    story.process.send_signal(number)
    assert story.end()[0] == expected


def test_what_a_person_can_mend_is_one_line_and_exit_1(stories: list[Story]) -> None:
    assert start(stories, "misconfigured").end() == (1, "farhand story: Port 7401 is in use.\n")


def test_a_bug_is_logged_with_its_traceback_and_exits_1(stories: list[Story]) -> None:
    code, errors = start(stories, "broken").end()
    (line,) = lines(errors)
    assert code == 1
    assert line["level"] == "error"
    assert "KeyError: 'bug'" in line["error"]


def test_a_service_that_waits_ends_with_0_when_told_to_stop(stories: list[Story]) -> None:
    story = start(stories, "waiting")
    assert story.ready == {"ready": True}
    story.process.send_signal(signal.SIGTERM)
    assert story.end()[0] == 0


def test_a_service_ends_with_its_supervisor_even_after_kill_9(stories: list[Story]) -> None:
    story = start(stories, "parent")
    assert story.process.stdout is not None
    child = json.loads(story.process.stdout.readline())["pid"]
    story.process.kill()
    try:
        # Its child holds stderr: the end of the file is the end of both.
        _, errors = story.process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        raise
    assert [line["message"] for line in lines(errors)] == ["ready", "stopping", "drained"]


def test_a_service_whose_supervisor_died_before_it_could_tell_ends_at_once(stories: list[Story]) -> None:
    story = start(stories, "waiting", FARHAND_PARENT_DEATH=str(os.getppid()))
    assert story.end() == (-signal.SIGTERM, "")


def test_json_lines_have_the_same_keys_and_no_password(stories: list[Story]) -> None:
    story = start(stories, "until_stopped")
    assert "secret" in story.ready["url"]  # who started it needs it
    story.process.send_signal(signal.SIGTERM)
    errors = story.end()[1]
    assert "secret" not in errors
    (line, *_) = lines(errors)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
    assert line["level"] == "info"
    assert line["service"] == "story"
    assert line["address"] == "127.0.0.1:1234"
    assert "trace_id" not in line


def test_text_logs_are_for_people(stories: list[Story]) -> None:
    story = start(stories, "until_stopped", STORY_FORMAT="text")
    assert story.ready
    story.process.send_signal(signal.SIGTERM)
    first = story.end()[1].splitlines()[0]
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} INFO    story: ready  address=127\.0\.0\.1:1234 ", first)


def test_spans_are_exported_at_the_end_and_logs_inside_carry_the_trace_id(
    stories: list[Story], otlp: OtlpReceiver
) -> None:
    story = start(stories, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint)
    code, errors = story.end()
    assert code == 0
    (span,) = otlp.wait_for(lambda spans: len(spans) >= 1)
    assert (span.name, span.service, span.attributes) == ("work", "farhand-story", {"size": 3})
    inside, outside = lines(errors)
    assert inside["trace_id"] == span.trace_id
    assert inside["traceparent"].startswith(f"00-{span.trace_id}-{span.span_id}-")
    assert telemetry.sampled(inside["traceparent"])
    assert "trace_id" not in outside


def test_a_trace_ratio_of_0_exports_nothing(stories: list[Story], otlp: OtlpReceiver) -> None:
    story = start(stories, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint, FARHAND_TRACE_RATIO="0")
    code, errors = story.end()
    assert code == 0
    assert otlp.spans == []
    traceparent = lines(errors)[0]["traceparent"]
    assert traceparent
    assert not telemetry.sampled(traceparent)


def test_a_trace_ratio_that_is_none_is_one_clear_line(stories: list[Story], otlp: OtlpReceiver) -> None:
    story = start(stories, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.endpoint, FARHAND_TRACE_RATIO="lots")
    code, errors = story.end()
    assert code == 1
    assert errors == "farhand story: FARHAND_TRACE_RATIO is 'lots'; it must be a number from 0.0 to 1.0\n"


def test_a_collector_that_is_away_does_not_hold_up_the_end(stories: list[Story]) -> None:
    story = start(stories, "traced", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert story.end()[0] == 0


def test_without_an_endpoint_nothing_of_the_sdk_is_loaded() -> None:
    script = (
        "import asyncio, sys\n"
        "from farhand.runtime import telemetry, grpc_channel, service\n"
        "asyncio.run(telemetry.configure('worker').shutdown())\n"
        "telemetry.tracer().start_span('nothing').end()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
