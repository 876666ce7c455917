"""A tenant: the isolation boundary, and what its jobs inherit.

The tenant `main` always exists. A tenant goes only when nothing names it: were it
dropped from a group's `allowed_tenants`, the last one would leave the list empty,
which means "every tenant".
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from farhand.kernel import names
from farhand.kernel.errors import InUse, Protected, Violation
from farhand.kernel.flow import PluginDefault
from farhand.kernel.resolution import Fallback
from farhand.registry.core.references import check_default_group, listed

CHANGEABLE = ("description", "default_worker_group", "default_fallback", "plugin_defaults")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant. With revision 0 and no times it is what a request asks for, not stored yet."""

    id: str
    description: str = ""
    default_worker_group: str | None = None  # a key; None: not declared; empty: the default group
    default_fallback: Fallback | None = None
    plugin_defaults: tuple[PluginDefault, ...] = ()
    revision: int = 0  # of its last change; its etag
    create_time: datetime | None = None
    update_time: datetime | None = None


def check(tenant: Tenant, fields: Collection[str] = CHANGEABLE) -> list[Violation]:
    """All that is wrong with the given fields of a tenant, by their paths in a request."""
    violations: list[Violation] = []
    if "description" in fields:
        violations += names.check_text("tenant.description", tenant.description)
    if "default_worker_group" in fields:
        violations += check_default_group("tenant.default_worker_group", tenant.default_worker_group)
    return violations


def check_removal(
    tenant_id: str,
    namespaces: Sequence[str],
    groups: Sequence[str],
    flows: Sequence[str],
    files: Sequence[str] = (),
    quotas: Sequence[str] = (),
) -> None:
    """Raises Protected for `main`, and InUse when namespaces, flows, groups (by key) with their allowed tenants or
    their quotas, or files (by their namespaces) still name the tenant."""
    if tenant_id == names.DEFAULT_TENANT:
        raise Protected(f"The tenant {names.shown(tenant_id)} always exists and can't be deleted.")
    if not (namespaces or groups or flows or files or quotas):
        return
    users = []
    if namespaces:
        users.append(f"its namespaces {listed(namespaces)}")
    if flows:
        users.append(f"its flows {listed(flows)}")
    if groups:
        users.append(f"the allowed tenants of the worker groups {listed(groups)}")
    if quotas:
        users.append(f"the quotas of the worker groups {listed(quotas)}")
    if files:
        users.append(f"the files of the namespaces {listed(files)}")
    raise InUse(
        f"The tenant {names.shown(tenant_id)} is in use by {' and '.join(users)}. Remove it there first.",
        metadata={
            "namespaces": str(len(namespaces)),
            "worker_groups": str(len({*groups, *quotas})),
            "flows": str(len(flows)),
        },
    )
