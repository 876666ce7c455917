"""Plugin defaults of a tenant or namespace: read from a file, and shown.

The file is a list as a flow has it under `pluginDefaults`:

    - type: io.kestra.plugin.scripts     # a type, or a dotted prefix of types
      forced: true                       # they win over the task's own; left out: they don't
      values:
        workerGroup: {key: gpu}
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farhand.cli import yaml_file
from farhand.cli.failure import WrongUse
from farhand.cli.fields import NOTHING

if TYPE_CHECKING:
    from farhand.api.types.v1.plugin_default_pb2 import PluginDefault

DefaultsFile = Annotated[
    str | None,
    typer.Option(
        "--plugin-defaults",
        metavar="FILE",
        help="What tasks inherit by their type: a YAML or JSON list of {type, forced, values}; - is stdin, [] none.",
    ),
]


def read(name: str) -> "list[PluginDefault]":
    """The defaults in a file; WrongUse says what is wrong with it."""
    data = yaml_file.read(name)
    if not isinstance(data, list):
        raise WrongUse(f"{name} must hold a list of plugin defaults: [{{type: …, values: {{…}}}}].")
    return [_default(f"{name}: item {number}", item) for number, item in enumerate(data, 1)]


def rows(defaults: "Sequence[PluginDefault]") -> list[tuple[str, str]]:
    """For a table of (name, value): a row for each."""
    from farhand.runtime.wire import plain

    lines = [
        f"{default.type}{' (forced)' if default.forced else ''}: "
        + json.dumps(plain(default.values), ensure_ascii=False, sort_keys=True)
        for default in defaults
    ]
    return [("" if index else "plugin defaults", line) for index, line in enumerate(lines or [NOTHING])]


def _default(where: str, item: Any) -> "PluginDefault":
    from google.protobuf.json_format import ParseDict, ParseError

    from farhand.api.types.v1.plugin_default_pb2 import PluginDefault

    default = PluginDefault()
    if not isinstance(item, dict):
        raise WrongUse(f"{where} must be a map: {{type: …, values: {{…}}}}.")
    yaml_file.check_fields(where, item, default)
    try:
        return ParseDict(item, default)
    except (ParseError, ValueError, TypeError) as error:
        raise WrongUse(f"{where} is no plugin default: {error}") from None
