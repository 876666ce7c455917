"""GroupService: what runs and waits in each worker group."""

from typing import Any

from grpc.aio import ServicerContext

from farhand.api.scheduler.v1 import group_service_pb2 as messages
from farhand.api.scheduler.v1 import group_service_pb2_grpc
from farhand.kernel.names import group_label, not_found
from farhand.runtime.security import identity
from farhand.scheduler.rpc.declared_groups import DeclaredGroups, may_see
from farhand.scheduler.rpc.wire import figures_message
from farhand.scheduler.store.figures import read_figures
from farhand.scheduler.store.reading import Reading


class GroupServicer(group_service_pb2_grpc.GroupServiceServicer):
    """farhand.api.scheduler.v1.GroupService."""

    def __init__(self, groups: DeclaredGroups, reading: Reading) -> None:
        self._groups = groups
        self._reading = reading

    async def GetGroupFigures(
        self, request: messages.GetGroupFiguresRequest, context: ServicerContext[Any, Any]
    ) -> messages.GetGroupFiguresResponse:
        """See the proto."""
        caller = identity(context)
        group = await self._groups.find(request.worker_group, caller)
        async with self._reading.connection() as connection:
            found = [figures for figures in await read_figures(connection, [group.uid]) if not figures.gone]
        if not found:  # deleted in this very moment
            raise not_found("worker group", group_label(group.key))
        return messages.GetGroupFiguresResponse(figures=figures_message(found[0], caller))

    async def ListGroupFigures(
        self, request: messages.ListGroupFiguresRequest, context: ServicerContext[Any, Any]
    ) -> messages.ListGroupFiguresResponse:
        """See the proto."""
        caller = identity(context)
        async with self._reading.connection() as connection:
            every = await read_figures(connection)
        return messages.ListGroupFiguresResponse(
            figures=(figures_message(figures, caller) for figures in every if may_see(caller, figures.allowed_tenants))
        )
