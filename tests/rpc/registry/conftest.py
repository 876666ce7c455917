"""`house`: a registry with the tenants acme and rival already declared."""

from collections.abc import AsyncIterator

import pytest

from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest
from tests.rpc.registry.registry_house import House, open_house


@pytest.fixture
async def house(fresh_database: str) -> AsyncIterator[House]:
    """Revision 4: main, the default group, acme, rival."""
    async with open_house(fresh_database) as house:
        for tenant in ("acme", "rival"):
            await house.tenants().CreateTenant(CreateTenantRequest(tenant=Tenant(id=tenant)))
        yield house
