"""Executions at times that a calendar says. The scheduler itself looks at the clock; no worker is asked."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from farhand.kernel.flow.cron import Cron, time_zone
from farhand.kernel.flow.types.properties import Properties


class Missed(StrEnum):
    """Which of the times are made up for that passed while nobody could start executions."""

    ALL = "ALL"
    LAST = "LAST"
    NONE = "NONE"


def _cron(text: str) -> str:
    return Cron.parse(text).text


def _timezone(name: str) -> str:
    return time_zone(name).key


class Schedule(Properties):
    """Starts an execution at each time of a cron expression; `trigger` has date, next and previous."""

    cron: Annotated[str, AfterValidator(_cron)] = Field(
        description="Minute, hour, day of month, month, day of week, with seconds first if there are six; or @daily, …"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "UTC", description="Whose clock it is, e.g. Europe/Berlin."
    )
    with_seconds: bool = Field(False, description="The cron expression has six fields, the first for seconds.")
    recover_missed_schedules: Annotated[Missed, Field(strict=False)] = Field(
        Missed.ALL, description="What is made up for after a time without schedulers: ALL, LAST or NONE."
    )

    @model_validator(mode="after")
    def _has_its_seconds(self) -> "Schedule":
        if self.with_seconds and len(self.cron.split()) == 5:
            raise ValueError("says withSeconds, and its cron has five fields; put the seconds before them")
        return self
