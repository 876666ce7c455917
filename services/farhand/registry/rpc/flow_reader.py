"""Reads a flow's source with all that the registry knows: what is declared around it, groups, and task types."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1.flow_service_pb2 import Declarations
from farhand.kernel import names
from farhand.kernel.errors import PermissionDenied
from farhand.kernel.flow import Declaration, Flow, KnownTypes, Problem, Severity, Source, around, read_flow
from farhand.registry.core.flow import FlowRevision
from farhand.registry.core.flow_groups import FlowGroups
from farhand.registry.core.supposed import NOTHING, Supposed, There, check
from farhand.registry.core.visibility import Visibility
from farhand.registry.rpc import tenant_service, wire
from farhand.registry.rpc.reading_threads import ReadingThreads
from farhand.registry.store import flows, namespaces, roll, tenants, worker_groups
from farhand.registry.store.transactions import Transactions


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about a source."""

    flow: Flow | None  # None: errors stop it from being one
    definition: str  # of the flow; empty where there is none
    problems: Sequence[Problem]
    outer: Sequence[Declaration]  # of the namespaces above it and of its tenant
    groups: frozenset[str]  # the keys that it names outright; the default group apart
    saved: FlowRevision | None  # the revision whose source this is, if it is the newest or was asked about


class FlowReader:
    """See the module."""

    def __init__(
        self,
        transactions: Transactions,
        threads: ReadingThreads,
        installed: frozenset[str],
        *,
        lease_floor: timedelta,
    ) -> None:
        """installed: task types of packages beside the registry."""
        self._transactions = transactions
        self._threads = threads
        self._installed = installed
        self._lease_floor = lease_floor

    async def suppose(self, message: Declarations, sees: Visibility) -> tuple[Supposed, list[Problem]]:
        """What would be declared, and all that would keep it from that. Raises PermissionDenied, Overloaded."""
        if sees.tenants is not None:
            raise PermissionDenied("Only who sees every tenant may ask what would be if something else was declared.")
        supposed = await self._threads.run(message.SerializeToString(), lambda: wire.supposed(message))
        async with self._transactions.reading() as connection:
            spaces = {
                (tenant_id, name): found
                for tenant_id in {space.tenant for space in supposed.namespaces}
                for name, found in (
                    await namespaces.among(connection, tenant_id, supposed.namespaces_of(tenant_id))
                ).items()
            }
            there = There(
                {each.id: each for each in await tenants.every(connection)},
                spaces,
                await worker_groups.every(connection),
            )
        violations = check(supposed, there, self._lease_floor)
        return supposed, [Problem(0, 0, each.path, each.description) for each in violations]

    async def examine(
        self,
        tenant: str,
        text: str,
        sees: Visibility,
        saved: FlowRevision | None = None,
        supposed: Supposed = NOTHING,
    ) -> Examined:
        """All that is wrong with the source of a flow of that tenant, as things are now, or would be.

        What is saved stays saved: errors that came to the newest revision since, or to ``saved``, whose source
        this is, are warnings. Raises NotFound for the tenant, Overloaded.
        """
        source = await self._threads.run(text, partial(Source.of, text))
        async with self._transactions.reading() as connection:
            declared = supposed.tenant(tenant) or await tenant_service.existing(connection, tenant, sees, "tenant")
            namespace = _well_formed(source)
            above = await namespaces.among(connection, tenant, names.ancestors(namespace) if namespace else ())
            above.update(supposed.namespaces_of(tenant))
            groups = FlowGroups(tenant, supposed.groups_over(await worker_groups.every(connection)))
            known = await self.known_types(connection, frozenset({tenant}))
            saved = saved or await _unchanged(connection, tenant, namespace, source, text)
        outer = around(tenant, declared, namespace, above.get)

        def read() -> Examined:
            reading = read_flow(source, known, outer, groups.why_not)
            flow, problems = reading.flow, reading.problems
            if flow is None and saved is not None:
                flow = Flow.from_json(saved.definition)
                problems = [replace(problem, severity=Severity.WARNING) for problem in problems]
            return Examined(flow, flow.to_json() if flow else "", problems, outer, groups.named, saved)

        return await self._threads.run(text, read)

    async def known_types(self, connection: AsyncConnection, of: frozenset[str] | None) -> KnownTypes:
        """The task types that there are for these tenants; None: for all."""
        return KnownTypes(self._installed | await roll.task_types(connection, of))


def _well_formed(source: Source) -> str | None:
    """The namespace that it names, where that is one."""
    name = source.namespace
    return None if name is None or names.check_namespace("namespace", name) else name


async def _unchanged(
    connection: AsyncConnection, tenant: str, namespace: str | None, source: Source, text: str
) -> FlowRevision | None:
    flow_id = source.data.get("id") if isinstance(source.data, dict) else None
    if namespace is None or not isinstance(flow_id, str) or not flow_id.isascii() or "\0" in text:
        return None
    return await flows.unchanged(connection, tenant, namespace, flow_id, text)
