"""Where a job's log lines go: what the command wrote to stdout to stdout, the rest to stderr.

A line goes out as it is, so that `farhand run -- cmd > file` has the bytes that cmd wrote
(UTF-8; a worker replaces what is not). Only on a terminal are control characters other than
colours, tabs and carriage returns left out (`terminal.log_line`): a job's output is its
author's, but a terminal is its user's. Farhand's own lines begin with "farhand: ".
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, BinaryIO

from farhand.cli.fields import enum_name
from farhand.cli.render import document
from farhand.cli.terminal import log_line

if TYPE_CHECKING:
    from farhand.api.types.v1.log_record_pb2 import LogRecord

_LEVELS = {"STDOUT": "INFO", "STDERR": "ERROR", "SYSTEM": "WARN"}  # where a record does not say (log_record.proto)

Write = Callable[[Iterable["LogRecord"]], None]


class LogOutput:
    """Writes records as they come and flushes after each batch.

    stdout_to_stderr: everything goes to stderr, for a command whose stdout is a document.
    timestamps: each line begins with the worker's time, in UTC.
    label: each line begins with this.
    `last_notice` is the last line that was Farhand's own.
    """

    def __init__(self, *, stdout_to_stderr: bool = False, timestamps: bool = False, label: str = "") -> None:
        self._stdout_to_stderr = stdout_to_stderr
        self._timestamps = timestamps
        self._label = f"{label} | " if label else ""
        self.last_notice = ""
        self._tty = {stream: stream.isatty() for stream in (sys.stdout, sys.stderr)}

    def write(self, records: Iterable["LogRecord"]) -> None:
        """BrokenPipeError where nobody reads any more."""
        from farhand.api.types.v1 import log_record_pb2

        touched = set()
        for record in records:
            own = record.stream == log_record_pb2.LOG_STREAM_STDOUT and not self._stdout_to_stderr
            stream = sys.stdout if own else sys.stderr
            text = record.text
            if record.stream == log_record_pb2.LOG_STREAM_SYSTEM:
                self.last_notice = text
                text = f"farhand: {text}"
            text = self._label + text
            if self._timestamps:
                text = f"{record.time.ToJsonString()} {text}"
            if self._tty[stream]:
                text = log_line(text)
            out: BinaryIO = stream.buffer
            out.write(text.encode(errors="replace") + b"\n")
            touched.add(stream)
        for stream in touched:
            stream.flush()


class LogDocuments:
    """Writes records as documents on stdout: JSON lines, or YAML documents."""

    def __init__(self, output: str, facts: Mapping[str, object] | None = None) -> None:
        """`facts` stand first in each document."""
        self._output = output
        self._facts = dict(facts or {})

    def write(self, records: Iterable["LogRecord"]) -> None:
        """One document for each record: time, stream (STDOUT, STDERR, SYSTEM), level (TRACE to ERROR), text."""
        from farhand.api.types.v1 import log_record_pb2

        for record in records:
            stream = enum_name(log_record_pb2.LogStream, record.stream, "LOG_STREAM_")
            said = enum_name(log_record_pb2.LogLevel, record.level, "LOG_LEVEL_") if record.level else ""
            data = self._facts | document(record) | {"stream": stream, "level": said or _LEVELS.get(stream, "INFO")}
            if self._output == "json":
                sys.stdout.write(json.dumps(data) + "\n")
            else:
                import yaml

                yaml.safe_dump(data, sys.stdout, sort_keys=False, allow_unicode=True, explicit_start=True, width=1000)
        sys.stdout.flush()
