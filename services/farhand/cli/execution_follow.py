"""Following an execution to its end: a live tree of its tasks, their logs, and why those wait that do.

On a terminal the tree stands below the logs and moves; else each change of a task is a
line on stderr. Log lines go to stdout with their task before them. Both streams
begin again after a scheduler's restart or a cut, for ever: the execution goes on meanwhile.
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from farhand.cli.backoff import Backoff
from farhand.cli.execution_tree import Branch, crowded, run_name, run_state, tree
from farhand.cli.execution_view import (
    ENDED,
    TREE_HEADERS,
    flow_of,
    state_name,
    tree_rows,
    waiting_jobs,
)
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.patience import passes
from farhand.cli.render import state_style
from farhand.cli.session import DEADLINE, Session
from farhand.cli.terminal import log_line, plain
from farhand.kernel.names import group_label

if TYPE_CHECKING:
    import grpc
    from rich.table import Table

    from farhand.api.scheduler.v1.execution_pb2 import Execution
    from farhand.api.scheduler.v1.execution_service_pb2 import TailExecutionLogsResponse
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub

EXPLAIN_EVERY = 2.0  # seconds
LOUD = ("FAILED", "KILLED", "WARNING", "RETRYING")  # what of a long loop's task runs is worth a line


class Screen:
    """Where the tree and the logs go. `quiet`: no tree, no lines about tasks, and the logs go to stderr, for a
    command whose stdout is a document."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._live = None
        self._quiet = quiet
        self._out = sys.stderr if quiet else sys.stdout
        self._said: dict[str, tuple[str, str, str, int]] = {}  # by task run: what the last line told
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=False)
            self._live.start()

    def show(self, execution: "Execution", reasons: dict[str, str]) -> None:
        """The execution as it is now."""
        if self._live is not None:
            self._live.update(_table(execution, reasons))
        elif not self._quiet:
            quiet = crowded(execution)
            for branch in tree(execution):
                if not branch.hidden and (branch.run.id not in quiet or run_state(branch.run.state) in LOUD):
                    self._line(branch, reasons.get(branch.run.job_id, ""))

    def _line(self, branch: Branch, reason: str) -> None:
        run = branch.run
        state = run_state(run.state)
        why = run.message or (reason if state == "CREATED" else "")
        told = (state, run.worker, why, branch.tenths)
        if self._said.get(run.id) == told:
            return
        self._said[run.id] = told
        why = why or branch.rounds
        group = f" in group {group_label(run.worker_group)}" if run.job_id else ""
        worker = f" on {run.worker}" if run.worker and state == "RUNNING" else ""
        name = run_name(run.task_id, run.iteration)
        if run.taken_from:
            worker = f", taken over from {run.taken_from}"
        attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
        line = f"{name}{attempt} {state}{group}{worker}" + (f": {why}" if why else "")
        sys.stderr.write(f"farhand: {plain(line)}\n")
        sys.stderr.flush()

    def log(self, answer: "TailExecutionLogsResponse", skip: int) -> None:
        """Lines of a task's log, less the first `skip`."""
        label = run_name(answer.task_id, answer.iteration, answer.attempt)
        for record in answer.records[skip:]:
            text = f"{plain(label)} | {record.text}"
            if self._live is not None and sys.stdout.isatty():
                from rich.text import Text

                self._live.console.print(Text.from_ansi(log_line(text)), soft_wrap=True)
            else:
                self._out.buffer.write(text.encode(errors="replace") + b"\n")
        self._out.flush()

    def warn(self, text: str) -> None:
        """A line that must not be missed."""
        line = f"farhand: {plain(text)}"
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """The tree stays as it is."""
        if self._live is not None:
            self._live.stop()


