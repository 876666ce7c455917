"""What a task run needs before its job can be queued, all of it pure.

    plan = plan_flow(flow, tenant, declared)        # once for a flow's revision and a revision of the copy: keep it
    step(plan.flow, …)                              # the flow with all that its tasks inherit
    needs = plan.outputs_needed(task_id)            # load these
    prepared = prepare(plan, facts, declared)       # group, fallback, properties, context; or Refused
    branch = choose_branch(plan, facts)             # the same for an If or a Switch
    values = loop_values(plan, facts)               # and for a ForEach

A task inherits its plugin defaults, as they are declared now. Its worker group and
fallback resolve over all levels (semantics.md, 2); a key that is an expression is
rendered here. All else is rendered on the worker, with a context that holds what the
task's templates name and nothing more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from farhand.kernel.durations import parse_duration
from farhand.kernel.errors import GroupDeleting, NotFound, TenantNotAllowed
from farhand.kernel.exact_json import read_json
from farhand.kernel.expressions import (
    ExpressionError,
    is_template,
    parse,
    render,
    render_deep,
    select,
    templates_of,
    truthy,
)
from farhand.kernel.flow import (
    AnyTask,
    Control,
    Declaration,
    Flow,
    ForEach,
    If,
    Switch,
    Task,
    around,
    inherit,
    inherit_all,
    levels,
    of_flow,
    secret_names,
    wait_timeout,
)
from farhand.kernel.flow.parts import OnWorkerLost
from farhand.kernel.flow.tasks import MOST_ROUNDS
from farhand.kernel.kinds import kind
from farhand.kernel.names import check_group_key, group_key, shown
from farhand.kernel.resolution import Resolved, resolve
from farhand.kernel.secrets import MASK
from farhand.scheduler.core.declared import Declared, Placement, Tenant, usable_group
from farhand.scheduler.core.flow_outline import Place, outline
from farhand.scheduler.core.task_run import Refused, RunId

EXPRESSION_FAILED = "EXPRESSION_FAILED"
INVALID_VALUES = "INVALID_VALUES"
TOO_MANY_ROUNDS = "TOO_MANY_ROUNDS"
INVALID_TASK = "INVALID_TASK"
PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
UNKNOWN_WORKER_GROUP = "UNKNOWN_WORKER_GROUP"

NAMED_OUTPUTS_LIMIT = 16 << 20  # bytes; the outputs of 64 tasks at the worker's limit
MAX_DELIVERIES = 3  # assignments of a task run that may be lost with their workers (design.md, the worker stream, 9)

_ALL = "*"  # of the outputs; no task has this id
Names = frozenset[tuple[str, ...]]


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
    """By task id: of those that a plan needs, that have a task run, and whose job ended. Without outputs: {}. Of a task
    in loops around it that are not around this one: by the numbers of their rounds, {"0": …, "1": …}."""
    run: RunId
    run_id: str  # as people see it
    run_created_at: datetime
    trigger: Mapping[str, Any] | None = None
    values: Sequence[Any] = ()
    """Of the rounds that the task run is in, the outermost first, if the plan needs them."""


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
    holds_secrets: bool  # in the context stands MASK for secrets, which go to the worker beside it


@dataclass(frozen=True, slots=True)
class _TaskPlan:
    """What is the same for all task runs of a task. Of flow control, what it chooses by stands for key and
    properties."""

    resolved: Resolved | None
    wait_limit: timedelta | None
    timeout: timedelta | None
    here: Names  # what is named by what is rendered here
    there: Names  # and on the worker


class FlowPlan:
    """A flow with all that its tasks inherit, as far as that is the same for all executions of its revision."""

    flow: Flow
    """With the plugin defaults merged into its tasks: what `step` walks over."""
    places: Mapping[str, Place]
    """Of all its tasks, by id."""
    secrets: frozenset[str]
    """Its inputs that are secret. Here they are masked, whatever is rendered."""

    def __init__(self, flow: Flow, outer: Sequence[Declaration]) -> None:
        self._declarations = [of_flow(flow), *outer]
        self._written = outline(flow)
        self.secrets = secret_names(flow)
        self._wrong: dict[str, str] = {}  # tasks that what they inherit makes no task of any more, and why
        try:
            self.flow = inherit_all(flow, outer)
        except ValueError:
            sound = {"tasks": self._sound(flow.tasks), "errors": self._sound(flow.errors)}
            self.flow = flow.model_copy(update=sound)
        self.places = outline(self.flow)
        self._tasks: dict[str, _TaskPlan | Refused] = {}

    def outputs_needed(self, task_id: str) -> frozenset[str]:
        """The ids of the tasks whose outputs this one's templates name (flow control: what it chooses by)."""
        named = {name[1] if len(name) > 1 else _ALL for name in self._named(task_id) if name[0] == "outputs"}
        return frozenset(self.places) if _ALL in named else frozenset(named & self.places.keys())

    def values_needed(self, task_id: str) -> bool:
        """Whether this one's templates name the value of a round that it is in."""
        named = self.places[task_id].loops and self._named(task_id)
        return any(
            name[0] in ("parent", "parents") or (name[0] == "taskrun" and name[1:2] in ((), ("value",)))
            for name in named or ()
        )

    def around(self, task_id: str) -> list[Place]:
        """The places of the flow control around a task, the nearest first."""
        found: list[Place] = []
        while parent := self.places[task_id].parent:
            found.append(self.places[parent])
            task_id = parent
        return found

    def _named(self, task_id: str) -> Names:
        planned = self.task(task_id)
        return frozenset() if isinstance(planned, Refused) else planned.here | planned.there

    def task(self, task_id: str) -> _TaskPlan | Refused:
        """What is known of a task before any execution is looked at."""
        if task_id not in self._tasks:
            self._tasks[task_id] = self._plan(self._written[task_id].task, self.places[task_id].task)
        return self._tasks[task_id]

    def _plan(self, written: AnyTask, task: AnyTask) -> _TaskPlan | Refused:
        if why := self._wrong.get(task.id):
            return Refused(INVALID_TASK, f"With the plugin defaults that it inherits it is no task any more: {why}")
        try:
            if not isinstance(task, Task):
                return _TaskPlan(None, None, None, self._names_of(*_chosen_by(task)), frozenset())
            assert isinstance(written, Task)
            resolved = resolve(levels(written, self._declarations))
            there = self._names_of(*templates_of(task.properties))
            here = self._names_of(("workerGroup.key", resolved.key))
        except ExpressionError as error:
            return Refused(EXPRESSION_FAILED, error.message)
        limit = wait_timeout(written, self._declarations)
        return _TaskPlan(resolved, _span(limit and limit[0]), _span(task.timeout), here, there)

    def _sound(self, tasks: Sequence[AnyTask]) -> tuple[AnyTask, ...]:
        """What `inherit_all` makes of tasks, save that those stay as written which become no tasks."""
        return tuple(self._sound_one(task) for task in tasks)

    def _sound_one(self, task: AnyTask) -> AnyTask:
        if not isinstance(task, Task):
            return task.with_tasks(self._sound)
        try:
            return inherit(task, self._declarations)
        except ValidationError as error:
            first = error.errors()[0]
            self._wrong[task.id] = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return task

    def _names_of(self, *texts: tuple[str, str]) -> Names:
        """What texts, each with its path, name, and what the variables name that they name. Raises ExpressionError."""
        names: set[tuple[str, ...]] = set()
        waiting = [name for path, text in texts for name in _names(path, text)]
        while waiting:
            name = waiting.pop()
            if name in names:
                continue
            names.add(name)
            if name[0] == "vars":
                value: Any = self.flow.variables
                for step in name[1:]:
                    value = value.get(step) if isinstance(value, Mapping) else value
                for path, text in templates_of(value, ".".join(name)):
                    waiting += _names(path, text)
        return frozenset(names)


