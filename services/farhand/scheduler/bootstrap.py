"""Wires the scheduler, top to bottom, and runs it from ready to drained."""

import asyncio
import contextlib
import importlib.metadata
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from farhand.api.scheduler.v1 import (
    execution_service_pb2_grpc,
    group_service_pb2_grpc,
    job_service_pb2_grpc,
    trigger_service_pb2_grpc,
    worker_control_service_pb2_grpc,
)
from farhand.api.worker.v1 import file_service_pb2_grpc, worker_service_pb2_grpc
from farhand.kernel.errors import FarhandError
from farhand.runtime import telemetry
from farhand.runtime.database import connect, database_error, make_engine, wait_until_migrated
from farhand.runtime.door import Door
from farhand.runtime.file_store import open_store
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.grpc_server import add_standard_services, bind, make_server
from farhand.runtime.sealing import load_keyring
from farhand.runtime.security import Tokens
from farhand.runtime.service import Lifecycle
from farhand.scheduler.core.admission import Admission
from farhand.scheduler.core.log import LogLimits
from farhand.scheduler.core.tenant_quotas import bound_running
from farhand.scheduler.loops import tracing
from farhand.scheduler.loops.changes import Changes
from farhand.scheduler.loops.copy import Copy
from farhand.scheduler.loops.deletion import Deletion
from farhand.scheduler.loops.dispatch import Dispatch
from farhand.scheduler.loops.doorbell import Doorbell
from farhand.scheduler.loops.enqueue import Enqueue
from farhand.scheduler.loops.evaluations import Evaluations
from farhand.scheduler.loops.executions import Executions
from farhand.scheduler.loops.flow_source import FlowSource
from farhand.scheduler.loops.forgotten_files import ForgottenFiles
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.janitor import Janitor
from farhand.scheduler.loops.kills import Kills
from farhand.scheduler.loops.leader import Leader
from farhand.scheduler.loops.logs import LogWriter
from farhand.scheduler.loops.places import Places
from farhand.scheduler.loops.reads import JobReads
from farhand.scheduler.loops.rebalance import Rebalance
from farhand.scheduler.loops.repeats import Repeats
from farhand.scheduler.loops.report import Report
from farhand.scheduler.loops.results import Results
from farhand.scheduler.loops.secret_inputs import SecretInputs
from farhand.scheduler.loops.sessions import Sessions
from farhand.scheduler.loops.signals import Signals
from farhand.scheduler.loops.stepping import Stepping
from farhand.scheduler.loops.steps import Steps
from farhand.scheduler.loops.stream import Streams
from farhand.scheduler.loops.trigger_orders import TriggerOrders
from farhand.scheduler.loops.triggered_flows import TriggeredFlows
from farhand.scheduler.loops.triggers import Triggers
from farhand.scheduler.loops.upkeep import Upkeep
from farhand.scheduler.rpc.access import ACCESS, LENIENT, SERVICE_NAMES
from farhand.scheduler.rpc.append_logs import AppendLogs
from farhand.scheduler.rpc.declared_groups import DeclaredGroups
from farhand.scheduler.rpc.execution_service import ExecutionRooms, ExecutionServicer
from farhand.scheduler.rpc.execution_tails import ExecutionTails
from farhand.scheduler.rpc.execution_watching import ExecutionWatching
from farhand.scheduler.rpc.execution_wire import decode_outputs, encode_task
from farhand.scheduler.rpc.explanations import Explanations
from farhand.scheduler.rpc.file_reads import FileReads
from farhand.scheduler.rpc.file_service import FileService
from farhand.scheduler.rpc.group_service import GroupServicer
from farhand.scheduler.rpc.hello import Welcomer
from farhand.scheduler.rpc.job_service import JobServicer, Rooms
from farhand.scheduler.rpc.namespace_files import NamespaceFiles
from farhand.scheduler.rpc.submits import Submits
from farhand.scheduler.rpc.tails import Tails
from farhand.scheduler.rpc.trigger_service import TriggerServicer
from farhand.scheduler.rpc.visible_executions import VisibleExecutions
from farhand.scheduler.rpc.visible_jobs import VisibleJobs
from farhand.scheduler.rpc.watching import Poll, Watching
from farhand.scheduler.rpc.wire import encode_status, system_line
from farhand.scheduler.rpc.worker_control_service import WorkerControlService
from farhand.scheduler.rpc.worker_service import WorkerService
from farhand.scheduler.settings import SchedulerSettings
from farhand.scheduler.store.reading import Reading

DEFAULT_LEASE_MS = 60_000  # of a group that this replica has not heard of yet


def encode_log(text: str) -> bytes:
    """A line by the scheduler, as a log chunk."""
    return system_line(text, time.time_ns())


