"""Submitting one job: safely repeated, and as the first span of its trace.

Every submit carries a request_id (P6), so one whose answer was lost is sent again and
still makes one job.
"""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from farhand.cli.backoff import Backoff
from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.patience import passes
from farhand.cli.session import DEADLINE

if TYPE_CHECKING:
    import grpc
    from opentelemetry.trace import Span

    from farhand.api.scheduler.v1.job_pb2 import Job
    from farhand.api.scheduler.v1.job_service_pb2 import SubmitJobRequest
    from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from farhand.runtime.telemetry import Telemetry

_ATTEMPTS = 5


class SubmitTrace:
    """The span `submit`: it ends when the job is durable, and the job's trace goes on from it.

    Nothing at all unless OTEL_EXPORTER_OTLP_ENDPOINT is set. A TRACEPARENT in the
    environment, as a job's own command has it, becomes its parent.
    """

    def __init__(self) -> None:
        self._telemetry: Telemetry | None = None
        self._span: Span | None = None
        if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            return
        from farhand.runtime import telemetry
        from farhand.runtime.service import StartupError

        try:
            self._telemetry = telemetry.configure("cli")
            # A collector that is away is no news to who runs a command: the exporter would write to the terminal.
            logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        except StartupError as error:
            raise CommandFailed(str(error)) from None
        parent = telemetry.parent_context(os.environ.get("TRACEPARENT", ""))
        self._span = self._telemetry.tracer.start_span("submit", context=parent)

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        """What the call carries: the W3C trace context."""
        if self._span is None:
            return ()
        from farhand.runtime.telemetry import traceparent

        text = traceparent(self._span)
        return (("traceparent", text),) if text else ()

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits to look the trace up by; empty where it isn't kept."""
        if self._span is None:
            return ""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}" if context.trace_flags.sampled else ""

    def submitted(self, job: "Job") -> None:
        """The job is durable: the span ends."""
        if self._span is not None:
            self._span.set_attribute("farhand.job.id", job.id)
            self._span.set_attribute("farhand.worker_group", job.worker_group)
            self._span.end()

    async def flush(self) -> None:
        """Send what is not sent yet; bounded."""
        if self._span is not None and self._span.is_recording():
            self._span.end()
        if self._telemetry is not None:
            await self._telemetry.shutdown()


async def submit(
    jobs: "JobServiceAsyncStub", request: "SubmitJobRequest", trace: SubmitTrace, address: str, backoff: Backoff
) -> "Job":
    """The job, durable. A few attempts where an error may pass; none more where nothing listens at all."""
    import grpc

    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = await jobs.SubmitJob(request, timeout=DEADLINE, metadata=trace.metadata)
        except grpc.RpcError as error:
            sent = not _never_sent(error)
            if not passes(error) or not sent or attempt == _ATTEMPTS:
                raise _refused(error, address, request.request_id if sent else "") from None
        else:
            trace.submitted(answer.job)
            return answer.job
        await backoff.wait()
    raise AssertionError("the last attempt returns or raises")


def _never_sent(error: "grpc.RpcError") -> bool:
    """gRPC's words for a connection that never stood; any other failure may have lost an answer."""
    details = (error.details() or "").casefold()
    return any(words in details for words in ("failed to connect", "dns resolution failed", "errors resolving"))


def _refused(error: "grpc.RpcError", address: str, request_id: str) -> CommandFailed:
    failure = remote_failure(error, "scheduler", address)
    if request_id and passes(error):
        hint = f"It may be submitted all the same; with --request-id {request_id} a repeated command makes no second."
        return CommandFailed(failure.message, *failure.details, hint)
    return failure
