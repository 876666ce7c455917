"""Messages that tests don't care about in full."""

import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_ACTIVE, WorkerGroup
from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_pb2 import Job, JobSpec
from farhand.api.scheduler.v1.job_service_pb2 import TailLogsResponse
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDOUT, LogRecord, LogStream
from farhand.api.types.v1.outcome_pb2 import OUTCOME_STATE_FAILED, OUTCOME_STATE_SUCCESS, Outcome
from farhand.api.types.v1.task_pb2 import Task
from farhand.runtime.wire import duration

JOB_ID = "3k8w0q2zr9m1t"
SHELL = "io.kestra.plugin.scripts.shell.Commands"


def at(second: int) -> Timestamp:
    """2026-11-23 12:00 and some seconds."""
    moment = Timestamp()
    moment.FromDatetime(datetime.datetime(2026, 11, 23, 12, 0, second, tzinfo=datetime.UTC))
    return moment


def a_job(state: "job_pb2.JobState.ValueType" = job_pb2.JOB_STATE_CREATED, **fields: Any) -> Job:
    """A job of the tenant main in the group gpu."""
    spec = JobSpec(tenant="main", worker_group="gpu", task=Task(type=SHELL))
    values: dict[str, Any] = {
        "id": JOB_ID,
        "state": state,
        "tenant": "main",
        "worker_group": "gpu",
        "task_type": SHELL,
        "spec": spec,
        "create_time": at(0),
    }
    return Job(**(values | fields))


def an_ended_job(exit_code: int | None = 0, **fields: Any) -> Job:
    """A job that ended with this exit code."""
    well = exit_code == 0
    state = job_pb2.JOB_STATE_SUCCESS if well else job_pb2.JOB_STATE_FAILED
    outcome = Outcome(
        state=OUTCOME_STATE_SUCCESS if well else OUTCOME_STATE_FAILED,
        exit_code=exit_code,
        reason="" if well else "NONZERO_EXIT",
        message="" if well else f"The command ended with exit code {exit_code}.",
        run_duration=duration(1.5),
    )
    values: dict[str, Any] = {"worker": "gpu-1", "assign_time": at(2), "end_time": at(9), "outcome": outcome}
    return a_job(state, **(values | fields))


def lines(
    *texts: str, stream: "LogStream.ValueType" = LOG_STREAM_STDOUT, position: str = "", fence: int = 1
) -> TailLogsResponse:
    """An answer of TailLogs with some lines."""
    records = [LogRecord(time=at(3), stream=stream, text=text) for text in texts]
    return TailLogsResponse(records=records, position=position, fence=fence)


def the_end(job: Job, incomplete: bool = False) -> TailLogsResponse:
    """The last answer of TailLogs with follow."""
    return TailLogsResponse(job=job, incomplete=incomplete)


def a_group(key: str = "gpu", **fields: Any) -> WorkerGroup:
    """A worker group; its uid is its key and "-uid"."""
    values: dict[str, Any] = {
        "key": key,
        "uid": f"{key}-uid",
        "description": "Machines",
        "lease": duration(60),
        "state": WORKER_GROUP_STATE_ACTIVE,
        "etag": "e1",
    }
    return WorkerGroup(**(values | fields))
