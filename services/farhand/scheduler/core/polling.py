"""What a polling trigger does when it is looked at: a table over its state, its evaluation and the time.

An evaluation is a job like any other; the trigger's row names it, and it is the only
one. Whatever ends the job (a result, a lost worker, a kill, a timeout, a fallback)
makes the trigger due in the same statement, so that it can never stay held.

    its evaluation       the trigger                what follows
    ─────────────────────────────────────────────────────────────────────────────────────
    waits or runs        enabled, and as it was     nothing; its end comes by itself
    waits or runs        disabled, or defined       it is ended; its outcome does not count
                         otherwise since
    waits too long       (workerGroup.timeout)      it is ended, as one that may not wait
    ended                disabled, or defined       its outcome does not count
                         otherwise since
    ended, it fired                                 FIRED: an execution, and its state is kept
    ended, it did not                               NOTHING; its state is kept
    ended, no worker     FAIL · CANCEL              SKIPPED, told at error · info level
    killed                                          SKIPPED
    ended otherwise                                 FAILED, with the reason
    gone without an end                             FAILED: nobody knows how it ended
    none                 disabled                   nothing, and it has no next time
    none                 its time has not come      nothing
    none                 its last execution runs,   SKIPPED; it is looked at again when that
                         and not allowConcurrent    has ended
    none                 its time has come, or      an evaluation, and its next time is one
                         somebody asked             interval from now

A next time that passed while an evaluation waited or ran comes at its end, once.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from farhand.kernel.kinds import kind
from farhand.scheduler.core.job import FINAL, JobState
from farhand.scheduler.core.trigger import Result, State

USUAL_INTERVAL = timedelta(minutes=1)
USUAL_TIMEOUT = timedelta(minutes=1)
LOOK_AFTER = timedelta(seconds=30)  # at an evaluation, also when nobody said that it ended
LARGEST_STATE = 128 << 10  # bytes of JSON
LONGEST_MESSAGE = 1000  # characters


@dataclass(frozen=True, slots=True)
class Polling:
    """How a trigger polls."""

    interval: timedelta = USUAL_INTERVAL
    allow_concurrent: bool = False
    wait_limit: timedelta | None = None  # how long an evaluation may wait for a worker; None: for ever


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The job that evaluates the trigger. `state` None: there is none of its key any more."""

    state: JobState | None
    reason: str = ""
    message: str = ""
    outputs: Mapping[str, Any] | None = None  # of one that ended
    stale: bool = False  # the trigger was defined otherwise since it was queued

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state is None or self.state in FINAL


@dataclass(frozen=True, slots=True)
class Seen:
    """What an evaluation saw. Values are JSON."""

    fired: bool
    variables: Mapping[str, Any]
    state: str  # JSON
    message: str


class Act(StrEnum):
    """What is to be done."""

    NOTHING = "NOTHING"
    EVALUATE = "EVALUATE"  # queue an evaluation
    FIRE = "FIRE"  # create an execution with what was seen
    END = "END"  # kill the evaluation
    GIVE_UP = "GIVE_UP"  # end the evaluation, which waits


@dataclass(frozen=True, slots=True)
class Polled:
    """What follows from a look. `result` None: that of before stands; `over`: the trigger has no evaluation any more;
    `seen`: what counts of it. `loud`: it is an error for who reads the log, and not only a word."""

    act: Act
    state: State
    due_at: datetime | None
    result: Result | None = None
    message: str = ""
    loud: bool = False
    over: bool = False
    seen: Seen | None = None


class Unreadable(Exception):
    """An evaluation's outputs are not what those of a trigger are; the message says why."""


def poll(rules: Polling, state: State, evaluation: Evaluation | None, execution_runs: bool, now: datetime) -> Polled:
    """What a polling trigger does now."""
    counts = state.disabled_by is None and not (evaluation is not None and evaluation.stale)
    if evaluation is not None and not evaluation.over:
        return _in_progress(rules, state, evaluation, counts, now)
    if evaluation is None:
        return _begin(rules, state, execution_runs, now)
    if counts:
        return _counted(state, evaluation, now)
    after = replace(state, next_at=None if state.disabled_by else now)
    return replace(_begin(rules, after, execution_runs, now), over=True)


def refused(state: State, rules: Polling, message: str, now: datetime, *, over: bool = False) -> Polled:
    """An evaluation could not be queued, e.g. since there is no group of its key; the next interval tries again.
    `over`: as it was found."""
    due_at = now + rules.interval
    after = replace(state, next_at=due_at)
    return Polled(Act.NOTHING, after, due_at, Result.FAILED, _plain(message), loud=True, over=over)


