"""Submits: placed by the copy of the registry, then committed in groups.

A row's group and fallback are resolved before it joins a batch, and nobody is told
"unknown" or "forbidden" before the registry itself was asked. The transaction
looks again, under the groups' locks (P10, P11), and there alone is known whether a
quota leaves room in the queue (P13).
"""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncpg import Connection, Record

from farhand.kernel.errors import FarhandError, GroupDeleting, NotFound, RequestIdReused, TenantNotAllowed, Unavailable
from farhand.kernel.names import group_label
from farhand.kernel.resolution import Fallback
from farhand.runtime.crash_points import reach
from farhand.scheduler.core.declared import Declared, Placement
from farhand.scheduler.core.submission import Answer, Fresh, JobRow, Submission
from farhand.scheduler.core.tenant_quotas import QueueRoom
from farhand.scheduler.loops.group_commit import GroupCommit, HotConnection
from farhand.scheduler.store.groups import EncodeLog
from farhand.scheduler.store.queue import Lanes, NewJob, allot_keys, apply_fallbacks, insert_jobs
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import known_requests, queue_room

FALLBACK_LETTER = {Fallback.WAIT: "W", Fallback.FAIL: "F", Fallback.CANCEL: "C"}
FALLBACK_OF_LETTER = {letter: fallback for fallback, letter in FALLBACK_LETTER.items()}


class Declarations(Protocol):
    """The copy of the registry."""

    @property
    def declared(self) -> Declared:
        """What is known now."""

    async def catch_up(self) -> None:
        """Ask the registry. Raises Unavailable."""


class Listener(Protocol):
    """Who wants to know what was committed."""

    def enqueued(self, groups: Iterable[str], ended: Sequence[int]) -> None:
        """Jobs wait in these groups (uids); these jobs (keys) ended at once."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A submission whose rows have their groups: a job, a stored refusal, or an error."""

    submission: Submission
    rows: tuple[NewJob | bytes | FarhandError, ...]


class Enqueue:
    """The queue's way in: `submit` answers when the jobs are durable."""

    def __init__(
        self,
        connection: HotConnection,
        declarations: Declarations,
        listener: Listener,
        *,
        writer: str,
        encode_log: EncodeLog,
        encode_status: Callable[[FarhandError], bytes],
    ) -> None:
        self._declarations = declarations
        self._listener = listener
        self._writer = writer
        self._encode_log = encode_log
        self._encode_status = encode_status
        self._lanes = Lanes()
        self.commits: GroupCommit[Placed, Answer] = GroupCommit(
            "enqueue", connection, self.write, weigh=lambda placed: len(placed.rows)
        )

    async def submit(self, submission: Submission) -> Answer:
        """Put the rows into their queues. Raises RequestIdReused, Unavailable for the whole."""
        rows = self._place(submission)
        if any(isinstance(row, FarhandError) for row in rows):
            await self._declarations.catch_up()
            rows = self._place(submission)
        return await self.commits.put(Placed(submission, rows))

    def _place(self, submission: Submission) -> tuple[NewJob | bytes | FarhandError, ...]:
        declared = self._declarations.declared
        known: dict[tuple[object, ...], Placement | FarhandError] = {}
        rows: list[NewJob | bytes | FarhandError] = []
        for row in submission.rows:
            if not isinstance(row, JobRow):
                rows.append(row)
                continue
            wish = (row.tenant, row.namespace, row.group_key, row.fallback)
            where = known.get(wish)
            if where is None:
                where = known[wish] = _try_place(declared, row)
            if isinstance(where, FarhandError):
                rows.append(where)
                continue
            rows.append(
                NewJob(
                    where.group_uid,
                    row.tenant,
                    row.task_type,
                    FALLBACK_LETTER[where.fallback],
                    row.max_deliveries,
                    row.namespace,
                    row.traceparent,
                    row.task,
                )
            )
        return tuple(rows)

    async def write(self, connection: Connection, batch: Sequence[Placed]) -> list[Answer | Exception]:
        """One transaction for all these submissions."""
        names = {
            (row.group_uid, row.tenant, row.task_type)
            for placed in batch
            for row in placed.rows
            if isinstance(row, NewJob)
        }
        lane_of = await self._lanes.ids(connection, names)
        ended: list[int] = []
        async with connection.transaction():
            groups = {
                row["uid"]: row
                for row in await connection.fetch(SQL["lock_groups_for_enqueue"], sorted({name[0] for name in names}))
            }
            refusal = {name: refusal_of(groups.get(name[0]), name[1]) for name in names}
            checked = [
                tuple(
                    (refusal[row.group_uid, row.tenant, row.task_type] or row) if isinstance(row, NewJob) else row
                    for row in placed.rows
                )
                for placed in batch
            ]
            room = await queue_room(connection, groups, {name[:2] for name, error in refusal.items() if error is None})
            if room:
                checked = await _within_quotas(connection, batch, checked, room)
            count = sum(isinstance(row, NewJob) for rows in checked for row in rows)
            keys = iter(await allot_keys(connection, count))
            answers: list[Answer | Exception] = [
                tuple(next(keys) if isinstance(row, NewJob) else row for row in rows) for rows in checked
            ]
            repeated = await self._remember(connection, batch, answers)
            lanes: list[int] = []
            fresh: list[int] = []
            jobs: list[NewJob] = []
            for index, rows in enumerate(checked):
                answer = answers[index]
                if index in repeated:
                    answers[index] = repeated[index]
                    continue
                assert isinstance(answer, tuple)
                for row, key in zip(rows, answer, strict=True):
                    if isinstance(row, NewJob) and isinstance(key, int):
                        lanes.append(lane_of[row.group_uid, row.tenant, row.task_type])
                        fresh.append(key)
                        jobs.append(row)
            if jobs:
                await insert_jobs(connection, fresh, lanes, jobs, self._writer)
                group_keys = {uid: row["key"] for uid, row in groups.items()}
                ended = await apply_fallbacks(
                    connection,
                    list(zip(lanes, fresh, jobs, strict=True)),
                    group_keys,
                    self._writer,
                    self._encode_log,
                )
        reach("enqueue committed")
        self._listener.enqueued({name[0] for name in names}, ended)
        for index, (placed, rows) in enumerate(zip(batch, checked, strict=True)):
            if len(rows) == 1 and index not in repeated:
                answers[index] = _fresh(placed, rows[0], answers[index], groups, ended)
        return answers

    async def _remember(
        self, connection: Connection, batch: Sequence[Placed], answers: Sequence[Answer | Exception]
    ) -> dict[int, Answer | Exception]:
        """Note the request ids of calls that make jobs. Answers, by place in the batch, what a known id was answered.

        A call whose every row is refused leaves no memory: tried again with the same id, it may find its group
        there. But where the id was answered with jobs before, that answer stands (P6).
        """
        first: dict[tuple[str, str], int] = {}
        for index, (placed, answer) in enumerate(zip(batch, answers, strict=True)):
            assert isinstance(answer, tuple)
            if placed.submission.request_id and any(isinstance(entry, int) for entry in answer):
                first.setdefault((placed.submission.tenant, placed.submission.request_id), index)
        columns: list[tuple[str, str, bytes, str, str]] = []
        for (tenant, request_id), index in first.items():
            answer = answers[index]
            assert isinstance(answer, tuple)
            keys = ",".join(str(entry) if isinstance(entry, int) else "0" for entry in answer)
            refusals = [
                entry if isinstance(entry, bytes) else self._encode_status(entry)
                for entry in answer
                if not isinstance(entry, int)
            ]
            encoded = ",".join(base64.b64encode(status).decode() for status in refusals)
            columns.append((tenant, request_id, batch[index].submission.body_hash, keys, encoded))
        new: set[tuple[str, str]] = set()
        if columns:
            rows = await connection.fetch(SQL["remember_requests"], *[list(c) for c in zip(*columns, strict=True)])
            new = {(row["tenant"], row["request_id"]) for row in rows}
        repeated: dict[int, Answer | Exception] = {}
        for index, placed in enumerate(batch):
            name = (placed.submission.tenant, placed.submission.request_id)
            if not placed.submission.request_id or (name in new and first[name] == index):
                continue
            row = await connection.fetchrow(SQL["recall_request"], *name)
            if row is not None and row["body_hash"] != placed.submission.body_hash:
                repeated[index] = RequestIdReused(
                    f"The request_id {name[1]!r} was used before for another request. A new one needs a new id."
                )
            elif row is not None:
                refused = (base64.b64decode(part) for part in row["refusals"].split(","))
                repeated[index] = tuple(key or next(refused) for key in row["keys"])
            elif name in first:  # pruned in this very moment
                repeated[index] = Unavailable("The request_id's memory is just being cleared; try again.")
        return repeated