async def serve(lifecycle: Lifecycle, settings: SchedulerSettings) -> None:
    """Run one replica until it is asked to stop."""
    url, replica = settings.database_url, f"scheduler-{secrets.token_hex(4)}"
    tokens = Tokens.load(settings.tokens) if settings.tokens else None
    door = Door()
    server = make_server(settings, tokens, ACCESS, translate=_translate, lenient=LENIENT, door=door)
    files = open_store(settings.files or str(default_files()))
    secret_inputs = SecretInputs(load_keyring(settings))
    address = await bind(server, settings)
    await wait_until_migrated(url, lifecycle, "farhand.scheduler", "scheduler")

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(files.close)
        engine = make_engine(url)
        stack.push_async_callback(engine.dispose)
        pool = await stack.enter_async_context(_pool(url))
        channel = await stack.enter_async_context(make_channel(settings.registry, settings))
        reading = Reading(engine)

        def hot() -> HotConnection:
            connection = HotConnection(url)
            stack.push_async_callback(connection.close)
            return connection

        streams, changes = Streams(), Changes()
        signals = Signals(changes, streams)
        copy = Copy(
            hot(),
            channel,
            settings.registry,
            writer=f"{replica}/copy",
            encode_log=encode_log,
            on_change=signals.groups_changed,
            on_ended=signals.jobs_ended,
            on_triggers=signals.triggers_declared,
        )

        def lease_of(group_uid: str) -> int:
            group = copy.declared.groups_by_uid.get(group_uid)
            return group.lease_ms if group else DEFAULT_LEASE_MS

        signals.doorbell = Doorbell(url, replica, signals.heard)
        signals.dispatch = Dispatch(
            hot(),
            streams,
            secret_inputs,
            writer=f"{replica}/dispatch",
            encode_log=encode_log,
            on_assigned=signals.jobs_changed,
            on_ended=signals.jobs_ended,
        )
        signals.sessions = Sessions(
            pool,
            hot(),
            streams,
            signals,
            lease_of,
            writer=f"{replica}/sessions",
            encode_log=encode_log,
        )
        signals.kills = Kills(pool, streams, changes, signals, writer=f"{replica}/kills")
        signals.refresh_copy = copy.refresh

        def bounds_running(group_uid: str) -> bool:
            group = copy.declared.groups_by_uid.get(group_uid)
            return group is not None and bound_running(group.quotas)

        signals.bounds_running = bounds_running
        enqueue = Enqueue(
            hot(),
            copy,
            signals,
            writer=f"{replica}/enqueue",
            encode_log=encode_log,
            encode_status=encode_status,
        )
        stepping = Stepping(
            lambda: copy.declared,
            writer=f"{replica}/steps",
            encode_log=encode_log,
            encode_task=encode_task,
            decode_outputs=decode_outputs,
            payload_limit=settings.max_payload,
        )
        steps = Steps(hot(), stepping, copy, signals)
        signals.wake_steps = steps.wake
        flow_source = FlowSource(channel)
        evaluations = Evaluations(
            lambda: copy.declared,
            writer=f"{replica}/triggers",
            encode_log=encode_log,
            encode_task=encode_task,
            decode_outputs=decode_outputs,
            payload_limit=settings.max_payload,
        )
        triggers = Triggers(hot(), evaluations, signals)
        signals.wake_triggers = triggers.wake
        triggered_flows = TriggeredFlows(hot(), flow_source, lambda: copy.declared, signals.trigger_due)
        signals.wake_triggered_flows = triggered_flows.wake
        results = Results(
            hot(),
            hot(),
            writer=f"{replica}/results",
            on_ended=signals.jobs_changed,
            on_started=signals.jobs_changed,
            on_due=signals.wake_steps,
            on_room=signals.room_made,
            on_trigger_due=signals.wake_triggers,
            on_recorded=tracing.recorded,
        )
        logs = LogWriter(
            hot(),
            LogLimits(
                settings.max_log,
                encode_log(f"The log is cut here: the scheduler keeps {settings.max_log:,} bytes of one run."),
            ),
            signals.log_grew,
        )
        reads = JobReads(reading)
        jobs = VisibleJobs(reads)
        poll = Poll(random.random)
        janitor = Janitor(signals.sessions, signals.kills)
        deletion = Deletion(
            hot(),
            channel,
            signals.kills,
            writer=f"{replica}/deletion",
            encode_log=encode_log,
            on_ended=signals.jobs_ended,
        )

        workers = WorkerService(
            Welcomer(copy, lease_of, replica=replica, version=importlib.metadata.version("farhand")),
            signals.sessions,
            streams,
            results,
            signals.kills,
            AppendLogs(logs),
            signals.dispatch.wake,
            Admission(settings.admit_rate, settings.max_workers),
        )

        def groups_changed(groups: frozenset[str]) -> None:
            deletion.wake()
            workers.groups_changed(groups, copy.declared.groups_by_uid)

        signals.on_groups = groups_changed
        rebalance = Rebalance(
            streams,
            signals.sessions,
            lambda count: signals.doorbell.ring(streams=count),
            age=settings.session_age,
        )
        signals.on_word = rebalance.heard
        rooms = Rooms(
            submits=Submits(enqueue, telemetry.tracer(), payload_limit=settings.max_payload),
            jobs=jobs,
            groups=DeclaredGroups(copy),
            kills=signals.kills,
            watching=Watching(jobs, changes, poll),
            tails=Tails(jobs, reading, changes, poll),
            explanations=Explanations(jobs, reading),
            reading=reading,
        )
        executions = VisibleExecutions(reading)
        file_reads = FileReads(files)
        execution_rooms = ExecutionRooms(
            orders=Executions(pool, flow_source, changes, signals, secret_inputs),
            repeats=Repeats(pool, flow_source, signals, secret_inputs),
            executions=executions,
            watching=ExecutionWatching(executions, changes, poll),
            tails=ExecutionTails(executions, rooms.tails, changes, poll),
            files=file_reads,
            reading=reading,
        )
        execution_service_pb2_grpc.add_ExecutionServiceServicer_to_server(ExecutionServicer(execution_rooms), server)
        trigger_orders = TriggerOrders(pool, signals.kills, signals)
        trigger_service_pb2_grpc.add_TriggerServiceServicer_to_server(TriggerServicer(trigger_orders, reading), server)
        job_service_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(rooms), server)
        group_service_pb2_grpc.add_GroupServiceServicer_to_server(GroupServicer(rooms.groups, reading), server)
        worker_control_service_pb2_grpc.add_WorkerControlServiceServicer_to_server(
            WorkerControlService(pool, signals.sessions), server
        )
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(workers, server)
        file_service_pb2_grpc.add_FileServiceServicer_to_server(
            FileService(pool, files, file_reads, NamespaceFiles(channel), settings.max_file), server
        )
        health = add_standard_services(server, SERVICE_NAMES)

        for_report, for_upkeep, for_files, for_places = hot(), hot(), hot(), hot()

        async def lead() -> None:
            async with asyncio.TaskGroup() as work:
                work.create_task(Report(for_report, channel).run())
                work.create_task(deletion.run())
                work.create_task(Upkeep(for_upkeep, replica=replica, retention=settings.retention).run())
                work.create_task(ForgottenFiles(for_files, files).run())
                work.create_task(Places(for_places, flow_source, signals.wake_steps).run())

        async with asyncio.TaskGroup() as siblings:
            loops = [
                siblings.create_task(loop)
                for loop in (
                    copy.run(),
                    signals.doorbell.run(),
                    signals.run(),
                    enqueue.commits.run(),
                    results.completions.run(),
                    results.starts.run(),
                    signals.sessions.beats.run(),
                    logs.commits.run(),
                    reads.run(),
                    signals.dispatch.run(),
                    steps.run(),
                    triggered_flows.run(),
                    triggers.run(),
                    janitor.run(),
                    rebalance.run(),
                    Leader(lambda: connect(url)).run_while_leading(lead),
                )
            ]
            while not copy.declared.revision:  # nothing can be placed before the first copy; the loop says so
                await lifecycle.sleep(0.02)
            await server.start()
            lifecycle.ready(address=address, replica=replica)
            await lifecycle.stopping.wait()
            # Drain before stop: off the list, no new claims, then every worker is sent on and left the time to go,
            # then the calls end.
            await health.enter_graceful_shutdown()
            signals.dispatch.stop()
            await signals.dispatch.settled()
            until = time.monotonic() + settings.drain_timeout
            await workers.send_away(settings.drain_timeout)
            await door.close()
            await server.stop(max(1.0, until - time.monotonic()))
            for loop in loops:
                loop.cancel()


def default_files() -> Path:
    """Where output files are kept unless it is said: good for one machine."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "farhand" / "files"


@contextlib.asynccontextmanager
async def _pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections for what is rare: sessions, kills, the janitor."""

    async def dial(*_: object, **__: object) -> asyncpg.Connection:
        return await connect(url, hot=True)

    # None is made before it is needed: the database may be away just now.
    pool = asyncpg.create_pool(url, min_size=0, max_size=6, connect=dial)
    await pool
    try:
        yield pool
    finally:
        pool.terminate()


def _translate(error: BaseException) -> FarhandError | None:
    return database_error(error)
