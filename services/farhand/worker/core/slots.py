"""What this worker holds: one small state machine per assignment, and the room that is left.

An assignment is known by (job id, fence). It is ABSENT until it arrives, and again
once nobody needs this worker's memory of it.

    ABSENT ─arrives─► RECEIVED ─start─► RUNNING ─ended─► FINISHED ─settled─► ABSENT
                         │                 │ cancel           ▲
                         │ cancel          ▼                  │
                         └──────────► STOPPING ──ended────────┘      (a KILLED result)
    lease runs out while it runs:  FENCING ─fenced─► SELF_FENCED ─verdict STOP─► ABSENT
    verdict STOP while it runs:    DISCARDING ─ended─► ABSENT        (no result is wanted)
    a drain ran out of time:       ABANDONING ─ended─► ABANDONED     (told by goodbye)

Rules that the table keeps
- A cancel for an assignment that has not come yet is remembered: it never starts.
- A run whose lease ran out has no result, unless it is known that its process ended
  in time (`ENDED` in FENCING; `FENCED` says that this is not known).
- Only RECORDED, DUPLICATE and STALE (`SETTLED`), or the verdict STOP, make a worker
  forget a result.
- Two assignments of one job never run at once here, even while an older one is being killed.
- Credit: the limit is what was received in this session plus the free slots, so it
  can't drift (P7); it never falls, and does not rise while draining, under pressure,
  before the verdicts of welcome, or with too many results unacknowledged.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

JobKey = tuple[str, int]  # job id, fence

REMEMBERED_CANCELS = 10_000


class Phase(StrEnum):
    """How far a held assignment is."""

    RECEIVED = "RECEIVED"  # it waits for a slot
    RUNNING = "RUNNING"  # it runs
    STOPPING = "STOPPING"  # it ends because somebody asked for that; its result says KILLED
    DISCARDING = "DISCARDING"  # it ends because it is not this worker's any more; nobody wants its result
    FENCING = "FENCING"  # it ends because the lease ran out
    ABANDONING = "ABANDONING"  # it ends because the worker stops
    FINISHED = "FINISHED"  # its result waits to be acknowledged
    SELF_FENCED = "SELF_FENCED"  # it is dead, without a result, and the scheduler doesn't know yet
    ABANDONED = "ABANDONED"  # it is dead, without a result, and goodbye will say so


class Event(StrEnum):
    """What happens to a held assignment."""

    START = "START"  # a slot is free for it
    CANCEL = "CANCEL"  # somebody wants the job to end
    KEEP = "KEEP"  # welcome: it is yours
    STOP = "STOP"  # welcome, or a newer fence: it is not yours any more
    RESEND = "RESEND"  # welcome: send the result again
    EXPIRE = "EXPIRE"  # the lease ran out
    ENDED = "ENDED"  # its run ended, while the lease stood
    FENCED = "FENCED"  # its run ended, and perhaps too late
    SETTLED = "SETTLED"  # the result is recorded, or never will be
    UNSETTLED = "UNSETTLED"  # the result could not be recorded now
    RETURN = "RETURN"  # the drain ran out of time


class Effect(Enum):
    """What the shell does about it."""

    RUN = "start it"
    KILL = "end it: TERM, its grace, KILL"
    KILL_NOW = "end it without grace"
    FENCE = "end it where the warden does not"
    CONCLUDE_KILLED = "it never started: conclude it as KILLED"
    CONCLUDE_RETURNED = "it never started: give it back"
    SEND = "put its result into the outbox"
    SEND_LATER = "put its result into the outbox after a while"
    FORGET_ASSIGNMENT = "what it was to do may be forgotten"
    FORGET_RESULT = "its result may leave the journal"
    REPORT = "tell the scheduler: dial again, hello lists it"


_P, _E, _F = Phase, Event, Effect
_GONE = None

Row = tuple[Phase | None, tuple[Effect, ...]]

TRANSITIONS: dict[tuple[Phase, Event], Row] = {
    (_P.RECEIVED, _E.START): (_P.RUNNING, (_F.RUN,)),
    (_P.RECEIVED, _E.CANCEL): (_P.STOPPING, (_F.CONCLUDE_KILLED,)),
    (_P.RECEIVED, _E.KEEP): (_P.RECEIVED, ()),
    (_P.RECEIVED, _E.STOP): (_GONE, (_F.FORGET_ASSIGNMENT,)),
    (_P.RECEIVED, _E.RESEND): (_P.RECEIVED, ()),
    # Not in the next hello, so the scheduler puts it back to its place and no delivery is consumed.
    (_P.RECEIVED, _E.EXPIRE): (_GONE, (_F.FORGET_ASSIGNMENT,)),
    (_P.RECEIVED, _E.RETURN): (_P.STOPPING, (_F.CONCLUDE_RETURNED,)),
    #
    (_P.RUNNING, _E.CANCEL): (_P.STOPPING, (_F.KILL,)),
    (_P.RUNNING, _E.KEEP): (_P.RUNNING, ()),
    (_P.RUNNING, _E.STOP): (_P.DISCARDING, (_F.KILL_NOW,)),
    (_P.RUNNING, _E.RESEND): (_P.RUNNING, ()),
    (_P.RUNNING, _E.EXPIRE): (_P.FENCING, (_F.FENCE,)),
    (_P.RUNNING, _E.ENDED): (_P.FINISHED, (_F.SEND,)),
    (_P.RUNNING, _E.FENCED): (_P.SELF_FENCED, (_F.REPORT,)),
    (_P.RUNNING, _E.RETURN): (_P.ABANDONING, (_F.KILL,)),
    #
    (_P.STOPPING, _E.CANCEL): (_P.STOPPING, (_F.KILL,)),  # the shorter grace counts
    (_P.STOPPING, _E.KEEP): (_P.STOPPING, ()),
    (_P.STOPPING, _E.STOP): (_P.DISCARDING, (_F.KILL_NOW,)),
    (_P.STOPPING, _E.RESEND): (_P.STOPPING, ()),
    (_P.STOPPING, _E.EXPIRE): (_P.FENCING, (_F.FENCE,)),
    (_P.STOPPING, _E.ENDED): (_P.FINISHED, (_F.SEND,)),
    (_P.STOPPING, _E.FENCED): (_P.SELF_FENCED, (_F.REPORT,)),
    (_P.STOPPING, _E.RETURN): (_P.STOPPING, ()),
    #
    (_P.DISCARDING, _E.CANCEL): (_P.DISCARDING, ()),
    (_P.DISCARDING, _E.KEEP): (_P.DISCARDING, ()),
    (_P.DISCARDING, _E.STOP): (_P.DISCARDING, ()),
    (_P.DISCARDING, _E.RESEND): (_P.DISCARDING, ()),
    (_P.DISCARDING, _E.EXPIRE): (_P.DISCARDING, ()),
    (_P.DISCARDING, _E.ENDED): (_GONE, ()),
    (_P.DISCARDING, _E.FENCED): (_GONE, ()),
    (_P.DISCARDING, _E.RETURN): (_P.DISCARDING, ()),
    #
    (_P.FENCING, _E.CANCEL): (_P.FENCING, ()),
    (_P.FENCING, _E.KEEP): (_P.FENCING, ()),
    (_P.FENCING, _E.STOP): (_P.DISCARDING, (_F.KILL_NOW,)),
    (_P.FENCING, _E.RESEND): (_P.FENCING, ()),
    (_P.FENCING, _E.EXPIRE): (_P.FENCING, ()),
    (_P.FENCING, _E.ENDED): (_P.FINISHED, (_F.SEND,)),
    (_P.FENCING, _E.FENCED): (_P.SELF_FENCED, (_F.REPORT,)),
    (_P.FENCING, _E.RETURN): (_P.FENCING, ()),
    #
    (_P.ABANDONING, _E.CANCEL): (_P.ABANDONING, ()),
    (_P.ABANDONING, _E.KEEP): (_P.ABANDONING, ()),
    (_P.ABANDONING, _E.STOP): (_P.DISCARDING, (_F.KILL_NOW,)),
    (_P.ABANDONING, _E.RESEND): (_P.ABANDONING, ()),
    (_P.ABANDONING, _E.EXPIRE): (_P.ABANDONING, ()),
    (_P.ABANDONING, _E.ENDED): (_P.ABANDONED, ()),
    (_P.ABANDONING, _E.FENCED): (_P.ABANDONED, ()),
    (_P.ABANDONING, _E.RETURN): (_P.ABANDONING, (_F.KILL,)),
    #
    (_P.FINISHED, _E.CANCEL): (_P.FINISHED, ()),
    (_P.FINISHED, _E.KEEP): (_P.FINISHED, (_F.SEND,)),
    (_P.FINISHED, _E.STOP): (_GONE, (_F.FORGET_RESULT,)),
    (_P.FINISHED, _E.RESEND): (_P.FINISHED, (_F.SEND,)),
    (_P.FINISHED, _E.EXPIRE): (_P.FINISHED, ()),
    (_P.FINISHED, _E.SETTLED): (_GONE, (_F.FORGET_RESULT,)),
    (_P.FINISHED, _E.UNSETTLED): (_P.FINISHED, (_F.SEND_LATER,)),
    (_P.FINISHED, _E.RETURN): (_P.FINISHED, ()),
    #
    (_P.SELF_FENCED, _E.CANCEL): (_P.SELF_FENCED, ()),
    (_P.SELF_FENCED, _E.KEEP): (_P.SELF_FENCED, ()),  # can't be kept: listed again in the next hello
    (_P.SELF_FENCED, _E.STOP): (_GONE, ()),
    (_P.SELF_FENCED, _E.RESEND): (_P.SELF_FENCED, ()),
    (_P.SELF_FENCED, _E.EXPIRE): (_P.SELF_FENCED, ()),
    (_P.SELF_FENCED, _E.RETURN): (_P.ABANDONED, ()),
    #
    (_P.ABANDONED, _E.CANCEL): (_P.ABANDONED, ()),
    (_P.ABANDONED, _E.KEEP): (_P.ABANDONED, ()),
    (_P.ABANDONED, _E.STOP): (_GONE, ()),
    (_P.ABANDONED, _E.RESEND): (_P.ABANDONED, ()),
    (_P.ABANDONED, _E.EXPIRE): (_P.ABANDONED, ()),
    (_P.ABANDONED, _E.RETURN): (_P.ABANDONED, ()),
}

OCCUPYING = frozenset({_P.RECEIVED, _P.RUNNING, _P.STOPPING, _P.DISCARDING, _P.FENCING, _P.ABANDONING})
LIVING = OCCUPYING - {_P.RECEIVED}  # it has, or may have, processes


class IllegalStep(Exception):
    """No row of the table fits; nothing was changed. A mistake of this worker, not of a peer."""

    def __init__(self, key: JobKey, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.value} does not fit job {key[0]} (fence {key[1]}), which is {phase.value}")


@dataclass(frozen=True, slots=True)
class Received:
    """What came of assignments that arrived, each list in the order of arrival.

    `fresh` wait for a slot; `cancelled` were cancelled before they came and must be concluded as
    KILLED; `dropped` are older than another assignment of their job that is here; `superseded` were
    held under an older fence, with the effects that end them.
    """

    fresh: list[JobKey]
    cancelled: list[JobKey]
    dropped: list[JobKey]
    superseded: list[tuple[JobKey, tuple[Effect, ...]]]


class Slots:
    """All that one incarnation holds."""

    def __init__(self, slots: int, finished: Iterable[JobKey] = ()) -> None:
        """`slots`: how many jobs run at once. `finished`: results that an earlier incarnation left unacknowledged."""
        self.slots = slots
        self.draining = False
        self.pressure = False
        self.welcomed = False
        self._unacknowledged_limit = 2 * slots + 1_000
        self._phases: dict[JobKey, Phase] = dict.fromkeys(finished, Phase.FINISHED)
        self._counts: dict[Phase, int] = dict.fromkeys(Phase, 0)
        self._counts[Phase.FINISHED] = len(self._phases)
        self._fences: dict[str, int] = {}  # the highest fence held, by job
        for job_id, fence in self._phases:
            self._fences[job_id] = max(fence, self._fences.get(job_id, fence))
        self._living: dict[str, JobKey] = {}  # by job: the assignment that may have processes
        self._waiting: deque[JobKey] = deque()
        self._cancelled: dict[str, int] = {}  # by job: the highest fence whose cancel came before it
        self._received = 0
        self._limit = 0

    # ── looking ──

    def phase(self, key: JobKey) -> Phase | None:
        """How far it is; None where it is not held."""
        return self._phases.get(key)

    def holding(self, *phases: Phase) -> list[JobKey]:
        """Those in one of the phases, in the order in which they arrived."""
        return [key for key, phase in self._phases.items() if phase in phases]

    def inventory(self) -> Mapping[JobKey, Phase]:
        """All that is held, for hello and inventory frames."""
        return self._phases

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return sum(self._counts[phase] for phase in OCCUPYING)

    @property
    def living(self) -> int:
        """How many assignments may have processes."""
        return sum(self._counts[phase] for phase in LIVING)

    @property
    def unacknowledged(self) -> int:
        """How many results wait to be settled."""
        return self._counts[Phase.FINISHED]

    @property
    def fencing(self) -> int:
        """How many are ending because the lease ran out."""
        return self._counts[Phase.FENCING]

    def credit(self) -> int:
        """The cumulative limit of this session: what the scheduler may have sent, in all."""
        held_back = (
            self.draining
            or self.pressure
            or not self.welcomed
            or self._counts[Phase.FINISHED] >= self._unacknowledged_limit
        )
        if not held_back:
            self._limit = max(self._limit, self._received + self.slots - self.busy)
        return self._limit

    # ── changing ──

    def redial(self) -> None:
        """A new session begins: its credit starts from nothing.

        Cancels of assignments that never came are forgotten: those assignments were made under an
        older epoch, and would be dropped.
        """
        self.welcomed = False
        self._received = 0
        self._limit = 0
        self._cancelled.clear()

    def receive(self, keys: Iterable[JobKey]) -> Received:
        """Assignments arrived in this session. One that is held already counts again, and changes nothing."""
        result = Received([], [], [], [])
        for key in keys:
            self._received += 1
            if key in self._phases:
                continue
            job_id, fence = key
            newest = self._fences.get(job_id)
            if newest is not None and newest > fence:
                result.dropped.append(key)
                continue
            if newest is not None:
                older = (job_id, newest)
                if self._phases[older] is not Phase.FINISHED:  # STALE will settle that one
                    result.superseded.append((older, self.apply(older, Event.STOP)))
            self._fences[job_id] = fence
            if self._cancelled and self._cancelled.get(job_id, -1) >= fence:
                self._phases[key] = Phase.STOPPING
                self._counts[Phase.STOPPING] += 1
                result.cancelled.append(key)
            else:
                self._phases[key] = Phase.RECEIVED
                self._counts[Phase.RECEIVED] += 1
                self._waiting.append(key)
                result.fresh.append(key)
        return result

    def start(self) -> list[JobKey]:
        """Start what has a free slot, first come first served; the shell runs what is returned."""
        started: list[JobKey] = []
        held_up: list[JobKey] = []
        room = self.slots - self.living
        while self._waiting and room > 0:
            key = self._waiting.popleft()
            if self._phases.get(key) is not Phase.RECEIVED:
                continue
            if key[0] in self._living:
                held_up.append(key)  # an older assignment of the same job still dies here
                continue
            self.apply(key, Event.START)
            started.append(key)
            room -= 1
        self._waiting.extendleft(reversed(held_up))
        return started

    def cancel(self, key: JobKey) -> tuple[Effect, ...]:
        """Somebody wants the job to end. Unknown here: it is remembered, so that it never starts."""
        if key in self._phases:
            return self.apply(key, Event.CANCEL)
        job_id, fence = key
        if len(self._cancelled) >= REMEMBERED_CANCELS:
            del self._cancelled[next(iter(self._cancelled))]
        self._cancelled[job_id] = max(fence, self._cancelled.get(job_id, fence))
        return ()

    def apply(self, key: JobKey, event: Event) -> tuple[Effect, ...]:
        """One row of the table. What is not held has no effects: the report came late. Raises IllegalStep."""
        phase = self._phases.get(key)
        if phase is None:
            return ()
        row = TRANSITIONS.get((phase, event))
        if row is None:
            raise IllegalStep(key, phase, event)
        following, effects = row
        if following is phase:
            return effects
        self._counts[phase] -= 1
        job_id, fence = key
        if following is None:
            del self._phases[key]
            if self._fences[job_id] == fence:
                del self._fences[job_id]
        else:
            self._phases[key] = following
            self._counts[following] += 1
        if following in LIVING:
            self._living[job_id] = key
        elif self._living.get(job_id) == key:
            del self._living[job_id]
        return effects

    def apply_to_all(self, event: Event) -> list[tuple[JobKey, tuple[Effect, ...]]]:
        """The same event for all that is held, e.g. EXPIRE; only those with effects are returned."""
        return [(key, effects) for key in list(self._phases) if (effects := self.apply(key, event))]
