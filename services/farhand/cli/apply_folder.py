"""The folder that `farhand apply` reads, with all that is wrong with it in itself.

    tenants/*.yaml         tenants, worker groups and namespaces: each a mapping with the
    worker-groups/*.yaml   fields of its proto, one or several documents in a file
    namespaces/*.yaml
    flows/**/*.yaml        flows
    files/NAMESPACE/**     files of namespaces

Flows, files, and namespaces that name no tenant are those of the tenant that is acted in.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farhand.cli import apply_declarations, flow_file
from farhand.cli.apply_declarations import KINDS, Declaration
from farhand.cli.apply_findings import Findings
from farhand.cli.failure import WrongUse
from farhand.cli.file_upload import files_below
from farhand.kernel.file_paths import check_path
from farhand.kernel.names import check_namespace, near_matches, shown

FLOWS, FILES = "flows", "files"
PARTS = (*(kind.folder for kind in KINDS), FLOWS, FILES)
_LARGEST_FILE = 64 << 20  # bytes; the registry's own limit (namespace_file.proto)


@dataclass(frozen=True, slots=True)
class FlowFile:
    """A flow's source, and the names in it."""

    file: Path
    source: str
    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class NamespaceFile:
    """A file and where it goes."""

    file: Path
    namespace: str
    path: str


@dataclass(slots=True)
class Folder:
    """What was read. `unnamed` are flows that don't say which they are: the registry says what is wrong with them."""

    parts: frozenset[str]  # those of PARTS that are there
    declarations: list[Declaration] = field(default_factory=list)
    flows: list[FlowFile] = field(default_factory=list)
    unnamed: list[FlowFile] = field(default_factory=list)
    files: list[NamespaceFile] = field(default_factory=list)


def read(root: Path, tenant: str, prune: bool, findings: Findings) -> Folder:
    """Read it all. WrongUse where there is no such folder, or nothing to apply in it."""
    if not root.is_dir():
        raise WrongUse(f"There is no folder {root}.")
    folder = Folder(frozenset(part for part in PARTS if (root / part).is_dir()))
    if not folder.parts:
        raise WrongUse(f"{root} has nothing to apply: none of the folders {', '.join(PARTS)}.")
    _mistyped(root, prune, findings)
    for kind in KINDS:
        for file in _yaml_files(root / kind.folder):
            folder.declarations += apply_declarations.read(kind, file, tenant, findings)
    _twice(((each.kind.label, *each.name), each.file, each.line) for each in folder.declarations)(findings)
    _read_flows(root / FLOWS, folder, findings)
    _twice((("flow", each.namespace, each.id), each.file, 0) for each in folder.flows)(findings)
    _read_files(root / FILES, folder, findings)
    return folder


def _mistyped(root: Path, prune: bool, findings: Findings) -> None:
    """A folder that nobody looks at and that is called much like one of ours: with prune its content would be lost."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and entry.name not in PARTS and (near := near_matches(entry.name, PARTS)):
            message = f"this folder is not looked at. Did you mean {near[0]}?"
            if prune:
                findings.error(f"{message} With --prune there must be no doubt: give it another name", entry)
            else:
                findings.warning(message, entry)


def _yaml_files(folder: Path) -> list[Path]:
    return [file for file in files_below(folder) if file.suffix in (".yaml", ".yml")] if folder.is_dir() else []


def _twice(things: Iterator[tuple[tuple[str, ...], Path, int]]) -> Any:
    """What says of things of one kind and name that they are there twice."""

    def find(findings: Findings) -> None:
        first: dict[tuple[str, ...], str] = {}
        for (kind, *name), file, line in things:
            place = f"{file}:{line}" if line else str(file)
            if (other := first.setdefault((kind, *name), place)) != place:
                label = "/".join(part for part in name if part) or "_default"
                findings.error(f"the {kind} {shown(label)} is in {other} already", file, line)

    return find


def _read_flows(root: Path, folder: Folder, findings: Findings) -> None:
    for file in _yaml_files(root):
        try:
            source = flow_file.read_source(str(file))
        except WrongUse as error:
            findings.error(error.message)
            continue
        names = flow_file.name_in(source)
        if names is None:
            folder.unnamed.append(FlowFile(file, source, "", ""))
        else:
            folder.flows.append(FlowFile(file, source, *names))


def _read_files(root: Path, folder: Folder, findings: Findings) -> None:
    for entry in sorted(root.iterdir()) if root.is_dir() else ():
        if not entry.is_dir():
            findings.error("this file is of no namespace: put it into files/NAMESPACE/", entry)
            continue
        for violation in check_namespace("", entry.name):
            findings.error(f"a folder of files is named after its namespace: {violation.description}", entry)
        for file in files_below(entry):
            path = file.relative_to(entry).as_posix()
            for violation in check_path("", path):
                findings.error(violation.description, file)
            if (size := file.stat().st_size) > _LARGEST_FILE:
                findings.error(f"has {size:,} bytes; at most {_LARGEST_FILE:,} are allowed", file)
            folder.files.append(NamespaceFile(file, entry.name, path))
