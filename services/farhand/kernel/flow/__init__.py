"""Flows: read from YAML, checked, kept as JSON; what their tasks inherit, and where they run.

Pure: whoever calls brings what is declared around a flow. Needs pydantic, which
comes with the extra `server`; workers and the CLI never import this package.

    source = Source.of(text)                                   # YAML, once
    outer = around(tenant_id, tenant, source.namespace, find)  # namespaces and tenant
    reading = read_flow(source, known, outer, check_group)     # a flow, or all problems

    declarations = [of_flow(flow), *outer]
    resolved = resolve(levels(task, declarations))             # group, fallback, and their levels
    effective_flow = inherit_all(flow, outer)                  # every task with its plugin defaults
"""

from farhand.kernel.flow.declarations import Declaration, Declares, around, of_flow
from farhand.kernel.flow.defaults import effective, inherit, inherit_all, inherit_trigger
from farhand.kernel.flow.inputs import check_inputs, part_secrets, secret_names
from farhand.kernel.flow.levels import levels, wait_timeout
from farhand.kernel.flow.model import (
    Behavior,
    Concurrency,
    Flow,
    Input,
    InputType,
    PluginDefault,
    StopAfter,
    Trigger,
)
from farhand.kernel.flow.parts import Retry, RetryType, WorkerGroupRef
from farhand.kernel.flow.problem import Problem, Severity
from farhand.kernel.flow.reading import Reading, read_flow, read_plugin_defaults
from farhand.kernel.flow.schema import json_schema
from farhand.kernel.flow.source import Source
from farhand.kernel.flow.tasks import CONTROL, AnyTask, Control, ForEach, If, Parallel, Sequential, Switch, Task
from farhand.kernel.flow.types import KnownTypes

__all__ = [
    "CONTROL",
    "AnyTask",
    "Behavior",
    "Concurrency",
    "Control",
    "Declaration",
    "Declares",
    "Flow",
    "ForEach",
    "If",
    "Input",
    "InputType",
    "KnownTypes",
    "Parallel",
    "PluginDefault",
    "Problem",
    "Reading",
    "Retry",
    "RetryType",
    "Sequential",
    "Severity",
    "Source",
    "StopAfter",
    "Switch",
    "Task",
    "Trigger",
    "WorkerGroupRef",
    "around",
    "check_inputs",
    "effective",
    "inherit",
    "inherit_all",
    "inherit_trigger",
    "json_schema",
    "levels",
    "of_flow",
    "part_secrets",
    "read_flow",
    "read_plugin_defaults",
    "secret_names",
    "wait_timeout",
]
