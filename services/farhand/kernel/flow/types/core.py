"""Small tasks that need nothing but the worker: wait, return, log, fail, do nothing."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from farhand.kernel.flow.types.properties import OR_TEMPLATE, Properties, TemplatedDuration, Texts


class Sleep(Properties):
    """Waits, and succeeds."""

    duration: TemplatedDuration = Field(description="How long, e.g. PT5S; PT0S: not at all.")


class Return(Properties):
    """Gives a value to the tasks after it: `outputs.<id>.value`."""

    format: str = Field(description="The value, usually an expression.")


class LogLevel(StrEnum):
    """How much a line matters."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


class Log(Properties):
    """Writes to the log."""

    message: Texts = Field(description="The text, or several; each line is one of the log.")
    level: Annotated[LogLevel, Field(strict=False), OR_TEMPLATE] = Field(
        LogLevel.INFO, description="TRACE, DEBUG, INFO, WARN or ERROR."
    )


class Fail(Properties):
    """Fails, on purpose."""

    error_message: str = Field("Task failure", description="Why.")


class Noop(Properties):
    """Does nothing and succeeds."""

    payload: Any = Field(None, description="Anything: it gives the task a size.")
