"""What an execution is given: from the command line, from files and variables, and, of secrets, from the terminal.

The command line is no place for a secret: other users of the machine see it, and the
shell's history keeps it. So a value may stand in a file or a variable, and a secret that
was not given is asked for where somebody can answer. None is ever printed.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farhand.cli.failure import CommandFailed, WrongUse
from farhand.kernel.names import shown

if TYPE_CHECKING:
    from farhand.cli.session import Session


def pairs(flag: str, words: Iterable[str] | None) -> dict[str, str]:
    """NAME=VALUE words as a map. WrongUse for one without "=" and for a name that comes twice."""
    found: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise WrongUse(f"{flag}: {shown(name + equals)} is not NAME=VALUE.")
        if name in found:
            raise WrongUse(f"{flag}: {shown(name)} is given twice.")
        found[name] = value
    return found


def given(inputs: Sequence[str] | None, variables: Sequence[str] | None, file: str | None) -> dict[str, Any]:
    """What --input, --input-env and --inputs say together. Raises WrongUse, which tells no value."""
    said = {name: _value(name, value) for name, value in pairs("--input", inputs).items()}
    from_environment = pairs("--input-env", variables)
    for name, variable in from_environment.items():
        if name in said:
            raise WrongUse(f"--input-env: {shown(name)} is given by --input, too.")
        if variable not in os.environ:
            raise WrongUse(f"--input-env: there is no variable {shown(variable)} in the environment.")
        said[name] = os.environ[variable]
    return {**_input_file(file), **said}


def ask_for_secrets(session: "Session", namespace: str, flow_id: str, revision: int, said: dict[str, Any]) -> None:
    """Ask for the secrets that the flow requires and that are not given, where somebody sits at the terminal."""
    if not on_a_terminal():
        return
    from getpass import getpass

    from farhand.api.registry.v1.flow_service_pb2 import GetFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
    from farhand.cli.session import DEADLINE

    request = GetFlowRequest(tenant=session.settings.tenant, namespace=namespace, id=flow_id, revision=revision)
    try:
        with session.registry() as channel:
            flow = FlowServiceStub(channel).GetFlow(request, timeout=DEADLINE).flow
    except CommandFailed:
        return  # the scheduler may know the flow, or says what is wrong
    for each in json.loads(flow.definition).get("inputs", []):
        if each["type"] == "SECRET" and each.get("required", True) and said.get(each["id"]) is None:
            said[each["id"]] = getpass(f"{each['id']} (it is not shown): ") or None


def on_a_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _value(name: str, value: str) -> str:
    """A value; with @ before it, the content of a file (@- is stdin) without the line feed at its end; @@ is one @."""
    if not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    path = value[1:]
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise WrongUse(
            f"--input: the file {shown(path)} for {shown(name)} can't be read: {why}. "
            "A text that begins with @ is written @@…"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def _input_file(name: str | None) -> Mapping[str, Any]:
    if name is None:
        return {}
    import yaml

    from farhand.cli.yaml_file import loader

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        data = yaml.load(text, Loader=loader())
    except OSError as error:
        raise WrongUse(f"--inputs: {name} can't be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongUse(f"--inputs: {name} is neither YAML nor JSON: {error}") from None
    if not isinstance(data, dict):
        raise WrongUse(f"--inputs: {name} must hold a map of inputs by their names.")
    try:
        json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WrongUse(f"--inputs: {name}: {error}") from None
    return data
