"""Flows, asked of the registry when an execution is created; what runs needs it no more."""

from dataclasses import dataclass

import grpc
import grpc.aio

from farhand.api.registry.v1.flow_service_pb2 import GetFlowRequest
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
from farhand.kernel.errors import NotFound, Unavailable
from farhand.runtime.grpc_channel import remote_error

ASKING = 5.0  # seconds that the registry has to answer


@dataclass(frozen=True, slots=True)
class FetchedFlow:
    """A revision of a flow."""

    revision: int
    definition: str  # kernel.flow: Flow.to_json


class FlowSource:
    """The registry's flows."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._flows = FlowServiceStub(channel)

    async def get(self, tenant: str, namespace: str, flow_id: str, revision: int) -> FetchedFlow:
        """A revision; 0: the newest. Raises NotFound with what the registry says, Unavailable."""
        request = GetFlowRequest(tenant=tenant, namespace=namespace, id=flow_id, revision=revision)
        try:
            flow = (await self._flows.GetFlow(request, timeout=ASKING)).flow
        except grpc.aio.AioRpcError as error:
            told = remote_error(error)
            if told.code is grpc.StatusCode.NOT_FOUND:
                raise NotFound(told.message, metadata=told.metadata) from None
            raise Unavailable(
                f"The registry, which keeps the flows, does not answer: {told.message}. Try again in a moment.",
                retry_delay=1.0,
            ) from error
        return FetchedFlow(flow.revision, flow.definition)
