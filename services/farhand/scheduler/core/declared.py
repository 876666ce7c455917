"""The scheduler's copy of what the registry declares, as a value, and where a job goes by it.

A `Declared` is one revision of the copy and never changes; `after` gives the next
one. `place` is the only place of the scheduler that resolves a worker group and a
fallback (semantics.md, 2): job, nearest namespaces, tenant, default.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from farhand.kernel.errors import GroupDeleting, TenantNotAllowed
from farhand.kernel.flow import PluginDefault, around
from farhand.kernel.names import DEFAULT_TENANT, group_key, group_label, not_found, shown
from farhand.kernel.quotas import Quota
from farhand.kernel.resolution import Fallback, Level, resolve


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant and what it declares for jobs that inherit from it; None: nothing."""

    id: str
    default_worker_group: str | None = None
    default_fallback: Fallback | None = None
    plugin_defaults: tuple[PluginDefault, ...] = ()


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and what it declares for jobs that inherit from it; None: nothing."""

    tenant: str
    name: str
    default_worker_group: str | None = None
    default_fallback: Fallback | None = None
    plugin_defaults: tuple[PluginDefault, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A worker group as schedulers need it. `allowed_tenants` empty: every tenant."""

    uid: str
    key: str
    allowed_tenants: frozenset[str] = frozenset()
    lease_ms: int = 60_000
    paused: bool = False
    deleting: bool = False
    force_deletion: bool = False  # while deleting: its jobs are to be killed
    quotas: tuple[Quota, ...] = ()  # by tenant

    def allows(self, tenant: str) -> bool:
        """Whether jobs of the tenant may run here (P10)."""
        return not self.allowed_tenants or tenant in self.allowed_tenants


@dataclass(frozen=True, slots=True)
class RemovedTenant:
    """A tenant is gone."""

    id: str


@dataclass(frozen=True, slots=True)
class RemovedNamespace:
    """A namespace is gone; what is below it inherits from further up."""

    tenant: str
    name: str


@dataclass(frozen=True, slots=True)
class RemovedGroup:
    """A worker group is gone."""

    uid: str


@dataclass(frozen=True, slots=True)
class TriggeredFlow:
    """A flow has triggers, and a new revision. The copy in memory knows nothing of it: loops look into the tables."""

    tenant: str
    namespace: str
    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class RemovedTriggeredFlow:
    """A flow has no triggers any more, or is gone."""

    tenant: str
    namespace: str
    id: str


Resource = (
    Tenant | Namespace | Group | TriggeredFlow | RemovedTenant | RemovedNamespace | RemovedGroup | RemovedTriggeredFlow
)


@dataclass(frozen=True, slots=True)
class Change:
    """What one revision changed. `resource` None: something that this version does not know."""

    revision: int
    resource: Resource | None


class OutOfOrder(Exception):
    """A change that does not follow the revision it was applied to; nothing was changed."""


