"""What a task run needs before its job can be queued, all of it pure.

    plan = plan_flow(flow, tenant, declared)        # once for a flow's revision and a revision of the copy: keep it
    step(plan.flow, …)                              # the flow with all that its tasks inherit
    needs = plan.outputs_needed(task_id)            # load these
    prepared = prepare(plan, facts, declared)       # group, fallback, properties, context; or Refused
    branch = choose_branch(plan, facts)             # the same for an If

The task inherits its plugin defaults, as they are declared now. Its worker group and
fallback resolve over all levels (semantics.md, 2); a key that is an expression is
rendered here. All else is rendered on the worker, with a context that holds what the
task's templates name and nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from farhand.kernel.flow import Flow
from farhand.scheduler.core.declared import Declared, Placement
from farhand.scheduler.core.flow_outline import Place
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


class FlowPlan:
    """A flow with all that its tasks inherit, as far as that is the same for all executions of its revision."""

    flow: Flow
    """With the plugin defaults merged into its tasks: what `step` walks over."""
    places: Mapping[str, Place]
    """Of all its tasks, by id."""

    def outputs_needed(self, task_id: str) -> frozenset[str]:
        """The ids of the tasks whose outputs this one's templates name (an If: its condition)."""
        raise NotImplementedError


def plan_flow(flow: Flow, tenant: str, declared: Declared) -> FlowPlan:
    """What is known of a flow before any of its executions is looked at. Costs some ms for a large one."""
    raise NotImplementedError


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


def prepare(plan: FlowPlan, facts: Facts, declared: Declared) -> Prepared | Refused:
    """The job of the leaf `facts.run`.

    Refused: UNKNOWN_WORKER_GROUP, TENANT_NOT_ALLOWED, GROUP_DELETING with the key as it was rendered, the level that
    declared it and near matches (`ask_registry` set: only the copy says so); EXPRESSION_FAILED; INVALID_TASK, when
    what it inherits makes no task of it any more.
    """
    raise NotImplementedError


def too_large(size: int, limit: int, prepared: Prepared) -> Refused:
    """The refusal of a job whose task is larger than the server allows, both in bytes (PAYLOAD_TOO_LARGE)."""
    raise NotImplementedError


def choose_branch(plan: FlowPlan, facts: Facts) -> str | Refused:
    """Of the If `facts.run`: "then" or "else". Refused: EXPRESSION_FAILED."""
    raise NotImplementedError
