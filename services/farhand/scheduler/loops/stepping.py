"""One transaction of steps: a batch of executions, from the lock of their rows to the commit of what follows.

Order of locks: the executions by key; then the worker groups of new jobs, shared,
so that fallbacks are decided and permissions checked with what is true until the
commit (P10, P11); then the places in their queues, where quotas bound them (P13);
then as queue.sql says. Lanes outlive a transaction that fails,
so they are made outside: a batch that lacks one is undone and begun again.

An execution whose step raises is ended by itself (INTERNAL) and harms no other.
"""

import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asyncpg import Connection, Record

from farhand.kernel.flow import ForEach, Task
from farhand.kernel.job_id import execution_id
from farhand.runtime.crash_points import reach
from farhand.runtime.telemetry import sampled
from farhand.scheduler.core.declared import Declared
from farhand.scheduler.core.execution import Begin, BeginAgain, ExecutionState
from farhand.scheduler.core.preparation import (
    NAMED_OUTPUTS_LIMIT,
    Prepared,
    choose_branch,
    loop_values,
    outputs_too_large,
    prepare,
    too_large,
)
from farhand.scheduler.core.task_run import Refused, RunId
from farhand.scheduler.loops.enqueue import FALLBACK_LETTER, refusal_of
from farhand.scheduler.loops.flows import Flows
from farhand.scheduler.loops.kills import KILLED
from farhand.scheduler.loops.moving import AGAIN, Moving, Queued
from farhand.scheduler.loops.named_outputs import Named
from farhand.scheduler.store.executions import (
    Locked,
    MarkedKill,
    RunRow,
    add_due,
    allot_run_keys,
    insert_runs,
    kill_jobs,
    lock_executions,
    mark_rounds_over,
    move_executions,
    put_loop_values,
    read_definitions,
    read_output_sizes,
    read_outputs,
    read_round_values,
    read_runs,
    read_runs_over,
    take_due,
    update_runs,
)
from farhand.scheduler.store.groups import EncodeLog, Ending, end_waiting
from farhand.scheduler.store.places import executions_that_wait, free_places
from farhand.scheduler.store.queue import LaneName, Lanes, NewJob, allot_keys, apply_fallbacks, insert_jobs
from farhand.scheduler.store.sql import SQL
from farhand.scheduler.store.tenant_quotas import queue_room

log = logging.getLogger(__name__)

GRACE_MS = 10_000  # from TERM to KILL, for what an execution's end kills
_UNKNOWN = {"NOT_FOUND": "UNKNOWN_WORKER_GROUP"}


@dataclass
class Stepped:
    """What a batch came to, for those who are to be told."""

    executions: list[int] = field(default_factory=list)  # that were looked at
    groups: set[str] = field(default_factory=set)  # in which jobs wait
    ended: list[int] = field(default_factory=list)  # jobs that ended without a worker
    killed: list[MarkedKill] = field(default_factory=list)  # jobs that workers are to end
    ask: set[int] = field(default_factory=set)  # executions for which the registry is to be asked
    over: list[tuple[Locked, str]] = field(default_factory=list)  # executions that ended, and how
    mistakes: "list[Mistake]" = field(default_factory=list)  # steps of ours that failed


_Need = tuple[Moving, Begin | BeginAgain, dict[str, Named]]  # whose outputs are to be read


class Mistake:
    """A step that failed by a mistake of ours: what its execution says, and what the log says under the same id."""

    def __init__(self, execution: int, error: BaseException) -> None:
        self._id = secrets.token_hex(4)
        self._execution = execution
        self._error = error
        self.message = f"The scheduler failed in a step of this execution. Its log says how, under the id {self._id}."

    def log(self) -> None:
        """Say so, once it is committed: a batch may be begun anew."""
        log.error(
            "a step of an execution failed; the execution ends",
            extra={"id": self._id, "execution": execution_id(self._execution)},
            exc_info=self._error,
        )


class LanesMissing(Exception):
    """The batch needs lanes that are not known; nothing was changed."""

    def __init__(self, names: set[LaneName]) -> None:
        super().__init__(f"{len(names)} lanes are to be made first")
        self.names = names


