"""A child of a standalone: ready lines, last words, new starts, and the end."""

import asyncio
import sys
from pathlib import Path

import pytest

from farhand.cli.failure import CommandFailed
from farhand.cli.standalone_child import Child

_READY = 'import os, json; os.write(int(os.environ[\'FARHAND_READY_FD\']), b\'{"ready": true, "address": "here"}\\n\');'
_PAUSE = "import signal; signal.pause()"


class Heard:
    """An output that keeps what it gets, and tells when a notice comes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notices: list[str] = []
        self.noticed = asyncio.Event()

    def line(self, name: str, text: str) -> None:
        self.lines.append(f"{name}: {text}")

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self.noticed.set()

    def close(self) -> None:
        """Nothing to close."""


def child(heard: Heard, *programs: str) -> Child:
    """One that runs these programs, one a start, and the last again and again."""
    starts = iter([*programs[:-1]])
    return Child("registry", lambda: [sys.executable, "-c", next(starts, programs[-1])], dict, heard, lambda *_: None)


async def test_a_child_is_ready_when_it_says_so() -> None:
    heard = Heard()
    it = child(heard, "print('some words', flush=True);" + _READY + _PAUSE)
    async with asyncio.TaskGroup() as tasks:
        await it.start(tasks)
        assert it.facts["address"] == "here"
        await it.stop(10)
    assert heard.lines == ["registry: some words"]
    assert heard.notices == []


async def test_a_child_that_ends_before_it_is_ready_brings_its_last_words() -> None:
    heard = Heard()
    it = child(heard, "import sys; print('no such port'); sys.exit(3)")
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(CommandFailed) as failure:
            await it.start(tasks)
    assert failure.value.lines() == ["farhand: The registry did not start (exit code 3).", "  no such port"]


async def test_a_child_that_dies_is_started_again_and_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farhand.cli.standalone_child._FIRST_PAUSE", 0.01)
    heard = Heard()
    it = child(heard, _READY + "os._exit(7)", "raise SystemExit(8)", _READY + _PAUSE)
    async with asyncio.TaskGroup() as tasks:
        await it.start(tasks)
        while "the registry is back" not in heard.notices:
            heard.noticed.clear()
            await asyncio.wait_for(heard.noticed.wait(), 30)
        await it.stop(10)
    assert heard.notices == [
        "the registry ended (exit code 7); it starts again in 10ms",
        "the registry ended (exit code 8); it starts again in 20ms",
        "the registry is back",
    ]


async def test_a_child_that_ignores_term_is_killed_after_the_patience() -> None:
    heard = Heard()
    it = child(heard, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + _READY + _PAUSE)
    async with asyncio.TaskGroup() as tasks:
        await it.start(tasks)
        await it.stop(0.05)
    assert it.pid is None
    assert heard.notices == ["the registry did not stop within 50ms; killing it"]


async def test_a_stop_does_not_wait_for_who_else_holds_the_output(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    grandchild = f"import subprocess; p = subprocess.Popen(['sleep', '60']); open({str(pid)!r}, 'w').write(str(p.pid));"
    heard = Heard()
    it = child(heard, grandchild + _READY + _PAUSE)
    try:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            await it.start(tasks)
            await it.stop(5)
    finally:
        await (await asyncio.create_subprocess_exec("kill", pid.read_text())).wait()
