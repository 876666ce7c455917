"""A trigger in a batch of looks: what becomes of it, and of the executions that it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from farhand.kernel.flow import Flow
from farhand.scheduler.core.tick import FlowName, inputs_of
from farhand.scheduler.core.trigger import Result, State
from farhand.scheduler.core.trigger_plan import TriggerPlan
from farhand.scheduler.loops.creating import Creation, StartedBy
from farhand.scheduler.store.triggers import LockedTrigger, MovedTrigger


@dataclass(frozen=True, slots=True)
class KeptFlow:
    """A revision of a flow, as executions are created with it."""

    flow: Flow
    definition: str


@dataclass(frozen=True, slots=True)
class Firing:
    """An execution that is to be. `told`: what `trigger` is in its expressions; `inputs` win over the trigger's."""

    told: Mapping[str, Any]
    started_by: StartedBy
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class InputsRefused(Exception):
    """The inputs of an execution are not what its flow takes; the message says why."""


@dataclass
class Looking:
    """A trigger that is held, and how it is from now on. `result` None: that of before stands."""

    locked: LockedTrigger
    plan: TriggerPlan
    state: State
    job_key: int | None
    due_at: datetime | None = None
    result: Result | None = None
    message: str | None = None
    firings: list[Firing] = field(default_factory=list)
    started: list[int] = field(default_factory=list)

    @classmethod
    def at(cls, locked: LockedTrigger) -> "Looking":
        """Before it is looked at."""
        return cls(locked, TriggerPlan.read(locked.plan), locked.state, locked.job_key)

    @property
    def name(self) -> str:
        """For the log."""
        locked = self.locked
        return f"{locked.tenant}/{locked.namespace}/{locked.flow_id}/{locked.trigger_id}"

    @property
    def flow_name(self) -> FlowName:
        """Its flow's."""
        locked = self.locked
        return FlowName(locked.tenant, locked.namespace, locked.flow_id, locked.flow_revision)

    @property
    def moved(self) -> MovedTrigger:
        """Its row from now on."""
        last = self.started[-1] if self.started else None
        return MovedTrigger(self.locked.key, self.state, self.job_key, last, self.result, self.message)

    def creation(self, firing: Firing, kept: KeptFlow) -> Creation:
        """The execution. Raises InputsRefused."""
        locked = self.locked
        inputs, wrong = inputs_of(self.plan, kept.flow, self.flow_name, firing.told, firing.inputs)
        if wrong:
            told = "; ".join(f"{each.path} {each.description}" for each in wrong)
            raise InputsRefused(f"It was not started: {told}")
        return Creation(
            locked.tenant,
            kept.flow,
            locked.flow_revision,
            kept.definition,
            inputs,
            firing.labels,
            trigger=firing.told,
            started_by=firing.started_by,
            flow_key=locked.flow_key,
        )