class Following:
    """Follows one execution."""

    def __init__(
        self,
        executions: "ExecutionServiceAsyncStub",
        jobs: "JobServiceAsyncStub",
        id: str,
        screen: Screen,
        address: str,
        *,
        backoff: Callable[[], Backoff] = Backoff,
        explain_every: float | None = None,
    ) -> None:
        self._executions = executions
        self._jobs = jobs
        self._id = id
        self._screen = screen
        self._address = address
        self._backoff = backoff
        self._explain_every = EXPLAIN_EVERY if explain_every is None else explain_every
        self._known: Execution | None = None
        self._reasons: dict[str, str] = {}
        self._away = False

    async def to_the_end(self) -> "Execution":
        """The execution as it ended, with its task runs. RpcError if it can't be followed."""
        async with asyncio.TaskGroup() as group:
            logs = group.create_task(self._logs())
            explaining = group.create_task(self._explain())
            ended = await self._watch()
            explaining.cancel()
            await logs
        return ended

    async def _watch(self) -> "Execution":
        import grpc

        from farhand.api.scheduler.v1.execution_service_pb2 import WatchExecutionRequest

        backoff = self._backoff()
        while True:
            try:
                async for answer in self._executions.WatchExecution(WatchExecutionRequest(id=self._id)):
                    backoff.reset()
                    self._back()
                    known = self._known = merged(self._known, answer.execution)
                    self._screen.show(known, self._reasons)
                    if state_name(known.state) in ENDED:
                        return known
            except grpc.RpcError as error:
                self._left(error)
            await backoff.wait()

    async def _logs(self) -> None:
        """Print every line once: a stream that begins again sends what came before, too."""
        import grpc

        from farhand.api.scheduler.v1.execution_service_pb2 import TailExecutionLogsRequest

        printed: dict[tuple[str, int], int] = {}
        backoff = self._backoff()
        while True:
            sent: dict[tuple[str, int], int] = {}
            try:
                tail = self._executions.TailExecutionLogs(TailExecutionLogsRequest(id=self._id, follow=True))
                async for answer in tail:
                    backoff.reset()
                    key = (answer.task_run_id, answer.fence)
                    before = sent.get(key, 0)
                    sent[key] = before + len(answer.records)
                    self._screen.log(answer, max(0, printed.get(key, 0) - before))
                    printed[key] = max(printed.get(key, 0), sent[key])
                    if answer.HasField("execution"):
                        return
            except grpc.RpcError as error:
                self._left(error)
            await backoff.wait()

    async def _explain(self) -> None:
        """Keep the reasons of those that wait, as a courtesy."""
        import grpc

        from farhand.api.scheduler.v1.job_service_pb2 import WAIT_REASON_NOT_WAITING, ExplainJobRequest

        while True:
            await asyncio.sleep(self._explain_every)
            if self._known is None:
                continue
            reasons = {}
            for job_id in waiting_jobs(self._known):
                try:
                    answer = await self._jobs.ExplainJob(ExplainJobRequest(id=job_id), timeout=DEADLINE)
                except grpc.RpcError:
                    continue
                if answer.reason != WAIT_REASON_NOT_WAITING:  # it began or ended meanwhile, as the watch will tell
                    reasons[job_id] = answer.message
            self._reasons = reasons
            self._screen.show(self._known, reasons)

    def _left(self, error: "grpc.RpcError") -> None:
        if not passes(error):
            raise error
        if not self._away:
            reason = remote_failure(error, "scheduler", self._address).message
            self._screen.warn(f"{reason} The execution goes on; trying again.")
        self._away = True

    def _back(self) -> None:
        if self._away:
            self._screen.warn(f"the scheduler at {self._address} answers again")
        self._away = False


async def follow(session: Session, id: str, *, quiet: bool = False) -> "Execution":
    """Follow it until it ends; it as it ended. The first Ctrl-C kills it, the second leaves it to itself."""
    import grpc

    from farhand.api.scheduler.v1.execution_service_pb2 import GetExecutionRequest, KillExecutionRequest
    from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub

    address = session.settings.scheduler
    failure: CommandFailed | None = None
    async with session.scheduler_stream() as channel:
        executions = ExecutionServiceStub(channel)
        try:
            await executions.GetExecution(GetExecutionRequest(id=id), timeout=DEADLINE)
        except grpc.RpcError as error:
            raise remote_failure(error, "scheduler", address) from None
        screen = Screen(quiet=quiet)
        following = asyncio.ensure_future(
            Following(executions, JobServiceStub(channel), id, screen, address).to_the_end()
        )
        kills: list[asyncio.Task[None]] = []

        async def kill() -> None:
            try:
                await executions.KillExecution(KillExecutionRequest(id=id), timeout=DEADLINE)
            except grpc.RpcError as error:
                screen.warn(f"{remote_failure(error, 'scheduler', address).message} It was not killed.")

        def interrupted() -> None:
            if kills:
                following.cancel()
                return
            screen.warn(f"killing execution {id}; Ctrl-C again leaves it to itself")
            kills.append(asyncio.create_task(kill()))

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupted)
        try:
            return await following
        except* asyncio.CancelledError:
            failure = CommandFailed(f"Execution {id} goes on; `farhand execution follow {id}` shows it.", exit_code=130)
        except* grpc.RpcError as errors:
            failure = remote_failure(errors.exceptions[0], "scheduler", address)  # type: ignore[arg-type]
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            screen.close()
    raise failure


def merged(before: "Execution | None", news: "Execution") -> "Execution":
    """What is known after an answer of WatchExecution: the execution, with the task runs that did not change."""
    if before is None:
        return news
    changed = {run.id: run for run in news.task_runs}
    kept = [changed.pop(run.id, run) for run in before.task_runs]
    whole = type(news)()
    whole.CopyFrom(news)
    del whole.task_runs[:]
    whole.task_runs.extend([*kept, *changed.values()])
    return whole


def _table(execution: "Execution", reasons: dict[str, str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    state = state_name(execution.state)
    title = Text(f"{flow_of(execution)} {execution.id} ", style="bold").append(state, style=state_style(state))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0), title=title, title_justify="left")
    for header in TREE_HEADERS:
        table.add_column(header, overflow="ellipsis", no_wrap=True)
    for cells in tree_rows(execution, reasons):
        table.add_row(*(Text(plain(cell), style=state_style(cell)) for cell in cells))
    return table