async def _within_quotas(
    connection: Connection,
    batch: Sequence[Placed],
    checked: Sequence[tuple[NewJob | bytes | FarhandError, ...]],
    room: QueueRoom,
) -> list[tuple[NewJob | bytes | FarhandError, ...]]:
    """The rows, those refused that find no room in their queues (P13). A call that was answered before is answered so
    again, and takes no room (P6)."""
    ids = [(placed.submission.tenant, placed.submission.request_id) for placed in batch]
    known = await known_requests(connection, [name for name in ids if name[1]])
    bounded = []
    for name, rows in zip(ids, checked, strict=True):
        if name not in known:
            rows = tuple(
                (room.take(row.group_uid, row.tenant) or row) if isinstance(row, NewJob) else row for row in rows
            )
            if name[1] and any(isinstance(row, NewJob) for row in rows):
                known.add(name)
        bounded.append(rows)
    return bounded


def _fresh(
    placed: Placed,
    row: NewJob | bytes | FarhandError,
    answer: Answer | Exception,
    groups: Mapping[str, Record],
    ended: Sequence[int],
) -> Answer | Exception:
    """The answer of a call with one row, with all that is known of its job."""
    if not isinstance(row, NewJob) or not isinstance(answer, tuple) or answer[0] in ended:
        return answer
    assert isinstance(answer[0], int)
    fresh, group = Fresh(answer[0]), groups[row.group_uid]
    fresh.group_uid, fresh.group_key = row.group_uid, group["key"]
    fresh.fallback, fresh.created_at = FALLBACK_OF_LETTER[row.fallback], group["now"]
    return (fresh,)


def _try_place(declared: Declared, row: JobRow) -> Placement | FarhandError:
    try:
        return row.place(declared)
    except FarhandError as error:
        return error


def refusal_of(group: Record | None, tenant: str) -> FarhandError | None:
    """Why the group as it is under its lock takes no job of this tenant; None: it does."""
    if group is None or group["gone"]:
        return NotFound("The worker group was deleted a moment ago.")
    label = group_label(group["key"])
    if group["deleting"]:
        return GroupDeleting(f"Worker group {label} is being deleted and takes no more jobs.")
    allowed = group["allowed_tenants"]
    if allowed and tenant not in allowed:
        return TenantNotAllowed(f"Worker group {label} does not allow tenant {tenant}.")
    return None