@dataclass(frozen=True)
class Declared:
    """All that is declared at one revision; 0: nothing is known yet."""

    revision: int = 0
    tenants: Mapping[str, Tenant] = field(default_factory=dict)  # by id
    namespaces: Mapping[tuple[str, str], Namespace] = field(default_factory=dict)  # by tenant and name
    groups: Mapping[str, Group] = field(default_factory=dict)  # by key
    groups_by_uid: Mapping[str, Group] = field(default_factory=dict)

    @classmethod
    def of(
        cls, revision: int, tenants: Iterable[Tenant], namespaces: Iterable[Namespace], groups: Iterable[Group]
    ) -> "Declared":
        """From its parts, in any order."""
        by_uid = {group.uid: group for group in groups}
        return cls(
            revision,
            {tenant.id: tenant for tenant in tenants},
            {(namespace.tenant, namespace.name): namespace for namespace in namespaces},
            {group.key: group for group in by_uid.values()},
            by_uid,
        )

    def after(self, change: Change) -> "Declared":
        """The next revision. Raises OutOfOrder unless the change is the one that follows."""
        if change.revision != self.revision + 1:
            raise OutOfOrder(f"revision {change.revision} does not follow {self.revision}")
        tenants, namespaces, by_uid = dict(self.tenants), dict(self.namespaces), dict(self.groups_by_uid)
        match change.resource:
            case Tenant() as tenant:
                tenants[tenant.id] = tenant
            case Namespace() as namespace:
                namespaces[namespace.tenant, namespace.name] = namespace
            case Group() as group:
                by_uid[group.uid] = group
            case RemovedTenant(id):
                tenants.pop(id, None)
            case RemovedNamespace(tenant_id, name):
                namespaces.pop((tenant_id, name), None)
            case RemovedGroup(uid):
                by_uid.pop(uid, None)
            case TriggeredFlow() | RemovedTriggeredFlow() | None:
                pass
        return Declared.of(change.revision, tenants.values(), namespaces.values(), by_uid.values())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the registry tells, at one revision."""

    declared: Declared
    triggered: tuple[TriggeredFlow, ...] = ()

    @property
    def revision(self) -> int:
        """Which."""
        return self.declared.revision


def changed_groups(before: Declared, now: Declared) -> frozenset[str]:
    """The uids of the groups that came, went or are not as they were."""
    uids = before.groups_by_uid.keys() | now.groups_by_uid.keys()
    return frozenset(uid for uid in uids if before.groups_by_uid.get(uid) != now.groups_by_uid.get(uid))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a job goes, and what happens to it while that group is not available."""

    group_uid: str
    key: str
    fallback: Fallback


def place(
    declared: Declared, *, tenant: str, namespace: str | None, group_key: str | None, fallback: Fallback | None
) -> Placement:
    """Resolve a job's group and fallback.

    `namespace` None or empty: none. `group_key` and `fallback` None: inherited; the key "" or "_default" is the
    default group. Raises NotFound (no such tenant, no such group, with near matches among the groups that
    the tenant may use), TenantNotAllowed, GroupDeleting.
    """
    known_tenant = declared.tenants.get(tenant)
    if known_tenant is None:
        # Of the other tenants only the one that everybody knows is ever named.
        known = [DEFAULT_TENANT] if DEFAULT_TENANT in declared.tenants else []
        raise not_found("tenant", tenant, known, "An administrator makes it with: farhand tenant create")
    outer = around(tenant, known_tenant, namespace, lambda name: declared.namespaces.get((tenant, name)))
    resolved = resolve([Level("job", group_key, fallback), *(declaration.level for declaration in outer)])
    named = resolved.key_level in ("job", "default")
    group = usable_group(declared, tenant, resolved.key, "" if named else f"It is the default of {resolved.key_level}.")
    return Placement(group.uid, group.key, resolved.fallback)


def usable_group(declared: Declared, tenant: str, wanted: str, origin: str) -> Group:
    """The group of that key, if jobs of the tenant may be put there now.

    `origin`: a sentence for messages that says where the key comes from; empty: from whoever reads them. Raises
    NotFound, TenantNotAllowed, GroupDeleting.
    """
    key = group_key(wanted)
    group = declared.groups.get(key)
    inherited = f" {origin}" if origin else ""
    if group is None:
        usable = [other.key for other in declared.groups.values() if other.allows(tenant) and not other.deleting]
        raise not_found("worker group", group_label(key), usable, origin)
    named = {"worker_group": group_label(key), "tenant": tenant}
    if not group.allows(tenant):
        raise TenantNotAllowed(
            f"Worker group {shown(group_label(key))} does not allow tenant {shown(tenant)}.{inherited} Name "
            "another worker group, or ask an administrator to add the tenant to the group's allowed tenants.",
            metadata=named,
        )
    if group.deleting:
        raise GroupDeleting(
            f"Worker group {shown(group_label(key))} is being deleted and takes no jobs.{inherited} Name another "
            "worker group.",
            metadata=named,
        )
    return group
