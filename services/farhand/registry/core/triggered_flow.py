"""Which flows have triggers: all that schedulers are told of flows, so that they ask for those and no others."""

from dataclasses import dataclass

from farhand.registry.core.flow import FlowRevision


@dataclass(frozen=True, slots=True)
class TriggeredFlow:
    """A flow whose newest revision has triggers, disabled ones too."""

    tenant: str
    namespace: str
    id: str
    flow_revision: int


def put(saved: FlowRevision) -> TriggeredFlow | None:
    """What a save tells: the flow as it is from now on. None: it has no triggers."""
    return _reference(saved) if saved.triggered else None


def removed(before: FlowRevision | None, saved: FlowRevision | None) -> TriggeredFlow | None:
    """What else it tells, or a deletion: the flow as it was, which is gone from those with triggers.

    ``before`` None: there was none; ``saved`` None: it was deleted.
    """
    if before is None or not before.triggered or (saved is not None and saved.triggered):
        return None
    return _reference(before)


def _reference(flow: FlowRevision) -> TriggeredFlow:
    return TriggeredFlow(flow.tenant, flow.namespace, flow.id, flow.revision)
