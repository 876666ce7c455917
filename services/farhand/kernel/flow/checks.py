"""What one part of a flow says about another: names, types, inherited properties, groups, expressions.

It works on the plain data and passes over whatever has a wrong shape, which the
model reports; so all that is wrong with a flow is told at once.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from farhand.kernel.expressions import ExpressionError, is_template, parse, templates_of
from farhand.kernel.flow.declarations import FLOW, Declaration
from farhand.kernel.flow.defaults import TASKS_ALONE, Inheritance, matches
from farhand.kernel.flow.inputs import check_default, check_values
from farhand.kernel.flow.model import Flow, Input, InputType, PluginDefault, Trigger
from farhand.kernel.flow.problem import Problem, Severity
from farhand.kernel.flow.source import MOST_PROBLEMS, Path, Source, path_text
from farhand.kernel.flow.tasks import CONTROL, Task
from farhand.kernel.flow.templates import TemplateCheck, circle_of
from farhand.kernel.flow.types import BUILT_IN, SCHEDULE, TRIGGERS, KnownTypes
from farhand.kernel.flow.types.properties import Properties
from farhand.kernel.flow.types.runners import RUNNERS
from farhand.kernel.flow.wording import at, known_names, told
from farhand.kernel.names import check_group_key, group_key, shown

MOST_EXPRESSIONS = 5_000  # of a flow

_COMMON = frozenset(known_names(Task))
_COMMON_TO_TRIGGERS = frozenset(known_names(Trigger))
_POLLING = ("interval", "timeout", "allowConcurrent", "workerGroup")
_LISTS = ("tasks", "errors")  # of a flow
_INSIDE = ("tasks", "then", "else", "defaults")  # of flow control, beside the lists of `cases`
_CHOSEN_BY = ("condition", "value", "values")  # what the scheduler renders of it


def _tasks(data: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Every task that is a map at least, in the order of the source."""
    waiting: list[tuple[Path, Any]] = [((name,), data.get(name)) for name in reversed(_LISTS)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, list):
            waiting += [((*path, index), item) for index, item in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            yield path, value
            if value.get("type") in CONTROL:
                waiting += [((*path, name), value[name]) for name in reversed(_INSIDE) if name in value]
                if isinstance(cases := value.get("cases"), dict):
                    waiting += [((*path, "cases", name), inside) for name, inside in reversed(cases.items())]


def too_many_tasks(source: Source) -> Problem | None:
    """A flow is bounded, and one that is not is read no further."""
    count = sum(1 for _ in _tasks(source.data))
    if count <= Flow.MOST_TASKS:
        return None
    return source.problem(("tasks",), f"the flow has {count} tasks; at most {Flow.MOST_TASKS} are allowed", key=True)


def why_no_group(key: str | None, check_group: Callable[[str], str]) -> str:
    """Why a key may not stand there; empty: it may, or is not known before it is rendered."""
    if key is None or is_template(key):
        return ""
    key = group_key(key)
    if key and (violations := check_group_key("key", key)):
        return violations[0].description
    return check_group(key)


class _Enough(Exception):
    """More errors than are told."""


class Checks:
    """The checks of one source."""

    def __init__(
        self,
        source: Source,
        known: KnownTypes,
        declarations: Sequence[Declaration],
        check_group: Callable[[str], str],
    ) -> None:
        self._source = source
        self._data: Mapping[str, Any] = source.data
        self._known = known
        self._check_group = check_group
        self._defaults = dict(self._readable_defaults())
        self._declarations = [Declaration(FLOW, plugin_defaults=tuple(self._defaults.values())), *declarations]
        self._inheritance = Inheritance(self._declarations)
        self._errors: list[Problem] = []
        self._warnings: list[Problem] = []
        self._expressions = 0
        self._answers: dict[str, str] = {}  # of what is asked again and again: types and groups

    def problems(self) -> list[Problem]:
        """All that they find, errors and warnings; of each some more than are told, where there are so many."""
        with suppress(_Enough):
            self._all()
        return self._errors + self._warnings

    def _all(self) -> None:
        self._flow()
        self._inputs()
        ids: dict[str, Path] = {}
        tasks = list(_tasks(self._data))
        templates = TemplateCheck.of_tasks(
            self._data, [task["id"] for _, task in tasks if isinstance(task.get("id"), str)]
        )
        for path, task in tasks:
            self._unique(ids, path, task)
            self._type(path, task.get("type"), self._known.why_no_task)
            self._group(path, task)
            self._properties(path, task)
            self._templates(templates, path, task)
        for index, trigger in self._maps("triggers"):
            path = ("triggers", index)
            self._unique(ids, path, trigger)
            self._type(path, trigger.get("type"), self._known.why_no_trigger)
            self._group(path, trigger)
            self._trigger_properties(path, trigger)
            self._trigger_inputs(path, trigger)
            self._trigger_templates(path, trigger)
        self._texts(templates, ("workerGroup", "key"), at_scheduler=True)
        self._variables(templates)
        self._labels(templates)
        for index in self._defaults:
            self._group(("pluginDefaults", index, "values"), at(self._data, ("pluginDefaults", index, "values")))
            for name in self._defaults[index].values.written:
                place = ("pluginDefaults", index, "values", name)
                self._texts(templates, place, at_scheduler=name == "workerGroup")
            self._useful(("pluginDefaults", index, "type"), self._defaults[index].type)

    def _tell(self, path: Path, message: str, severity: Severity = Severity.ERROR, *, key: bool = False) -> None:
        problem = replace(self._source.problem(path, message, key=key), severity=severity)
        if severity is Severity.WARNING:
            self._warnings.append(problem)
            return
        self._errors.append(problem)
        if len(self._errors) > MOST_PROBLEMS:
            raise _Enough

    def _maps(self, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        items = self._data.get(name)
        for index, item in enumerate(items if isinstance(items, list) else []):
            if isinstance(item, dict):
                yield index, item

    def _readable_defaults(self) -> Iterator[tuple[int, PluginDefault]]:
        for index, item in self._maps("pluginDefaults"):
            try:
                yield index, PluginDefault.model_validate(item)
            except ValidationError:
                continue

    def _flow(self) -> None:
        self._group((), self._data)
        for path, _ in self._found_templates(("labels",)):
            self._tell(path, "is kept as it is: expressions are not rendered here", Severity.WARNING)

    def _useful(self, path: Path, pattern: str) -> None:
        """A default that nothing will ever inherit is a mistake, most likely."""
        if pattern in CONTROL:
            self._tell(path, "flow control inherits nothing", Severity.WARNING)
        elif not any(matches(pattern, name) for name in self._known.inheriting):
            self._tell(path, "matches no type that is known" + self._known.near_prefix(pattern), Severity.WARNING)

    def _inputs(self) -> None:
        ids: dict[str, Path] = {}
        for index, item in self._maps("inputs"):
            self._unique(ids, ("inputs", index), item)
            try:
                wrong = check_default(Input.model_validate(item))
            except ValidationError:
                continue
            for where, what in wrong:
                self._tell(("inputs", index, "defaults", *where), what)
            for path, _ in self._found_templates(("inputs", index, "defaults")):
                self._tell(path, "must be a value: expressions are not rendered here")

    def _unique(self, ids: dict[str, Path], path: Path, item: Mapping[str, Any]) -> None:
        name = item.get("id")
        if not isinstance(name, str):
            return
        if name in ids:
            first = ids[name]
            line, _ = self._source.place((*first, "id"))
            self._tell((*path, "id"), f"{shown(name)} is the id of {path_text(first)} already, in line {line}")
        else:
            ids[name] = path

    def _type(self, path: Path, name: Any, why_not: Callable[[str], str]) -> None:
        if not isinstance(name, str):
            return
        if (answer := f"{path[0]} {name}") not in self._answers:
            self._answers[answer] = why_not(name)
        if why := self._answers[answer]:
            self._tell((*path, "type"), why)

    def _group(self, path: Path, item: Mapping[str, Any]) -> None:
        """The literal key of a task, trigger, default or flow: well formed, there, and open to the tenant."""
        key = at(item, ("workerGroup", "key"))
        if not isinstance(key, str):
            return
        if (answer := f"group {key}") not in self._answers:
            self._answers[answer] = why_no_group(key, self._check_group)
        if why := self._answers[answer]:
            self._tell((*path, "workerGroup", "key"), why)

    def _properties(self, path: Path, task: Mapping[str, Any]) -> None:
        """Whether a task of a built-in type has what it needs, and no more, with what it inherits."""
        type_name = task.get("type")
        if isinstance(type_name, str) and type_name in BUILT_IN:
            self._hold_against(BUILT_IN[type_name], path, task, _COMMON)

    def _trigger_properties(self, path: Path, trigger: Mapping[str, Any]) -> None:
        """The same for a trigger; that only tasks have a use for what it inherits is no mistake."""
        type_name = trigger.get("type")
        if not isinstance(type_name, str) or type_name not in TRIGGERS:
            return
        self._hold_against(TRIGGERS[type_name], path, trigger, _COMMON_TO_TRIGGERS | (TASKS_ALONE - trigger.keys()))
        for name in _POLLING if type_name == SCHEDULE else ():
            if name in trigger:
                message = "has no effect here: the scheduler itself looks at the clock, and no worker is asked"
                self._tell((*path, name), message, Severity.WARNING, key=True)

    def _hold_against(
        self, root: type[Properties], path: Path, item: Mapping[str, Any], apart: Collection[str]
    ) -> None:
        type_name = item["type"]
        merged = self._inheritance.effective(item)
        properties = {name: value for name, value in merged.items() if name not in apart and value is not None}
        try:
            root.model_validate(properties)
        except ValidationError as error:
            for where, message, is_name in told(error, properties, root, type_name):
                self._tell_property(path, where, message, type_name, is_name)
        self._runner(path, properties, type_name)

    def _runner(self, path: Path, properties: Mapping[str, Any], type_name: str) -> None:
        """The task runner that a task of that type chose, and what it takes."""
        runner = properties.get("taskRunner")
        if not isinstance(runner, dict) or not isinstance(name := runner.get("type"), str):
            return
        if (answer := f"runner {name}") not in self._answers:
            self._answers[answer] = self._known.why_no_runner(name)
        if why := self._answers[answer]:
            self._tell_property(path, ("taskRunner", "type"), why, type_name, False)
        if name not in RUNNERS:
            return
        own = {each: value for each, value in runner.items() if each != "type" and value is not None}
        try:
            RUNNERS[name].model_validate(own)
        except ValidationError as error:
            for where, message, is_name in told(error, own, RUNNERS[name], name):
                self._tell_property(path, ("taskRunner", *where), message, type_name, is_name)
        if RUNNERS[name].NEEDS_IMAGE and not (properties.get("containerImage") or own.get("image")):
            message = f"{name} needs an image: say containerImage on the task"
            self._tell_property(path, ("taskRunner",), message, type_name, True)

    def _trigger_inputs(self, path: Path, trigger: Mapping[str, Any]) -> None:
        """Whether an execution could be created with the inputs; what an expression comes to is checked then."""
        given = self._inheritance.effective(trigger).get("inputs") or {}
        if not isinstance(given, dict):
            return
        try:
            known = [Input.model_validate(item) for _, item in self._maps("inputs")]
        except ValidationError:
            return
        rendered = {name for name, value in given.items() if next(templates_of(value), None) is not None}
        wrong = {each.path.removeprefix("inputs."): each.description for each in check_values(known, given)}
        secrets = {each.id: each for each in known if each.type is InputType.SECRET}
        for name in sorted(secrets.keys() & given.keys() | {name for name in secrets if name in wrong}):
            wrong[name] = (
                "is a secret, which a trigger can't give: whoever may read the flow would read it. Let it be "
                "`required: false`, or start the flow by `farhand execution create`"
            )
        for name, text in wrong.items():
            if name not in rendered or name in secrets:
                there = at(trigger, ("inputs", name)) is not None
                self._tell((*path, "inputs", name), text if there else f"the input {shown(name)} {text}", key=there)

    def _tell_property(self, path: Path, where: Path, message: str, type_name: str, is_name: bool) -> None:
        """At the task where it says so itself or should; else where the flow's defaults do, or naming whose do."""
        for declaration in self._declarations:
            for default in declaration.plugin_defaults:
                if (
                    matches(default.type, type_name)
                    and at(default.values.written, where) is not None
                    and (default.forced or at(self._data, (*path, *where)) is None)
                ):
                    self._tell_inherited(path, where, message, declaration, default, is_name)
                    return
        self._tell((*path, *where), message, key=is_name)

    def _tell_inherited(
        self, path: Path, where: Path, message: str, declaration: Declaration, default: PluginDefault, is_name: bool
    ) -> None:
        for index, own in self._defaults.items():
            if own is default:
                place: Path = ("pluginDefaults", index, "values", *where)
                if not any(problem.path == path_text(place) for problem in self._errors):
                    self._tell(place, f"{message} (for {path_text(path)})", key=is_name)
                return
        self._tell(path, f"{path_text(where)} {message} (it comes from the plugin defaults of {declaration.name})")

    def _templates(self, check: TemplateCheck, path: Path, task: Mapping[str, Any]) -> None:
        """The expressions of what is rendered: properties on the worker, groups and flow control by the scheduler."""
        around = [type_name for type_name in self._types_around(path) if type_name in CONTROL]
        if task.get("type") in CONTROL:
            for name in _CHOSEN_BY:
                self._texts(check, (*path, name), at_scheduler=True, around=around)
            return
        self._texts(check, (*path, "workerGroup", "key"), at_scheduler=True, around=around)
        for name in task.keys() - _COMMON:
            self._texts(check, (*path, name), at_scheduler=False, around=around)

    def _types_around(self, path: Path) -> Iterator[Any]:
        """The types of all maps that hold what is there."""
        value: Any = self._data
        for step in path[:-1]:
            value = value[step]
            if isinstance(value, dict):
                yield value.get("type")

    def _variables(self, check: TemplateCheck) -> None:
        """Variables may hold expressions, which are rendered where they are used; hence in no circle."""
        self._texts(check, ("variables",), at_scheduler=False)
        variables = at(self._data, ("variables",))
        names: dict[str, set[str]] = {}
        for name, value in variables.items() if isinstance(variables, dict) else ():
            with suppress(ExpressionError):
                named = [found for _, text in templates_of(value) for found in parse(text).names if found[0] == "vars"]
                names[name] = {each for found in named for each in (found[1:2] or variables)}
        if circle := circle_of(names):
            around = " → ".join(path_text([name]) for name in circle)
            self._tell(("variables", circle[0]), f"variables name one another in a circle: {around}")

    def _trigger_templates(self, path: Path, trigger: Mapping[str, Any]) -> None:
        """A trigger has no execution yet: all know the flow alone, and its inputs what it saw."""
        flow = TemplateCheck.of_trigger(self._data)
        self._texts(flow, (*path, "workerGroup", "key"), at_scheduler=True)
        self._texts(TemplateCheck.of_trigger(self._data, "trigger"), (*path, "inputs"), at_scheduler=True)
        for name in trigger.keys() - _COMMON_TO_TRIGGERS:
            check = TemplateCheck.of_trigger(self._data, "response") if name == "responseCondition" else flow
            self._texts(check, (*path, name), at_scheduler=False)

    def _labels(self, check: TemplateCheck) -> None:
        """A secret can't stand there, though nothing is rendered."""
        for path, text in self._found_templates(("labels",)):
            for message in check.secrets_in(text):
                self._tell(path, message)

    def _texts(
        self, check: TemplateCheck, path: Path, *, at_scheduler: bool, around: Collection[str] = CONTROL
    ) -> None:
        """All templates there, however deep."""
        for where, text in self._found_templates(path):
            self._expressions += text.count("{{")
            if self._expressions > MOST_EXPRESSIONS:
                self._tell(where, f"the flow holds more than {MOST_EXPRESSIONS} expressions")
                raise _Enough
            names = len(self._warnings) <= MOST_PROBLEMS
            for message, severity in check.of(text, names=names, at_scheduler=at_scheduler, around=around):
                self._tell(where, message, severity)

    def _found_templates(self, path: Path) -> Iterator[tuple[Path, str]]:
        waiting = [(path, at(self._data, path))]
        while waiting:
            where, value = waiting.pop()
            if isinstance(value, str):
                if is_template(value):
                    yield where, value
            elif isinstance(value, dict):
                waiting += [((*where, name), item) for name, item in value.items()]
            elif isinstance(value, list):
                waiting += [((*where, index), item) for index, item in enumerate(value)]
