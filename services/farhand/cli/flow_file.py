"""Flows as the CLI gets them: from a YAML file, from stdin, or by name; and what a registry finds wrong with them."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from farhand.cli import yaml_file
from farhand.cli.failure import CommandFailed, WrongUse
from farhand.cli.render import document
from farhand.cli.session import DEADLINE, Session
from farhand.cli.terminal import plain
from farhand.kernel.names import shown

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_pb2 import FlowProblem

LARGEST = 1 << 20  # bytes; the registry's own limit (flow.proto)


def read_source(name: str) -> str:
    """The text of a file; "-" is stdin. WrongUse where it can't be read, is too large or is no text."""
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(LARGEST + 1)
    except OSError as error:
        raise WrongUse(f"{name} can't be read: {error.strerror}.") from None
    if len(raw) > LARGEST:
        raise WrongUse(f"{name} has more than {LARGEST:,} bytes, which is the most that a flow may have.")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WrongUse(f"{name} is no UTF-8 text: byte {error.start} is {raw[error.start]:#04x}.") from None


def is_file(word: str) -> bool:
    """Whether a word that may be a file or a flow's name is a file: by its ending, or because it is there."""
    return word == "-" or word.endswith((".yaml", ".yml")) or Path(word).is_file()


def flow_name(word: str) -> tuple[str, str]:
    """Namespace and id of NAMESPACE/ID. WrongUse says how it is written."""
    namespace, slash, id = word.rpartition("/")
    if not (namespace and slash and id):
        hint = ""
        if not slash and "." in word:
            before, _, last = word.rpartition(".")
            hint = f" Did you mean {before}/{last}?"
        raise WrongUse(f"{shown(word)} names no flow: write NAMESPACE/ID, e.g. company.team/nightly.{hint}")
    return namespace, id


def name_in(source: str) -> tuple[str, str] | None:
    """Namespace and id that a source gives itself; None where it is no YAML or does not say."""
    import yaml

    class Loader(yaml_file.loader()):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # what is plain is a text: `id: on` names a flow, too

    try:
        data = yaml.load(source, Loader=Loader)
        namespace, id = data["namespace"], data["id"]
    except (yaml.YAMLError, KeyError, TypeError, RecursionError):
        return None
    return (namespace, id) if isinstance(namespace, str) and isinstance(id, str) and namespace and id else None


def validate(session: Session, source: str) -> list["FlowProblem"]:
    """All that the registry finds, errors and warnings, in the order of the source."""
    from farhand.api.registry.v1.flow_service_pb2 import ValidateFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    with session.registry() as channel:
        request = ValidateFlowRequest(tenant=session.settings.tenant, source=source)
        return list(FlowServiceStub(channel).ValidateFlow(request, timeout=DEADLINE).problems)


def is_error(problem: "FlowProblem") -> bool:
    """Whether it keeps the flow from being saved."""
    from farhand.api.registry.v1.flow_pb2 import FLOW_PROBLEM_SEVERITY_WARNING

    return problem.severity != FLOW_PROBLEM_SEVERITY_WARNING


def problem_lines(name: str, problems: Iterable["FlowProblem"]) -> list[str]:
    """As compilers write them, so that editors find the place: FILE:LINE:COLUMN: error: MESSAGE (PATH)."""
    lines = []
    for problem in problems:
        place = ":".join(str(part) for part in (name, problem.line, problem.column) if part)
        where = f" ({problem.path})" if problem.path else ""
        lines.append(plain(f"{place}: {'error' if is_error(problem) else 'warning'}: {problem.message}{where}"))
    return lines


def documents(problems: Iterable["FlowProblem"]) -> list[dict[str, Any]]:
    """For programs."""
    return [document(problem) for problem in problems]


def say(lines: Sequence[str]) -> None:
    """On stderr, all of them: who wrote a flow with a hundred mistakes wants to see a hundred lines."""
    for line in lines:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def stopped_by(session: Session, name: str, source: str) -> None:
    """CommandFailed, after the lines, where the source has errors; warnings are said and stop nothing."""
    problems = validate(session, source)
    say(problem_lines(name, problems))
    if count := sum(map(is_error, problems)):
        raise CommandFailed(f"{name} was not saved: it has {counted(count, 'error')}.")


def counted(count: int, what: str) -> str:
    """1 error, 2 errors."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