def plan_flow(flow: Flow, tenant: str, declared: Declared) -> FlowPlan:
    """What is known of a flow before any of its executions is looked at. Costs some ms for a large one."""
    found = declared.tenants.get(tenant, Tenant(tenant))
    return FlowPlan(flow, around(tenant, found, flow.namespace, lambda name: declared.namespaces.get((tenant, name))))


def prepare(plan: FlowPlan, facts: Facts, declared: Declared) -> Prepared | Refused:
    """The job of the leaf `facts.run`.

    Refused: UNKNOWN_WORKER_GROUP, TENANT_NOT_ALLOWED, GROUP_DELETING with the key as it was rendered, the level that
    declared it and near matches (`ask_registry` set: only the copy says so); EXPRESSION_FAILED; INVALID_TASK, when
    what it inherits makes no task of it any more.
    """
    planned = plan.task(facts.run.task_id)
    if isinstance(planned, Refused):
        return planned
    task, resolved = plan.places[facts.run.task_id].task, planned.resolved
    assert isinstance(task, Task) and resolved is not None
    scope = _scope(plan, facts)
    try:
        key = render(resolved.key, scope).strip()
    except ExpressionError as error:
        return Refused(EXPRESSION_FAILED, f"workerGroup.key (from {level_shown(resolved)}): {error.message}")
    placement = place_rendered(key, resolved, facts.tenant, declared)
    if isinstance(placement, Refused):
        return placement
    context = select(scope, planned.there)
    inputs = context.get("inputs", {})
    return Prepared(
        placement,
        resolved.key_level,
        resolved.fallback_level,
        planned.wait_limit,
        1 if task.on_worker_lost is OnWorkerLost.FAIL else MAX_DELIVERIES,
        task.type,
        task.properties,
        context,
        planned.timeout,
        any(inputs.get(name) == MASK for name in plan.secrets),
    )


