"""One session of a worker with a scheduler: one stream, from hello to its end.

    GREETING ──welcomed──► LIVE ──draining sent──► DRAINING ──drain_ack──► DRAINED
        │                   │                         │                      │
        └───────────────────┴───── ended ─────────────┴──────────────────────┴──► OVER
                            ├───── sent away ─────────┴──────────────────────┴──► DEPARTING
                            └───── goodbye sent (also when DEPARTING) ───────────► LEAVING ─ended─► OVER

A scheduler that wants a worker elsewhere sends go_away and goes on serving this
stream until the worker has another (make before break). go_away is a line: no
assignment can follow it, so what the worker lists in its next hello is all that
it was given here, though this stream still carries results and heartbeats.

A session carries its epoch, its heartbeats and what the scheduler said about
their pace. What outlives it (the lease, what is held, whether the worker drains)
belongs to the incarnation: see lease.py and slots.py. A frame that a state
doesn't allow is an IllegalFrame: the peer broke the protocol, and the shell ends
the stream; nothing here has changed then.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from farhand.worker.core.lease import Lease

UNANSWERED_LIMIT = 2  # design.md, rule 6: two unanswered heartbeats → another address


class SessionState(StrEnum):
    """Where a session is."""

    GREETING = "GREETING"  # hello is sent; nothing may be assigned
    LIVE = "LIVE"  # welcome is here; jobs come as credit allows
    DRAINING = "DRAINING"  # draining is sent; assignments that were under way may still come
    DRAINED = "DRAINED"  # drain_ack is here: no assignment can follow
    DEPARTING = "DEPARTING"  # go_away is here: no assignment can follow; another stream is being opened
    LEAVING = "LEAVING"  # goodbye is sent; only the end can follow
    OVER = "OVER"  # the stream is gone


class SessionEvent(StrEnum):
    """What happens to a session."""

    WELCOMED = "WELCOMED"
    ASSIGNED = "ASSIGNED"
    DRAIN_SENT = "DRAIN_SENT"
    DRAIN_ACKED = "DRAIN_ACKED"
    SENT_AWAY = "SENT_AWAY"
    GOODBYE_SENT = "GOODBYE_SENT"
    ENDED = "ENDED"


_S, _E = SessionState, SessionEvent

TRANSITIONS: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (_S.GREETING, _E.WELCOMED): _S.LIVE,
    (_S.GREETING, _E.ENDED): _S.OVER,
    (_S.LIVE, _E.ASSIGNED): _S.LIVE,
    (_S.LIVE, _E.DRAIN_SENT): _S.DRAINING,
    (_S.LIVE, _E.DRAIN_ACKED): _S.DRAINED,  # an operator's drain: it comes with its line, before we could answer
    (_S.LIVE, _E.SENT_AWAY): _S.DEPARTING,
    (_S.LIVE, _E.GOODBYE_SENT): _S.LEAVING,
    (_S.LIVE, _E.ENDED): _S.OVER,
    # A drain may be asked for twice: by the scheduler and by SIGTERM.
    (_S.DRAINING, _E.DRAIN_SENT): _S.DRAINING,
    (_S.DRAINING, _E.ASSIGNED): _S.DRAINING,
    (_S.DRAINING, _E.DRAIN_ACKED): _S.DRAINED,
    (_S.DRAINING, _E.SENT_AWAY): _S.DEPARTING,
    (_S.DRAINING, _E.GOODBYE_SENT): _S.LEAVING,
    (_S.DRAINING, _E.ENDED): _S.OVER,
    # An assignment here would break P8: it is no row of this table.
    (_S.DRAINED, _E.DRAIN_SENT): _S.DRAINED,
    (_S.DRAINED, _E.DRAIN_ACKED): _S.DRAINED,
    (_S.DRAINED, _E.SENT_AWAY): _S.DEPARTING,
    (_S.DRAINED, _E.GOODBYE_SENT): _S.LEAVING,
    (_S.DRAINED, _E.ENDED): _S.OVER,
    # Nor is it here: the hello that follows has listed what is held.
    (_S.DEPARTING, _E.DRAIN_SENT): _S.DEPARTING,
    (_S.DEPARTING, _E.DRAIN_ACKED): _S.DEPARTING,
    (_S.DEPARTING, _E.SENT_AWAY): _S.DEPARTING,
    (_S.DEPARTING, _E.GOODBYE_SENT): _S.LEAVING,
    (_S.DEPARTING, _E.ENDED): _S.OVER,
    # What was under way when goodbye was sent is of no interest any more.
    (_S.LEAVING, _E.ASSIGNED): _S.LEAVING,
    (_S.LEAVING, _E.DRAIN_SENT): _S.LEAVING,
    (_S.LEAVING, _E.DRAIN_ACKED): _S.LEAVING,
    (_S.LEAVING, _E.SENT_AWAY): _S.LEAVING,
    (_S.LEAVING, _E.ENDED): _S.OVER,
    (_S.OVER, _E.ENDED): _S.OVER,
}


class IllegalFrame(Exception):
    """The peer sent what the session's state does not allow."""

    def __init__(self, state: SessionState, event: SessionEvent) -> None:
        super().__init__(f"{event.value} is not possible while the session is {state.value}")
        self.state = state
        self.event = event


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat says: its sequence, the last answered one, the lease counted with (seconds)."""

    sequence: int
    answered_sequence: int
    lease: float


@dataclass(slots=True)
class Session:
    """The worker's view of one stream. `hello_sent` and all other times: CLOCK_BOOTTIME seconds."""

    lease: Lease
    hello_sent: float
    state: SessionState = SessionState.GREETING
    draining: bool = False  # hello said so, or draining was sent since
    epoch: int = 0
    heartbeat_interval: float = 10.0
    _longest: float | None = None  # the lease that a successor's hello tells; unset: none was said
    _sequence: int = 0
    _answered: int = 0
    _unanswered: dict[int, float] = field(default_factory=dict)  # sequence → when it was sent

    def _step(self, event: SessionEvent) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise IllegalFrame(self.state, event)
        self.state = following

    def welcomed(self, epoch: int, lease: float, heartbeat_interval: float) -> None:
        """Welcome arrived: the lease counts from when hello was sent."""
        self._step(SessionEvent.WELCOMED)
        self.epoch = epoch
        self._pace(heartbeat_interval)
        self.lease.renew(self.hello_sent, lease)
        if self.draining:
            self._step(SessionEvent.DRAIN_SENT)

    def beat(self, now: float) -> Beat:
        """The next heartbeat; to be made at the moment it is sent, no later."""
        assert self.lease.duration is not None, "no heartbeat before welcome"
        self._sequence += 1
        self._unanswered[self._sequence] = now
        return Beat(self._sequence, self._answered, self.lease.duration)

    def beat_answered(self, sequence: int, lease: float, heartbeat_interval: float) -> bool:
        """An answer arrived; False where it is one for a heartbeat that is answered already, or was never sent."""
        sent = self._unanswered.get(sequence)
        if sent is None:
            return False
        self._unanswered = {later: at for later, at in self._unanswered.items() if later > sequence}
        self._answered = sequence
        self._pace(heartbeat_interval)
        self.lease.renew(sent, lease if self._longest is None else min(lease, self._longest))
        return True

    @property
    def silent(self) -> bool:
        """So many heartbeats are unanswered that another address should be tried."""
        return len(self._unanswered) >= UNANSWERED_LIMIT

    def admits(self, epoch: int) -> bool:
        """Assignments of this epoch arrived: may they run? False: they are of an older session, drop them."""
        if epoch < self.epoch:
            return False
        self._step(SessionEvent.ASSIGNED)
        return self.state is not SessionState.LEAVING

    def drain_sent(self) -> None:
        """Draining was sent."""
        self._step(SessionEvent.DRAIN_SENT)
        self.draining = True

    def drain_acked(self, epoch: int) -> bool:
        """drain_ack arrived; False where it is of another session."""
        if epoch != self.epoch:
            return False
        self._step(SessionEvent.DRAIN_ACKED)
        return True

    def sent_away(self) -> None:
        """The scheduler wants this worker elsewhere; the stream goes on until there is another."""
        self._step(SessionEvent.SENT_AWAY)

    def hand_over(self) -> None:
        """A hello for another stream is made. It tells the lease that is counted with now, and whoever reads it may
        know of no longer one, so answers on this stream lengthen it no more, whatever becomes of that hello."""
        self._longest = self.lease.duration

    def goodbye_sent(self) -> None:
        """Goodbye was sent."""
        self._step(SessionEvent.GOODBYE_SENT)

    def ended(self) -> None:
        """The stream is gone, for whatever reason."""
        self._step(SessionEvent.ENDED)

    def _pace(self, interval: float) -> None:
        if interval > 0:  # an absent value keeps the pace
            self.heartbeat_interval = interval
