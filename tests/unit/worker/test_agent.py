"""The agent with a clock and a process of the test's own: what a lease does to runs, at the moments that matter."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest

from farhand.api.types.v1 import task_pb2
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.worker.agent import Agent
from farhand.worker.core.lease import Lease
from farhand.worker.core.pressure import Pressure
from farhand.worker.core.slots import Phase, Slots
from farhand.worker.data_folder import DataFolder
from farhand.worker.file_cache import FileCache
from farhand.worker.file_transfers import FileTransfers
from farhand.worker.log_sender import LogSender
from farhand.worker.outbox import Outbox
from farhand.worker.process_control import ProcessEnd
from farhand.worker.results import ResultJournal
from farhand.worker.run_files import WorkerFiles
from farhand.worker.runners.process import ProcessRunner
from farhand.worker.spans import NoSpans
from farhand.worker.tasks.base import SUCCESS, Outcome, TaskContext
from farhand.worker.tasks.noop import Noop
from farhand.worker.tasks.registry import TaskTypes
from farhand.worker.undo_notes import UndoNotes

KEY = ("job-1", 1)


class Waits:
    """A task without a process, that ends when the test says so."""

    type: ClassVar[str] = "test.Waits"

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    def validate(self, properties: Any) -> list[Any]:
        return []

    async def run(self, context: TaskContext) -> Outcome:
        self.begun.set()
        await self.may_end.wait()
        return SUCCESS


class Runs:
    """A task with a process."""

    type: ClassVar[str] = "test.Runs"

    def validate(self, properties: Any) -> list[Any]:
        return []

    async def run(self, context: TaskContext) -> Outcome:
        await context.run_process(["x"], env={})
        return SUCCESS


class FakeProcess:
    """A RunningProcess that ends when and how the test says."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()
        self._end: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()

    def ends(self, *, fenced: bool) -> None:
        self.stdout.feed_eof()
        self.stderr.feed_eof()
        self._end.set_result(ProcessEnd(-9 if fenced else 0, fenced))

    async def wait(self) -> ProcessEnd:
        return await asyncio.shield(self._end)

    async def kill(self, grace: float) -> None:
        """The warden's affair."""


class FakeControl:
    def __init__(self, process: FakeProcess) -> None:
        self.process = process
        self.dead = asyncio.Event()
        self.deadlines: list[float] = []

    async def start(self, spec: Any) -> FakeProcess:
        self.process.started.set()
        return self.process

    async def set_deadline(self, boottime: float) -> None:
        self.deadlines.append(boottime)

    async def close(self) -> None:
        self.dead.set()