def outputs_too_large(sizes: Mapping[str, int]) -> Refused | None:
    """The refusal of a task or condition whose expressions name more outputs than one scheduler holds for it.
    `sizes`: bytes, by the task whose outputs they are."""
    size = sum(sizes.values())
    if size <= NAMED_OUTPUTS_LIMIT:
        return None
    largest = max(sizes, key=lambda task_id: sizes[task_id])
    return Refused(
        PAYLOAD_TOO_LARGE,
        f"Its expressions name outputs of {len(sizes)} tasks with {size} bytes together; at most {NAMED_OUTPUTS_LIMIT} "
        f"are allowed. The largest are those of {shown(largest)} with {sizes[largest]}. Hand large data on as a file "
        "(outputFiles, inputFiles).",
    )


def too_large(size: int, limit: int, prepared: Prepared) -> Refused:
    """The refusal of a job whose task is larger than the server allows, both in bytes (PAYLOAD_TOO_LARGE)."""
    sizes = {"its own properties": len(json.dumps(dict(prepared.properties)))}
    for root, value in prepared.context.items():
        for name, item in value.items() if isinstance(value, Mapping) else ():
            sizes[f"{root}.{name}"] = len(json.dumps(item))
    largest = max(sizes, key=lambda name: sizes[name])
    return Refused(
        PAYLOAD_TOO_LARGE,
        f"The task has {size} bytes, with what its expressions name; at most {limit} are allowed. The largest part is "
        f"{shown(largest)} with about {sizes[largest]}. Hand large data on as a file (outputFiles, inputFiles).",
    )


def choose_branch(plan: FlowPlan, facts: Facts) -> str | Refused:
    """Which of its `children` an If or Switch `facts.run` takes. Refused: EXPRESSION_FAILED."""
    planned = plan.task(facts.run.task_id)
    if isinstance(planned, Refused):
        return planned
    task = plan.places[facts.run.task_id].task
    assert isinstance(task, If | Switch)
    ((path, text),) = _chosen_by(task)
    try:
        chosen = render(text, _scope(plan, facts))
    except ExpressionError as error:
        return Refused(EXPRESSION_FAILED, f"{path}: {error.message}")
    if isinstance(task, If):
        return "then" if truthy(chosen) else "else"
    return f"cases.{chosen}" if chosen in task.cases else "defaults"


