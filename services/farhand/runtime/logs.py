"""Logs of a process: the standard library's logging, to stderr, as JSON lines or for people.

A JSON line has time, level, service, message, logger, trace_id and span_id (where
there is a current span), every `extra=` field, and the traceback under "error".
"""

import datetime
import json
import logging
import re
import sys
from typing import Any

from farhand.runtime.settings import LogSettings

# postgresql://user:PASSWORD@host: a URL gets into messages by many ways, its password never.
_PASSWORD = re.compile(r"(://[^\s/:@]+:)[^\s/@]+@")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(service: str, settings: LogSettings) -> None:
    """Set up the root logger of this process; call once, before the first log line."""
    form = settings.log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service) if form == "json" else TextFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # What these say at INFO is of no use to those who run Farhand.
    for name in ("alembic", "sqlalchemy", "asyncio", "grpc"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def extra_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra=`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "message": record.getMessage(),
            "logger": record.name,
            **_trace(),
        }
        for name, value in extra_fields(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _PASSWORD.sub(r"\1***@", json.dumps(line, default=str, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """12:34:56.789 INFO  registry: worker connected  worker=w1 epoch=3"""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        line = f"{moment} {record.levelname:<7} {self._service}: {record.getMessage()}"
        fields = extra_fields(record)
        if fields:
            line += "  " + " ".join(f"{name}={value}" for name, value in fields.items())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return _PASSWORD.sub(r"\1***@", line)


def _trace() -> dict[str, str]:
    # Only looked up where somebody imported it: logging must not pull tracing in.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "get_current_span"):
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
