"""`make chaos MINUTES=3`: everything is killed, stopped, cut and slowed while jobs and executions run; then the history
is judged.

Three schedulers, twelve workers in three groups, a PostgreSQL and a registry, all
real processes. Workers and clients dial through TCP proxies; where it is allowed, three
of the workers live in network namespaces. A nemesis does several things at a time, by
a seed (`SEED=…`), and has schedulers die again and again. Then the faults stop, every
acknowledged job and execution must end, and tests/checker judges what clients and jobs
wrote. Prints the faults that landed, the jobs that ran through each, how often
executions did, the faults beside it, and the hits of each crash point; exits 1 where
the checker finds something, a client was told nonsense, or a kind of fault never
landed. What was written stays where the first line says.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.nemesis import LANES
from tests.chaos.run import Outcome, Plan, play
from tests.checker.findings import report

_SHOWN = 20


def show(outcome: Outcome, folder: Path) -> int:
    """Prints it; the exit code."""
    title = f"{outcome.jobs:,} jobs and {outcome.executions:,} executions acknowledged, {outcome.fired:,} fired, "
    title += f"{outcome.task_runs:,} task runs, {outcome.reruns} runs more than one a job"
    columns = ("fault", "landed", "jobs that ran", "while executions ran", "faults beside it", "most often")
    table = Table(*columns, title=title)
    for kind, landed in outcome.landed.items():
        most = ", ".join(f"{other} ({times})" for other, times in landed.beside.most_common(2))
        counts = (landed.times, landed.running, landed.amid, landed.beside.total())
        table.add_row(kind, *map(str, counts), most)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    table = Table("crash point", "tried", "hits", title="Deaths between two effects")
    for name, point in outcome.points.items():
        table.add_row(name, str(point.armed), str(point.hits))
    console.print(table)
    if outcome.findings:
        print(report(outcome.findings[:_SHOWN]))
    for error in outcome.errors[:_SHOWN]:
        print(f"a client was told: {error}")
    if outcome.unended:
        print(f"not seen to end: {', '.join(outcome.unended[:_SHOWN])}")
    if outcome.missing:
        kinds = ", ".join(outcome.missing)
        print(f"these faults never landed, so nothing is known of them: {kinds}; give it more minutes")
    said = f"{len(outcome.findings)} findings, {len(outcome.errors)} errors, {len(outcome.unended)} did not end"
    print(f"{said}; logs and histories: {folder}")
    return 1 if outcome.findings or outcome.errors or outcome.unended or outcome.missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--lanes", type=int, default=LANES, help="faults at a time; 0: only schedulers die")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="farhand-chaos-"))
    folder.chmod(0o755)  # the embedded server runs as another user, who must be able to come here
    print(f"seed {given.seed}, {given.minutes:g} minutes; logs and histories: {folder}", file=sys.stderr)
    try:
        outcome = asyncio.run(play(Plan(seed=given.seed, seconds=given.minutes * 60, lanes=given.lanes), folder))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped before its time, and everything with it", file=sys.stderr)
        return 130
    return show(outcome, folder)


if __name__ == "__main__":
    sys.exit(main())
