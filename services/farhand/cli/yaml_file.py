"""YAML and JSON in files, as commands take them: plain data, or what is wrong with it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.cli.failure import WrongUse
from farhand.kernel.names import near_matches, shown

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LARGEST = 4 * 1024 * 1024  # bytes; the servers' own limits are far below


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, and where it and the fields of a mapping begin (lines from 1)."""

    data: Any
    line: int
    lines: Mapping[str, int]


class NotYaml(WrongUse):
    """The file is neither YAML nor JSON; line and column from 1, 0 where they aren't known."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name} is neither YAML nor JSON: {error}")
        mark = getattr(error, "problem_mark", None)
        self.line = mark.line + 1 if mark else 0
        self.column = mark.column + 1 if mark else 0
        self.problem = str(getattr(error, "problem", None) or error)


def read(name: str) -> Any:
    """What a file holds; "-" is stdin. WrongUse says what is wrong with it, and where."""
    import yaml

    raw = _raw(name)
    try:
        return yaml.load(raw, Loader=loader())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise NotYaml(name, error) from None


def read_all(name: str) -> list[Document]:
    """The documents that a file holds, empty ones left out. NotYaml; WrongUse where it can't be read."""
    import yaml

    raw = _raw(name)
    found = []
    try:
        reader = loader()(raw)
        while reader.check_node():
            node = reader.get_node()
            keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
            lines = {key.value: key.start_mark.line + 1 for key in keys if isinstance(key, yaml.ScalarNode)}
            found.append(Document(reader.construct_document(node), node.start_mark.line + 1, lines))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise NotYaml(name, error) from None
    return [document for document in found if document.data is not None]


def _raw(name: str) -> bytes:
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(_LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise WrongUse(f"{name} can't be read: {error.strerror}.") from None
    if len(raw) > _LARGEST:
        raise WrongUse(f"{name} has more than {_LARGEST} bytes.")
    return raw


def check_fields(where: str, data: dict[Any, Any], message: "Message") -> None:
    """WrongUse for names that are no fields of the message, with a near match; `where` is "job.yaml: task"."""
    for _, what in unknown_fields(data, message):
        raise WrongUse(f"{where} {what}")


def unknown_fields(data: dict[Any, Any], message: "Message") -> Iterator[tuple[str, str]]:
    """Names that are no fields of the message, each with what is to be said of it."""
    fields = message.DESCRIPTOR.fields
    known = {spelling for field in fields for spelling in (field.name, field.json_name)}
    for key in data:
        if key not in known:
            near = near_matches(str(key), [field.name for field in fields])
            hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(field.name for field in fields)}."
            yield str(key), f"has no field {shown(str(key))}.{hint}"


def loader() -> Any:
    """YAML's safe loader without dates, which no field takes, without aliases, which can blow up a file, and without
    keys that come twice, of which one would be lost."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, "aliases are not taken", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {shown(key.value)} comes twice", key.start_mark
                    )
                seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
