"""The product, broken on purpose: what a simulation that is worth anything must find.

Each takes away one thing that a guarantee rests on, in the running process alone. The
last line of each says which guarantees may be found broken by it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from farhand.scheduler.core.lease import LeaseTerms, LeaseWatch, Renewal
from farhand.scheduler.core.matching import Limit
from farhand.scheduler.core.tenant_quotas import Place, limits_of
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.frames import ResultAcks
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.results import Results
from farhand.scheduler.loops.stream import Stream
from farhand.scheduler.store import sessions as session_store
from farhand.scheduler.store import tenant_quotas
from farhand.worker.core import lease as worker_lease
from farhand.worker.core import slots
from farhand.worker.core.slots import Effect, Event, Phase
from farhand.worker.warden.run_table import RunTable
from tests.simulation import memory_statements
from tests.simulation.memory_store import MemoryStore, Row

Patches = Iterable[contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Sabotage:
    """See the module."""

    name: str
    guarantees: frozenset[str]
    patches: Callable[[], Patches]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The product is broken inside of this."""
        with contextlib.ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield


SABOTAGES: list[Sabotage] = []


def _sabotage(name: str, *guarantees: str) -> Callable[[Callable[[], Patches]], Callable[[], Patches]]:
    def add(patches: Callable[[], Patches]) -> Callable[[], Patches]:
        SABOTAGES.append(Sabotage(name, frozenset(guarantees), patches))
        return patches

    return add


def _statement(name: str, function: Callable[..., list[Row]]) -> contextlib.AbstractContextManager[Any]:
    return mock.patch.dict(memory_statements._NAMED, {name: function})


# ── leases ──


@_sabotage("a worker believes in its lease for a minute too long", "P1")
def _() -> Patches:
    yield mock.patch.object(worker_lease, "deadline_of", lambda sent, duration: sent + duration + 60)


@_sabotage("the warden ignores the deadline", "P1")
def _() -> Patches:
    yield mock.patch.object(RunTable, "due", lambda table, now: iter(()))


@_sabotage("a session expires after half of its lease", "P1")
def _() -> Patches:
    observe = LeaseWatch.observe

    def sooner(watch: LeaseWatch, renewals: Iterable[Renewal], now: float) -> list[Renewal]:
        return observe(watch, [replace(row, lease=row.lease / 2) for row in renewals], now)

    yield mock.patch.object(LeaseWatch, "observe", sooner)


@_sabotage("a shorter lease holds before the worker has answered for it", "P1")
def _() -> Patches:
    offer = LeaseTerms.offer
    yield mock.patch.object(
        LeaseTerms, "offer", lambda terms, sequence, wanted: offer(terms, sequence, wanted) and wanted
    )


# ── epochs and fences ──


@_sabotage("assignments go to whatever stream the session has by now", "P1", "P2", "P8", "rule 8", "protocol")
def _() -> Patches:
    send = Dispatch._send

    def to_the_newest(dispatch: Dispatch, claimed: Any, lanes: Any, streams: Any) -> None:
        newest = {id: dispatch._streams.get(id) or stream for id, stream in streams.items()}
        send(dispatch, claimed, lanes, newest)

    yield mock.patch.object(Dispatch, "_send", to_the_newest)


@_sabotage("a result is recorded whatever its fence", "P4")
def _() -> Patches:
    def complete(db: MemoryStore, *columns: Any) -> list[Row]:
        keys, told = columns[:2]
        live = [db.live.get(key) for key in keys]
        fences = [row["fence"] if row else fence for row, fence in zip(live, told, strict=True)]
        workers = [db.session[row["session_id"]]["worker_id"] if row else "" for row in live]
        recorded = memory_statements.complete(db, keys, fences, workers, *columns[3:])
        said = dict(zip(keys, told, strict=True))
        for row in recorded:
            if said[row["key"]] != row["fence"]:
                db.done.change(row["key"], fence=said[row["key"]])
        return [row | {"fence": said[row["key"]]} for row in recorded]

    yield _statement("complete", complete)


# ── order and credit ──


@_sabotage("a job that comes back goes to the end of the queue", "P5")
def _() -> Patches:
    def heads(db: MemoryStore, lanes: Sequence[int], count: int, most_bytes: int) -> list[Row]:
        waiting = [row for row in db.queue.values() if row["lane_id"] in lanes]
        return [row | {n: db.job[row["key"]][n] for n in memory_statements.WITH_A_CLAIM} for row in waiting][:count]

    yield _statement("heads", heads)


