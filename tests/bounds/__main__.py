"""`make bounds`: how long a failure is felt, beside what is promised (P12), with real processes.

`make bounds ARGS="--outage 300"` keeps the registry down for five minutes instead of
twenty seconds. Exits 1 where a bound is missed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bounds.faults import (
    Bound,
    a_deaf_worker_is_noticed,
    a_killed_scheduler_s_workers_move,
    a_killed_worker_s_job_is_given_to_another,
    a_replica_joins,
    a_stopped_worker_is_noticed,
    postgresql_comes_back,
    schedulers_are_rolled_under_load,
    the_registry_is_away,
)
from tests.fixtures.mesh import Mesh, Process, postgres


@asynccontextmanager
async def a_mesh() -> AsyncIterator[tuple[Mesh, Process]]:
    """An empty mesh on a PostgreSQL of its own, with fsync."""
    with tempfile.TemporaryDirectory(prefix="farhand-bounds-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded server runs as another user, who must be able to come here
        async with AsyncExitStack() as stack:
            database = await postgres(folder).start()
            mesh = Mesh(folder, str(database.facts["url"]), stack)
            mesh.processes.append(database)
            stack.push_async_callback(mesh.kill_all)
            yield mesh, database


async def main(outage: float) -> int:
    """Every fault once, each in a mesh of its own."""
    faults: list[Callable[[Mesh, Process], Awaitable[list[Bound]]]] = [
        a_killed_worker_s_job_is_given_to_another,
        a_killed_scheduler_s_workers_move,
        postgresql_comes_back,
        schedulers_are_rolled_under_load,
        a_replica_joins,
        a_stopped_worker_is_noticed,
        a_deaf_worker_is_noticed,
        lambda mesh, database: the_registry_is_away(mesh, database, outage),
    ]
    table = Table("fault", "what is promised", "bound", "seen", "", title="How long a failure is felt")
    missed = 0
    for fault in faults:
        async with a_mesh() as (mesh, database):
            for bound in await fault(mesh, database):
                missed += not bound.kept
                kept = "kept" if bound.kept else "[bold red]MISSED[/]"
                print(f"{bound.fault}: {bound.promise}: {bound.seen} ({bound.limit})", file=sys.stderr, flush=True)
                table.add_row(bound.fault, bound.promise, bound.limit, bound.seen, kept)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bounds", description=__doc__)
    parser.add_argument("--outage", type=float, default=20.0, help="seconds that the registry is away")
    sys.exit(asyncio.run(main(parser.parse_args().outage)))