class Stepping:
    """See the module. `payload_limit`: bytes of a serialized task."""

    def __init__(
        self,
        declared: Callable[[], Declared],
        *,
        writer: str,
        encode_log: EncodeLog,
        encode_task: Callable[[Prepared], bytes],
        decode_outputs: Callable[[bytes], Mapping[str, Any]],
        payload_limit: int,
    ) -> None:
        self._declared = declared
        self._writer = writer
        self._encode_log = encode_log
        self._encode_task = encode_task
        self._decode_outputs = decode_outputs
        self._payload_limit = payload_limit
        self._lanes = Lanes()
        self._flows = Flows()

    async def write(
        self, connection: Connection, keys: Sequence[int], asked: Collection[int] = (), *, abandon: str = ""
    ) -> Stepped:
        """Step these executions, as far as nobody else does, in one transaction. `asked`: those for which the registry
        was asked. `abandon`: end them, with this message, instead. Raises what asyncpg raises: nothing was changed."""
        while True:
            try:
                return await self._write(connection, keys, asked, abandon)
            except LanesMissing as missing:
                await self._lanes.ids(connection, missing.names)

    async def _write(
        self, connection: Connection, keys: Sequence[int], asked: Collection[int], abandon: str
    ) -> Stepped:
        async with connection.transaction():
            locked = await lock_executions(connection, keys)
            if not locked:
                return Stepped()
            reach("execution locked")
            held = [execution.key for execution in locked]
            await take_due(connection, held)
            runs = await read_runs(connection, held)
            locked = await _with_turns(connection, locked)
            moving = [Moving(execution, runs[execution.key], execution.key in asked) for execution in locked]
            mistakes: list[Mistake] = []
            groups: dict[str, Record] = {}
            if abandon:
                for one in moving:
                    one.abandon(abandon)
            else:
                await self._load_plans(connection, moving, mistakes)
                groups = await self._advance(connection, moving, mistakes)
                await self._keep_to_quotas(connection, moving, groups, mistakes)
            stepped = await self._put(connection, moving, groups)
            stepped.mistakes = mistakes
            reach("step written")
        reach("step committed")
        for mistake in stepped.mistakes:
            mistake.log()
        self._flows.trim()
        return stepped

    # ── what follows, in memory ──

    async def _load_plans(self, connection: Connection, moving: Sequence[Moving], mistakes: list[Mistake]) -> None:
        declared = self._declared()
        missing = self._flows.missing(one.locked.flow_key for one in moving)
        wrong = self._flows.put(await read_definitions(connection, missing), declared) if missing else {}
        for one in moving:
            try:
                if error := wrong.get(one.locked.flow_key):
                    raise error
                one.plan = self._flows.plan(one.locked.flow_key, declared)
            except Exception as error:
                mistakes.append(_give_up(one, error))

    async def _advance(
        self, connection: Connection, moving: Sequence[Moving], mistakes: list[Mistake]
    ) -> dict[str, Record]:
        """Do what follows for each, until nothing does. Answers the groups that the new jobs need, locked."""
        groups: dict[str, Record] = {}
        active = [one for one in moving if one.plan is not None]
        while active:
            begins: list[tuple[Moving, Begin | BeginAgain]] = []
            for one in active:
                try:
                    begins += [(one, begin) for begin in one.advance()]
                except Exception as error:
                    mistakes.append(_give_up(one, error))
            await self._give_keys(connection, moving)
            await self._begin(connection, begins, mistakes)
            wanted = {queued.job.group_uid for one in moving for queued in one.jobs.values()} - groups.keys()
            if wanted:
                rows = await connection.fetch(SQL["lock_groups_for_enqueue"], sorted(wanted))
                groups |= {row["uid"]: row for row in rows}
            refused = [one for one in moving if _refuse_forbidden(one, groups)]
            again = {one.key: one for one in (*(one for one, _ in begins), *refused)}
            active = [one for one in again.values() if one.plan is not None]
        return groups

    async def _keep_to_quotas(
        self,
        connection: Connection,
        moving: Sequence[Moving],
        groups: Mapping[str, Record],
        mistakes: list[Mistake],
    ) -> None:
        """Jobs that find no room in their queues stay outside of them (P13). Their task runs are tried again; who is
        first then is first, whoever waited longer."""
        wanted = {(queued.job.group_uid, queued.job.tenant) for one in moving for queued in one.jobs.values()}
        room = await queue_room(connection, groups, wanted)
        if not room:
            return
        for one in moving:
            full = {
                run: error
                for run, queued in one.jobs.items()
                if (error := room.take(queued.job.group_uid, queued.job.tenant)) is not None
            }
            for run, error in full.items():
                one.held_back(run, error.reason, f"{error.message} It is tried again every {AGAIN.seconds} seconds.")
            try:
                begins = one.advance() if full else []
                assert not begins, "what is not queued ends nothing, so nothing follows but its timer"
            except Exception as error:
                mistakes.append(_give_up(one, error))

    async def _give_keys(self, connection: Connection, moving: Sequence[Moving]) -> None:
        new = [(one, id) for one in moving for id in one.without_key()]
        for (one, run), key in zip(new, await allot_run_keys(connection, len(new)), strict=True):
            one.keys[run] = key

    async def _begin(
        self,
        connection: Connection,
        begins: Sequence[tuple[Moving, Begin | BeginAgain]],
        mistakes: list[Mistake],
    ) -> None:
        await self._read_rounds_over(connection, begins)
        values = await self._read_values(connection, begins)
        needs: list[_Need] = [(one, begin, one.named(begin.run)) for one, begin in begins]
        jobs = sorted({job for _, _, named in needs for each in named.values() for _, job in each.jobs})
        sizes = await read_output_sizes(connection, jobs) if jobs else {}
        declared = self._declared()
        for portion in _portions(needs, sizes):
            wanted = {job for _, _, named in portion for each in named.values() for _, job in each.jobs if job in sizes}
            stored = await read_outputs(connection, sorted(wanted)) if wanted else {}
            decoded = {key: self._decode_outputs(outputs) for key, outputs in stored.items()}
            for one, begin, named in portion:
                try:
                    outputs = {task_id: each.filled(decoded) for task_id, each in named.items()}
                    self._prepare(one, begin, outputs, values.get((one.key, begin.run), ()), declared)
                except Exception as error:
                    mistakes.append(_give_up(one, error))

    async def _read_rounds_over(
        self, connection: Connection, begins: Sequence[tuple[Moving, Begin | BeginAgain]]
    ) -> None:
        """The task runs of rounds that are over, where what begins names the outputs of a whole loop."""
        wanted: dict[int, tuple[Moving, set[str]]] = {}
        for one, begin in begins:
            assert one.plan is not None
            if names := one.outputs.to_read(one.plan, begin.run.task_id):
                wanted.setdefault(one.key, (one, set()))[1].update(names)
        if not wanted:
            return
        pairs = [(key, name) for key, (_, names) in wanted.items() for name in sorted(names)]
        found = await read_runs_over(connection, pairs)
        for key, (one, names) in wanted.items():
            one.outputs.add_over(names, found[key])

    async def _read_values(
        self, connection: Connection, begins: Sequence[tuple[Moving, Begin | BeginAgain]]
    ) -> dict[tuple[int, RunId], list[Any]]:
        """The values of the rounds that things begin in, where their expressions name them."""
        around = {(one.key, begin.run): (one, one.rounds_around(begin.run)) for one, begin in begins}
        unknown = sorted(
            {
                (one.keys[loop], number)
                for one, rounds in around.values()
                for loop, number in rounds
                if loop not in one.values
            }
        )
        stored = await read_round_values(connection, unknown) if unknown else {}
        return {
            which: [
                one.values[loop][number] if loop in one.values else stored[one.keys[loop], number]
                for loop, number in rounds
            ]
            for which, (one, rounds) in around.items()
        }

    def _prepare(
        self,
        one: Moving,
        begin: Begin | BeginAgain,
        outputs: Mapping[str, Mapping[str, Any]],
        values: Sequence[Any],
        declared: Declared,
    ) -> None:
        if one.plan is None:
            return  # it was given up for another of its task runs
        run, facts = begin.run, one.facts(begin.run, outputs, values)
        if not isinstance(begin.task, Task):
            found = (loop_values if isinstance(begin.task, ForEach) else choose_branch)(one.plan, facts)
            if isinstance(found, Refused):
                one.refused(run, found)
            elif isinstance(found, str):
                one.branched(run, found)
            else:
                one.looped(run, found)
            return
        prepared = prepare(one.plan, facts, declared)
        if isinstance(prepared, Refused):
            one.refused(run, prepared)
            return
        task = self._encode_task(prepared)
        if len(task) > self._payload_limit:
            one.refused(run, too_large(len(task), self._payload_limit, prepared))
            return
        traceparent = one.locked.traceparent
        job = NewJob(
            prepared.placement.group_uid,
            one.locked.tenant,
            prepared.type,
            FALLBACK_LETTER[prepared.placement.fallback],
            prepared.max_deliveries,
            one.locked.namespace,
            traceparent if traceparent and sampled(traceparent) else None,
            task,
            one.key if prepared.holds_secrets else None,
        )
        one.queued(run, Queued(job, prepared))

    # ── what is written ──

    async def _put(self, connection: Connection, moving: Sequence[Moving], groups: Mapping[str, Record]) -> Stepped:
        new = [(one, run, queued.job) for one in moving for run, queued in one.jobs.items()]
        names = {(job.group_uid, job.tenant, job.task_type) for _, _, job in new}
        if missing := self._lanes.missing(names):
            raise LanesMissing(missing)
        lane_of = await self._lanes.ids(connection, names)
        keys = await allot_keys(connection, len(new))
        job_keys: dict[int, dict[RunId, int]] = {one.key: {} for one in moving}
        for (one, run, _), key in zip(new, keys, strict=True):
            job_keys[one.key][run] = key
        await self._put_runs(connection, moving, job_keys)

        stepped = Stepped(
            executions=[one.key for one in moving],
            groups={job.group_uid for _, _, job in new},
            ask={one.key for one in moving if one.ask},
            over=[(one.locked, one.execution.state.value) for one in moving if one.ended],
        )
        if new:
            jobs = [job for _, _, job in new]
            lanes = [lane_of[job.group_uid, job.tenant, job.task_type] for job in jobs]
            await insert_jobs(connection, keys, lanes, jobs, self._writer)
            stepped.ended += await apply_fallbacks(
                connection,
                list(zip(lanes, keys, jobs, strict=True)),
                {uid: row["key"] for uid, row in groups.items()},
                self._writer,
                self._encode_log,
            )
        await self._end_jobs(connection, moving, job_keys, stepped)
        await move_executions(connection, [row for one in moving if (row := one.moved()) is not None])
        await add_due(connection, [(one.key, at) for one in moving for at in one.wakes])
        if stepped.over:
            stepped.executions += await free_places(connection, sorted(one.key for one, _ in stepped.over))
            reach("places given")
        return stepped

    async def _put_runs(
        self, connection: Connection, moving: Sequence[Moving], job_keys: Mapping[int, Mapping[RunId, int]]
    ) -> None:
        made: list[RunRow] = []
        changed: list[RunRow] = []
        for one in moving:
            new, old = one.rows(job_keys[one.key])
            made += new
            changed += old
        await insert_runs(connection, made)
        await update_runs(connection, changed)
        loops = [(one.keys[run], values) for one in moving for run, values in one.values.items()]
        if loops:
            await put_loop_values(connection, loops)
        await mark_rounds_over(connection, [key for one in moving for key in one.over()])

    async def _end_jobs(
        self,
        connection: Connection,
        moving: Sequence[Moving],
        job_keys: Mapping[int, Mapping[RunId, int]],
        stepped: Stepped,
    ) -> None:
        kill: list[int] = []
        overdue: dict[tuple[str, str], list[int]] = {}
        for one in moving:
            known = {found.run.id: found.job_key for found in one.found if found.job_key is not None}
            known |= job_keys[one.key]
            kill += [known[run] for run in one.kills]
            for late in one.overdue:
                overdue.setdefault((late.reason, late.message), []).append(known[late.run])
        if kill:
            ended, marked = await kill_jobs(connection, kill, GRACE_MS, KILLED, self._writer)
            stepped.ended += ended
            stepped.killed += marked
            reach("execution kill marked")
        for (reason, message), keys in overdue.items():
            places = [
                (row["lane_id"], row["key"]) for row in await connection.fetch(SQL["places_of_jobs"], sorted(keys))
            ]
            ending = Ending("FAILED", reason, message, self._encode_log(message))
            stepped.ended += await end_waiting(connection, places, ending, self._writer)


