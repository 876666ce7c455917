"""`make chaos MINUTES=1`: everything is killed, stopped and cut while jobs run; then the history is judged.

Three schedulers, twelve workers in three groups, a PostgreSQL and a registry, all
real processes; each worker dials through a TCP proxy of its own. A nemesis, seeded
(`SEED=…`), does one thing after another. Then the faults stop, every acknowledged
job must end, and tests/checker judges what clients and jobs wrote. Prints the
faults that landed and how many jobs ran through each; exits 1 where the checker
finds something, or where a kind of fault never landed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.clients import Clients
from tests.chaos.nemesis import Nemesis
from tests.chaos.proxy import Proxy
from tests.checker.history import History, judge, read
from tests.fixtures.mesh import Mesh, postgres

GROUPS = ("red", "green", "blue")
SCHEDULERS, WORKERS_A_GROUP, LEASE = 3, 4, 4.0


async def main(minutes: float, seed: int) -> int:
    """One run."""
    folder = Path(tempfile.mkdtemp(prefix="farhand-chaos-"))
    folder.chmod(0o755)  # the embedded server runs as another user, who must be able to come here
    (folder / "history").mkdir()
    print(f"seed {seed}, {minutes:g} minutes; logs and histories in {folder}", file=sys.stderr)
    async with AsyncExitStack() as stack:
        database = await postgres(folder).start()
        mesh = Mesh(folder, str(database.facts["url"]), stack)
        mesh.processes.append(database)
        stack.push_async_callback(mesh.kill_all)
        await mesh.add_registry()
        for group in GROUPS:
            await mesh.set_group(group, lease=LEASE)
        for _ in range(SCHEDULERS):
            await mesh.add_scheduler()
        proxies: dict[str, list[Proxy]] = {}
        for group in GROUPS:
            for number in range(1, WORKERS_A_GROUP + 1):
                name = f"{group}-{number}"
                proxies[name] = [
                    await stack.enter_async_context(Proxy(scheduler.address)) for scheduler in mesh.schedulers
                ]
                await mesh.add_worker(
                    group,
                    slots=3,
                    name=name,
                    scheduler=",".join(proxy.address for proxy in proxies[name]),
                    CHAOS_FILE=str(folder / "history" / f"{name}.jsonl"),
                    CHAOS_WORKER=name,
                    CHAOS_GROUP=group,
                )
        clients = Clients(mesh, folder / "history", GROUPS)
        nemesis = Nemesis(mesh, database, proxies, LEASE, random.Random(seed), lambda: clients.under_way)
        load = asyncio.create_task(clients.run())
        await nemesis.run(minutes * 60)
        clients.stop()
        await load
        await nemesis.mend()
        unended = await clients.finish(seconds=120)
    findings = judge(History.of(read(folder / "history")))
    table = Table("fault", "landed", "jobs under way, in all", title=f"{clients.count:,} jobs")
    for kind, (landed, jobs) in sorted(nemesis.landed.items()):
        table.add_row(kind, str(landed), str(jobs))
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    missing = [kind for kind, (landed, _) in nemesis.landed.items() if not landed]
    for finding in findings[:20]:
        print(finding)
    if missing:
        print(f"these faults never landed, so nothing is known of them: {', '.join(missing)}; give it more minutes")
    print(f"{len(findings)} findings, {unended} jobs that did not end")
    return 1 if findings or missing or unended else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.minutes, given.seed)))
