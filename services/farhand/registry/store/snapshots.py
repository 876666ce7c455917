"""All that is declared, at one revision."""

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.registry.core.change import Snapshot
from farhand.registry.store import changes, flows, namespaces, tenants, worker_groups


async def read(connection: AsyncConnection) -> Snapshot:
    """Read it; the transaction is one of `Transactions.reading`, so that all parts are of one moment."""
    return Snapshot(
        revision=await changes.current(connection),
        tenants=await tenants.every(connection),
        namespaces=await namespaces.every(connection),
        worker_groups=await worker_groups.every(connection),
        triggered_flows=await flows.triggered(connection),
    )
