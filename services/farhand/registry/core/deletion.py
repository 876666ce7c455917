"""How a worker group goes away: a conversation of the registry with the scheduler.

Only the scheduler knows a group's jobs, so a deletion is asked for here and
decided there. The group is DELETING in between: whoever submits to it is refused,
and nothing new may name it. The scheduler answers "finished", and the row goes,
or "refused", and the group is ACTIVE again with the counts that say why.

    ACTIVE ──asked──► DELETING ──finished──► (gone)
       ▲                │  ▲ │
       └────refused─────┘  └─┘ asked again: joins; force is added, never taken back

Answers come at least once. A repeated "refused" finds the refusal that it made
and changes nothing; a repeated "finished" finds no group, which its caller looks
up among the removals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from farhand.kernel import names
from farhand.kernel.errors import HasJobs, InUse, NotDeleting, Protected
from farhand.registry.core.references import listed
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup


@dataclass(frozen=True, slots=True)
class Asked:
    """An administrator wants the group gone."""

    force: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The scheduler has no job of the group left and will take none."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The scheduler found jobs and was not told to kill them."""

    refusal: Refusal


Event = Asked | Finished | Refused


def _start(group: WorkerGroup, event: Event) -> WorkerGroup:
    assert isinstance(event, Asked)
    return replace(
        group,
        state=GroupState.DELETING,
        force_deletion=event.force,
        deleting_since=group.revision,
        refusal=None,
    )


def _join(group: WorkerGroup, event: Event) -> WorkerGroup:
    assert isinstance(event, Asked)
    return replace(group, force_deletion=group.force_deletion or event.force)


def _finish(group: WorkerGroup, event: Event) -> None:
    return None


def _refuse(group: WorkerGroup, event: Event) -> WorkerGroup:
    assert isinstance(event, Refused)
    return replace(group, state=GroupState.ACTIVE, force_deletion=False, deleting_since=None, refusal=event.refusal)


def _refuse_again(group: WorkerGroup, event: Event) -> WorkerGroup:
    assert isinstance(event, Refused)
    return group if group.refusal == event.refusal else _not_deleting(group, event)


def _not_deleting(group: WorkerGroup, event: Event) -> WorkerGroup:
    raise NotDeleting(f"The worker group {names.shown(group.key)} ({group.uid}) is not being deleted.")


TABLE: Mapping[tuple[GroupState, type[Event]], Callable[[WorkerGroup, Event], WorkerGroup | None]] = {
    (GroupState.ACTIVE, Asked): _start,
    (GroupState.ACTIVE, Finished): _not_deleting,
    (GroupState.ACTIVE, Refused): _refuse_again,
    (GroupState.DELETING, Asked): _join,
    (GroupState.DELETING, Finished): _finish,
    (GroupState.DELETING, Refused): _refuse,
}


def step(group: WorkerGroup, event: Event) -> WorkerGroup | None:
    """The group after the event; None: its row goes. The same value: nothing changed.

    Raises Protected for the default group, NotDeleting for an answer to no question.
    """
    if group.key == "":
        raise Protected("The default worker group always exists and can't be deleted.")
    return TABLE[group.state, type(event)](group, event)


def check_unused(group: WorkerGroup, tenants: Sequence[str], namespaces: Sequence[str], flows: Sequence[str]) -> None:
    """Raises InUse when tenants, namespaces ("tenant/name") or flows ("tenant/namespace/id") name the group.

    Tenants and namespaces name it as their default or in their plugin defaults, flows in their newest revision.
    """
    users = {"tenants": tenants, "namespaces": namespaces, "flows": flows}
    if not any(users.values()):
        return
    who = " and by ".join(f"the {kind} {listed(found)}" for kind, found in users.items() if found)
    raise InUse(
        f"The worker group {names.shown(group.key)} is named by {who}. Give them another one first.",
        metadata={kind: str(len(found)) for kind, found in users.items()},
    )


def has_jobs(group: WorkerGroup) -> HasJobs:
    """What a caller hears whose deletion was refused."""
    refusal = group.refusal or Refusal(0, 0)
    return HasJobs(
        f"The worker group {names.shown(group.key)} still has {refusal.queued_jobs} queued and "
        f"{refusal.running_jobs} running jobs. Wait for them, kill them, or delete with force.",
        metadata={"queued_jobs": str(refusal.queued_jobs), "running_jobs": str(refusal.running_jobs)},
    )
