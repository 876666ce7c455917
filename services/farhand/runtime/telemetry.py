"""Traces: on only when OTEL_EXPORTER_OTLP_ENDPOINT is set, else everything here is free.

The SDK and its exporter are imported only then: an idle worker stays small. Root
spans are sampled by FARHAND_TRACE_RATIO (0.0 to 1.0, default 1.0); others follow
their parent. A span costs about 30 µs, so a load test wants a small ratio.

Spans whose times are known afterwards:
`tracer().start_span(name, context=…, start_time=ns, attributes=…).end(end_time=ns)`.
"""

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, Tracer

from farhand.runtime.service import StartupError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
RATIO = "FARHAND_TRACE_RATIO"
_FLUSH_SECONDS = 2.0
_announced: ContextVar[SpanContext | None] = ContextVar("announced", default=None)
# https://www.w3.org/TR/trace-context/#traceparent-header, version 00
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class Telemetry:
    """The tracing of this process."""

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._provider = provider

    @property
    def tracer(self) -> Tracer:
        """Where spans are made."""
        return tracer()

    async def shutdown(self) -> None:
        """Send what is not yet sent, for at most 2 s: a collector that is away must not hold up an end."""
        provider = self._provider
        if provider is None:
            return
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def end() -> None:
            provider.shutdown()
            loop.call_soon_threadsafe(done.set)

        # A thread of our own: the default executor's would be joined at the end, however long it takes.
        threading.Thread(target=end, daemon=True, name="telemetry-shutdown").start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _FLUSH_SECONDS)


def configure(service: str) -> Telemetry:
    """Set up this process's tracing; call once. StartupError where FARHAND_TRACE_RATIO is no ratio."""
    if not os.environ.get(ENDPOINT):
        return Telemetry(None)
    ratio = _ratio(os.environ.get(RATIO) or "1.0")
    import importlib.metadata

    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    class Ids(RandomIdGenerator):
        """Random, save for a span that was announced before it was made (start_span_as)."""

        def generate_span_id(self) -> int:
            announced = _announced.get()
            return announced.span_id if announced else super().generate_span_id()

        def generate_trace_id(self) -> int:
            announced = _announced.get()
            return announced.trace_id if announced else super().generate_trace_id()

    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        id_generator=Ids(),
        resource=Resource.create(
            {"service.name": f"farhand-{service}", "service.version": importlib.metadata.version("farhand")}
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return Telemetry(provider)


def tracer() -> Tracer:
    """Farhand's tracer; its spans are nothing where tracing is off."""
    return trace.get_tracer("farhand")


def parent_context(traceparent: str) -> Context | None:
    """The context to start a child in; None where the text is empty or no W3C trace context."""
    context = _parse(traceparent)
    return None if context is None else trace.set_span_in_context(NonRecordingSpan(context), Context())


def traceparent(span_or_context: Span | Context | None) -> str:
    """The W3C trace context of a span, or of the span in a context; "" where there is none."""
    if span_or_context is None or isinstance(span_or_context, Context):
        span_or_context = trace.get_current_span(span_or_context)
    context = span_or_context.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def announce_span(parent: str) -> str:
    """The traceparent of a span that will be recorded later, by `start_span_as`, perhaps by another process: what
    it is to have below it can begin now. `parent`: a traceparent, or empty. Empty where tracing is off and there
    is no parent; not sampled where it is not to be recorded."""
    # Never ended, so never exported: it gives the ids, and whether it is sampled.
    return traceparent(tracer().start_span("announced", context=parent_context(parent) or Context()))


def start_span_as(
    announced: str, name: str, *, parent: str, start_time: int, attributes: Mapping[str, str | int]
) -> Span:
    """The span that was announced. Times are nanoseconds since 1970."""
    token = _announced.set(_parse(announced))
    try:
        return tracer().start_span(
            name, context=parent_context(parent) or Context(), start_time=start_time, attributes=attributes
        )
    finally:
        _announced.reset(token)


def sampled(traceparent: str) -> bool:
    """Whether spans of this trace are kept."""
    context = _parse(traceparent)
    return context is not None and context.trace_flags.sampled


def _parse(traceparent: str) -> SpanContext | None:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = (int(group, 16) for group in match.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def _ratio(text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        raise StartupError(f"{RATIO} is {text!r}; it must be a number from 0.0 to 1.0")
    return ratio
