"""A namespace: a dotted name inside a tenant that declares what its jobs inherit.

Inheritance itself is `farhand.kernel.resolution`; here a namespace stands alone,
and its ancestors need not exist.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from farhand.kernel import names
from farhand.kernel.errors import Violation
from farhand.kernel.flow import PluginDefault
from farhand.kernel.resolution import Fallback
from farhand.registry.core.references import check_default_group

CHANGEABLE = ("description", "default_worker_group", "default_fallback", "plugin_defaults")


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace. With revision 0 and no times it is what a request asks for, not stored yet."""

    tenant: str
    name: str
    description: str = ""
    default_worker_group: str | None = None  # a key; None: inherited; empty: the default group
    default_fallback: Fallback | None = None  # None: inherited
    plugin_defaults: tuple[PluginDefault, ...] = ()
    revision: int = 0  # of its last change; its etag
    create_time: datetime | None = None
    update_time: datetime | None = None


def check(namespace: Namespace, fields: Collection[str] = CHANGEABLE) -> list[Violation]:
    """All that is wrong with the given fields of a namespace, by their paths in a request."""
    violations: list[Violation] = []
    if "description" in fields:
        violations += names.check_text("namespace.description", namespace.description)
    if "default_worker_group" in fields:
        violations += check_default_group("namespace.default_worker_group", namespace.default_worker_group)
    return violations
