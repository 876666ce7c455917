"""Where a mesh is that is now ready: for people, as command lines that work as they are printed; for programs."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from farhand.cli.profile import DEFAULTS
from farhand.cli.standalone_mesh import StandaloneMesh, WorkerPlan, worker_names


def own_name() -> str:
    """How to call this program from here: `farhand` where that is it, else its path."""
    program = Path(sys.argv[0])
    if program.name != "farhand" or not program.exists():
        return f"{shlex.quote(sys.executable)} -m farhand.cli"
    found = shutil.which("farhand")
    if found is not None and Path(found).resolve() == program.resolve():
        return "farhand"
    absolute = program.absolute()
    relative = os.path.relpath(absolute)
    if not relative.startswith(".."):
        return shlex.quote(relative if os.sep in relative else f"./{relative}")
    return shlex.quote(str(absolute))


def command(mesh: StandaloneMesh | None, text: str) -> str:
    """A farhand command line, with this mesh's addresses where they are not the default ones."""
    where = ""
    if mesh is not None and mesh.registry != DEFAULTS.registry:
        where += f" --registry {mesh.registry}"
    if mesh is not None and mesh.scheduler != DEFAULTS.scheduler:
        where += f" --scheduler {mesh.scheduler}"
    head, space, rest = text.partition(" -- ")
    return f"{own_name()} {head}{where}{space}{rest}"


def welcome(mesh: StandaloneMesh, workers: Sequence[WorkerPlan], data: Path) -> str:
    """What a standalone says when it is ready."""
    shown = ", ".join(
        name if worker.slots is None else f"{name} ({worker.slots} slot{'s' if worker.slots > 1 else ''})"
        for name, worker in worker_names(workers).items()
    )
    group = next((worker.group for worker in workers if worker.group), "")
    run = f"run --worker-group {group} -- echo hello" if group else "run -- echo hello"
    return f"""
Farhand is ready.
  registry    {mesh.registry}
  scheduler   {mesh.scheduler}
  workers     {shown}
  data        {data}

In another terminal:
  {command(mesh, run)}
  {command(mesh, "worker list")}

Ctrl-C stops it.
"""


def write_ready_line(mesh: StandaloneMesh) -> None:
    """Tell who waits on FARHAND_READY_FD, as the services do, where to find this mesh."""
    if descriptor := os.environ.pop("FARHAND_READY_FD", ""):
        with os.fdopen(int(descriptor), "w") as pipe:
            facts = {"ready": True, "registry": mesh.registry, "scheduler": mesh.scheduler, "pids": mesh.pids}
            pipe.write(json.dumps(facts) + "\n")
