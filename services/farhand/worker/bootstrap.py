"""Wires the worker: settings → folder → warden and agent → link, as siblings in one TaskGroup."""

import asyncio
import importlib.metadata
import logging
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from farhand.api.worker.v1 import session_pb2
from farhand.kernel.names import group_label
from farhand.kernel.protocol import PROTOCOL_VERSION
from farhand.runtime.crash_points import reach
from farhand.runtime.service import Lifecycle
from farhand.worker.agent import Agent, boottime
from farhand.worker.core.lease import Lease
from farhand.worker.core.pressure import Pressure
from farhand.worker.core.slots import Slots
from farhand.worker.data_folder import DataFolder
from farhand.worker.environment import for_jobs
from farhand.worker.file_cache import FileCache
from farhand.worker.file_transfers import FileTransfers
from farhand.worker.link import Link
from farhand.worker.log_sender import LogSender
from farhand.worker.results import ResultJournal
from farhand.worker.run_files import WorkerFiles
from farhand.worker.runners import registry as runners
from farhand.worker.runners.batch.runner import BatchRunner
from farhand.worker.runners.docker import DockerRunner
from farhand.worker.runners.kubernetes.runner import KubernetesRunner
from farhand.worker.settings import WorkerSettings
from farhand.worker.shutdown import shut_down
from farhand.worker.spans import spans
from farhand.worker.tasks import registry
from farhand.worker.undo_notes import UndoNotes
from farhand.worker.warden_client import WardenProcessControl

if TYPE_CHECKING:
    from farhand.api.worker.v1.file_service_pb2_grpc import FileServiceAsyncStub
    from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceAsyncStub

log = logging.getLogger(__name__)


async def serve(lifecycle: Lifecycle, settings: WorkerSettings) -> None:
    """Be a worker until stopped. Raises StartupError where that can't begin."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(DataFolder.open(settings.data, settings.worker_group))
        worker_id = folder.worker_id(settings.worker_id)
        undo_notes = UndoNotes(folder.undo)
        nothing_left = await asyncio.to_thread(undo_notes.carry_out)
        incarnation, dead = folder.enter()
        if not nothing_left:
            # What an earlier worker began elsewhere may go on, so its jobs wait for the end of its lease.
            dead = []
        reach("incarnation noted")
        journal = ResultJournal(folder.journal)
        stack.callback(journal.close)
        environment = dict(os.environ)
        docker = DockerRunner(
            environment,
            socket=settings.docker_socket,
            patience=settings.docker_timeout,
            allow_volumes=settings.docker_allow_volumes,
        )
        task_runners = runners.load(environment, [docker, KubernetesRunner(environment), BatchRunner(environment)])
        tasks = registry.load(task_runners)

        async def connected() -> "WorkerServiceAsyncStub":
            return await link.connected()

        async def connected_files() -> "FileServiceAsyncStub":
            return await link.connected_files()

        files = WorkerFiles(FileTransfers(connected_files), FileCache(folder.files, settings.file_cache))
        logs = LogSender(folder.logs, settings.max_log_bytes, connected)
        agent = Agent(
            Slots(settings.slots, journal.unsettled),
            Lease(),
            tasks,
            folder,
            journal,
            logs,
            launch=lambda: WardenProcessControl.launch(folder.lock),
            process_runner=task_runners.process,
            undo_notes=undo_notes,
            spans=spans(worker_id, settings.worker_group),
            pressure=Pressure(settings.min_disk, settings.min_memory),
            files=files,
            envs=for_jobs(environment),
        )

        def accepted(address: str) -> None:
            reach("dead reported")
            folder.forget_all_but(incarnation)
            lifecycle.ready(worker=worker_id, worker_group=group_label(settings.worker_group), scheduler=address)

        link = Link(
            settings.scheduler,
            settings,
            agent,
            session_pb2.Hello(
                protocol_version=PROTOCOL_VERSION,
                worker_id=worker_id,
                incarnation=incarnation.id,
                worker_group=settings.worker_group,
                slots=settings.slots,
                task_types=tasks.names + task_runners.foreign,
                host=socket.gethostname(),
                version=importlib.metadata.version("farhand"),
                boot_id=incarnation.boot_id,
                dead_incarnations=dead,
            ),
            clock=boottime,
            on_first_welcome=accepted,
        )
        await agent.open()
        stack.push_async_callback(agent.close)
        async with asyncio.TaskGroup() as siblings:
            background = [
                siblings.create_task(asyncio.to_thread(folder.remove_leftovers), name="leftovers"),
                siblings.create_task(agent.keep_warden(), name="warden"),
                siblings.create_task(undo_notes.keep_trying(), name="undo"),
                siblings.create_task(agent.watch_lease(), name="lease"),
                siblings.create_task(link.run(), name="link"),
                siblings.create_task(logs.run(), name="logs"),
            ]
            await lifecycle.stopping.wait()
            await shut_down(agent, link, logs, settings.drain_timeout)
            for task in background:
                task.cancel()
    log.info("stopped")
