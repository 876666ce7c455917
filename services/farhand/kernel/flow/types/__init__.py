"""Task types and trigger types: which there are, and what each takes.

The built-in ones have a model of their properties each. Types that workers brought
along are known by name alone: what they take only they know.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from farhand.kernel.flow.tasks import CONTROL
from farhand.kernel.flow.types import core, http, local, schedule, script
from farhand.kernel.flow.types.properties import Properties
from farhand.kernel.flow.types.runners import RUNNERS
from farhand.kernel.names import near_matches, shown

BUILT_IN: Mapping[str, type[Properties]] = {
    "farhand.core.Noop": core.Noop,
    "io.kestra.plugin.core.debug.Return": core.Return,
    "io.kestra.plugin.core.execution.Fail": core.Fail,
    "io.kestra.plugin.core.flow.Sleep": core.Sleep,
    "io.kestra.plugin.core.http.Request": http.Request,
    "io.kestra.plugin.core.log.Log": core.Log,
    "io.kestra.plugin.scripts.python.Commands": script.Commands,
    "io.kestra.plugin.scripts.python.Script": script.InlineScript,
    "io.kestra.plugin.scripts.shell.Commands": script.Commands,
    "io.kestra.plugin.scripts.shell.Script": script.InlineScript,
}
"""What runs on workers, and its properties."""

SCHEDULE = "io.kestra.plugin.core.trigger.Schedule"

TRIGGERS: Mapping[str, type[Properties]] = {
    SCHEDULE: schedule.Schedule,
    "io.kestra.plugin.core.http.Trigger": http.Trigger,
    "io.kestra.plugin.fs.local.Trigger": local.Trigger,
}
"""What starts executions, and its properties. All but Schedule are polling triggers, evaluated on workers."""


@dataclass(frozen=True, slots=True)
class KnownTypes:
    """The built-in types and those that workers of the roll ever told."""

    told: frozenset[str] = frozenset()

    @property
    def tasks(self) -> frozenset[str]:
        """All that a task can be."""
        return self.told | BUILT_IN.keys() | CONTROL.keys()

    @property
    def inheriting(self) -> frozenset[str]:
        """All that plugin defaults can be for."""
        return self.told | BUILT_IN.keys() | TRIGGERS.keys() | RUNNERS.keys()

    def near_prefix(self, pattern: str) -> str:
        """A hint for a prefix of types that matches none."""
        parts = pattern.count(".") + 1
        return _hint(pattern, frozenset(".".join(name.split(".")[:parts]) for name in self.inheriting))

    def why_no_task(self, name: str) -> str:
        """Why a task can't be of the type, with near matches; empty: it can."""
        if name in self.tasks:
            return ""
        if name in TRIGGERS:
            return f"{name} is a trigger's type: put it under triggers"
        if name in RUNNERS:
            return f"{name} is a task runner: put it under a script's taskRunner"
        return f"there is no task type {shown(name, 200)}" + _hint(name, self.tasks)

    @property
    def triggers(self) -> frozenset[str]:
        """All that a trigger can be."""
        return self.told | TRIGGERS.keys()

    def why_no_trigger(self, name: str) -> str:
        """Why a trigger can't be of the type, with near matches; empty: it can."""
        if name in self.triggers:
            return ""
        if name in BUILT_IN or name in CONTROL:
            return f"{name} is a task's type: put it under tasks"
        return f"there is no trigger type {shown(name, 200)}" + _hint(name, self.triggers)

    def why_no_runner(self, name: str) -> str:
        """Why a task runner can't be of the type, with near matches; empty: it can. Workers tell the types of other
        packages' runners among their tasks'."""
        if name in RUNNERS or name in self.told:
            return ""
        return f"there is no task runner {shown(name, 200)}" + _hint(name, self.told | RUNNERS.keys())


def _hint(name: str, known: frozenset[str]) -> str:
    """By the last part first: all types of a package look alike, and nobody knows them by heart."""
    last = near_matches(_last(name), [_last(full) for full in known])
    candidates = sorted(full for full in known if _last(full) in last)
    near = near_matches(name, candidates or known) or candidates[:3]
    return f". Did you mean {' or '.join(near)}?" if near else ""


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]