async def _with_turns(connection: Connection, locked: Sequence[Locked]) -> list[Locked]:
    """These executions, with what is true now of those that have not begun: whether they wait for their turn."""
    new = [one.key for one in locked if one.execution.state is ExecutionState.CREATED]
    waiting = await executions_that_wait(connection, new) if new else set()
    return [replace(one, execution=replace(one.execution, waits=True)) if one.key in waiting else one for one in locked]


def _portions(needs: Sequence[_Need], sizes: Mapping[int, int]) -> Iterator[list[_Need]]:
    """The needs in their order, so many at a time that their outputs fit into memory; those that need too much by
    themselves are refused and left out. `sizes`: bytes of outputs, by their jobs."""
    portion: list[_Need] = []
    held = 0
    for one, begin, named in needs:
        size_of = {task_id: sum(sizes.get(job, 0) for _, job in each.jobs) for task_id, each in named.items()}
        if (refused := outputs_too_large(size_of)) is not None:
            one.refused(begin.run, refused)
            continue
        size = sum(size_of.values())
        if portion and held + size > NAMED_OUTPUTS_LIMIT:
            yield portion
            portion, held = [], 0
        portion.append((one, begin, named))
        held += size
    if portion:
        yield portion


def _give_up(one: Moving, error: Exception) -> Mistake:
    """End an execution of which a step failed."""
    mistake = Mistake(one.key, error)
    one.plan = None
    one.abandon(mistake.message)
    return mistake


def _refuse_forbidden(one: Moving, groups: Mapping[str, Record]) -> bool:
    """Take back jobs whose group, as it is under its lock, does not take them. Answers whether there were any."""
    forbidden = [
        (run, error)
        for run, queued in one.jobs.items()
        if (error := refusal_of(groups.get(queued.job.group_uid), queued.job.tenant)) is not None
    ]
    for run, error in forbidden:
        reason = _UNKNOWN.get(error.reason, error.reason)
        one.refused(run, Refused(reason, error.message, ask_registry=True))
    return bool(forbidden)
