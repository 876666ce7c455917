"""Executions at times that a calendar says. The scheduler itself looks at the clock; no worker is asked."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from farhand.kernel.flow.types.properties import Properties


class Missed(StrEnum):
    """Which of the times are made up for that passed while nobody could start executions."""

    ALL = "ALL"
    LAST = "LAST"
    NONE = "NONE"


class Schedule(Properties):
    """Starts an execution at each time of a cron expression; `trigger` has date, next and previous."""

    cron: str = Field(description="Minute, hour, day of month, month, day of week; or @hourly, @daily, …", min_length=1)
    timezone: str = Field("UTC", description="Whose clock it is, e.g. Europe/Berlin.", min_length=1)
    with_seconds: bool = Field(False, description="The cron expression has six fields, the first for seconds.")
    recover_missed_schedules: Annotated[Missed, Field(strict=False)] = Field(
        Missed.ALL, description="What is made up for after a time without schedulers: ALL, LAST or NONE."
    )
