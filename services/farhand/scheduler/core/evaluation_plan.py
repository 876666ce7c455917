"""What an evaluation of a polling trigger needs before it can be queued, all of it pure.

    plan = EvaluationPlan.of(flow, name, trigger, outer)   # once for what it is made of: keep it
    prepared = plan.prepare(state, declared)           # group, fallback, properties, context; or Refused

The trigger's group and fallback resolve over all levels as a task's do, and a key that
is an expression is rendered here (semantics.md, 2). All else is rendered on the
worker: there is no execution yet, so expressions know the flow, its variables and
labels, the worker's `envs`, and `trigger`: its id, its type, and the state that its last
evaluation left.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from farhand.kernel.durations import parse_duration
from farhand.kernel.expressions import ExpressionError, parse, render, select, templates_of
from farhand.kernel.flow import Declaration, Flow, Trigger, around, levels, of_flow, wait_timeout
from farhand.kernel.resolution import Resolved, resolve
from farhand.scheduler.core.declared import Declared, Tenant
from farhand.scheduler.core.polling import USUAL_INTERVAL, USUAL_TIMEOUT, Polling
from farhand.scheduler.core.preparation import (
    EXPRESSION_FAILED,
    MAX_DELIVERIES,
    Prepared,
    level_shown,
    place_rendered,
)
from farhand.scheduler.core.task_run import Refused
from farhand.scheduler.core.tick import FlowName, flow_scope


def outer_of(namespace: str, tenant: str, declared: Declared) -> list[Declaration]:
    """What is declared around a flow."""
    found = declared.tenants.get(tenant, Tenant(tenant))
    return around(tenant, found, namespace, lambda name: declared.namespaces.get((tenant, name)))


def polling_of(trigger: Trigger, wait_limit: timedelta | None = None) -> Polling:
    """How a trigger, with all that it inherits, polls."""
    interval = USUAL_INTERVAL if trigger.interval is None else _span(trigger.interval)
    return Polling(interval, bool(trigger.allow_concurrent), wait_limit)


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is the same for all evaluations of a trigger."""

    polling: Polling
    tenant: str
    trigger: Trigger
    resolved: Resolved
    scope: Mapping[str, Any]
    named: Mapping[str, Any]
    """What the properties' templates name, of the scope."""
    wrong: str = ""
    """Why a template of it can't be read; empty: each can be."""

    @classmethod
    def of(cls, flow: Flow, name: FlowName, trigger: Trigger, outer: Sequence[Declaration]) -> "EvaluationPlan":
        """`trigger`: with all that it inherits; the flow has it as written. `outer`: see outer_of."""
        declarations = [of_flow(flow), *outer]
        written = next((each for each in flow.triggers if each.id == trigger.id), trigger)
        resolved = resolve(levels(written, declarations))
        scope, wrong = flow_scope(flow, name), ""
        names: set[tuple[str, ...]] = set()
        for path, text in templates_of(dict(trigger.properties)):
            try:
                names |= parse(text).names
            except ExpressionError as error:
                wrong = f"{path}: {error.message}"
        limit = wait_timeout(written, declarations)
        polling = polling_of(trigger, None if limit is None else _span(limit[0]))
        return cls(polling, name.tenant, trigger, resolved, scope, select(scope, names), wrong)

    def prepare(self, state: str | None, declared: Declared) -> Prepared | Refused:
        """The job of an evaluation. `state`: JSON that the last one left; None: there was none.

        Refused: as by preparation.prepare.
        """
        if self.wrong:
            return Refused(EXPRESSION_FAILED, self.wrong)
        trigger, resolved = self.trigger, self.resolved
        try:
            key = render(resolved.key, self.scope).strip()
        except ExpressionError as error:
            where = level_shown(resolved)
            return Refused(EXPRESSION_FAILED, f"workerGroup.key (from {where}): {error.message}")
        placement = place_rendered(key, resolved, self.tenant, declared)
        if isinstance(placement, Refused):
            return placement
        about = {"id": trigger.id, "type": trigger.type, "state": None if state is None else json.loads(state)}
        return Prepared(
            placement,
            resolved.key_level,
            resolved.fallback_level,
            self.polling.wait_limit,
            MAX_DELIVERIES,
            trigger.type,
            trigger.properties,
            {**self.named, "trigger": about},
            USUAL_TIMEOUT if trigger.timeout is None else _span(trigger.timeout),
            holds_secrets=False,  # triggers name none: kernel.flow refuses it
        )


def _span(duration: str) -> timedelta:
    return timedelta(seconds=parse_duration(duration))
