"""Tenants, worker groups and namespaces as a folder declares them: YAML documents made to messages.

The names are those of the protos, in either spelling. A field that is left out has its
default, but `paused` stays as it is: that is what an operator does for a while. What the
registry sets by itself (etag, create_time, …) is passed over, so a document may be what
`get --output yaml` printed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farhand.cli import yaml_file
from farhand.cli.apply_findings import Findings
from farhand.cli.failure import WrongUse
from farhand.cli.fields import choice
from farhand.kernel.durations import parse_duration
from farhand.kernel.names import group_key, group_label, shown
from farhand.kernel.quotas import EVERYONE
from farhand.kernel.resolution import Fallback


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three."""

    noun: str  # as requests name the field: "worker_group"
    folder: str
    key: str  # the field that names it
    fields: tuple[str, ...]  # those that can be changed
    passed_over: frozenset[str] = frozenset()  # besides what the registry sets: what `get` shows and is no field

    @property
    def label(self) -> str:
        """For people: "worker group"."""
        return self.noun.replace("_", " ")

    @property
    def camel(self) -> str:
        """As RPCs are named: "WorkerGroup"."""
        return "".join(part.capitalize() for part in self.noun.split("_"))

    def module(self, what: str) -> Any:
        """One of its generated modules: "pb2", "service_pb2", "service_pb2_grpc"."""
        import importlib

        return importlib.import_module(f"farhand.api.registry.v1.{self.noun}_{what}")

    def message(self, **fields: Any) -> Any:
        """A resource of this kind."""
        return getattr(self.module("pb2"), self.camel)(**fields)

    def stub(self, channel: Any) -> Any:
        """Its service."""
        return getattr(self.module("service_pb2_grpc"), f"{self.camel}ServiceStub")(channel)

    def request(self, verb: str, **fields: Any) -> Any:
        """A request of its service."""
        plural = "s" if verb == "List" else ""
        return getattr(self.module("service_pb2"), f"{verb}{self.camel}{plural}Request")(**fields)


_DEFAULTS = ("description", "default_worker_group", "default_fallback", "plugin_defaults")
TENANT = Kind("tenant", "tenants", "id", _DEFAULTS)
GROUP = Kind(
    "worker_group",
    "worker-groups",
    "key",
    ("description", "allowed_tenants", "lease", "paused", "quotas"),
    frozenset({"figures"}),
)
NAMESPACE = Kind("namespace", "namespaces", "name", _DEFAULTS)
KINDS = (TENANT, GROUP, NAMESPACE)

_SET_BY_THE_REGISTRY = frozenset({"uid", "state", "etag", "create_time", "update_time"})
_ITEMS = {"plugin_defaults": "{type, forced, values}", "quotas": "{tenant, max_running, max_queued}"}
_DEFAULT_LEASE = 60.0  # seconds, as worker_group.proto has it


