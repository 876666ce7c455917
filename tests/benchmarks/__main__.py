"""`make bench`: how fast the mesh is on this machine, each figure beside the same rows moved by bare SQL.

Real processes over real gRPC on an embedded PostgreSQL with fsync; nothing else
should run meanwhile. Machines differ and are noisy: the ratios are what to compare.
`make bench ARGS="--jobs 100000"` takes longer and is steadier.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import flows, triggers
from tests.benchmarks.bare_sql import BareSql
from tests.benchmarks.executions import Executions
from tests.benchmarks.measures import Latencies, Measures, Rate
from tests.fixtures.mesh import Mesh, postgres


@asynccontextmanager
async def a_mesh(folder: Path) -> AsyncIterator[tuple[Mesh, str]]:
    """Registry, scheduler and a worker with a thousand slots; and another database for the bare SQL."""
    async with AsyncExitStack() as stack:
        database = await postgres(folder).start()
        mesh = Mesh(folder, str(database.facts["url"]), stack)
        mesh.processes.append(database)
        stack.push_async_callback(mesh.kill_all)
        await mesh.start(workers=[""], slots=1000, lease=60.0)
        await mesh.set_group("elsewhere")
        yield mesh, mesh.database_url


def in_ratio(ours: Rate, bare: Rate) -> str:
    """How much of the bare speed is left."""
    return f"{ours.per_second / bare.per_second:.2f}"


def of_flows(saved: Rate, listed: Latencies, bare: Latencies) -> Table:
    """How long a list takes; saves have nothing bare to stand beside, since they are read and checked first."""
    table = Table("what", "farhand", "bare SQL", "ratio", title=f"{flows.FLOWS:,} flows")
    for share in (50, 99):
        mine, other = listed.percentile(share), bare.percentile(share)
        title = f"a list of {flows.FLOWS:,}, p{share}, ms"
        table.add_row(title, f"{mine * 1000:.1f}", f"{other * 1000:.1f}", f"{mine / other:.1f}")
    table.add_row("saved by 8 callers, flows/s", str(saved), "-", "-")
    return table


async def of_executions(executions: Executions, waiting: int) -> Table:
    """What executions cost on top of their jobs; there is no bare SQL for that."""
    table = Table("what", "farhand", "aim", title="Executions of no-op tasks")
    await executions.prepare()
    parallel = await executions.parallel()
    table.add_row("100 parallel tasks, create to end, p50, ms", f"{parallel.percentile(50) * 1000:,.0f}", "< 1,000")
    few = await executions.rate()
    table.add_row("sequences of 10 tasks, task runs/s", str(few), "300")
    await executions.fill(waiting)
    many = await executions.rate()
    table.add_row(f"the same beside {waiting:,} running executions, task runs/s", str(many), "as before")
    return table


def of_triggers(minute: triggers.Minute) -> Table:
    """What schedules cost the scheduler that looks at them."""
    table = Table("what", "farhand", "aim", title="Schedules")
    title = f"{triggers.TRIGGERS:,} with a tick a minute, of a core"
    table.add_row(title, f"{minute.share:.1f} %", "< 10 %")
    return table


async def main(jobs: int, waiting: int) -> None:
    """Measure everything once and print it."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("what", "farhand", "bare SQL", "ratio", title=f"{jobs:,} no-op jobs, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="farhand-bench-") as name:
        # The embedded server runs as another user, who must be able to come here.
        Path(name).chmod(0o755)
        async with a_mesh(Path(name)) as (mesh, url):
            measures, bare = Measures(mesh), BareSql(url)
            idle = await measures.memory()
            await measures.warm_up()

            ours, theirs = await measures.batches(jobs), await bare.batches(jobs)
            table.add_row(
                "batches of 500, submit to recorded result, jobs/s", str(ours), str(theirs), in_ratio(ours, theirs)
            )
            ours, theirs = await measures.unary(min(jobs, 10_000)), await bare.single(min(jobs, 10_000))
            table.add_row("one job a call, 64 callers, submits/s", str(ours), str(theirs), in_ratio(ours, theirs))
            started, moved = await measures.latency(), await bare.latency()
            for share in (50, 99):
                mine, other = started.percentile(share), moved.percentile(share)
                table.add_row(
                    f"submit to start at 50 jobs/s, p{share}, ms",
                    f"{mine * 1000:.1f}",
                    f"{other * 1000:.1f}",
                    f"{mine / other:.1f}",
                )
            saved = await flows.save(mesh)
            lists, bare_lists = await flows.listed(mesh), await flows.listed_bare(url)
            console.print(table)
            console.print(of_flows(saved, lists, bare_lists))
            console.print(await of_executions(Executions(mesh), waiting))
            console.print(of_triggers(await triggers.minute(url)))
    memory = Table("idle service", "resident MiB", title="Memory before the first job")
    for service, mebibytes in idle.items():
        memory.add_row(service, f"{mebibytes:.0f}")
    console.print(memory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=40_000, help="how many jobs the batches hold in all")
    parser.add_argument("--waiting", type=int, default=10_000, help="how many executions run beside those measured")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.jobs, arguments.waiting))