def loop_values(plan: FlowPlan, facts: Facts) -> list[Any] | Refused:
    """What the ForEach `facts.run` goes over. Refused: EXPRESSION_FAILED; INVALID_VALUES, where they are no list;
    TOO_MANY_ROUNDS."""
    planned = plan.task(facts.run.task_id)
    if isinstance(planned, Refused):
        return planned
    task = plan.places[facts.run.task_id].task
    assert isinstance(task, ForEach)
    scope = _scope(plan, facts)
    try:
        if not isinstance(task.values, str):
            return list(render_deep(list(task.values), scope))
        text = render(task.values, scope)
    except ExpressionError as error:
        return Refused(EXPRESSION_FAILED, f"values: {error.message}")
    try:
        values = read_json(text)
    except ValueError as error:
        return Refused(INVALID_VALUES, f"values must come to a JSON list such as [1, 2]; what it came to {error}.")
    if not isinstance(values, list):
        return Refused(INVALID_VALUES, f"values must come to a JSON list such as [1, 2], not to {kind(values)}.")
    if len(values) > MOST_ROUNDS:
        return Refused(
            TOO_MANY_ROUNDS,
            f"values came to {len(values):,}; a loop has at most {MOST_ROUNDS:,} rounds. Give each more to do.",
        )
    return values


def _chosen_by(task: Control) -> list[tuple[str, str]]:
    """The templates by which flow control knows what is to run, with their paths."""
    match task:
        case If():
            return [("condition", task.condition)]
        case Switch():
            return [("value", task.value)]
        case ForEach():
            values = task.values if isinstance(task.values, str) else list(task.values)
            return list(templates_of(values, "values"))
        case _:
            return []


def place_rendered(key: str, resolved: Resolved, tenant: str, declared: Declared) -> Placement | Refused:
    """The group of a rendered key. A blank one is the default group (semantics.md, 2)."""
    origin = _origin(resolved)
    if group_key(key) and (wrong := check_group_key("key", key)):
        what = f"{shown(key)} is no key of a worker group: it {wrong[0].description}."
        return Refused(UNKNOWN_WORKER_GROUP, f"{what} {origin}")
    try:
        group = usable_group(declared, tenant, key, origin)
    except NotFound as error:
        return Refused(UNKNOWN_WORKER_GROUP, error.message, ask_registry=True)
    except (TenantNotAllowed, GroupDeleting) as error:
        return Refused(error.reason, error.message, ask_registry=True)
    return Placement(group.uid, group.key, resolved.fallback)


def _origin(resolved: Resolved) -> str:
    """A sentence that says where a key comes from; empty: nobody declared one."""
    if resolved.key_level == "default":
        return ""
    says = f", which says {shown(resolved.key, 200)}" if is_template(resolved.key) else ""
    return f"The key comes from {level_shown(resolved)}{says}."


def level_shown(resolved: Resolved) -> str:
    level = resolved.key_level
    return level if level.startswith(("namespace", "tenant")) else f"the {level}"


def _scope(plan: FlowPlan, facts: Facts) -> dict[str, Any]:
    flow, run = plan.flow, facts.run
    scope: dict[str, Any] = {
        "inputs": facts.inputs,
        "outputs": facts.outputs,
        "vars": flow.variables,
        "labels": facts.labels,
        "flow": {
            "id": flow.id,
            "namespace": flow.namespace,
            "revision": facts.flow_revision,
            "tenantId": facts.tenant,
        },
        "execution": {"id": facts.execution_id, "startDate": _iso(facts.execution_created_at), "state": "RUNNING"},
        "task": {"id": run.task_id, "type": plan.places[run.task_id].task.type},
        "taskrun": {
            "id": facts.run_id,
            "startDate": _iso(facts.run_created_at),
            "attemptsCount": run.attempt - 1,  # those before this one
            **_round(facts, len(plan.places[run.task_id].loops)),
        },
    }
    if around := plan.around(run.task_id):
        scope["parents"] = [{"taskrun": _round(facts, len(place.loops))} for place in around]
        scope["parent"] = scope["parents"][0]
    if facts.trigger is not None:
        scope["trigger"] = facts.trigger
    return scope


def _round(facts: Facts, depth: int) -> dict[str, Any]:
    """What `taskrun` tells of the innermost round of what stands in so many loops."""
    if depth == 0:
        return {}
    value = facts.values[depth - 1] if facts.values else None
    return {"value": value, "iteration": int(facts.run.iteration.split("/")[depth - 1])}


def _names(path: str, text: str) -> Names:
    try:
        return parse(text).names
    except ExpressionError as error:
        raise ExpressionError(f"{path}: {error.message}") from None


def _span(duration: str | None) -> timedelta | None:
    return None if duration is None else timedelta(seconds=parse_duration(duration))


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
