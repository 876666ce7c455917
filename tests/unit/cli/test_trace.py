"""A job's trace begins with farhand run's `submit`."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobResponse, SubmitJobResponse
from tests.unit.cli.builders import JOB_ID, a_job, an_ended_job, the_end
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span that is exported to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.came = threading.Event()
        self.address = ""

    def Export(self, request: Any, context: Any) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        self.came.set()
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(None).wait()


@pytest.fixture
def scheduler(servers: ScriptedServers) -> ScriptedServers:
    servers.on["SubmitJob"] = SubmitJobResponse(job=a_job())
    servers.on["TailLogs"] = [the_end(an_ended_job())]
    servers.on["ExplainJob"] = ExplainJobResponse(job=a_job(job_pb2.JOB_STATE_SUCCESS))
    return servers


def run(**environment: str) -> str:
    """What farhand run says on stderr, in a process of its own: a process has one tracer."""
    command = [sys.executable, "-m", "farhand.cli", "run", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return done.stderr


def test_the_submit_is_a_span_whose_context_travels_with_the_job(
    scheduler: ScriptedServers, collector: Collector
) -> None:
    said = run(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    assert collector.came.is_set(), "the span is sent before the command ends"
    [span] = collector.spans
    [metadata] = scheduler.metadata["SubmitJob"]
    assert span.name == "submit"
    version, trace_id, span_id, flags = metadata["traceparent"].split("-")
    assert (version, trace_id, span_id) == ("00", span.trace_id.hex(), span.span_id.hex())
    assert int(flags, 16) & 1, "it is sampled"
    assert {attribute.key: attribute.value.string_value for attribute in span.attributes}["farhand.job.id"] == JOB_ID
    assert f"trace {span.trace_id.hex()}" in said


def test_the_trace_of_the_environment_goes_on(scheduler: ScriptedServers, collector: Collector) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    run(OTEL_EXPORTER_OTLP_ENDPOINT=collector.address, TRACEPARENT=parent)
    [span] = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
    )


def test_without_a_collector_nothing_is_traced(farhand: Farhand, scheduler: ScriptedServers) -> None:
    assert "trace" not in farhand("run", "true").err
    assert "traceparent" not in scheduler.metadata["SubmitJob"][0]
