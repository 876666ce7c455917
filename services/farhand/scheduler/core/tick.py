"""What an execution that a trigger starts is given: what `trigger` is in its expressions, and its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.expressions import ExpressionError, render_deep
from farhand.kernel.flow import Flow, check_inputs, part_secrets
from farhand.scheduler.core.trigger import Tick, previous
from farhand.scheduler.core.trigger_plan import SchedulePlan, TriggerPlan

INPUTS_LIMIT = 64 << 10  # bytes of one rendered input


@dataclass(frozen=True, slots=True)
class FlowName:
    """What expressions of a trigger know of its flow."""

    tenant: str
    namespace: str
    id: str
    revision: int


def flow_scope(flow: Flow, name: FlowName) -> dict[str, Any]:
    """What expressions know of a flow that has no execution yet."""
    about = {"id": name.id, "namespace": name.namespace, "revision": name.revision, "tenantId": name.tenant}
    return {"vars": flow.variables, "labels": flow.labels, "flow": about}


def of_schedule(schedule: SchedulePlan, tick: Tick, last_at: datetime | None) -> dict[str, Any]:
    """What `trigger` is for a tick of a Schedule; times are by the schedule's own clock. `last_at`: the last tick that
    fired, where that is known."""
    cron = schedule.cron

    def shown(at: datetime | None) -> str | None:
        return None if at is None else at.astimezone(cron.zone).isoformat()

    return {
        "date": shown(tick.at),
        "next": shown(cron.after(tick.at)),
        "previous": shown(previous(cron, last_at, tick.at)),
    }


def inputs_of(
    plan: TriggerPlan, flow: Flow, name: FlowName, trigger: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Violation]]:
    """The inputs as executions have them, and what is wrong with them. `trigger`: what that is in expressions;
    `given`: what wins over the trigger's own inputs."""
    inputs = {**plan.inputs, **given}
    if plan.inputs_have_expressions:
        scope = {**flow_scope(flow, name), "trigger": trigger}
        try:
            inputs = {**render_deep(dict(plan.inputs), scope, limit=INPUTS_LIMIT), **given}
        except ExpressionError as error:
            return {}, [Violation("inputs", f"can't be rendered: {error.message}")]
    values, wrong = check_inputs(flow, inputs)
    secrets = sorted(part_secrets(flow, values)[1])
    return values, wrong + [
        Violation(f"inputs.{name}", "is a secret; what a trigger gives is kept and shown, so it can't give one")
        for name in secrets
    ]
