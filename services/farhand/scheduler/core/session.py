"""The life of a worker's session, as a table.

A session is one incarnation of a worker: one process. Its stream may come and go;
each Connect raises its epoch. It ends when its lease runs out (LOST) or when it
says goodbye (STOPPED). A LOST one may come back as long as its process lives: it
holds nothing then. Draining belongs to the incarnation and outlives a stream.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class SessionState(StrEnum):
    """Where a session is."""

    CONNECTED = "CONNECTED"  # it holds a stream and takes jobs
    DRAINING = "DRAINING"  # it holds a stream and finishes what it has
    DISCONNECTED = "DISCONNECTED"  # its stream is gone, its lease runs
    LOST = "LOST"  # its lease ran out; its jobs were given back
    STOPPED = "STOPPED"  # it said goodbye


class SessionEvent(StrEnum):
    """What can happen to it."""

    CONNECT = "CONNECT"  # a new stream of the same incarnation
    DRAIN = "DRAIN"  # it, or an operator, wants no more work for it
    CLOSE = "CLOSE"  # its stream ended
    SUPERSEDE = "SUPERSEDE"  # another incarnation of the worker connected
    EXPIRE = "EXPIRE"  # a replica saw its renewal counter unchanged for one lease
    FENCE = "FENCE"  # it is known to be dead, with all its processes
    GOODBYE = "GOODBYE"  # it said so


@dataclass(frozen=True, slots=True)
class Session:
    """What the rules look at."""

    state: SessionState = SessionState.CONNECTED
    draining: bool = False


class IllegalSessionStep(Exception):
    """No row of the table fits; nothing was changed."""


_S, _E = SessionState, SessionEvent

# (state, event) → the next state; CONNECTED stands for DRAINING where the incarnation drains.
TABLE: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (_S.CONNECTED, _E.CONNECT): _S.CONNECTED,
    (_S.CONNECTED, _E.DRAIN): _S.DRAINING,
    (_S.CONNECTED, _E.CLOSE): _S.DISCONNECTED,
    (_S.CONNECTED, _E.SUPERSEDE): _S.DISCONNECTED,
    (_S.CONNECTED, _E.EXPIRE): _S.LOST,
    (_S.CONNECTED, _E.FENCE): _S.LOST,
    (_S.CONNECTED, _E.GOODBYE): _S.STOPPED,
    (_S.DRAINING, _E.CONNECT): _S.DRAINING,
    (_S.DRAINING, _E.DRAIN): _S.DRAINING,
    (_S.DRAINING, _E.CLOSE): _S.DISCONNECTED,
    (_S.DRAINING, _E.SUPERSEDE): _S.DISCONNECTED,
    (_S.DRAINING, _E.EXPIRE): _S.LOST,
    (_S.DRAINING, _E.FENCE): _S.LOST,
    (_S.DRAINING, _E.GOODBYE): _S.STOPPED,
    (_S.DISCONNECTED, _E.CONNECT): _S.CONNECTED,
    (_S.DISCONNECTED, _E.DRAIN): _S.DISCONNECTED,  # remembered for its next stream
    (_S.DISCONNECTED, _E.CLOSE): _S.DISCONNECTED,
    (_S.DISCONNECTED, _E.SUPERSEDE): _S.DISCONNECTED,
    (_S.DISCONNECTED, _E.EXPIRE): _S.LOST,
    (_S.DISCONNECTED, _E.FENCE): _S.LOST,
    (_S.LOST, _E.CONNECT): _S.CONNECTED,
    (_S.LOST, _E.CLOSE): _S.LOST,
    (_S.LOST, _E.SUPERSEDE): _S.LOST,
    (_S.LOST, _E.EXPIRE): _S.LOST,
    (_S.LOST, _E.FENCE): _S.LOST,
    (_S.LOST, _E.GOODBYE): _S.STOPPED,
    (_S.STOPPED, _E.CLOSE): _S.STOPPED,
    (_S.STOPPED, _E.SUPERSEDE): _S.STOPPED,
    (_S.STOPPED, _E.FENCE): _S.STOPPED,
}

LIVING = frozenset({_S.CONNECTED, _S.DRAINING, _S.DISCONNECTED})  # its lease runs


def step(session: Session, event: SessionEvent) -> Session:
    """The session after the event. Raises IllegalSessionStep."""
    state = TABLE.get((session.state, event))
    if state is None:
        raise IllegalSessionStep(f"{event} does not fit a session that is {session.state}")
    draining = session.draining or event is _E.DRAIN
    if draining and state is _S.CONNECTED:
        state = _S.DRAINING
    return replace(session, state=state, draining=draining)
