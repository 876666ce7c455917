"""Judges what clients and jobs wrote down, and nothing else: no table of ours is looked at.

A history is lines of JSON, in files of as many writers as there are. Times are
seconds of one machine's CLOCK_MONOTONIC.

    a client writes   {"kind": "submitting", "request", "t"}
                      {"kind": "acknowledged", "request", "job", "group", "t"}
                      {"kind": "kill acknowledged", "job", "t"}
                      {"kind": "ended", "job", "state", "lost", "given_back"}   as the API told it at the end:
                      how many deliveries were lost, and why each assignment that brought no result ended
    a job writes      {"kind": "start", "job", "fence", "worker", "group", "t"}
                      {"kind": "end", "job", "fence", "worker", "group", "t"}

Each finding names the verdict and the lines that prove it.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be, and its proof."""

    verdict: str
    proof: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n  ".join([self.verdict, *(json.dumps(line) for line in self.proof)])


@dataclass(slots=True)
class History:
    """All lines, sorted by what they tell of."""

    submitting: dict[str, Line] = field(default_factory=dict)  # by request: the first try
    acknowledged: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))  # by request
    kills: dict[str, Line] = field(default_factory=dict)  # by job
    ended: dict[str, Line] = field(default_factory=dict)  # by job
    starts: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))  # by job, in time
    ends: dict[tuple[str, int], list[Line]] = field(default_factory=lambda: defaultdict(list))  # by job and fence

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "History":
        """Sort the lines of all files."""
        history = cls()
        for line in sorted(lines, key=lambda line: line.get("t", 0.0)):
            match line["kind"]:
                case "submitting":
                    history.submitting.setdefault(line["request"], line)
                case "acknowledged":
                    history.acknowledged[line["request"]].append(line)
                case "kill acknowledged":
                    history.kills.setdefault(line["job"], line)
                case "ended":
                    history.ended[line["job"]] = line
                case "start":
                    history.starts[line["job"]].append(line)
                case "end":
                    history.ends[line["job"], line["fence"]].append(line)
                case other:
                    raise ValueError(f"a line of an unknown kind: {other!r}")
        return history

    def jobs(self) -> dict[str, Line]:
        """The acknowledgement of each job."""
        return {line["job"]: line for lines in self.acknowledged.values() for line in lines}


def read(folder: Path) -> Iterator[Line]:
    """The lines of every file in a folder. A torn last line, of a writer that was killed, is left out."""
    for file in sorted(folder.glob("*.jsonl")):
        for text in file.read_text(errors="replace").splitlines():
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                continue


def judge(history: History) -> list[Finding]:
    """Everything that is wrong with a history; a right one gives nothing."""
    rules = (_lost, _duplicated, _overlapping, _fences, _out_of_order, _wrong_group, _after_a_kill, _unexpected)
    return [finding for rule in rules for finding in rule(history)]


def _lost(history: History) -> Iterator[Finding]:
    """P2: what was acknowledged ends, and what succeeded has run to its end."""
    for job, acknowledged in history.jobs().items():
        ended = history.ended.get(job)
        if ended is None:
            yield Finding("lost: acknowledged, and never ended", (acknowledged,))
        elif ended["state"] == "SUCCESS" and not any((job, s["fence"]) in history.ends for s in history.starts[job]):
            yield Finding("lost: it succeeded, and no run of it came to its end", (acknowledged, ended))


def _duplicated(history: History) -> Iterator[Finding]:
    """P6: one request, one job. P1: one assignment, one run. A job runs once more for each lost delivery alone."""
    for lines in history.acknowledged.values():
        if len({line["job"] for line in lines}) > 1:
            yield Finding("duplicated: one request became several jobs", tuple(lines))
    for job, starts in history.starts.items():
        by_fence: dict[int, list[Line]] = defaultdict(list)
        for start in starts:
            by_fence[start["fence"]].append(start)
        for same in by_fence.values():
            if len(same) > 1:
                yield Finding("duplicated: one assignment was run twice", tuple(same))
        ended = history.ended.get(job)
        if ended is not None and len(by_fence) > 1 + ended["lost"]:
            yield Finding("duplicated: more runs than lost deliveries explain", (*starts, ended))


def _overlapping(history: History) -> Iterator[Finding]:
    """P1: a run has ended, or is never heard of again, before the next one starts."""
    for job, starts in history.starts.items():
        for earlier, later in itertools.pairwise(starts):
            for end in history.ends.get((job, earlier["fence"]), []):
                if end["t"] > later["t"] and later["fence"] != earlier["fence"]:
                    yield Finding("overlapping: two runs of one job at once", (earlier, later, end))


def _fences(history: History) -> Iterator[Finding]:
    """P4: fences only grow."""
    for starts in history.starts.values():
        for earlier, later in itertools.pairwise(starts):
            if later["fence"] < earlier["fence"]:
                yield Finding("fence: a later run has a lower one", (earlier, later))


def _out_of_order(history: History) -> Iterator[Finding]:
    """P5: if A was acknowledged before B's submit began, B is not assigned before A. Fences are drawn in the order of
    assignments; a job whose first assignment was given back may have had it unseen, so it proves nothing."""
    first: dict[str, list[tuple[Line, Line, Line]]] = defaultdict(list)
    for request, lines in history.acknowledged.items():
        job, ended = lines[0]["job"], history.ended.get(lines[0]["job"])
        if history.starts[job] and request in history.submitting and ended is not None and not ended["given_back"]:
            first[lines[0]["group"]].append((lines[0], history.submitting[request], history.starts[job][0]))
    for jobs in first.values():
        jobs.sort(key=lambda entry: entry[2]["fence"])
        earliest: Line | None = None  # of all that were assigned later: the acknowledgement that came first
        proof: tuple[Line, ...] = ()
        for acknowledged, submitting, start in reversed(jobs):
            if earliest is not None and earliest["t"] < submitting["t"]:
                yield Finding("out of order: it overtook one that was acknowledged before", (*proof, submitting, start))
            if earliest is None or acknowledged["t"] < earliest["t"]:
                earliest, proof = acknowledged, (acknowledged, start)


def _wrong_group(history: History) -> Iterator[Finding]:
    """P10: a job runs in its own group alone."""
    for job, acknowledged in history.jobs().items():
        for start in history.starts[job]:
            if start["group"] != acknowledged["group"]:
                yield Finding("wrong group", (acknowledged, start))


def _after_a_kill(history: History) -> Iterator[Finding]:
    """P9: after an acknowledged kill nothing but KILLED is recorded, unless the job had ended before; and no new
    assignment starts. (The assignment that it had may start where its worker was cut off.)"""
    for job, kill in history.kills.items():
        ended = history.ended.get(job)
        before = [start for start in history.starts[job] if start["t"] <= kill["t"]]
        done = any(end["t"] <= kill["t"] for start in before for end in history.ends.get((job, start["fence"]), []))
        if ended is not None and ended["state"] != "KILLED" and not done:
            yield Finding("killed, and something else was recorded", (kill, ended))
        after = [start for start in history.starts[job] if start["t"] > kill["t"]]
        if len({start["fence"] for start in after}) > 1 or (before and after and not done):
            yield Finding("killed, and started anew", (kill, *after))


def _unexpected(history: History) -> Iterator[Finding]:
    """Nothing runs that nobody submitted. (A submit whose answer got lost is one that was begun.)"""
    if len(history.acknowledged) < len(history.submitting):
        return  # such a job is not known by its id
    known = history.jobs()
    for job, starts in history.starts.items():
        if starts and job not in known:
            yield Finding("unexpected: nobody submitted it", tuple(starts))
