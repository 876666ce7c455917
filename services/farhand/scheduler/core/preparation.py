"""What a task run needs before its job can be queued, all of it pure.

    plan = plan_task(flow, task, tenant, declared)          # once for a task and a revision of the copy; may be kept
    outputs = load plan.outputs_needed
    prepared = prepare(plan, facts, declared)               # group, fallback, properties, context; or Refused

The task inherits its plugin defaults, as they are declared now. Its worker group and
fallback resolve over all levels (semantics.md, 2); a key that is an expression is
rendered here. All else is rendered on the worker, with a context that holds what the
task's templates name and nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from farhand.kernel.flow import Flow, If, Task
from farhand.scheduler.core.declared import Declared, Placement
from farhand.scheduler.core.task_run import Refused, RunId


@dataclass(frozen=True, slots=True)
class Facts:
    """What the expressions of a task run may name. Values are JSON."""

    tenant: str
    flow_revision: int
    execution_id: str
    execution_created_at: datetime
    inputs: Mapping[str, Any]
    labels: Mapping[str, str]
    outputs: Mapping[str, Mapping[str, Any]]
    """By task id: of those that a plan needs, that have a task run, and whose job ended. Without outputs: {}."""
    run: RunId
    run_id: str  # as people see it
    run_created_at: datetime
    trigger: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """A leaf with all that it inherits, as far as that is the same for all executions of the flow's revision."""

    flow: Flow
    task: Task
    outputs_needed: frozenset[str]  # ids of the tasks whose outputs its templates name
    # … more, private to this module


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that can be queued."""

    placement: Placement  # group_uid, key, fallback
    key_level: str  # which level declared the group, e.g. "task", "plugin defaults of the flow"
    fallback_level: str
    wait_limit: timedelta | None  # into Run.wait_limit; None: it may wait for ever
    max_deliveries: int
    type: str
    properties: Mapping[str, Any]  # templates as they were written
    context: Mapping[str, Any]  # Task.context
    timeout: timedelta | None  # from its start on the worker; None: no bound


def plan_task(flow: Flow, task: Task, tenant: str, declared: Declared) -> TaskPlan | Refused:
    """What is known of a leaf before any execution is looked at.

    Refused: INVALID_TASK, when what it inherits makes no task of it any more; EXPRESSION_FAILED.
    """
    raise NotImplementedError


def prepare(plan: TaskPlan, facts: Facts, declared: Declared) -> Prepared | Refused:
    """The job of a task run.

    Refused: UNKNOWN_WORKER_GROUP, TENANT_NOT_ALLOWED, GROUP_DELETING with the key as it was rendered, the level that
    declared it and near matches (`ask_registry` set: only the copy says so); EXPRESSION_FAILED.
    """
    raise NotImplementedError


def too_large(size: int, limit: int, prepared: Prepared) -> Refused:
    """The refusal of a job whose task is larger than the server allows, both in bytes (PAYLOAD_TOO_LARGE)."""
    raise NotImplementedError


def condition_needs(flow: Flow, task: If) -> frozenset[str]:
    """The ids of the tasks whose outputs its condition names."""
    raise NotImplementedError


def choose_branch(flow: Flow, task: If, facts: Facts) -> str | Refused:
    """ "then" or "else". Refused: EXPRESSION_FAILED."""
    raise NotImplementedError
