"""Files on the worker's own machine."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from farhand.kernel.expressions import is_template
from farhand.kernel.flow.types.properties import OR_TEMPLATE, Boolean, Properties
from farhand.kernel.names import shown

MOST_FILES = 1000  # of one execution
LONGEST_PATTERN = 1000  # characters


class Action(StrEnum):
    """What becomes of a file once its execution is there."""

    NONE = "NONE"  # it stays, and is remembered
    MOVE = "MOVE"
    DELETE = "DELETE"


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{shown(path)} is no absolute path: it must begin with /")
    return path


def _pattern(text: str) -> str:
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"has {len(text)} characters; at most {LONGEST_PATTERN} are allowed")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{shown(text)} is no regular expression: {error}") from None
    return text


Folder = Annotated[str, AfterValidator(_absolute), OR_TEMPLATE]


class Trigger(Properties):
    """Looks into a folder of the worker every interval, and starts an execution with the files that are new.

    `trigger.files` is a list, one entry for each file: name, path, size, modified and uri; inputFiles takes the
    uri. A file that was changed is a new one.
    """

    from_: Folder = Field(alias="from", description="The folder, e.g. /data/in.")
    reg_exp: Annotated[str, AfterValidator(_pattern), OR_TEMPLATE] | None = Field(
        None, description="Only files whose whole path inside of the folder matches, e.g. .*\\.csv."
    )
    recursive: Boolean = Field(False, description="Also files in folders inside of it.")
    action: Annotated[Action, Field(strict=False), OR_TEMPLATE] = Field(
        Action.NONE, description="What becomes of a file once its execution is there: NONE, MOVE or DELETE."
    )
    move_directory: Folder | None = Field(None, description="MOVE: the folder that files go to.")
    max_files: Annotated[int, Field(ge=1, le=MOST_FILES), OR_TEMPLATE] = Field(
        25, description="The most files of one execution; the others wait for the next evaluation."
    )

    @model_validator(mode="after")
    def _moves_somewhere(self) -> "Trigger":
        action: Any = self.action
        if action is Action.MOVE and self.move_directory is None:
            raise ValueError("action MOVE needs moveDirectory: where the files go")
        if self.move_directory is not None and action is not Action.MOVE and not is_template(str(action)):
            raise ValueError("moveDirectory has a meaning for action MOVE alone")
        return self
