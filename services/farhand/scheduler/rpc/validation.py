"""What a client may ask for: each row of a submit is checked by itself, before it nears the queue.

This runs once per job, so it does little for a good row: names that were checked
are remembered for the rest of the call, and a task is searched for NUL characters
only where its bytes hold a zero at all (numbers do).
"""

from collections.abc import Iterator

from google.protobuf.struct_pb2 import Struct, Value

from farhand.api.scheduler.v1.job_pb2 import JobSpec
from farhand.api.types.v1 import fallback_pb2
from farhand.kernel.errors import InvalidArgument, PayloadTooLarge, PermissionDenied, Violation
from farhand.kernel.names import (
    DEFAULT_TENANT,
    check_group_key,
    check_namespace,
    check_task_type,
    check_tenant,
    check_text,
    group_key,
    shown,
)
from farhand.kernel.nesting import MOST_LEVELS
from farhand.kernel.resolution import Fallback
from farhand.runtime.security import Identity
from farhand.scheduler.core.submission import JobRow
from farhand.scheduler.rpc.fields import check_duration

DEFAULT_MAX_DELIVERIES = 3
MOST_DELIVERIES = 100
LONGEST_REQUEST_ID = 100

_FLAT_BYTES = 4 * MOST_LEVELS  # a level of nesting takes four at least

_FALLBACKS: dict[int, Fallback | None] = {
    fallback_pb2.FALLBACK_UNSPECIFIED: None,
    fallback_pb2.FALLBACK_WAIT: Fallback.WAIT,
    fallback_pb2.FALLBACK_FAIL: Fallback.FAIL,
    fallback_pb2.FALLBACK_CANCEL: Fallback.CANCEL,
}
_Names = tuple[str, str, str | None, str]


class SpecCheck:
    """Checks the rows of one call. `payload_limit`: bytes of a serialized task."""

    def __init__(self, caller: Identity, payload_limit: int, traceparent: str | None) -> None:
        self._caller = caller
        self._payload_limit = payload_limit
        self._traceparent = traceparent
        self._fine: set[_Names] = set()

    def row(self, spec: JobSpec, path: str) -> JobRow:
        """The row for the queue. `path` is the spec's, e.g. "specs[3]". Raises InvalidArgument with all that is
        wrong, PayloadTooLarge, PermissionDenied."""
        task = spec.task
        tenant = spec.tenant or DEFAULT_TENANT
        group = group_key(spec.worker_group) if spec.HasField("worker_group") else None
        names: _Names = (tenant, spec.namespace, group, task.type)
        body = task.SerializeToString()
        deliveries = spec.max_deliveries or DEFAULT_MAX_DELIVERIES
        if (
            names not in self._fine
            or len(body) > self._payload_limit
            or b"\0" in body
            or spec.fallback not in _FALLBACKS
            or not 1 <= deliveries <= MOST_DELIVERIES
            or task.HasField("timeout")
            or (len(body) > _FLAT_BYTES and (too_deep(task.properties) or too_deep(task.context)))
        ):
            self._look_closely(spec, path, names, len(body))
        return JobRow(
            tenant,
            spec.namespace or None,
            group,
            _FALLBACKS[spec.fallback],
            task.type,
            body,
            deliveries,
            self._traceparent,
        )

    def _look_closely(self, spec: JobSpec, path: str, names: _Names, size: int) -> None:
        tenant, namespace, group, task_type = names
        wrong = check_tenant(f"{path}.tenant", tenant)
        if not wrong:
            check_admits(self._caller, tenant)
        if namespace:
            wrong += check_namespace(f"{path}.namespace", namespace)
        if group:
            wrong += check_group_key(f"{path}.worker_group", group)
        wrong += check_task_type(f"{path}.task.type", task_type)
        if not wrong:
            self._fine.add(names)
        if size > self._payload_limit:
            raise PayloadTooLarge.of(
                *wrong,
                Violation(
                    f"{path}.task",
                    f"is {size:,} bytes serialized; at most {self._payload_limit:,} are allowed. Keep large data "
                    "elsewhere and pass where it is",
                ),
            )
        if spec.fallback not in _FALLBACKS:
            wrong.append(Violation(f"{path}.fallback", f"{spec.fallback} is not a Fallback"))
        if not 0 <= spec.max_deliveries <= MOST_DELIVERIES:
            wrong.append(
                Violation(
                    f"{path}.max_deliveries",
                    f"is {spec.max_deliveries}; 1 to {MOST_DELIVERIES} are allowed, and 0 for {DEFAULT_MAX_DELIVERIES}",
                )
            )
        wrong += check_duration(f"{path}.task.timeout", spec.task.timeout)
        for name, values in ("properties", spec.task.properties), ("context", spec.task.context):
            where = f"{path}.task.{name}"
            if too_deep(values):
                description = f"nested deeper than {MOST_LEVELS} levels; pass what is deeper as text"
                raise InvalidArgument.of(*wrong, Violation(where, description))
            if place := next(_with_nul(values, where), None):
                wrong.append(Violation(place, "must not hold a NUL character"))
        if wrong:
            raise InvalidArgument.of(*wrong)


def check_admits(caller: Identity, tenant: str) -> None:
    """A client may act for its own tenants alone. Raises PermissionDenied."""
    if not caller.admits_tenant(tenant):
        raise PermissionDenied(
            f"The credential {shown(caller.subject)} is not for tenant {shown(tenant)}; it is for: "
            f"{', '.join(sorted(caller.tenants or ())) or 'none'}."
        )


def check_request_id(request_id: str) -> None:
    """Raises InvalidArgument."""
    wrong = check_text("request_id", request_id, LONGEST_REQUEST_ID)
    if wrong:
        raise InvalidArgument.of(*wrong)


def too_deep(properties: Struct, levels: int = MOST_LEVELS) -> bool:
    """kernel.nesting.too_deep, for what is still a message."""
    return levels == 0 or any(_value_too_deep(value, levels - 1) for value in properties.fields.values())


def _value_too_deep(value: Value, levels: int) -> bool:
    match value.WhichOneof("kind"):
        case "struct_value":
            return too_deep(value.struct_value, levels)
        case "list_value":
            return levels == 0 or any(_value_too_deep(item, levels - 1) for item in value.list_value.values)
    return False


def _with_nul(properties: Struct, path: str) -> Iterator[str]:
    for name, value in properties.fields.items():
        where = f"{path}.{name.replace(chr(0), '␀')}"
        if "\0" in name:
            yield where
        yield from _value_with_nul(value, where)


def _value_with_nul(value: Value, path: str) -> Iterator[str]:
    match value.WhichOneof("kind"):
        case "string_value" if "\0" in value.string_value:
            yield path
        case "struct_value":
            yield from _with_nul(value.struct_value, path)
        case "list_value":
            for index, item in enumerate(value.list_value.values):
                yield from _value_with_nul(item, f"{path}[{index}]")
