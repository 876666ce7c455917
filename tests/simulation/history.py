"""What happened, as clients, programs and commits saw it, and what of it breaks a guarantee.

Clients note what was acknowledged to them, programs when they ran, and the database
what each transaction touched. The judgement rests on these, by true time; of the
scheduler's own tables it takes only where a job is. P1 to P13 are README.md's.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from farhand.api.types.v1.task_pb2 import Task
from farhand.kernel.quotas import quota_of
from farhand.scheduler.core.job import FINAL
from farhand.scheduler.loops.kills import CONFIRM_SECONDS
from farhand.scheduler.store.tenant_quotas import read_quotas
from tests.simulation.clockwork import World
from tests.simulation.memory_statements import LIVING, available, of_tenants
from tests.simulation.memory_store import MemoryStore, Row, Touched, touched_jobs

EARLY = CONFIRM_SECONDS * 0.9  # of the answer to a kill


@dataclass(frozen=True, slots=True)
class Violation:
    """A guarantee that did not hold."""

    guarantee: str
    when: float
    what: str

    def __str__(self) -> str:
        return f"{self.guarantee} at {self.when:.3f} s: {self.what}"


@dataclass(slots=True)
class Wish:
    """A job that a client wants, by its serial number."""

    serial: int
    tenant: str
    group: str
    began: float  # when its first submit began
    acked: float | None = None  # when a submit was acknowledged first
    refused: bool = False
    key: int | None = None
    kill_acked: float | None = None
    confirmed: bool = False  # the kill's acknowledgement came with the worker's word, or the end


@dataclass(slots=True)
class ProgramRun:
    """A program that ran, by true time."""

    serial: int
    fence: int
    host: str
    started: float
    ended: float | None = None
    excused: bool = False  # its whole machine stood still, so its warden could not act


@dataclass(slots=True)
class History:
    """See the module."""

    world: World
    store: MemoryStore
    violations: list[Violation] = field(default_factory=list)
    wishes: dict[int, Wish] = field(default_factory=dict)  # by serial
    runs: list[ProgramRun] = field(default_factory=list)
    serials: dict[int, int] = field(default_factory=dict)  # by key
    begun: set[int] = field(default_factory=set)  # fences under which something ran
    drained: dict[int, float] = field(default_factory=dict)  # by session: when its drain was acknowledged
    assigned: int = 0
    on_assigned: list[Callable[[int, str], None]] = field(default_factory=list)  # told the serial and the worker
    last_end: float = 0.0  # when a job ended last
    _running: dict[int, list[ProgramRun]] = field(default_factory=dict)  # by serial
    _fences: dict[int, int] = field(default_factory=dict)  # by key: the highest

    def __post_init__(self) -> None:
        self.store.on_commit.append(self._committed)

    def broken(self, guarantee: str, what: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(guarantee, self.world.now, what))
        self.world.say("judge", f"{guarantee} BROKEN: {what}")

    # ── programs ──

    def run_started(self, host: str, serial: int, fence: int, now: float) -> int:
        """A program of a job starts; answers its number."""
        run = ProgramRun(serial, fence, host, now)
        number = len(self.runs)
        self.runs.append(run)
        self.world.say(host, f"program of job {serial} starts under fence {fence}")
        self.begins(serial, fence)
        for other in self._running.setdefault(serial, []):
            if not other.excused:
                self.broken(
                    "P1",
                    f"job {serial} runs on {host} under fence {fence} while it runs on {other.host} under "
                    f"fence {other.fence}, since {other.started:.3f} s",
                )
        self._running[serial].append(run)
        return number

    def begins(self, serial: int, fence: int) -> None:
        """Something of a job begins, be it a program or an instant task."""
        self.begun.add(fence)
        wish = self.wishes[serial]
        if wish.kill_acked is not None and wish.confirmed:
            self.broken("P9", f"job {serial} starts, and its kill was acknowledged at {wish.kill_acked:.3f} s")
        live = self.store.live.get(wish.key) if wish.key is not None else None
        if live is not None and live["fence"] == fence and live["kill_at"] is None:
            group = self.store.session[live["session_id"]]["group_uid"]
            if group != wish.group:
                self.broken("P10", f"job {serial} of group {wish.group} starts in group {group}")

    def run_ended(self, number: int, now: float) -> None:
        """A program is gone, with all that it started."""
        run = self.runs[number]
        if run.ended is None:
            run.ended = now
            self._running[run.serial].remove(run)
            self.world.say(run.host, f"program of job {run.serial} is gone (fence {run.fence})")

    def host_stood_still(self, number: int) -> None:
        """The promise of P1 holds while the warden is scheduled; this one was not."""
        self.runs[number].excused = True

    # ── commits ──

    def _committed(self, touched: Sequence[Touched]) -> None:
        store = self.store
        for table, key, before in touched:
            if table.name == "job" and before is None:
                task = Task.FromString(table[key]["task"])
                self.serials[key] = int(cast(float, task.properties["serial"]))
            elif table.name == "session":
                self._session_changed(before, table[key])
            elif table.name == "done":
                self.last_end = self.world.now
                if before is not None:
                    self.broken("P3", f"job {self.serials[key]} ended a second time")
            elif table.name == "lost_delivery" and table[key]["reason"] in ("NOT_RECEIVED", "RETURNED"):
                self._returned(key)
        lost = {key: before for table, key, before in touched if table.name == "live" and before is not None}
        for key in touched_jobs(touched):
            places = [t.name for t in (store.queue, store.live, store.done) if key in t]
            if len(places) != 1:
                self.broken("P1", f"job {self.serials[key]} is in {places or 'no place'}")
            if key in store.done and store.done[key]["fence"]:
                self._recorded(key, lost.get(key))
        born = [key for table, key, before in touched if table.name == "live" and before is None and key in table]
        for key in born:
            self._born(store.live[key])
        self._quotas(touched, born)
        self._fallbacks(touched)

    def _session_changed(self, before: Row | None, after: Row) -> None:
        if before is not None and before["draining"] and not after["draining"]:
            self.broken("P8", f"session {after['id']} of {after['worker_id']} forgot that it drains")
        if before is not None and before["state"] != after["state"]:
            self.world.say("database", f"session {after['id']} of {after['worker_id']} is {after['state']}")

    def _returned(self, name: tuple[int, int]) -> None:
        key, fence = name
        if fence in self.begun:
            self.broken("rule 8", f"job {self.serials[key]} is given back as never started; fence {fence} had begun")

    def _recorded(self, key: int, live: Row | None) -> None:
        done = self.store.done[key]
        if live is None or live["fence"] != done["fence"]:
            self.broken(
                "P4", f"a result of fence {done['fence']} is recorded for job {self.serials[key]}, live: {live}"
            )
        elif live["kill_at"] is not None and done["state"] != "KILLED":
            self.broken("P9", f"job {self.serials[key]} is being killed and ends {done['state']}")

    def _born(self, live: Row) -> None:
        """A job was assigned."""
        store, key, fence = self.store, live["key"], live["fence"]
        self.assigned += 1
        serial = self.serials[key]
        session, lane = store.session[live["session_id"]], store.lane[live["lane_id"]]
        worker = session["worker_id"]
        self.world.say("database", f"job {serial} is assigned to {worker} under fence {fence}")
        if fence <= self._fences.get(key, 0):
            self.broken("P4", f"fence {fence} of job {serial} does not grow from {self._fences[key]}")
        self._fences[key] = fence
        if session["draining"] or session["state"] != "CONNECTED" or session["id"] in self.drained:
            self.broken("P8", f"job {serial} is assigned to {worker}, which is {session['state']} and drains")
        if not self._may(session, lane) or self.wishes[serial].group != session["group_uid"]:
            self.broken("P10", f"job {serial} of {lane} is assigned to {worker} of {session['group_uid']}")
        began = self.wishes[serial].began
        running = of_tenants(store, store.live)
        for other in store.queue.values():
            wish = self.wishes[self.serials[other["key"]]]
            if wish.acked is None or wish.acked >= began:
                continue
            other_lane = store.lane[other["lane_id"]]
            if self._may(session, other_lane) and not self._runs_all_it_may(other_lane, running):
                self.broken(
                    "P5",
                    f"job {serial}, submitted at {began:.3f} s, is assigned to {worker} while job {wish.serial}, "
                    f"acknowledged at {wish.acked:.3f} s, waits",
                )

        for watch in self.on_assigned:
            watch(serial, worker)

    def _may(self, session: Row, lane: Row) -> bool:
        allowed = self.store.worker_group[lane["group_uid"]]["allowed_tenants"]
        return (
            lane["group_uid"] == session["group_uid"]
            and lane["task_type"] in session["task_types"]
            and (session["tenants"] is None or lane["tenant"] in session["tenants"])
            and (not allowed or lane["tenant"] in allowed)
        )

    def _runs_all_it_may(self, lane: Row, running: Counter[tuple[str, str]]) -> bool:
        group, tenant = lane["group_uid"], lane["tenant"]
        most = quota_of(read_quotas(self.store.worker_group[group]["quotas"]), tenant).max_running
        return most is not None and running[group, tenant] >= most

    def _quotas(self, touched: Sequence[Touched], born: Sequence[int]) -> None:
        """P13: a claim leaves no tenant with more than it may have running, nor an enqueue with more waiting. What is
        too much already, since the quota was lowered or an assignment was lost, only goes down."""
        store = self.store
        came = [key for table, key, before in touched if table.name == "job" and before is None and key in store.queue]
        for keys, table, doing in (born, store.live, "running"), (came, store.queue, "queued"):
            counts = of_tenants(store, table) if keys else {}
            for group, tenant in {_group_and_tenant(store, table[key]) for key in keys}:
                most = getattr(quota_of(read_quotas(store.worker_group[group]["quotas"]), tenant), f"max_{doing}")
                count = counts[group, tenant]
                if most is not None and count > most:
                    self.broken("P13", f"{tenant} has {count} jobs {doing} in {group}, and its quota is {most}")

    def _fallbacks(self, touched: Sequence[Touched]) -> None:
        """P11: after each commit no job waits that may not; and none is ended for a group that is available."""
        store = self.store
        for table, key, _ in touched:
            if table.name == "done" and key in table and table[key]["reason"] == "GROUP_NOT_AVAILABLE":
                group = store.lane[table[key]["lane_id"]]["group_uid"]
                if available(store, group):
                    self.broken("P11", f"job {self.serials[key]} ends, and its group {group} is available")
        if not any(table.name in ("session", "worker_group", "queue") for table, _, _ in touched):
            return
        served = {
            s["group_uid"]
            for s in store.session.values()
            if s["state"] in LIVING and s["state"] != "DRAINING" and not s["draining"]
        }
        for row in store.queue.values():
            group = store.lane[row["lane_id"]]["group_uid"]
            if row["fallback"] != "W" and (group not in served or store.worker_group[group]["paused"]):
                self.broken("P11", f"job {self.serials[row['key']]} waits, and its group {group} has no worker")

    # ── clients ──

    def acknowledged(self, serial: int, key: int) -> None:
        """A submit was answered with a job."""
        wish = self.wishes[serial]
        if wish.key is not None and wish.key != key:
            self.broken("P6", f"request {serial} was answered with job {wish.key} and with {key}")
        wish.key = key
        if wish.acked is None:
            wish.acked = self.world.now
        if self.serials.get(key) != serial:
            self.broken("P6", f"request {serial} was answered with a job of request {self.serials.get(key)}")

    def kill_acknowledged(self, serial: int, began: float) -> None:
        """A kill was answered. The state it may rest on is read here, at the very moment of the answer."""
        wish = self.wishes[serial]
        assert wish.key is not None
        live = self.store.live.get(wish.key)
        if wish.key in self.store.queue or (live is not None and live["kill_at"] is None):
            self.broken("P9", f"the kill of job {serial} is acknowledged and is not noted")
        wish.kill_acked = self.world.now
        # An answer that did not wait until the worker counts as cut off rests on its word, or on the end of the job.
        wish.confirmed = wish.key in self.store.done or self.world.now - began < EARLY

    def not_ended(self) -> Iterator[Wish]:
        """Acknowledged jobs that have not reached their end (P2)."""
        for wish in self.wishes.values():
            if wish.acked is not None and wish.key not in self.store.done:
                yield wish

    def judge_the_end(self) -> None:
        """Faults stopped long ago."""
        for wish in self.not_ended():
            self.broken("P2", f"job {wish.serial} has not ended: {where(self.store, wish.key)}")
        for wish in self.wishes.values():
            done = self.store.done.get(wish.key)
            assert done is None or done["state"] in FINAL


def _group_and_tenant(store: MemoryStore, row: Row) -> tuple[str, str]:
    lane = store.lane[row["lane_id"]]
    return lane["group_uid"], lane["tenant"]


def where(store: MemoryStore, key: Any) -> str:
    """Where a job is, for people."""
    for table in (store.queue, store.live, store.done):
        if key in table:
            return f"{table.name} {table[key]}"
    return "nowhere"
