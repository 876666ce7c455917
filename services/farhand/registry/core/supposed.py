"""What would be declared together with a flow: looked at before anything of it is.

Whoever applies a whole folder wants to hear all that is wrong with it first. So what
the creations and changes would refuse one after another is told here at once, as if
each came when all that it names was there already.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from farhand.kernel import names
from farhand.kernel.errors import FarhandError, Violation
from farhand.registry.core import namespace, plugin_defaults, tenant, worker_group
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.references import check_default_group_use
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.worker_group import WorkerGroup

_PATH = "supposed"


@dataclass(frozen=True, slots=True)
class Supposed:
    """In their order; `violations` are what the core has no value for, by paths of `Declarations`."""

    tenants: Sequence[Tenant] = ()
    namespaces: Sequence[Namespace] = ()
    groups: Sequence[WorkerGroup] = ()
    violations: Sequence[Violation] = ()

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The one with this id, if it is supposed."""
        return next((each for each in self.tenants if each.id == tenant_id), None)

    def namespaces_of(self, tenant_id: str) -> Mapping[str, Namespace]:
        """By name."""
        return {each.name: each for each in self.namespaces if each.tenant == tenant_id}

    def groups_over(self, there: Iterable[WorkerGroup]) -> list[WorkerGroup]:
        """All groups that there would be."""
        return list(({group.key: group for group in there} | {group.key: group for group in self.groups}).values())


@dataclass(frozen=True, slots=True)
class There:
    """What is declared, as far as what is supposed has to do with it."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    namespaces: Mapping[tuple[str, str], Namespace] = field(default_factory=dict)
    groups: Sequence[WorkerGroup] = ()  # all


NOTHING = Supposed()


def path_of(kind: str, index: int) -> str:
    """Where one of them is, e.g. "supposed.tenants[0]"."""
    return f"{_PATH}.{kind}[{index}]"


def moved(violations: Iterable[Violation], path: str) -> list[Violation]:
    """What is wrong with a resource alone ("tenant.lease"), with the path that it has here."""
    return [Violation(f"{path}.{each.path.partition('.')[2]}", each.description) for each in violations]


def check(supposed: Supposed, there: There, lease_floor: timedelta) -> list[Violation]:
    """All that would keep it from being declared, by paths of `Declarations`."""
    violations = list(supposed.violations)
    groups = {group.key: group for group in supposed.groups_over(there.groups)}
    tenants = there.tenants.keys() | {each.id for each in supposed.tenants}
    for index, each in enumerate(supposed.tenants):
        path = path_of("tenants", index)
        violations += moved(names.check_tenant("tenant.id", each.id) + tenant.check(each), path)
        violations += _named_groups(path, each, there.tenants.get(each.id), each.id, groups)
    for index, space in enumerate(supposed.namespaces):
        path = path_of("namespaces", index)
        wrong = names.check_namespace("namespace.name", space.name) + namespace.check(space)
        violations += moved(wrong, path)
        violations += _named_tenants(f"{path}.tenant", [space.tenant], tenants)
        before = there.namespaces.get((space.tenant, space.name))
        violations += _named_groups(path, space, before, space.tenant, groups)
    for index, group in enumerate(supposed.groups):
        path = path_of("worker_groups", index)
        wrong = names.check_group_key("worker_group.key", group.key) if group.key else []
        violations += moved(wrong + worker_group.check(group, lease_floor), path)
        violations += _named_tenants(f"{path}.allowed_tenants", group.allowed_tenants, tenants)
        violations += _named_tenants(f"{path}.quotas", group.named_in_quotas, tenants)
    return violations


def _named_tenants(path: str, named: Sequence[str], tenants: Iterable[str]) -> Iterator[Violation]:
    for tenant_id in sorted(set(named).difference(tenants)):
        yield Violation(path, _unknown("tenant", tenant_id, tenants))


def _named_groups(
    path: str,
    new: Tenant | Namespace,
    before: Tenant | Namespace | None,
    tenant_id: str,
    groups: Mapping[str, WorkerGroup],
) -> Iterator[Violation]:
    """Of the groups that it did not name before, as `rpc/default_group.py` has it."""
    named = list(plugin_defaults.groups("plugin_defaults", new.plugin_defaults))
    known = {key for _, key in plugin_defaults.groups("", before.plugin_defaults)} if before else set()
    if new.default_worker_group is not None and (
        before is None or before.default_worker_group != new.default_worker_group
    ):
        yield from _named_group(f"{path}.default_worker_group", new.default_worker_group, tenant_id, groups)
    for where, key in named:
        if key not in known:
            yield from _named_group(f"{path}.{where}", key, tenant_id, groups)


def _named_group(path: str, key: str, tenant_id: str, groups: Mapping[str, WorkerGroup]) -> Iterator[Violation]:
    group = groups.get(key)
    if group is None:
        if not key or not names.check_group_key(path, key):  # what can be no key is told already
            yield Violation(path, _unknown("worker group", key, groups))
        return
    try:
        check_default_group_use(path, group, tenant_id)
    except FarhandError as error:
        yield from error.violations or [Violation(path, error.message)]


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return names.not_found(kind, name, sorted(known)).message
