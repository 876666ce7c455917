"""How the demo looks: a bar per group while it runs, a table at the end.

To a terminal the bars move; into a file or a pipe goes a line now and then.
"""

import io
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from farhand.api.scheduler.v1.job_pb2 import Job
from farhand.kernel.durations import format_duration
from farhand.kernel.names import group_label

_PAUSE = 2.0  # seconds between two lines where no terminal is


class Bars(Protocol):
    """How far the jobs of each group are."""

    def advance(self, label: str) -> None:
        """One more of this group has ended."""


@contextmanager
def progress(totals: Mapping[str, int]) -> Iterator[Bars]:
    """Bars for these groups and their numbers of jobs."""
    if not sys.stdout.isatty():
        lines = _Lines(totals)
        yield lines
        lines.show()
        return
    columns = (TextColumn("  {task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as shown:
        yield _Moving(shown, totals)


class _Moving:
    def __init__(self, shown: Progress, totals: Mapping[str, int]) -> None:
        self._shown = shown
        self._bars = {label: shown.add_task(label, total=total) for label, total in totals.items()}

    def advance(self, label: str) -> None:
        self._shown.advance(self._bars[label])


class _Lines:
    def __init__(self, totals: Mapping[str, int]) -> None:
        self._totals = totals
        self._done = dict.fromkeys(totals, 0)
        self._next = time.monotonic() + _PAUSE

    def advance(self, label: str) -> None:
        self._done[label] += 1
        if time.monotonic() >= self._next:
            self.show()

    def show(self) -> None:
        self._next = time.monotonic() + _PAUSE
        print(
            "  " + "   ".join(f"{label} {done}/{self._totals[label]}" for label, done in self._done.items()), flush=True
        )


def report(jobs: Sequence[Job], seconds: float) -> str:
    """A table of groups and workers, and how long all of it took."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for header in ("group", "worker"):
        table.add_column(header)
    for header in ("jobs", "median wait", "longest wait", "median run"):
        table.add_column(header, justify="right")
    places: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        places.setdefault((group_label(job.worker_group), job.worker), []).append(job)
    for (group, worker), there in sorted(places.items()):
        waits = [_wait(job) for job in there]
        runs = [_run(job) for job in there]
        table.add_row(
            group,
            worker,
            str(len(there)),
            format_duration(statistics.median(waits)),
            format_duration(max(waits)),
            format_duration(statistics.median(runs)),
        )
    out = io.StringIO()
    console = Console(file=out, force_terminal=sys.stdout.isatty(), width=120, highlight=False)
    console.print(table)
    return f"\n{out.getvalue()}\n{len(jobs)} jobs in {format_duration(seconds)}; each result is recorded once."


def _wait(job: Job) -> float:
    """Seconds from the submit to the start."""
    return max(0.0, (job.start_time.ToDatetime() - job.create_time.ToDatetime()).total_seconds())


def _run(job: Job) -> float:
    return job.outcome.run_duration.ToTimedelta().total_seconds()
