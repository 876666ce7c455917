"""`farhand server standalone`: the whole mesh on this machine, supervised, until Ctrl-C.

One Ctrl-C stops the services in reverse order of their start; a second one kills them.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farhand.cli.standalone_folder import DataFolder
from farhand.cli.standalone_hints import welcome, write_ready_line
from farhand.cli.standalone_mesh import MeshPlan, StandaloneMesh, WorkerPlan
from farhand.cli.standalone_output import FileOutput, Output, TerminalOutput
from farhand.cli.standalone_run import run_mesh
from farhand.runtime.settings import LogSettings, duration, parse, setting


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port; write 0 to 65535")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Settings(LogSettings):
    """What can be set."""

    worker: tuple[WorkerPlan, ...] = setting(
        (),
        "a worker to start, GROUP[:SLOTS], e.g. gpu:2, or _default; makes the group where it is missing; "
        "may be given several times (default: one of the default group)",
        kind=WorkerPlan.parse,
        many=True,
    )
    data: Path | None = setting(
        None, "folder for the database and all else (default: ~/.local/share/farhand/standalone)", kind=Path
    )
    database_url: str | None = setting(
        None,
        "use this PostgreSQL instead of an embedded one: postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        secret=True,
    )
    registry_port: int = setting(7401, "the registry's port; 0: any that is free", kind=_port)
    scheduler_port: int = setting(7402, "the scheduler's port; 0: any that is free", kind=_port)
    drain_timeout: float = setting(10.0, "how long a stop waits for running jobs", kind=duration)
    quiet: bool = setting(False, "what the services write goes to files in the data folder")


def main(argv: Sequence[str]) -> int:
    """Run until it is asked to stop. CommandFailed: folder or port in use, or a service does not start."""
    settings = parse(
        Settings,
        argv,
        prog="farhand server standalone",
        description="Registry, scheduler, workers and their database on this machine; Ctrl-C stops all in order.",
        examples=[
            "farhand server standalone",
            "farhand server standalone --worker _default --worker gpu:2",
            "farhand server standalone --data ./mesh --registry-port 0 --scheduler-port 0",
        ],
    )
    path = (settings.data or default_data_folder()).expanduser().absolute()
    plan = MeshPlan(
        workers=settings.worker or (WorkerPlan(),),
        registry_port=settings.registry_port,
        scheduler_port=settings.scheduler_port,
        database_url=settings.database_url,
        drain_timeout=settings.drain_timeout,
    )
    with DataFolder.hold(path) as folder:
        output: Output = FileOutput(path / "logs") if settings.quiet else TerminalOutput()
        try:
            logs = {"FARHAND_LOG_FORMAT": settings.log_format or "text", "FARHAND_LOG_LEVEL": settings.log_level}
            mesh = StandaloneMesh(plan, folder, output, os.environ | logs)
            return asyncio.run(_serve(mesh, plan, path, output))
        finally:
            output.close()


async def _serve(mesh: StandaloneMesh, plan: MeshPlan, path: Path, output: Output) -> int:
    async def story() -> None:
        print(welcome(mesh, plan.workers, path), flush=True)
        write_ready_line(mesh)
        await asyncio.Event().wait()

    return 130 if await run_mesh(mesh, output, story) > 1 else 0


def default_data_folder() -> Path:
    """farhand/standalone below $XDG_DATA_HOME, by default ~/.local/share."""
    folder = os.environ.get("XDG_DATA_HOME")
    return (Path(folder) if folder else Path.home() / ".local" / "share") / "farhand" / "standalone"
