"""io.kestra.plugin.fs.local.Trigger: looks into a folder of the worker, and fires with the files that are new.

The look itself, and whatever is done to files, is a process of its own
(folder_look.py); here its copies are stored, so that the execution's tasks can have
them on any worker, and the state is kept (decision 0026):

    {"places": [{"place": …, "looked": "2026-11-24", "files": "idid…"}, …]}

It holds the ids of files that had their execution and were still there. The file
that an id names is never fired again, whichever worker of the group looks; it is
moved or deleted by the look that follows the one which fired. A place is one folder of
one machine: only who looks there may say that a file is gone.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, ClassVar

from farhand.kernel.errors import Violation
from farhand.kernel.names import shown
from farhand.worker.process_control import ProcessStartError
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import FileFailed, Level, Outcome, TaskContext, failed
from farhand.worker.triggers.base import Evaluation, remembered
from farhand.worker.triggers.folder_look import LOOK_FILE, SEEN_FILE

MOST_FILES = 1000  # of one execution
USUAL_FILES = 25
MOST_REMEMBERED = 8_000  # files; 96 KiB of state
ID_LENGTH = 12  # characters
FORGOTTEN_AFTER = timedelta(days=30)  # a place where nobody looked, when there is no room for it

_KNOWN = frozenset({"from", "regExp", "recursive", "action", "moveDirectory", "maxFiles"})


class Action(StrEnum):
    """What becomes of a file once its execution is there."""

    NONE = "NONE"
    MOVE = "MOVE"
    DELETE = "DELETE"


class LocalFiles:
    """`trigger.files` is a list of name, path, size, modified and uri."""

    type: ClassVar[str] = "io.kestra.plugin.fs.local.Trigger"

    def validate(self, properties: Mapping[str, Any]) -> Sequence[Violation]:
        """All that is wrong, before the folder is looked at. The pattern is compiled by the process that uses it."""
        violations = check.unknown_properties(self.type, properties, _KNOWN)
        for name in ("from", "moveDirectory"):
            violations += _check_folder(name, properties.get(name), required=name == "from")
        violations += check.string("regExp", properties.get("regExp"))
        violations += check.boolean("recursive", properties.get("recursive"))
        violations += check.one_of("action", properties.get("action"), Action)
        if not violations:
            moves = _action(properties) is Action.MOVE
            if moves and properties.get("moveDirectory") is None:
                violations.append(Violation("moveDirectory", "is required: where files are moved to"))
            elif moves and PurePosixPath(properties["moveDirectory"]) == PurePosixPath(properties["from"]):
                violations.append(Violation("moveDirectory", "is the folder itself"))
        if _most(properties) is None:
            violations.append(Violation("maxFiles", f"must be a whole number from 1 to {MOST_FILES}"))
        return violations

    async def evaluate(self, context: TaskContext) -> Evaluation | Outcome:
        """Look once, and store what is new."""
        properties = context.properties
        try:
            places = _places(remembered(context))
        except (AttributeError, KeyError, TypeError, ValueError):
            context.log("what was remembered of files can't be read, and is forgotten")
            places = []
        known = [id for place in places for id in place.ids]
        action = _action(properties)
        look = {
            "from": properties["from"],
            "pattern": properties.get("regExp"),
            "recursive": check.truth(properties.get("recursive"), False),
            "action": action.value,
            "move_to": properties.get("moveDirectory") if action is Action.MOVE else None,
            "most": _most(properties),
            "known": known,
        }
        folder = context.folder()
        (folder / LOOK_FILE).write_text(json.dumps(look))
        argv = [sys.executable, "-P", "-m", "farhand.worker.triggers.folder_look", str(folder)]
        try:
            exit_code = await context.run_process(argv, env=context.env)
        except ProcessStartError as error:
            return _failed(context, "START_FAILED", error.message)
        if exit_code != 0:
            return _failed(context, "INTERNAL", f"the look ended with exit code {exit_code}; the log tells more")
        seen = json.loads((folder / SEEN_FILE).read_text())
        if "error" in seen:
            return _failed(context, "FOLDER_FAILED", seen["error"])
        for line in seen["lines"]:
            context.log(line, Level.WARN)
        try:
            files = [await _stored(context, file) for file in seen["files"]]
        except FileFailed as error:
            return _failed(context, "OUTPUT_FILES_FAILED", f"a file can't be stored: {error}")
        today = datetime.now(UTC).date()
        here = _Place(seen["place"], today, (*seen["there"], *(file["id"] for file in seen["files"])))
        after = _after(places, here)
        if sum(len(place.ids) for place in after) > MOST_REMEMBERED:
            message = (
                f"there are more than {MOST_REMEMBERED:,} files in {shown(properties['from'], 200)} that had their "
            )
            return _failed(
                context, "FOLDER_FAILED", message + "execution: take them away, or let action MOVE or DELETE do it"
            )
        state = {"places": [place.written for place in after]}
        message = "; ".join([f"{len(files)} new file{'' if len(files) == 1 else 's'}", *seen["lines"][:1]])
        return Evaluation(bool(files), {"files": files}, state, message)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is remembered of one folder of one machine, as of the day of its last look."""

    name: str
    looked: date
    ids: tuple[str, ...]

    @property
    def written(self) -> dict[str, str]:
        """As the state has it."""
        return {"place": self.name, "looked": self.looked.isoformat(), "files": "".join(self.ids)}


