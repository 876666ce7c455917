"""`farhand demo`: what it shows, that what it prints works as printed, and that it leaves nothing behind."""

import asyncio
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.fixtures.mesh import Process

FARHAND = Path(sys.executable).with_name("farhand")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `farhand` is on the path, and temporary files are where we can see them."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FARHAND_")}
    path = f"{FARHAND.parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"TMPDIR": str(temporary), "PATH": path, "HOME": str(tmp_path)}


async def run(command: str, environment: dict[str, str]) -> str:
    """What a command line prints; it must exit 0."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_demo_spreads_its_jobs_checks_them_and_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = await run(f"{FARHAND} demo", environment)
    ready = re.search(r"^Ready after ([\d.]+) s", output, re.MULTILINE)
    # Where the machine does other things as well, it may take longer in proportion.
    assert ready and float(ready[1]) < 10 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    files = re.search(r"^(\d+) files of Python's standard library", output, re.MULTILINE)
    assert files and int(files[1]) > 100
    rows = re.findall(r"^(_default|gpu) +\S+ +(\d+) +\S+ +\S+ +\S+$", output, re.MULTILINE)
    assert [group for group, _ in rows] == ["_default", "gpu"]
    assert sum(int(jobs) for _, jobs in rows) == int(files[1])
    assert "Checked the logs of 5 jobs" in output
    tree = re.findall(r"^ *(both|lines|bytes|together) +SUCCESS +(\S+)", output, re.MULTILINE)
    assert sorted(tree) == [("both", "-"), ("bytes", "gpu"), ("lines", "_default"), ("together", "_default")]
    assert "Counted again here: right." in output
    assert len(re.findall(r"^  farhand ", output, re.MULTILINE)) == 3
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_kept_demo_prints_commands_that_work(environment: dict[str, str], tmp_path: Path) -> None:
    demo = Process("demo", [str(FARHAND), "demo", "--keep"], environment, tmp_path / "demo.log")
    try:
        await demo.start()
        commands = re.findall(r"^  (farhand .*)$", demo.tail(), re.MULTILINE)
        outputs = [await run(command, environment) for command in commands]
        assert "Linux" in outputs[0]
        assert "SUCCESS" in outputs[1]
        assert "gpu" in outputs[2]
        demo.send(signal.SIGINT)
        assert await demo.ended() == 0
    finally:
        if demo.running:
            demo.kill()
            await demo.ended()
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_an_interrupted_demo_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    demo = Process("demo", [str(FARHAND), "demo"], environment, tmp_path / "demo.log")
    await demo.launch()
    async with asyncio.timeout(90):
        while not list((tmp_path / "tmp").glob("*/services.json")):  # a folder tells nobody
            await asyncio.sleep(0.02)
    demo.send(signal.SIGINT)
    assert await demo.ended() == 130
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_a_demo_whose_reader_left_stops_quietly(environment: dict[str, str], tmp_path: Path) -> None:
    command = f"{shlex.quote(str(FARHAND))} demo 2> {shlex.quote(str(tmp_path / 'errors'))} | head -1"
    output = await run(f"sh -c {shlex.quote(command)}", environment)
    assert output.startswith("Starting PostgreSQL") and len(output.splitlines()) == 1
    assert (tmp_path / "errors").read_text() == ""
    assert list((tmp_path / "tmp").iterdir()) == []
