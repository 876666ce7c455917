"""A JobSpec in a YAML or JSON file, as `farhand job submit -f` takes it.

The names are those of job.proto. Durations may be written as people do (10m), a fallback as
`fail`, and the worker group's id `_default` names the default group.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.cli.failure import WrongUse
from farhand.kernel.durations import parse_duration
from farhand.kernel.names import near_matches, shown
from farhand.kernel.resolution import Fallback

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from farhand.api.scheduler.v1.job_pb2 import JobSpec

_LARGEST = 4 * 1024 * 1024  # bytes; the server's own limit is far below


def read(name: str) -> "JobSpec":
    """The spec in a file; "-" is stdin. WrongUse says what is wrong with it, and where."""
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
        data = yaml.load(raw, Loader=loader())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongUse(f"{name} is neither YAML nor JSON: {error}") from None
    if not isinstance(data, dict):
        raise WrongUse(f"{name} must hold one job: a mapping with `task` in it.")
    return spec_of(data, name)


def spec_of(data: dict[str, Any], name: str) -> "JobSpec":
    """The spec for a document."""
    from google.protobuf.json_format import ParseDict, ParseError

    from farhand.api.scheduler.v1.job_pb2 import JobSpec

    spec = JobSpec()
    _check_fields(name, "", data, spec)
    data = dict(data)
    if isinstance(fallback := data.get("fallback"), str) and fallback.upper() in list(Fallback):
        data["fallback"] = f"FALLBACK_{fallback.upper()}"
    if isinstance(task := data.get("task"), dict):
        _check_fields(name, "task", task, spec.task)
        if isinstance(timeout := task.get("timeout"), str | int | float):
            try:
                data["task"] = task | {"timeout": f"{parse_duration(str(timeout)):.9f}s"}
            except ValueError as error:
                raise WrongUse(f"{name}: task.timeout: {error}.") from None
    else:
        raise WrongUse(f"{name}: there is no task: say `task: {{type: …, properties: {{…}}}}`.")
    try:
        return ParseDict(data, spec)
    except (ParseError, ValueError, TypeError) as error:
        raise WrongUse(f"{name} is not a job: {error}") from None


def _check_fields(name: str, path: str, data: dict[Any, Any], message: "Message") -> None:
    """Unknown names are errors with a near match, as everywhere."""
    fields = message.DESCRIPTOR.fields
    known = {spelling for field in fields for spelling in (field.name, field.json_name)}
    for key in data:
        if key not in known:
            near = near_matches(str(key), [field.name for field in fields])
            hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(field.name for field in fields)}."
            raise WrongUse(f"{name}: {path or 'the job'} has no field {shown(str(key))}.{hint}")


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
