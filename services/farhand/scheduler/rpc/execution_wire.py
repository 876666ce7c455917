"""Executions and their tasks as messages of the API, and what a step needs of the wire."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct

from farhand.api.scheduler.v1 import execution_pb2
from farhand.api.types.v1 import fallback_pb2
from farhand.api.types.v1.task_pb2 import Task
from farhand.kernel.job_id import encode, execution_id, task_run_id
from farhand.kernel.resolution import Fallback
from farhand.runtime.telemetry import sampled
from farhand.runtime.wire import plain, timestamp
from farhand.scheduler.core.execution import ExecutionState
from farhand.scheduler.core.execution_record import ExecutionRecord, TaskRunRecord
from farhand.scheduler.core.flow_outline import Place
from farhand.scheduler.core.preparation import Prepared
from farhand.scheduler.core.task_run import RunState

_STATES = {state: execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}") for state in ExecutionState}
_STATE_OF: dict[int, ExecutionState] = {number: state for state, number in _STATES.items()}
_RUN_STATES = {state: execution_pb2.TaskRunState.Value(f"TASK_RUN_STATE_{state}") for state in RunState}
_FALLBACKS = {fallback: fallback_pb2.Fallback.Value(f"FALLBACK_{fallback}") for fallback in Fallback}


def execution_message(record: ExecutionRecord) -> execution_pb2.Execution:
    """An execution without its task runs; with inputs and history where the record has them."""
    message = execution_pb2.Execution(
        id=execution_id(record.key),
        tenant=record.tenant,
        namespace=record.namespace,
        flow_id=record.flow_id,
        flow_revision=record.flow_revision,
        state=_STATES[record.state],
        labels=dict(record.labels),
        create_time=timestamp(record.created_at),
        end_time=timestamp(record.ended_at),
        kill_time=timestamp(record.kill_at),
        message=record.message,
        trace_id=record.traceparent.split("-")[1] if sampled(record.traceparent) else "",
        restart_of=_id(record.restart_of),
        replay_of=_id(record.replay_of),
        restarts=map(execution_id, record.restarts),
        replays=map(execution_id, record.replays),
        trigger_id=record.trigger_id,
    )
    if record.inputs:
        message.inputs.update(json.loads(record.inputs))
    for state, at in record.history:
        message.history.add(state=_STATES[state], time=timestamp(at))
    return message


def task_run_message(record: TaskRunRecord, places: Mapping[str, Place]) -> execution_pb2.TaskRun:
    """A task run without its outputs. `places`: of the flow's tasks, by id."""
    place = places.get(record.id.task_id)
    return execution_pb2.TaskRun(
        id=task_run_id(record.key),
        task_id=record.id.task_id,
        task_type=place.task.type if place else "",
        iteration=record.id.iteration,
        attempt=record.id.attempt,
        parent_task_id=place.parent if place else "",
        state=_RUN_STATES[record.state],
        job_id=encode(record.job_key) if record.job_key is not None else "",
        worker_group=record.group_key,
        worker_group_level=record.group_level,
        fallback=_FALLBACKS[record.fallback] if record.fallback else fallback_pb2.FALLBACK_UNSPECIFIED,
        fallback_level=record.fallback_level,
        worker=record.worker,
        reason=record.reason,
        message=record.message,
        create_time=timestamp(record.created_at),
        start_time=timestamp(record.started_at),
        end_time=timestamp(record.ended_at),
        branch=record.branch,
        in_errors=place.in_errors if place else False,
        lost_deliveries=record.lost,
        taken_from=_id(record.taken_from),
        rounds=record.rounds,
    )


def _id(key: int | None) -> str:
    return "" if key is None else execution_id(key)


def execution_states(numbers: Iterable[int]) -> frozenset[ExecutionState]:
    """The states of a filter; empty: any. Raises KeyError with the number that is none."""
    asked = set(numbers)
    if execution_pb2.EXECUTION_STATE_UNSPECIFIED in asked:
        return frozenset()
    return frozenset(_STATE_OF[number] for number in asked)


def encode_task(prepared: Prepared) -> bytes:
    """A job's task, serialized. Its context is set, also where it is empty: the worker renders its templates."""
    task = Task(type=prepared.type)
    task.properties.update(prepared.properties)
    task.context.SetInParent()
    task.context.update(prepared.context)
    if prepared.timeout is not None:
        task.timeout.FromTimedelta(prepared.timeout)
    return task.SerializeToString()


def decode_outputs(outputs: bytes) -> dict[str, Any]:
    """A job's outputs as plain values."""
    return plain(Struct.FromString(outputs))
