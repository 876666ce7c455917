"""Judges triggers: each tick and each file starts one execution.

What such an execution then does is judged as of any other (execution_verdicts.py), and
there too that no two are for one tick or file, and none for something that never was.
Here is what started none.
"""

from collections.abc import Iterator

from tests.checker.events import Line
from tests.checker.findings import Finding, Verdict
from tests.checker.history import History


def judge_triggers(history: History) -> Iterator[Finding]:
    """Ticks and files that are lost."""
    known: dict[str, Line] = {}  # by request: the first that was seen of its execution
    for execution in history.executions.values():
        for event in (*execution.acks, *execution.lines):
            known.setdefault(event.request, event.line)
    for drop in history.drops.values():
        if drop.request not in known:
            yield Finding(Verdict.LOST, f"file {drop.request} started no execution", (drop.line,))
    for place, schedule in history.schedules.items():
        ticks = list(history.ticks(schedule))
        end = history.schedule_ends.get(place)
        for number, name in enumerate(ticks):
            if name not in known:
                before = [known[tick] for tick in ticks[:number] if tick in known][-1:]
                behind = [known[tick] for tick in ticks[number + 1 :] if tick in known][:1]
                proof = (schedule.line, *before, *behind, *([] if end is None else [end.line]))
                yield Finding(Verdict.LOST, f"tick {name} started no execution", proof)
