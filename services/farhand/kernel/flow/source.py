"""A flow's YAML as plain data, with the line and column of everything in it.

YAML 1.2's plain data alone: maps with texts as keys, lists, texts, numbers,
booleans, null. Aliases, tags and duplicate keys are problems, and so is whatever
is larger or deeper than a flow can be; each is told where it stands. The parser's
events are read one by one and never recurse, so a hostile file ends at the first
bound that it breaks (decisions/0017).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from farhand.kernel.exact_json import LARGEST_INTEGER
from farhand.kernel.flow.problem import Problem
from farhand.kernel.names import shown
from farhand.kernel.nesting import MOST_LEVELS

LARGEST = 1 << 20  # bytes
MOST_VALUES = 50_000  # scalars, lists and maps
MOST_PROBLEMS = 100  # that are told; a file with more is no flow

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, from 1."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it was built in: 15 times faster

_NAME = re.compile(r"[\w./*=$@ -]{1,60}")
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# What the parser says, and what to do about it.
_SYNTAX = (
    ("mapping values are not allowed", "a colon stands where none can: text with ': ' in it needs quotes"),
    ("could not find expected ':'", "a name needs a colon behind it"),
    ("did not find expected key", "this does not fit what is above it: look at the indentation and at open quotes"),
    ("did not find expected '-' indicator", "this is no item of the list above it: look at the indentation"),
    ("did not find expected node content", "a value is missing here"),
    ("unexpected end of stream", "the quotes are never closed"),
    ("unexpected document indicator", "the quotes are never closed"),
    ("did not find expected ',' or '}'", "a comma or } is missing here"),
    ("did not find expected ',' or ']'", "a comma or ] is missing here"),
    ("expected alphabetic or numeric", "text that begins with * or & needs quotes"),
    ("unknown escape character", "this escape is not known; a backslash in double quotes is written twice"),
)
_OPEN_ENDS = ("never closed", "missing here")  # of those that say where it all began


def path_text(path: Iterable[str | int]) -> str:
    """As problems name it: `tasks[0].workerGroup.key`. Names that could paint a terminal are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _NAME.fullmatch(step) else shown(step)
            text += f".{name}" if text else name
    return text


@dataclass(slots=True)
class _Node:
    """A value and where it begins; maps keep where each key stands."""

    place: Place
    value: Any  # what it is as plain data; shared with the containers that hold it
    inside: "dict[str, tuple[Place, _Node]] | list[_Node] | None" = None


