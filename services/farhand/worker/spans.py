"""The `run` span of a traced job: a child of the assignment's trace context (design.md, rule 14).

A span costs some 30 µs and the tracing packages some megabytes, so nothing of it
is made or imported unless the process exports traces and the trace is sampled.
"""

import contextlib
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from farhand.worker.core.slots import JobKey
from farhand.worker.tasks.base import Outcome, OutcomeState

if TYPE_CHECKING:
    from opentelemetry.trace import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class RunSpan(Protocol):
    """The span of one run."""

    @property
    def traceparent(self) -> str:
        """For the task's environment; empty where the job is not traced."""
        ...

    def current(self) -> AbstractContextManager[object]:
        """What is logged meanwhile carries the trace's id."""
        ...

    def end(self, outcome: Outcome | None) -> None:
        """The run ended; None: it has no result."""
        ...


class Spans(Protocol):
    """Makes spans."""

    def start(self, traceparent: str, key: JobKey, task_type: str, tenant: str) -> RunSpan:
        """A run starts."""
        ...


class Untraced:
    """The span of a run that nobody records: the trace context goes on to the task as it came."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def current(self) -> AbstractContextManager[object]:
        """Nothing to do."""
        return contextlib.nullcontext()

    def end(self, outcome: Outcome | None) -> None:
        """Nothing to do."""


class NoSpans:
    """Tracing is off."""

    def start(self, traceparent: str, key: JobKey, task_type: str, tenant: str) -> RunSpan:
        """See Spans."""
        return Untraced(traceparent)


class ExportedSpans:
    """Tracing is on. `worker` and `group` are attributes of every span."""

    def __init__(self, worker: str, group: str) -> None:
        self._worker = worker
        self._group = group

    def start(self, traceparent: str, key: JobKey, task_type: str, tenant: str) -> RunSpan:
        """See Spans."""
        from farhand.runtime import telemetry

        if not telemetry.sampled(traceparent):
            return Untraced(traceparent)
        span = telemetry.tracer().start_span(
            "run",
            context=telemetry.parent_context(traceparent),
            attributes={
                "farhand.job": key[0],
                "farhand.fence": key[1],
                "farhand.task_type": task_type,
                "farhand.tenant": tenant,
                "farhand.worker": self._worker,
                "farhand.worker_group": self._group,
            },
        )
        return _Exported(span, telemetry.traceparent(span))


class _Exported:
    def __init__(self, span: "Span", traceparent: str) -> None:
        self._span = span
        self.traceparent = traceparent

    def current(self) -> AbstractContextManager[object]:
        from opentelemetry.trace import use_span

        return use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self, outcome: Outcome | None) -> None:
        from opentelemetry.trace import StatusCode

        if outcome is None:
            self._span.set_status(StatusCode.ERROR, "ended without a result")
        else:
            self._span.set_attribute("farhand.state", outcome.state.value)
            if outcome.exit_code is not None:
                self._span.set_attribute("farhand.exit_code", outcome.exit_code)
            if outcome.state is OutcomeState.FAILED:
                self._span.set_status(StatusCode.ERROR, outcome.reason)
        self._span.end()


def spans(worker: str, group: str) -> Spans:
    """Those of this process, by its environment."""
    return ExportedSpans(worker, group) if os.environ.get(ENDPOINT) else NoSpans()
