"""The statements of `queue.sql` for the store in memory, by the same names.

Every move of a job goes through `scheduler.core.job.step`, and an expiry through
`scheduler.core.session.step`: what the tables allow is what happens here. The rest
says in Python what the statement of that name says in SQL.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from farhand.kernel.resolution import Fallback
from farhand.scheduler.core import job as rules
from farhand.scheduler.core import session as session_rules
from farhand.scheduler.core.job import Job, JobState
from farhand.scheduler.store.sql import SQL

if TYPE_CHECKING:
    from tests.simulation.memory_store import MemoryStore, Row, Statement, Table

F = TypeVar("F", bound=Callable[..., Any])

LIVING = ("CONNECTED", "DRAINING", "DISCONNECTED")
WITH_A_CLAIM = ("task", "traceparent", "created_at", "secrets_of")  # columns of a job
FALLBACKS = {"W": Fallback.WAIT, "F": Fallback.FAIL, "C": Fallback.CANCEL}
CHANGE_GROUP = "change a worker group"  # of the simulated registry: uid, paused, allowed tenants, lease in ms, quotas

_NAMED: "dict[str, Statement]" = {}


def statements() -> "dict[str, Statement]":
    """Every statement, by its text."""
    raw: dict[str, Statement] = {
        "SELECT epoch, state, draining FROM scheduler.session WHERE id = $1": _session_row,
        "SELECT group_uid FROM scheduler.session WHERE id = $1": _session_row_group,
        CHANGE_GROUP: _change_group,
    }
    return {SQL[name]: function for name, function in _NAMED.items()} | raw


def _statement(function: F) -> F:
    _NAMED[function.__name__] = function
    return function


# ── what a job is, and where the table sends it ──


def job_of(db: "MemoryStore", key: int) -> Job:
    """The job as the rules see it."""
    row = db.job[key]
    rest: dict[str, Any] = {"max_deliveries": row["max_deliveries"], "fallback": FALLBACKS[row["fallback"]]}
    if (live := db.live.get(key)) is not None:
        state = JobState.KILLING if live["kill_at"] else JobState.RUNNING if live["started_at"] else JobState.ASSIGNED
        return Job(state, live["fence"], live["lost"], **rest)
    if (done := db.done.get(key)) is not None:
        return Job(JobState(done["state"]), done["fence"], done["lost"], reason=done["reason"] or "", **rest)
    return Job(JobState.CREATED, 0, db.queue[key]["lost"], **rest)


def _end(db: "MemoryStore", key: int, lane_id: int, after: Job, **more: Any) -> None:
    assert after.state in rules.FINAL
    row = dict.fromkeys(("session_id", "assigned_at", "started_at", "kill_at", "exit_code", "message", "run_us"))
    row |= {"outputs": None, "log_end": None, "ended_at": db.now, "reason": after.reason}
    db.done.put(
        key, row | {"key": key, "lane_id": lane_id, "state": after.state.value, "lost": after.lost, "fence": 0} | more
    )


# ── groups ──


@_statement
def lock_groups_for_enqueue(db: "MemoryStore", uids: Sequence[str]) -> "list[Row]":
    return [db.worker_group[uid] | {"now": db.now} for uid in sorted(set(uids)) if uid in db.worker_group]


@_statement
def lock_group_for_claim(db: "MemoryStore", uid: str) -> "list[Row]":
    row = db.worker_group.get(uid)
    return [] if row is None or row["gone"] else [row | {"newest": max(1, db.sequences["job_key"])}]


@_statement
def lock_group_for_change(db: "MemoryStore", uid: str) -> "list[Row]":
    row = db.worker_group.get(uid)
    return [] if row is None else [row | {"now": db.now}]


def available(db: "MemoryStore", uid: str) -> bool:
    """Not paused, and a worker that is not draining with a fresh heartbeat (semantics.md, 3)."""
    fresh = db.now - timedelta(seconds=15)
    return not db.worker_group[uid]["paused"] and any(
        s["group_uid"] == uid
        and s["state"] in ("CONNECTED", "DISCONNECTED")
        and not s["draining"]
        and s["heartbeat_at"] > fresh
        for s in db.session.values()
    )


@_statement
def available_groups(db: "MemoryStore", uids: Sequence[str]) -> "list[Row]":
    return [{"uid": uid} for uid in uids if uid in db.worker_group and available(db, uid)]


@_statement
def find_lanes(db: "MemoryStore", groups: Any, tenants: Any, types: Any) -> "list[Row]":
    wanted = set(zip(groups, tenants, types, strict=True))
    return [row for row in db.lane.values() if (row["group_uid"], row["tenant"], row["task_type"]) in wanted]


@_statement
def add_lanes(db: "MemoryStore", groups: Any, tenants: Any, types: Any) -> "list[Row]":
    known = {(row["group_uid"], row["tenant"], row["task_type"]) for row in db.lane.values()}
    for name in sorted(zip(groups, tenants, types, strict=True)):
        number = db.nextval("lane")  # drawn also where the lane is there
        if name not in known:
            db.lane.put(number, {"id": number, "group_uid": name[0], "tenant": name[1], "task_type": name[2]})
    return []


@_statement
def lanes_of_group(db: "MemoryStore", uid: str) -> "list[Row]":
    return [row for row in db.lane.values() if row["group_uid"] == uid]


@_statement
def group_leases(db: "MemoryStore", uids: Sequence[str]) -> "list[Row]":
    return [db.worker_group[uid] for uid in uids if uid in db.worker_group]


@_statement
def groups_to_settle(db: "MemoryStore") -> "list[Row]":
    picky = {db.lane[row["lane_id"]]["group_uid"] for row in db.queue.values() if row["fallback"] != "W"}
    return [{"group_uid": uid} for uid in sorted(picky) if not available(db, uid)]


def _change_group(
    db: "MemoryStore", uid: str, paused: bool, allowed: list[str], lease_ms: int, quotas: str
) -> "list[Row]":
    row: Row = {"uid": uid, "key": uid, "deleting": False, "gone": False, "quotas": quotas}
    db.worker_group.put(uid, row | {"paused": paused, "allowed_tenants": allowed, "lease_ms": lease_ms})
    return []


# ── quotas ──


def of_tenants(db: "MemoryStore", table: "Table") -> Counter[tuple[str, str]]:
    """How many jobs are in a table, queue or live, by group and tenant."""
    lanes = (db.lane[row["lane_id"]] for row in table.values())
    return Counter((lane["group_uid"], lane["tenant"]) for lane in lanes)


@_statement
def lock_places_in_queues(db: "MemoryStore", groups: Sequence[str], tenants: Sequence[str]) -> "list[Row]":
    return []  # a transaction is one step


@_statement
def queued_of_tenants(db: "MemoryStore", groups: Sequence[str], tenants: Sequence[str]) -> "list[Row]":
    queued = of_tenants(db, db.queue)
    return [{"group_uid": n[0], "tenant": n[1], "queued": queued[n]} for n in zip(groups, tenants, strict=True)]


@_statement
def running_of_tenants(db: "MemoryStore", uid: str) -> "list[Row]":
    live = of_tenants(db, db.live)
    return [{"tenant": tenant, "running": count} for (group, tenant), count in live.items() if group == uid]


@_statement
def known_requests(db: "MemoryStore", tenants: Sequence[str], ids: Sequence[str]) -> "list[Row]":
    known = [name for name in zip(tenants, ids, strict=True) if name in db.request]
    return [{"tenant": tenant, "request_id": id} for tenant, id in known]


# ── enqueue ──


@_statement
def allot_keys(db: "MemoryStore", count: int) -> "list[Row]":
    return [{"key": db.nextval("job_key")} for _ in range(count)]


@_statement
def remember_requests(db: "MemoryStore", tenants: Any, ids: Any, hashes: Any, keys: Any, refusals: Any) -> "list[Row]":
    new = []
    for tenant, id, body_hash, text, refused in sorted(zip(tenants, ids, hashes, keys, refusals, strict=True)):
        if (tenant, id) not in db.request:
            row = {"body_hash": body_hash, "keys": [int(key) for key in text.split(",")], "refusals": refused}
            db.request.put((tenant, id), row)
            new.append({"tenant": tenant, "request_id": id})
    return new


@_statement
def recall_request(db: "MemoryStore", tenant: str, id: str) -> "list[Row]":
    row = db.request.get((tenant, id))
    return [] if row is None else [row]


@_statement
def insert_jobs(
    db: "MemoryStore",
    keys: Any,
    lanes: Any,
    fallbacks: Any,
    most: Any,
    namespaces: Any,
    traces: Any,
    tasks: Any,
    secrets_of: Any,
    _: str,
) -> "list[Row]":
    for key, lane, fallback, deliveries, namespace, trace, task, secrets in zip(
        keys, lanes, fallbacks, most, namespaces, traces, tasks, secrets_of, strict=True
    ):
        row = {"key": key, "lane_id": lane, "fallback": fallback, "max_deliveries": deliveries, "task": task}
        row |= {"namespace": namespace, "traceparent": trace, "secrets_of": secrets}
        db.job.put(key, row | {"created_at": db.now})
        db.queue.put(key, {"lane_id": lane, "key": key, "fallback": fallback, "lost": 0})
    return []


# ── claim ──


@_statement
def live_seats(db: "MemoryStore", ids: Sequence[int], epochs: Sequence[int]) -> "list[Row]":
    found = []
    for id, epoch in sorted(zip(ids, epochs, strict=True)):
        row = db.session.get(id)
        if row is not None and row["epoch"] == epoch and row["state"] == "CONNECTED" and not row["draining"]:
            found.append({"id": id})
    return found


@_statement
def heads(db: "MemoryStore", lanes: Sequence[int], count: int, most_bytes: int) -> "list[Row]":
    wanted = set(lanes)
    waiting = sorted((row for row in db.queue.values() if row["lane_id"] in wanted), key=lambda row: row["key"])
    found: list[Row] = []
    size = 0
    for row in waiting[:count]:
        if size >= most_bytes:
            break
        job = db.job[row["key"]]
        found.append(row | {name: job[name] for name in WITH_A_CLAIM})
        size += len(job["task"])
    return found


@_statement
def assign(
    db: "MemoryStore", lanes: Sequence[int], keys: Sequence[int], sessions: Sequence[int], _: str
) -> "list[Row]":
    born = []
    for lane, key, session_id in zip(lanes, keys, sessions, strict=True):
        waiting = db.queue.get(key)
        if waiting is None or waiting["lane_id"] != lane:
            continue
        job = job_of(db, key)
        db.queue.take(key)
        if key in db.live:
            raise asyncpg.UniqueViolationError(f"job {key} is live already")
        after, _verdict = rules.step(job, rules.Assign(db.nextval("fence")))
        row: Row = {"key": key, "lane_id": lane, "fence": after.fence, "session_id": session_id, "lost": after.lost}
        row |= {"assigned_at": db.now, "started_at": None, "kill_at": None, "kill_grace_ms": None, "kill_acked": False}
        db.live.put(key, row)
        born.append(row)
    return born


@_statement
def assigned_to(db: "MemoryStore", sessions: Sequence[int]) -> "list[Row]":
    wanted = set(sessions)
    return [
        row | {"killing": row["kill_at"] is not None, **{n: db.job[key][n] for n in WITH_A_CLAIM}}
        for key, row in sorted(db.live.items())
        if row["session_id"] in wanted
    ]


# ── what workers report ──


@_statement
def mark_started(db: "MemoryStore", keys: Sequence[int], fences: Sequence[int]) -> "list[Row]":
    news = []
    for key, fence in sorted(zip(keys, fences, strict=True)):
        row = db.live.get(key)
        if row is not None and row["fence"] == fence and row["started_at"] is None:
            rules.step(job_of(db, key), rules.Start(fence))
            db.live.change(key, started_at=db.now)
            news.append({"key": key})
    return news


@_statement
def complete(db: "MemoryStore", *columns: Any) -> "list[Row]":
    recorded = []
    for key, fence, worker_id, state, exit_code, reason, message, run_us, outputs, log_end in sorted(
        zip(*columns[:10], strict=True), key=lambda row: row[:2]
    ):
        live = db.live.get(key)
        if live is None or live["fence"] != fence or db.session[live["session_id"]]["worker_id"] != worker_id:
            continue
        after, verdict = rules.step(job_of(db, key), rules.End(fence, JobState(state), reason or ""))
        assert verdict is rules.Verdict.RECORDED
        db.live.take(key)
        started = live["started_at"] or max(live["assigned_at"], db.now - timedelta(microseconds=run_us or 0))
        told = {"exit_code": exit_code, "reason": reason, "message": message, "run_us": run_us, "outputs": outputs}
        rest = {name: live[name] for name in ("session_id", "assigned_at", "kill_at")}
        _end(db, key, live["lane_id"], after, **told, **rest, fence=fence, started_at=started, log_end=log_end)
        told = {"ended_at": db.now, "due": False, "trigger_due": False}
        recorded.append({"key": key, "fence": fence, "lane_id": live["lane_id"], **told})
    return recorded


@_statement
def judge(db: "MemoryStore", keys: Sequence[int], fences: Sequence[int]) -> "list[Row]":
    found = []
    for key, fence in zip(keys, fences, strict=True):
        live = db.live.get(key)
        unheard_of = key not in db.job and key > max(1, db.sequences["job_key"])
        if unheard_of or (live is not None and live["fence"] == fence):
            status = "UNKNOWN"
        elif key not in db.job:  # forgotten
            status = "STALE"
        else:
            _, verdict = rules.step(job_of(db, key), rules.End(fence, JobState.SUCCESS))
            status = verdict.value
        found.append({"key": key, "fence": fence, "status": status})
    return found


# ── without a result ──


@_statement
def give_back(
    db: "MemoryStore", session_id: int, keys: Any, costing: Any, reason: str, _log: bytes, _writer: str
) -> "list[Row]":
    held = [key for key, row in sorted(db.live.items()) if row["session_id"] == session_id]
    back = []
    for key in held if keys is None else [key for key in held if key in set(keys)]:
        live = db.live[key]
        event = rules.Lose if costing is None or key in set(costing) else rules.Return
        after, _verdict = rules.step(job_of(db, key), event(live["fence"]))
        db.live.take(key)
        db.lost_delivery.put((key, live["fence"]), {"session_id": session_id, "reason": reason})
        if after.state is JobState.CREATED:
            row = {"lane_id": live["lane_id"], "key": key, "fallback": db.job[key]["fallback"], "lost": after.lost}
            db.queue.put(key, row)
        else:
            rest = {name: live[name] for name in ("session_id", "assigned_at", "kill_at")}
            _end(db, key, live["lane_id"], after, **rest)
        back.append({"key": key, "fence": live["fence"], "state": after.state.value})
    return back


_ENDINGS: "dict[str, rules.Event]" = {
    "KILLED": rules.Kill(),
    "GROUP_NOT_AVAILABLE": rules.Unavailable(),
    "TENANT_NOT_ALLOWED": rules.Forbid(),
    "GROUP_WAIT_TIMEOUT": rules.Overdue(),
}


@_statement
def end_waiting(
    db: "MemoryStore", lanes: Any, keys: Any, state: str, reason: str, message: str, _: Any, asked: bool, _writer: str
) -> "list[Row]":
    ended = []
    for lane, key in zip(lanes, keys, strict=True):
        waiting = db.queue.get(key)
        if waiting is None or waiting["lane_id"] != lane:
            continue
        after, _verdict = rules.step(job_of(db, key), _ENDINGS[reason])
        assert (after.state, after.reason) == (state, reason), "the statement and the table disagree"
        db.queue.take(key)
        _end(db, key, lane, after, message=message, kill_at=db.now if asked else None)
        ended.append({"key": key})
    return ended


def _waiting_in(db: "MemoryStore", uid: str, wanted: Callable[["Row", "Row"], bool]) -> "Iterable[Row]":
    for key, row in sorted(db.queue.items())[:10_000]:
        lane = db.lane[row["lane_id"]]
        if lane["group_uid"] == uid and wanted(row, lane):
            yield {"lane_id": row["lane_id"], "key": key, "fallback": row["fallback"], "tenant": lane["tenant"]}


@_statement
def waiting_that_may_not(db: "MemoryStore", uid: str) -> "list[Row]":
    return list(_waiting_in(db, uid, lambda row, _: row["fallback"] != "W"))


@_statement
def waiting_forbidden(db: "MemoryStore", uid: str, allowed: Sequence[str]) -> "list[Row]":
    found = _waiting_in(db, uid, lambda _, lane: lane["tenant"] not in allowed)
    return sorted(found, key=lambda row: (row["tenant"], row["key"]))


# ── kills ──


@_statement
def job_place(db: "MemoryStore", key: int) -> "list[Row]":
    return [{"lane_id": db.job[key]["lane_id"]}] if key in db.job else []


@_statement
def mark_killing(db: "MemoryStore", key: int, grace_ms: int) -> "list[Row]":
    row = db.live.get(key)
    if row is None:
        return []
    after, _ = rules.step(job_of(db, key), rules.Kill())
    assert after.state is JobState.KILLING
    grace = grace_ms if row["kill_grace_ms"] is None else row["kill_grace_ms"]
    return [db.live.change(key, kill_at=row["kill_at"] or db.now, kill_grace_ms=grace)]


@_statement
def ack_kills(db: "MemoryStore", keys: Sequence[int], fences: Sequence[int]) -> "list[Row]":
    found = []
    for key, fence in sorted(zip(keys, fences, strict=True)):
        if key in db.live and db.live[key]["fence"] == fence:
            found.append(db.live.change(key, kill_acked=True))
    return found


@_statement
def kill_state(db: "MemoryStore", key: int) -> "list[Row]":
    return [{"acked": db.live[key]["kill_acked"] if key in db.live else None, "ended": key in db.done}]


@_statement
def pending_kills(db: "MemoryStore", sessions: Sequence[int]) -> "list[Row]":
    wanted = set(sessions)
    return [
        row
        for _, row in sorted(db.live.items())
        if row["session_id"] in wanted and row["kill_at"] is not None and not row["kill_acked"]
    ]


# ── sessions ──


@_statement
def bind_worker(db: "MemoryStore", id: str, subject: str) -> "list[Row]":
    if id not in db.worker:
        db.worker.put(id, {"subject": subject})
    return []


@_statement
def lock_worker(db: "MemoryStore", id: str) -> "list[Row]":
    return [db.worker[id]] if id in db.worker else []


@_statement
def lock_sessions_of_worker(db: "MemoryStore", worker_id: str, incarnation: bytes) -> "list[Row]":
    return [
        row
        for _, row in sorted(db.session.items())
        if row["worker_id"] == worker_id and (row["state"] in LIVING or row["incarnation"] == incarnation)
    ]


_OPENING = (
    *("worker_id", "incarnation", "group_uid", "subject", "tenants", "lease_ms", "state", "draining", "slots"),
    *("busy_slots", "task_types", "host", "version", "boot_id", "replica"),
)
_REOPENED = ("group_uid", "tenants", "lease_ms", "state", "draining", "slots", "busy_slots", "task_types", "replica")


@_statement
def open_session(db: "MemoryStore", *values: Any) -> "list[Row]":
    told = dict(zip(_OPENING, values, strict=True))
    number, epoch = db.nextval("session"), db.nextval("epoch")  # drawn also where the session is there
    for id, row in db.session.items():
        if (row["worker_id"], row["incarnation"]) == (told["worker_id"], told["incarnation"]):
            changes = {name: told[name] for name in _REOPENED}
            db.session.change(id, epoch=epoch, renewal=row["renewal"] + 1, heartbeat_at=db.now, **changes)
            return [{"id": id, "epoch": epoch}]
    db.session.put(number, told | {"id": number, "epoch": epoch, "renewal": 1, "heartbeat_at": db.now})
    return [{"id": number, "epoch": epoch}]


@_statement
def take_over(
    db: "MemoryStore", heir: int, sessions: Sequence[int], keys: Sequence[int], fences: Sequence[int]
) -> "list[Row]":
    for key, fence in sorted(zip(keys, fences, strict=True)):
        row = db.live.get(key)
        if row is not None and row["fence"] == fence and row["session_id"] in sessions:
            db.live.change(key, session_id=heir)
    return []


@_statement
def change_session(db: "MemoryStore", id: int, state: str, draining: bool) -> "list[Row]":
    db.session.change(id, state=state, draining=draining)
    return []


@_statement
def lock_session(db: "MemoryStore", id: int) -> "list[Row]":
    return [db.session[id]] if id in db.session else []


def _session_row(db: "MemoryStore", id: int) -> "list[Row]":
    return [db.session[id]] if id in db.session else []


def _session_row_group(db: "MemoryStore", id: int) -> "list[Row]":
    return [{"group_uid": db.session[id]["group_uid"]}] if id in db.session else []


@_statement
def session_of_worker(db: "MemoryStore", worker_id: str) -> "list[Row]":
    rows = [row for row in db.session.values() if row["worker_id"] == worker_id]
    return sorted(rows, key=lambda row: -row["epoch"])[:1]


@_statement
def renew(db: "MemoryStore", ids: Any, epochs: Any, leases: Any, busy: Any) -> "list[Row]":
    renewed = []
    for id, epoch, lease_ms, busy_slots in sorted(zip(ids, epochs, leases, busy, strict=True)):
        row = db.session.get(id)
        if row is not None and row["epoch"] == epoch and row["state"] in ("CONNECTED", "DRAINING"):
            told = {"lease_ms": lease_ms, "busy_slots": busy_slots, "heartbeat_at": db.now}
            renewed.append(db.session.change(id, renewal=row["renewal"] + 1, **told))
    return renewed


@_statement
def living_sessions(db: "MemoryStore") -> "list[Row]":
    return [row for _, row in sorted(db.session.items()) if row["state"] in LIVING]


@_statement
def expire_session(db: "MemoryStore", id: int, epoch: int, renewal: int) -> "list[Row]":
    row = db.session.get(id)
    if row is None or (row["epoch"], row["renewal"]) != (epoch, renewal) or row["state"] not in LIVING:
        return []
    before = session_rules.Session(session_rules.SessionState(row["state"]), row["draining"])
    after = session_rules.step(before, session_rules.SessionEvent.EXPIRE)
    db.session.change(id, state=after.state.value)
    return [{"worker_id": row["worker_id"]}]