@dataclass(frozen=True)
class Source:
    """What the YAML holds: `data` is None where it can't be read at all; problems in their order."""

    data: Any
    problems: Sequence[Problem] = ()
    _root: _Node | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str | bytes) -> "Source":
        """Parse. Raises nothing: what is wrong is among the problems."""
        try:
            raw = text.encode() if isinstance(text, str) else text
            if len(raw) > LARGEST:
                message = f"the flow has {len(raw)} bytes; at most {LARGEST} are allowed"
                return cls(None, [Problem(0, 0, "", message)])
            text = raw.decode()
        except UnicodeError as error:
            before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
            line = before.count(b"\n") + 1
            return cls(None, [Problem(line, 0, "", "the flow is not UTF-8: save it in that encoding")])
        return _Builder(text).build()

    @property
    def namespace(self) -> str | None:
        """The namespace that it names, if it can be read: whoever reads the flow looks up what is declared there."""
        name = self.data.get("namespace") if isinstance(self.data, dict) else None
        return name if isinstance(name, str) else None

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where a value begins, or with `key` its name; for what is not there, the nearest around it that is."""
        node, place = self._root, (0, 0)
        if node is not None:
            place = node.place
        for step in path:
            if node is not None and isinstance(node.inside, dict) and step in node.inside:
                key_place, node = node.inside[str(step)]
                place = key_place if key else node.place
            elif (
                node is not None and isinstance(node.inside, list) and isinstance(step, int) and step < len(node.inside)
            ):
                node = node.inside[step]
                place = node.place
            else:
                break
        return place

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        """A problem at its place."""
        return Problem(*self.place(path, key=key), path_text(path), message)


class _Stop(Exception):
    """No use in reading on."""


class _Builder:
    """Builds the data of one text out of the parser's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._problems: list[Problem] = []
        self._open: list[_Node] = []  # the containers around what comes next
        self._path: list[str | int] = []  # the way to it, one step for each of them
        self._key: tuple[str, Place] | None = None  # of the innermost map, when its value comes next
        self._root: _Node | None = None
        self._values = 0

    def build(self) -> Source:
        try:
            for event in yaml.parse(self._text, Loader=_LOADER):
                self._take(event)
        except yaml.YAMLError as error:
            self._syntax(error)
            return Source(None, self._problems)
        except _Stop:
            return Source(None, self._problems)
        if self._root is None:
            return Source(None, [Problem(0, 0, "", "the flow is empty: it needs id, namespace and tasks")])
        return Source(self._root.value, self._problems, self._root)

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent() if self._expects_key():
                self._take_key(event)
            case yaml.ScalarEvent():
                self._check(event)
                self._add(_Node(_place(event), self._scalar(event)))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
                if self._open:
                    self._path.pop()
            case yaml.AliasEvent():
                message = "aliases are not taken: write it out. Text that begins with * needs quotes"
                self._report(event, message, *self._step())
                if self._expects_key():
                    raise _Stop
                self._add(_Node(_place(event), None))
            case yaml.DocumentStartEvent() if self._root is not None:
                self._report(event, "a second document begins here; a file holds one flow")
                raise _Stop

    def _begin(self, event: Any) -> None:
        if self._expects_key():
            self._report(event, 'a name must be a text; an expression needs quotes: "{{ … }}"')
            raise _Stop
        if len(self._open) == MOST_LEVELS:
            self._report(event, f"this is nested more than {MOST_LEVELS} levels deep")
            raise _Stop
        self._check(event)
        empty: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        node = _Node(_place(event), empty, type(empty)())
        self._add(node, begins=True)
        self._open.append(node)

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].inside, dict) and self._key is None

    def _take_key(self, event: Any) -> None:
        self._check(event)
        if "\0" in event.value:
            self._report(event, "a name must not hold a NUL character")
        map_ = self._open[-1].inside
        assert isinstance(map_, dict)
        if event.value in map_:
            (line, _), _ = map_[event.value]
            self._report(event, f"{shown(event.value)} is there twice; the first is in line {line}", event.value)
        self._key = (event.value, _place(event))

    def _add(self, node: _Node, *, begins: bool = False) -> None:
        """Put a value into the container that is open. A duplicate key's value is read, and not kept."""
        self._values += 1
        if self._values > MOST_VALUES:
            message = f"the flow holds more than {MOST_VALUES} values"
            self._problems.append(Problem(*node.place, path_text(self._path), message))
            raise _Stop
        step: str | int
        if not self._open:
            self._root = node
            return
        around = self._open[-1]
        if isinstance(around.inside, dict):
            assert self._key is not None
            (step, key_place), self._key = self._key, None
            if step not in around.inside:
                around.inside[step] = (key_place, node)
                around.value[step] = node.value
        else:
            assert around.inside is not None
            step = len(around.inside)
            around.inside.append(node)
            around.value.append(node.value)
        if begins:
            self._path.append(step)

    def _check(self, event: Any) -> None:
        """Anchors and tags: neither is part of the language."""
        if event.anchor is not None:
            self._report(event, f"anchors are not taken: leave &{event.anchor} out, or quote the text", *self._step())
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._report(event, f"tags are not taken: leave {shown(tag)} out, or quote the text", *self._step())

    def _scalar(self, event: Any) -> Any:
        """A scalar's value by YAML 1.2's core schema; quoted ones are texts."""
        text: str = event.value
        if "\0" in text:
            self._report(event, "must not hold a NUL character", *self._step())
            return None
        if not event.implicit[0] or event.style:
            return text
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        if _INTEGER.fullmatch(text):
            number = int(text, 0 if text.startswith(("0o", "0x")) else 10) if len(text) < 100 else LARGEST_INTEGER + 1
            if abs(number) > LARGEST_INTEGER:
                self._report(event, "is too large to be kept exactly; quote it to keep it as a text", *self._step())
            return number
        if _FLOAT.fullmatch(text):
            real = float(text)
            if abs(real) == float("inf"):
                self._report(event, "is too large for a number; quote it to keep it as a text", *self._step())
            return real
        if _NO_NUMBER.fullmatch(text):
            self._report(event, f"{text} is no number of JSON; quote it to keep it as a text", *self._step())
        return text

    def _step(self) -> Sequence[str | int]:
        """The last step of the path to the value that comes next."""
        if self._key is not None:
            return [self._key[0]]
        around = self._open[-1].inside if self._open else None
        return [len(around)] if isinstance(around, list) else []

    def _report(self, event: Any, message: str, *steps: str | int) -> None:
        """A problem where the event is; its path is that of the container, and the steps."""
        self._problems.append(Problem(*_place(event), path_text([*self._path, *steps]), message))
        if len(self._problems) > MOST_PROBLEMS:
            raise _Stop

    def _syntax(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is None:  # a character that YAML does not take; the error knows how many stand before it
            before = self._text[: max(0, getattr(error, "position", 0))]
            line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
            self._problems.append(
                Problem(line, column, "", "a control character stands here, which YAML does not take")
            )
            return
        line, column = mark.line, mark.column
        said = getattr(error, "problem", None) or "this is no YAML"
        lines = self._text.split("\n")
        here = lines[line][column : column + 1] if line < len(lines) else ""
        if "cannot start any token" in said:
            if here == "\t":
                message = "a tab stands here, where YAML takes spaces alone"
            else:
                message = f"text that begins with {here} needs quotes"
        else:
            message = next((advice for sign, advice in _SYNTAX if sign in said), said)
        begun = getattr(error, "context_mark", None)
        if message.endswith(_OPEN_ENDS) and begun is not None:
            message += f" (begun in line {begun.line + 1}, column {begun.column + 1})"
        if line < len(lines) and re.search(r":\s+\{\{", lines[line]):
            message += '; an expression needs quotes: "{{ … }}"'
        self._problems.append(Problem(line + 1, column + 1, path_text(self._path), message))


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1
