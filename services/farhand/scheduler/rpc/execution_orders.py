"""What a client may ask an execution to be, checked before the registry is asked for its flow."""

import hashlib
from collections.abc import Collection

from google.protobuf.struct_pb2 import Struct

from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionRequest,
    ReplayExecutionRequest,
    RestartExecutionRequest,
)
from farhand.kernel.errors import InvalidArgument, Violation
from farhand.kernel.names import DEFAULT_TENANT, check_namespace, check_tenant, check_text, shown
from farhand.kernel.secrets import MASK
from farhand.runtime.security import Identity
from farhand.runtime.wire import plain
from farhand.scheduler.core.execution_record import ExecutionRecord
from farhand.scheduler.loops.execution_requests import ExecutionRequest
from farhand.scheduler.loops.executions import Order
from farhand.scheduler.loops.repeats import Replay, Restart
from farhand.scheduler.rpc.validation import check_admits, check_request_id, too_deep

LARGEST_INPUTS = 64 << 10  # bytes, serialized
MOST_LABELS = 50
LONGEST_LABEL = 200  # characters, of a name or a value


def read_order(request: CreateExecutionRequest, caller: Identity, traceparent: str) -> Order:
    """The order. Raises InvalidArgument with all that is wrong, PermissionDenied."""
    check_request_id(request.request_id)
    tenant = request.tenant or DEFAULT_TENANT
    wrong = check_tenant("tenant", tenant)
    if not wrong:
        check_admits(caller, tenant)
    wrong += check_namespace("namespace", request.namespace)
    if not request.flow_id or len(request.flow_id) > 100 or "\0" in request.flow_id:
        wrong.append(Violation("flow_id", "must be the id of a flow: 1 to 100 characters"))
    if request.flow_revision < 0:
        wrong.append(Violation("flow_revision", "must not be negative; 0 is the newest"))
    wrong += check_inputs(request.inputs)
    wrong += check_labels("labels", dict(request.labels))
    if wrong:
        raise InvalidArgument.of(*wrong)
    return Order(
        _remembered(tenant, request),
        request.namespace,
        request.flow_id,
        request.flow_revision,
        plain(request.inputs),
        dict(request.labels),
        traceparent,
    )


def read_restart(request: RestartExecutionRequest, of: ExecutionRecord, traceparent: str) -> Restart:
    """The order. Raises InvalidArgument."""
    check_request_id(request.request_id)
    return Restart(_remembered(of.tenant, request), of.key, traceparent)


def read_replay(request: ReplayExecutionRequest, of: ExecutionRecord, traceparent: str) -> Replay:
    """The order. Raises InvalidArgument with all that is wrong."""
    check_request_id(request.request_id)
    wrong = check_text("from_task_id", request.from_task_id, 100)
    if request.flow_revision < 0:
        wrong.append(Violation("flow_revision", "must not be negative; 0 is the one that ran"))
    wrong += check_inputs(request.inputs)
    if wrong:
        raise InvalidArgument.of(*wrong)
    return Replay(
        _remembered(of.tenant, request),
        of.key,
        request.from_task_id,
        request.flow_revision,
        plain(request.inputs),
        traceparent,
    )


def _remembered(
    tenant: str, request: CreateExecutionRequest | RestartExecutionRequest | ReplayExecutionRequest
) -> ExecutionRequest:
    # What was remembered before there was another method than CreateExecution has no name before it.
    name = b"" if isinstance(request, CreateExecutionRequest) else request.DESCRIPTOR.name.encode() + b"\0"
    inputs = {} if isinstance(request, RestartExecutionRequest) else plain(request.inputs)

    def body_hash(without: Collection[str]) -> bytes:
        body = type(request)()
        body.CopyFrom(request)  # type: ignore[arg-type]
        if not isinstance(body, RestartExecutionRequest):
            for secret in inputs.keys() & without:
                body.inputs.fields[secret].string_value = MASK
        return hashlib.sha256(name + body.SerializeToString(deterministic=True)).digest()

    return ExecutionRequest(tenant, request.request_id, inputs, body_hash)


def check_labels(path: str, labels: dict[str, str]) -> list[Violation]:
    """What is wrong with labels of an execution."""
    wrong = []
    if len(labels) > MOST_LABELS:
        wrong.append(Violation(path, f"holds {len(labels):,} labels; at most {MOST_LABELS} are allowed"))
    for name, value in labels.items():
        if not name:
            wrong.append(Violation(path, "holds a label without a name"))
        for text in (name, value):
            wrong += check_text(f"{path}[{shown(name)}]", text, LONGEST_LABEL)
    return wrong


def check_inputs(inputs: Struct) -> list[Violation]:
    """What is wrong with the size and the shape of inputs, whatever their flow takes."""
    size = inputs.ByteSize()
    if size > LARGEST_INPUTS:
        return [
            Violation(
                "inputs",
                f"are {size:,} bytes serialized; at most {LARGEST_INPUTS:,} are allowed. Keep large data elsewhere and "
                "pass where it is",
            )
        ]
    if too_deep(inputs):
        return [Violation("inputs", "are nested too deeply")]
    return []