def read_seen(outputs: Mapping[str, Any] | None) -> Seen:
    """What an evaluation saw, of the outputs of its job. Raises Unreadable."""
    said = outputs or {}
    fired, variables, state = said.get("fired"), said.get("variables", {}), said.get("state", {})
    if not isinstance(fired, bool):
        what = "no `fired`" if fired is None else f"{kind(fired)} as `fired`"
        raise Unreadable(f"The evaluation gave {what}: its type is no trigger's.")
    for name, value in (("variables", variables), ("state", state)):
        if not isinstance(value, Mapping):
            raise Unreadable(f"The evaluation gave {kind(value)} as `{name}`, which must be a map.")
    text = json.dumps(state, ensure_ascii=False)
    if (size := len(text.encode("utf-8", "replace"))) > LARGEST_STATE:
        raise Unreadable(f"The evaluation gave a state of {size} bytes; at most {LARGEST_STATE} are kept.")
    message = said.get("message")
    return Seen(fired, variables, text, _plain(message) if isinstance(message, str) else "")


def _in_progress(rules: Polling, state: State, evaluation: Evaluation, counts: bool, now: datetime) -> Polled:
    state = replace(state, asked_at=None)  # whoever asked gets this one
    soon = now + LOOK_AFTER
    if not counts:
        return Polled(Act.NOTHING if evaluation.state is JobState.KILLING else Act.END, state, soon)
    if evaluation.state is JobState.CREATED and rules.wait_limit is not None and state.last_at is not None:
        limit = state.last_at + rules.wait_limit
        if limit <= now:
            return Polled(Act.GIVE_UP, state, soon)
        soon = min(soon, limit)
    return Polled(Act.NOTHING, state, soon)


def _begin(rules: Polling, state: State, execution_runs: bool, now: datetime) -> Polled:
    if state.disabled_by is not None:
        return Polled(Act.NOTHING, replace(state, next_at=None, asked_at=None), None)
    next_at = now if state.next_at is None else state.next_at
    if state.asked_at is None and next_at > now:
        return Polled(Act.NOTHING, replace(state, next_at=next_at), next_at)
    if execution_runs and not rules.allow_concurrent:
        message = "Its last execution still runs."
        waiting = replace(state, next_at=next_at, asked_at=None)
        return Polled(Act.NOTHING, waiting, now + rules.interval, Result.SKIPPED, message)
    begun = replace(state, last_at=now, next_at=now + rules.interval, asked_at=None)
    soon = now + LOOK_AFTER
    return Polled(Act.EVALUATE, begun, soon if rules.wait_limit is None else min(soon, now + rules.wait_limit))


def _counted(state: State, evaluation: Evaluation, now: datetime) -> Polled:
    """After an evaluation that ended and counts."""
    due_at = now if state.next_at is None else max(state.next_at, now)

    def told(result: Result, message: str, *, loud: bool = False) -> Polled:
        return Polled(Act.NOTHING, state, due_at, result, message, loud, over=True)

    match evaluation.state, evaluation.reason:
        case None, _:
            return told(Result.FAILED, "Its evaluation is gone, and nobody knows how it ended.", loud=True)
        case JobState.SUCCESS | JobState.WARNING, _:
            try:
                seen = read_seen(evaluation.outputs)
            except Unreadable as error:
                return told(Result.FAILED, str(error), loud=True)
            result = Result.FIRED if seen.fired else Result.NOTHING
            act = Act.FIRE if seen.fired else Act.NOTHING
            return Polled(act, state, due_at, result, seen.message, over=True, seen=seen)
        case JobState.FAILED, "GROUP_NOT_AVAILABLE" | "GROUP_WAIT_TIMEOUT":
            return told(Result.SKIPPED, _plain(evaluation.message), loud=True)
        case JobState.KILLED, "GROUP_NOT_AVAILABLE":
            return told(Result.SKIPPED, _plain(evaluation.message))
        case JobState.KILLED, _:
            return told(Result.SKIPPED, "Its evaluation was killed.")
        case _, reason:
            message = _plain(evaluation.message) or "It failed, and its worker did not say why."
            return told(Result.FAILED, f"{message} ({reason})" if reason else message, loud=True)


def _plain(text: str) -> str:
    """What a database keeps, of a length for people."""
    text = text.replace("\0", "\ufffd")
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