@dataclass(frozen=True, slots=True)
class Declaration:
    """One document."""

    kind: Kind
    message: Any
    given: frozenset[str]  # the fields that it names
    file: Path
    line: int
    lines: Mapping[str, int]  # of its fields, as they are spelled there

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from others of its kind: tenant (of namespaces alone) and key."""
        return name_of(self.kind, self.message)

    def line_of(self, field: str) -> int:
        """Where a field is, by its name in the proto; where the document begins if it is not there."""
        descriptor = self.message.DESCRIPTOR.fields_by_name.get(field)
        return self.lines.get(field) or (descriptor and self.lines.get(descriptor.json_name)) or self.line


def name_of(kind: Kind, message: Any) -> tuple[str, str]:
    """Of a message of this kind: tenant (of namespaces alone) and key."""
    return (message.tenant if kind is NAMESPACE else "", getattr(message, kind.key))


def label_of(kind: Kind, message: Any) -> str:
    """The key as people see it."""
    key: str = getattr(message, kind.key)
    return group_label(key) if kind is GROUP else key


def read(kind: Kind, file: Path, tenant: str, findings: Findings) -> list[Declaration]:
    """The documents of a file that can be read; `tenant` is that of namespaces that name none."""
    try:
        documents = yaml_file.read_all(str(file))
    except yaml_file.NotYaml as error:
        findings.error(error.problem, file, error.line, error.column)
        return []
    except WrongUse as error:
        findings.error(error.message)
        return []
    return [found for each in documents if (found := _declaration(kind, file, each, tenant, findings)) is not None]


def _declaration(
    kind: Kind, file: Path, document: yaml_file.Document, tenant: str, findings: Findings
) -> Declaration | None:
    from google.protobuf.json_format import ParseDict, ParseError

    data, message, before = document.data, kind.message(), findings.errors
    if not isinstance(data, dict):
        findings.error(f"this must be a {kind.label}: a mapping with `{kind.key}` in it", file, document.line)
        return None
    data = {key: value for key, value in data.items() if key not in kind.passed_over}
    unknown = dict(yaml_file.unknown_fields(data, message))
    for key, what in unknown.items():
        findings.error(f"the {kind.label} {what}", file, document.lines.get(key, document.line))
    fields = message.DESCRIPTOR.fields
    proto_names = {spelling: field.name for field in fields for spelling in (field.name, field.json_name)}
    given = set()
    for key, value in data.items():
        if key in unknown or (field := proto_names[key]) in _SET_BY_THE_REGISTRY:
            continue
        line = document.lines.get(key, document.line)
        if field in given:
            findings.error(f"{field} is there in both spellings", file, line)
        given.add(field)
        if field in _ITEMS and (wrong := _unknown_in_items(kind, field, value)):
            for what in wrong:
                findings.error(what, file, line)
            continue
        try:
            ParseDict({field: _plainly(field, value)}, message)
        except WrongUse as error:
            findings.error(error.message, file, line)
        except (ParseError, ValueError, TypeError) as error:
            findings.error(f"{field}: {error}", file, line)
    if kind.key not in given:
        findings.error(f"this {kind.label} has no `{kind.key}`, which names it", file, document.line)
    if findings.errors > before:
        return None
    _complete(kind, message, tenant)
    return Declaration(kind, message, frozenset(given), file, document.line, document.lines)


def _unknown_in_items(kind: Kind, field: str, value: Any) -> list[str]:
    """Of a list of messages: the fields that they don't have."""
    item_of = getattr(kind.message(), field).add
    return [
        f"{field}[{index}] {what}"
        for index, item in enumerate(value if isinstance(value, list) else ())
        if isinstance(item, dict)
        for _, what in yaml_file.unknown_fields(item, item_of())
    ]


def _plainly(field: str, value: Any) -> Any:
    """A value as protobuf's JSON has it, from how people write it."""
    if field == "default_fallback" and isinstance(value, str):
        enum = value.upper().startswith("FALLBACK_")
        return value.upper() if enum else f"FALLBACK_{choice(field, value, Fallback)}"
    if field == "lease" and isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return f"{parse_duration(str(value)):.9f}s"
        except ValueError as error:
            raise WrongUse(f"lease: {error}") from None
    if field in _ITEMS and value is not None and not isinstance(value, list):
        raise WrongUse(f"{field} must be a list of {_ITEMS[field]}, not {shown(str(value))}")
    return value


def _complete(kind: Kind, message: Any, tenant: str) -> None:
    """As the registry would have it."""
    from farhand.runtime.wire import duration

    if kind is GROUP:
        message.key = group_key(message.key)
        allowed = sorted(set(message.allowed_tenants))
        del message.allowed_tenants[:]
        message.allowed_tenants.extend(allowed)
        for quota in message.quotas:
            quota.tenant = quota.tenant or EVERYONE
        message.quotas.sort(key=lambda quota: quota.tenant)
        if not message.HasField("lease"):
            message.lease.CopyFrom(duration(_DEFAULT_LEASE))
    else:
        if message.HasField("default_worker_group"):
            message.default_worker_group = group_key(message.default_worker_group)
        if kind is NAMESPACE:
            message.tenant = message.tenant or tenant
