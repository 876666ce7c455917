"""What is declared, as JSON: what the change log and the answers to past requests hold.

A document outlives the program that wrote it: a field that it lacks takes its
default, and one that this version does not know is left out.
"""

from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from typing import Any, TypeVar

from farhand.kernel.quotas import Quota
from farhand.kernel.resolution import Fallback
from farhand.registry.core import plugin_defaults
from farhand.registry.core.change import Resource
from farhand.registry.core.flow import FlowCreation
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.triggered_flow import TriggeredFlow
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup

R = TypeVar("R", Tenant, Namespace, WorkerGroup, TriggeredFlow, FlowCreation)

_KINDS: dict[str, type[Resource]] = {
    "TENANT": Tenant,
    "NAMESPACE": Namespace,
    "WORKER_GROUP": WorkerGroup,
    "TRIGGERED_FLOW": TriggeredFlow,
}
_NAMES: dict[type[Resource] | type[FlowCreation], str] = {
    **{cls: name for name, cls in _KINDS.items()},
    FlowCreation: "FLOW",
}

_READ: dict[str, Callable[[Any], Any]] = {
    "default_fallback": Fallback,
    "plugin_defaults": plugin_defaults.stored,
    "allowed_tenants": tuple,
    "lease": lambda milliseconds: timedelta(milliseconds=milliseconds),
    "state": GroupState,
    "refusal": lambda counts: Refusal(**counts),
    "quotas": lambda lines: tuple(Quota(**line) for line in lines),
    "create_time": datetime.fromisoformat,
    "update_time": datetime.fromisoformat,
}


def kind(cls: type[Resource] | type[FlowCreation]) -> str:
    """Its name in the database."""
    return _NAMES[cls]


def write(resource: Resource | FlowCreation) -> dict[str, Any]:
    """As JSON values: times in ISO-8601, durations in milliseconds."""
    document = {name: _json(value) for name, value in asdict(resource).items()}
    if "plugin_defaults" in document:
        document["plugin_defaults"] = plugin_defaults.written(document["plugin_defaults"])
    return document


def read(cls: type[R], document: dict[str, Any]) -> R:
    """What its document says."""
    known = {field.name for field in fields(cls)}
    values: dict[str, Any] = {
        name: value if value is None else _READ.get(name, lambda same: same)(value)
        for name, value in document.items()
        if name in known
    }
    return cls(**values)


def read_any(kind_name: str, document: dict[str, Any]) -> Resource:
    """A resource from its document and the name of its kind."""
    return read(_KINDS[kind_name], document)  # type: ignore[type-var]  # one of R's types, only known as their union


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    return value