class Bench:
    """An agent and all that is around it. The lease is 60 s from 0, so the deadline 54."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.waits = Waits()
        self.process = FakeProcess()
        self.control = FakeControl(self.process)
        data = DataFolder.open(folder / "w", "")

        async def never() -> NoReturn:
            await asyncio.Event().wait()
            raise AssertionError

        async def launch() -> FakeControl:
            return self.control

        self.agent = Agent(
            Slots(2),
            Lease(),
            TaskTypes([Noop(), self.waits, Runs()]),
            data,
            ResultJournal(data.journal),
            LogSender(data.logs, 1_000, never),
            launch=launch,
            process_runner=ProcessRunner({}),
            undo_notes=UndoNotes(data.undo),
            spans=NoSpans(),
            pressure=Pressure(0, 0),
            files=WorkerFiles(FileTransfers(never), FileCache(data.files, 0)),
            envs={},
            clock=lambda: self.now,
        )

    async def renew(self) -> None:
        self.agent.lease.renew(self.now, 60.0)
        await self.agent.lease_moved()

    def assign(self, type: str) -> None:
        self.agent.assigned([pb.Assignment(job_id="job-1", fence=1, task=task_pb2.Task(type=type))])

    async def becomes(self, phase: Phase) -> None:
        async with asyncio.timeout(10):
            await self.agent.until(lambda: self.agent.slots.phase(KEY) is phase)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    it = Bench(tmp_path)
    await it.agent.open()
    await it.agent.begin()
    await it.renew()
    it.agent.welcomed([], Outbox(lambda: pb.ConnectRequest()))
    yield it
    await it.agent.close()


async def test_the_warden_knows_the_deadline_before_anything_runs(bench: Bench) -> None:
    assert bench.control.deadlines == [54.0]


async def test_a_task_without_a_process_that_ends_in_time_has_a_result(bench: Bench) -> None:
    bench.assign(Waits.type)
    await bench.waits.begun.wait()
    bench.now = 53.9
    bench.waits.may_end.set()
    await bench.becomes(Phase.FINISHED)


async def test_one_that_ends_after_the_deadline_has_none_even_if_nobody_looked_at_the_clock(bench: Bench) -> None:
    bench.assign(Waits.type)
    await bench.waits.begun.wait()
    bench.now = 54.0
    bench.waits.may_end.set()
    await bench.becomes(Phase.SELF_FENCED)
    assert bench.agent.redial.is_set()


async def test_one_that_runs_at_the_deadline_is_ended(bench: Bench) -> None:
    bench.assign(Waits.type)
    await bench.waits.begun.wait()
    bench.now = 54.0
    bench.agent.lease_lost()
    await bench.becomes(Phase.SELF_FENCED)


async def test_a_process_that_ended_before_the_deadline_has_a_result_also_when_we_learn_it_later(bench: Bench) -> None:
    """A worker that was stopped sees the deadline's passing and the process's end in any order."""
    bench.assign(Runs.type)
    await bench.process.started.wait()
    bench.now = 60.0
    bench.agent.lease_lost()
    assert bench.agent.slots.phase(KEY) is Phase.FENCING
    bench.process.ends(fenced=False)
    await bench.becomes(Phase.FINISHED)


async def test_a_process_that_the_warden_killed_has_none(bench: Bench) -> None:
    bench.assign(Runs.type)
    await bench.process.started.wait()
    bench.process.ends(fenced=True)
    await bench.becomes(Phase.SELF_FENCED)


async def test_hello_waits_until_what_is_being_killed_is_dead(bench: Bench) -> None:
    bench.assign(Runs.type)
    await bench.process.started.wait()
    bench.now = 54.0
    bench.agent.lease_lost()
    hello = asyncio.create_task(bench.agent.begin())
    await asyncio.sleep(0)
    assert not hello.done()
    bench.process.ends(fenced=True)
    assert [held.phase for held in await hello] == [pb.HELD_PHASE_SELF_FENCED]


@pytest.mark.parametrize("type", [Noop.type, Waits.type])
async def test_what_comes_after_the_deadline_waits_for_a_new_lease(bench: Bench, type: str) -> None:
    bench.now = 54.0
    bench.assign(type)
    await asyncio.sleep(0)
    assert bench.agent.slots.phase(KEY) is Phase.RECEIVED
    await bench.renew()
    assert bench.agent.slots.phase(KEY) in (Phase.RUNNING, Phase.FINISHED)


async def test_what_had_not_started_at_the_deadline_is_let_go_and_the_scheduler_told(bench: Bench) -> None:
    bench.now = 54.0
    bench.assign(Waits.type)
    bench.agent.lease_lost()
    assert bench.agent.inventory() == []
    assert bench.agent.redial.is_set()


async def test_a_lease_that_runs_out_while_nothing_is_held_disturbs_nobody(bench: Bench) -> None:
    bench.now = 54.0
    bench.agent.lease_lost()
    assert not bench.agent.redial.is_set()


@pytest.mark.parametrize("type", [Noop.type, Waits.type])
async def test_what_an_older_session_left_is_not_started_before_the_verdicts(bench: Bench, type: str) -> None:
    """It came when the lease was over; the welcome brings a new lease, and says that the job was given away."""
    bench.now = 54.0
    bench.assign(type)
    assert [held.phase for held in await bench.agent.begin()] == [pb.HELD_PHASE_RECEIVED]
    await bench.renew()
    assert bench.agent.slots.phase(KEY) is Phase.RECEIVED
    stop = pb.Verdict(job_id="job-1", fence=1, action=pb.VERDICT_ACTION_STOP)
    bench.agent.welcomed([stop], Outbox(lambda: pb.ConnectRequest()))
    assert bench.agent.inventory() == []


async def test_a_cancel_between_a_start_and_its_first_step_is_obeyed(bench: Bench) -> None:
    bench.assign(Waits.type)
    bench.agent.cancelled([pb.CancelJob(job_id="job-1", fence=1)])
    await bench.becomes(Phase.FINISHED)
    assert not bench.waits.begun.is_set()


async def test_the_scheduler_s_word_that_the_lease_is_over_counts_before_the_first_step_too(bench: Bench) -> None:
    bench.assign(Waits.type)
    bench.agent.lease_lost(by_scheduler=True)
    await bench.becomes(Phase.SELF_FENCED)
    assert not bench.waits.begun.is_set()
