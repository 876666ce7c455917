"""YAML and JSON in files, as commands take them: plain data, or what is wrong with it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.cli.failure import WrongUse
from farhand.kernel.names import near_matches, shown

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LARGEST = 4 * 1024 * 1024  # bytes; the servers' own limits are far below


def read(name: str) -> Any:
    """What a file holds; "-" is stdin. WrongUse says what is wrong with it, and where."""
    import yaml

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
    try:
        return yaml.load(raw, Loader=loader())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongUse(f"{name} is neither YAML nor JSON: {error}") from None


def check_fields(where: str, data: dict[Any, Any], message: "Message") -> None:
    """WrongUse for names that are no fields of the message, with a near match; `where` is "job.yaml: task"."""
    fields = message.DESCRIPTOR.fields
    known = {spelling for field in fields for spelling in (field.name, field.json_name)}
    for key in data:
        if key not in known:
            near = near_matches(str(key), [field.name for field in fields])
            hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(field.name for field in fields)}."
            raise WrongUse(f"{where} has no field {shown(str(key))}.{hint}")


def loader() -> Any:
    """YAML's safe loader without dates, which no field takes, and without aliases, which can blow up a file."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
                raise yaml.composer.ComposerError(None, None, "aliases are not taken", mark)
            return super().compose_node(parent, index)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
