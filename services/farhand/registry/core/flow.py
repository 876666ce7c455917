"""A flow as the registry keeps it: numbered revisions that never change.

What a source may say is `farhand.kernel.flow`; here it is a text with a name. A flow
that was deleted keeps its revisions, and one created again under its name goes on
with the next number, so that a number means one source for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from farhand.kernel import names
from farhand.registry.core.etag import check_etag, etag


@dataclass(frozen=True, slots=True)
class FlowRevision:
    """A revision. With number 0 and no times it is what a request asks for, not stored yet."""

    tenant: str
    namespace: str
    id: str
    source: str = ""  # empty too in lists
    definition: str = ""  # empty too in lists
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    saved_by: str = ""
    revision: int = 0
    deleted: bool = False  # the flow is
    triggered: bool = False  # the flow's newest revision has triggers
    create_time: datetime | None = None  # of the flow
    update_time: datetime | None = None  # of this revision

    @property
    def etag(self) -> str:
        """Of this revision; another one once the flow is deleted."""
        return etag(self.revision) + ("d" if self.deleted else "")

    @property
    def label(self) -> str:
        """For messages: "flow 'company.team/hello' in the tenant 'main'"."""
        return f"flow {names.shown(full_name(self.namespace, self.id), 250)} in the tenant {names.shown(self.tenant)}"


@dataclass(frozen=True, slots=True)
class FlowCreation:
    """What a create with a request_id asks for (tenant and source), or which revision it made (the others)."""

    tenant: str
    source: str = ""
    namespace: str = ""
    id: str = ""
    revision: int = 0


def full_name(namespace: str, flow_id: str) -> str:
    """How people name a flow in one text; neither part holds a slash."""
    return f"{namespace}/{flow_id}"


def check_newest(given: str, newest: FlowRevision) -> None:
    """Raises EtagMismatch unless the given etag is empty or that of the newest revision."""
    check_etag(given, newest.label, newest.revision)