@_sabotage("a stream has one credit too many", "P7")
def _() -> Patches:
    credit = Stream.credit
    assert isinstance(credit, property) and credit.fget is not None
    real = credit.fget
    yield mock.patch.object(Stream, "credit", property(lambda stream: real(stream) and real(stream) + 1))


# ── drains ──


@_sabotage("a drain is not written down", "P8")
def _() -> Patches:
    def change(db: MemoryStore, id: int, state: str, draining: bool) -> list[Row]:
        db.session.change(id, state="CONNECTED" if state == "DRAINING" else state)
        return []

    yield _statement("change_session", change)


@_sabotage("a drain is acknowledged while a claim is on its way", "P8", "protocol")
def _() -> Patches:
    async def settled(_: Dispatch) -> None:
        return

    yield mock.patch.object(Dispatch, "settled", settled)


# ── kills ──


@_sabotage("a kill is acknowledged before the worker has confirmed it", "P9")
def _() -> Patches:
    async def confirmed(*_: object) -> None:
        return

    yield mock.patch.object(Kills, "_confirmed", confirmed)


@_sabotage("a kill of a waiting job is answered and not done", "P9")
def _() -> Patches:
    async def mark(*_: object) -> bool:
        return False

    yield mock.patch.object(Kills, "_mark", mark)


# ── results ──


@_sabotage("a worker forgets a result before it is acknowledged", "rule 8", "P2")
def _() -> Patches:
    row = {(Phase.RUNNING, Event.ENDED): (None, (Effect.SEND,))}
    yield mock.patch.dict(slots.TRANSITIONS, row)


@_sabotage("a result is acknowledged before it is committed", "rule 8", "P2")
def _() -> Patches:
    record = Results.record

    async def sooner(results: Results, stream: Stream, completions: Any) -> None:
        stream.put(ResultAcks([(each.key, each.fence, "RECORDED") for each in completions]))
        await record(results, stream, completions)

    yield mock.patch.object(Results, "record", sooner)


# ── groups, tenants, requests, fallbacks ──


@_sabotage("a credential's tenants are not looked at", "P10")
def _() -> Patches:
    yield mock.patch.object(Stream, "admits", lambda stream, tenant, task_type: task_type in stream.task_types)


@_sabotage("a request id is forgotten at once", "P6")
def _() -> Patches:
    remember = memory_statements.remember_requests

    def forget(db: MemoryStore, *columns: Any) -> list[Row]:
        new = remember(db, *columns)
        for row in new:
            db.request.take((row["tenant"], row["request_id"]))
        return new

    yield _statement("remember_requests", forget)


@_sabotage("a fallback is not decided again when the last worker goes", "P11")
def _() -> Patches:
    async def settle(*_: object) -> list[int]:
        return []

    yield mock.patch.object(session_store, "settle_group", settle)


# ── quotas ──


@_sabotage("a tenant's limit is one too high", "P13")
def _() -> Patches:
    def higher(quotas: Any, lanes: Any, running: Any) -> tuple[Limit, ...]:
        return tuple(replace(limit, room=limit.room + 1) for limit in limits_of(quotas, lanes, running))

    yield mock.patch.object(tenant_quotas, "limits_of", higher)


@_sabotage("a tenant's queue has one place too many", "P13")
def _() -> Patches:
    def longer(group_key: str, limit: int, queued: int) -> Place:
        return Place(group_key, limit + 1, queued)

    yield mock.patch.object(tenant_quotas, "Place", longer)


# ── nothing lost ──


@_sabotage("an assignment that was lost is not queued again", "P1", "P2")
def _() -> Patches:
    give_back = memory_statements.give_back

    def lose(db: MemoryStore, *arguments: Any) -> list[Row]:
        back = give_back(db, *arguments)
        for row in back:
            if row["key"] in db.queue:
                db.queue.take(row["key"])
        return back

    yield _statement("give_back", lose)


@_sabotage("a claim leaves its jobs in the queue", "P1")
def _() -> Patches:
    assign = memory_statements.assign

    def stay(db: MemoryStore, lanes: Any, keys: Any, sessions: Any, writer: str) -> list[Row]:
        waiting = {key: db.queue[key] for key in keys if key in db.queue}
        born = assign(db, lanes, keys, sessions, writer)
        for row in born:
            db.queue.put(row["key"], waiting[row["key"]])
        return born

    yield _statement("assign", stay)


BY_NAME = {sabotage.name: sabotage for sabotage in SABOTAGES}
