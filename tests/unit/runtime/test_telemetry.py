"""W3C trace contexts as text, and spans whose times are known afterwards."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from farhand.runtime.telemetry import parent_context, sampled, traceparent

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DROPPED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


@pytest.mark.parametrize("text", [KEPT, DROPPED])
def test_a_trace_context_survives_the_way_there_and_back(text: str) -> None:
    assert traceparent(parent_context(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        KEPT[:-1],
        KEPT + "0",
        KEPT.upper(),
        "ff" + KEPT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        KEPT + "\n",
    ],
)
def test_what_is_no_trace_context_has_no_parent_and_is_not_sampled(text: str) -> None:
    assert parent_context(text) is None
    assert not sampled(text)


def test_the_sampled_flag_is_read() -> None:
    assert sampled(KEPT)
    assert not sampled(DROPPED)


def test_without_a_span_there_is_no_traceparent() -> None:
    assert traceparent(None) == ""
    assert traceparent(trace.INVALID_SPAN) == ""


def test_a_span_made_afterwards_is_a_child_with_its_own_times() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("test").start_span("queue", context=parent_context(KEPT), start_time=1_000)
    span.end(end_time=5_000)
    (kept,) = exporter.get_finished_spans()
    assert (kept.start_time, kept.end_time) == (1_000, 5_000)
    assert kept.parent is not None
    assert f"{kept.parent.span_id:016x}" == "b7ad6b7169203331"
    assert traceparent(span).split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