def _places(state: Mapping[str, Any]) -> list[_Place]:
    """What `written` wrote."""
    return [
        _Place(place["place"], date.fromisoformat(place["looked"]), tuple(_cut(place["files"])))
        for place in state.get("places", ())
    ]


def _cut(ids: str) -> Iterator[str]:
    for start in range(0, len(ids), ID_LENGTH):
        yield ids[start : start + ID_LENGTH]


def _after(places: Sequence[_Place], here: _Place) -> list[_Place]:
    """The state after a look: what is here is remembered as here, and what was known here and is gone no more."""
    mine = frozenset(here.ids)
    others = [
        _Place(place.name, place.looked, tuple(id for id in place.ids if id not in mine))
        for place in places
        if place.name != here.name
    ]
    kept = [place for place in others if place.ids]
    room = MOST_REMEMBERED - len(here.ids)
    for place in sorted(kept, key=lambda place: place.looked):
        if sum(len(each.ids) for each in kept) > room and place.looked < here.looked - FORGOTTEN_AFTER:
            kept.remove(place)
    return [*kept, here]


async def _stored(context: TaskContext, file: Mapping[str, Any]) -> dict[str, Any]:
    with (context.folder() / file["copy"]).open("rb", buffering=0) as copy:
        uri = await context.files.upload(copy, file["path"])
    (context.folder() / file["copy"]).unlink()
    return {
        "name": PurePosixPath(file["path"]).name,
        "path": f"{context.properties['from'].rstrip('/')}/{file['path']}",
        "size": file["size"],
        "modified": file["modified"],
        "uri": uri,
    }


def _failed(context: TaskContext, reason: str, message: str) -> Outcome:
    context.log(message, Level.ERROR)
    return failed(reason, message)


def _action(properties: Mapping[str, Any]) -> Action:
    return Action((properties.get("action") or Action.NONE).upper())


def _most(properties: Mapping[str, Any]) -> int | None:
    """The most files of an execution; None: what is said is no such number."""
    said = properties.get("maxFiles")
    if said is None:
        return USUAL_FILES
    text = str(said).removesuffix(".0")  # numbers come as JSON's
    most = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0
    return most if 1 <= most <= MOST_FILES else None


def _check_folder(name: str, value: Any, *, required: bool) -> list[Violation]:
    if violations := check.string(name, value, required=required):
        return violations
    if value is None or (value.startswith("/") and "\0" not in value):
        return []
    return [Violation(name, f"must be an absolute path, not {shown(value)}")]
