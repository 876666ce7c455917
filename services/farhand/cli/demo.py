"""`farhand demo`: a mesh in a temporary folder, a few hundred jobs to watch, and nothing left behind.

The story itself is in demo_story.py, its second part, a flow, in demo_flow.py; the numbers are put into a table by
demo_report.py.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farhand.cli.failure import CommandFailed
from farhand.cli.profile import DEFAULTS
from farhand.cli.standalone_folder import DataFolder
from farhand.cli.standalone_hints import command, write_ready_line
from farhand.cli.standalone_mesh import MeshPlan, StandaloneMesh, WorkerPlan, check_port
from farhand.cli.standalone_output import FileOutput
from farhand.cli.standalone_run import run_mesh
from farhand.runtime.settings import parse, setting

_WORKERS = (WorkerPlan("", 4), WorkerPlan("gpu", 4))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What can be set."""

    keep: bool = setting(False, "leave the mesh running afterwards, until Ctrl-C")


def main(argv: Sequence[str]) -> int:
    """Show it. CommandFailed: something does not start, or a job brought another result than it should."""
    settings = parse(
        Settings,
        argv,
        prog="farhand demo",
        description="A mesh on this machine: embedded PostgreSQL, registry, scheduler and two workers, which count "
        "and hash the files of Python's standard library. Leaves nothing behind.",
        examples=["farhand demo", "farhand demo --keep"],
    )
    with tempfile.TemporaryDirectory(prefix="farhand-demo-", ignore_cleanup_errors=True) as path:
        return asyncio.run(_show(Path(path), settings.keep))


async def _show(path: Path, keep: bool) -> int:
    from farhand.cli import demo_flow
    from farhand.cli.demo_story import DemoStory

    started = time.monotonic()
    told = False
    registry_port, scheduler_port = _free_default_ports() if keep else (0, 0)
    plan = MeshPlan(_WORKERS, registry_port, scheduler_port, drain_timeout=5.0)
    output = FileOutput(path / "logs", silent=True)
    with DataFolder.hold(path) as folder:
        mesh = StandaloneMesh(plan, folder, output, os.environ | {"FARHAND_LOG_FORMAT": "text"})

        async def story() -> None:
            nonlocal told
            print(f"Ready after {time.monotonic() - started:.1f} s: five processes that meet over gRPC.", flush=True)
            await DemoStory(mesh.scheduler, [worker.group for worker in _WORKERS]).tell()
            await demo_flow.tell(mesh.registry, mesh.scheduler)
            told = True
            if keep:
                print(_how_to_go_on_here(mesh), flush=True)
                write_ready_line(mesh)
                await asyncio.Event().wait()

        print(
            "Starting PostgreSQL, a registry, a scheduler, a worker of the default group and one of the group gpu …",
            flush=True,
        )
        try:
            await run_mesh(mesh, output, story)
        finally:
            output.close()
    if not told:
        return 130
    if not keep:
        print(_how_to_go_on(), flush=True)
    return 0


def _free_default_ports() -> tuple[int, int]:
    """The ports that commands dial by default; any, where one of them is taken."""
    ports = tuple(int(str(address).rpartition(":")[2]) for address in (DEFAULTS.registry, DEFAULTS.scheduler))
    try:
        for service, port in zip(("registry", "scheduler"), ports, strict=True):
            check_port(service, port)
    except CommandFailed:
        return 0, 0
    return ports[0], ports[1]


def _how_to_go_on() -> str:
    return f"""
All is stopped again, and nothing was left behind. Three commands to try next:

  {command(None, "server standalone --worker _default --worker gpu")}
      the same mesh, to stay, in this terminal until Ctrl-C; then in another one

  {command(None, "run --worker-group gpu -- uname -a")}
      a command on a worker of the group gpu, with its log and its exit code

  {command(None, "worker list")}
      who is there, for which group, how busy
"""


def _how_to_go_on_here(mesh: StandaloneMesh) -> str:
    return f"""
The mesh stays until Ctrl-C: registry {mesh.registry}, scheduler {mesh.scheduler}.
Three commands to try next, in another terminal:

  {command(mesh, "run --worker-group gpu -- uname -a")}
      a command on a worker of the group gpu, with its log and its exit code

  {command(mesh, "job list")}
      the jobs of this demo, and those of your own

  {command(mesh, "worker list")}
      who is there, for which group, how busy
"""
