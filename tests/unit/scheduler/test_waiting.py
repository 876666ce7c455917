"""A loop that waits says so now and then, not at every try."""

import logging

import pytest

from farhand.scheduler.loops.waiting import EVERY, Waiting


def test_one_line_every_five_seconds_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = [100.0]
    waiting = Waiting(logging.getLogger("test"), "the registry at H:1", lambda: clock[0])
    waiting.over()
    for clock[0] in (100.0, 101.0, 100.0 + EVERY - 0.1, 100.0 + EVERY, 100.0 + EVERY + 1):
        waiting.still("refused")
    waiting.over()
    waiting.over()
    line = "waiting for the registry at H:1: refused"
    assert [record.getMessage() for record in caplog.records] == [line, line, "the registry at H:1 is back"]
