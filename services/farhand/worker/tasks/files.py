"""Files beside a script: `namespaceFiles` and `inputFiles` before it, `outputFiles` after it.

    namespaceFiles: {enabled: true, include: ["*.py"], exclude: ["test_*"]}
    inputFiles: {data/in.csv: "a,b\\n", model.bin: "{{ outputs.train.outputFiles['model.bin'] }}"}
    outputFiles: ["*.csv", "plots/**"]

An input file's value is its text, or the address of a file that an earlier task
stored. It comes after those of the namespace and wins over one with its path. Output
files are those that lie in the working folder when the script has ended; links are
followed as long as they stay in it.
"""

import asyncio
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from farhand.kernel.errors import Violation
from farhand.kernel.file_paths import check_path
from farhand.kernel.file_uri import is_uri, parse_uri
from farhand.kernel.globs import check_pattern, is_literal, matches, matches_any
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.worker.tasks import properties as check
from farhand.worker.tasks.base import FileFailed, Level, TaskContext

KNOWN = frozenset({"inputFiles", "outputFiles", "namespaceFiles"})
MOST_FILES = 1_000  # that a run brings in by inputFiles, or hands out
MOST_PATTERNS = 100
MOST_LOOKED_AT = 100_000  # entries of the working folder
_NAMESPACE_FILES = ("enabled", "include", "exclude")


class InputFilesFailed(Exception):
    """A file that the task asks for can't be had; the message names it and says why."""


class OutputFilesFailed(Exception):
    """An output file can't be stored; the message names it and says why."""


def violations_of(properties: Mapping[str, Any]) -> list[Violation]:
    """What is wrong with the three properties."""
    return (
        _check_input_files(check.structured(properties.get("inputFiles")))
        + _check_patterns("outputFiles", properties.get("outputFiles"))
        + _check_namespace_files(properties.get("namespaceFiles"))
    )


async def bring_in(context: TaskContext) -> None:
    """Put the namespace's files and the input files into the working folder. Raises InputFilesFailed."""
    wanted = context.properties.get("namespaceFiles")
    if wanted is not None and check.truth(wanted.get("enabled"), True):
        await _bring_namespace_files(context, wanted)
    for path, value in (check.structured(context.properties.get("inputFiles")) or {}).items():
        try:
            to = _place(context.folder(), path)
            if isinstance(value, str) and is_uri(value):
                await context.files.download(value, to)
            else:
                to.write_text(check.variable(value), encoding="utf-8")
        except FileFailed as error:
            raise InputFilesFailed(f"the input file {path} can't be had: {error}") from None
        except OSError as error:
            raise InputFilesFailed(f"the input file {path} can't be written: {error.strerror}") from None


async def hand_out(context: TaskContext) -> dict[str, str]:
    """Store the output files: their paths, and where they are now. Raises OutputFilesFailed."""
    patterns = check.structured(context.properties.get("outputFiles")) or []
    stored: dict[str, str] = {}
    if context.files.stopped or not patterns:
        return stored
    found, missed = await asyncio.to_thread(_found, context.folder(), patterns)
    for pattern in missed:
        context.log(f"outputFiles: nothing in the working folder is called {shown(pattern)}", Level.WARN)
    for path in found:
        try:
            with _opened(context.folder(), path) as file:
                stored[path] = await context.files.upload(file, path)
        except FileFailed as error:
            raise OutputFilesFailed(f"the output file {path} can't be stored: {error}") from None
        except OSError as error:
            raise OutputFilesFailed(f"the output file {path} can't be read: {error.strerror}") from None
    return stored


# ── in ──


async def _bring_namespace_files(context: TaskContext, wanted: Mapping[str, Any]) -> None:
    include = check.structured(wanted.get("include")) or ["**"]
    exclude = check.structured(wanted.get("exclude")) or []
    try:
        files = await context.files.namespace_files()
    except FileFailed as error:
        raise InputFilesFailed(f"the namespace's files can't be listed: {error}") from None
    for file in files:
        if not matches_any(include, file.path) or matches_any(exclude, file.path):
            continue
        try:
            if wrong := check_path("", file.path):  # the registry keeps to the rule; a folder of ours depends on it
                raise FileFailed(wrong[0].description)
            await context.files.copy_namespace_file(file, _place(context.folder(), file.path))
        except FileFailed as error:
            raise InputFilesFailed(f"the namespace file {file.path} can't be had: {error}") from None
        except OSError as error:
            raise InputFilesFailed(f"the namespace file {file.path} can't be written: {error.strerror}") from None


def _place(folder: Path, path: str) -> Path:
    """Where to write a file; nothing is there. No program has run in the folder yet, so there are no links in it."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    return place


# ── out ──


def _found(folder: Path, patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The paths of what the patterns mean, sorted, and the patterns that mean nothing. Takes its time."""
    found: set[str] = set()
    missed = dict.fromkeys(patterns)
    for pattern in filter(is_literal, patterns):
        path = pattern.removeprefix("./")
        if os.path.lexists(folder / path):
            missed.pop(pattern, None)
            found.add(path)
    wild = [pattern for pattern in patterns if not is_literal(pattern)]
    deep = any("/" in pattern.removeprefix("./") or pattern == "**" for pattern in wild)
    for path in _files(folder, deep=deep) if wild else ():
        for pattern in wild:
            if matches(pattern, path):
                missed.pop(pattern, None)
                found.add(path)
    if len(found) > MOST_FILES:
        raise OutputFilesFailed(f"outputFiles mean {len(found):,} files; {MOST_FILES:,} are allowed: pack them")
    for path in found:
        if wrong := check_path("", path):
            raise OutputFilesFailed(f"an output file can't be stored: {wrong[0].description}")
    return sorted(found), list(missed)


def _files(folder: Path, *, deep: bool) -> Iterator[str]:
    """Files and links of a folder, or of all folders below it too, as relative paths. Linked folders are not
    entered."""
    left = MOST_LOOKED_AT
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError:  # a folder that the script made unreadable
            continue
        for entry in entries:
            left -= 1
            if left < 0:
                raise OutputFilesFailed(f"the working folder has more than {MOST_LOOKED_AT:,} entries to look at")
            path = f"{inside}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if deep:
                    waiting.append(path + "/")
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield path


def _opened(folder: Path, path: str) -> BinaryIO:
    """A file of the folder, open for reading. Raises FileFailed for what leads out of it or is no file, OSError."""
    real = Path(os.path.realpath(folder / path))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise FileFailed("it is, or goes through, a link that leads out of the working folder")
    # Without waiting: a pipe that nobody writes to would keep us for ever.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileFailed("it is no file (name what is in a folder by a pattern: plots/**)")
    return os.fdopen(descriptor, "rb", buffering=0)


# ── what may be written ──


def _check_input_files(value: Any) -> list[Violation]:
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Violation("inputFiles", f"must be a map of paths to texts or addresses, not {kind(value)}")]
    if len(value) > MOST_FILES:
        return [Violation("inputFiles", f"has {len(value):,} files; {MOST_FILES:,} are allowed")]
    violations: list[Violation] = []
    for path, content in sorted(value.items()):
        name = f"inputFiles.{path}" if len(path) <= 100 else "inputFiles"
        violations += check_path(name, path)
        above = [part for part in accumulate(path.split("/")[:-1], "{}/{}".format) if part in value]
        violations += [Violation(name, f"lies in {shown(folder)}, which is a file itself") for folder in above]
        if not isinstance(content, str | int | float):
            violations.append(Violation(name, f"must be a text or the address of a file, not {kind(content)}"))
        elif isinstance(content, str) and is_uri(content):
            try:
                parse_uri(content)
            except ValueError as error:
                violations.append(Violation(name, f"{shown(content, 200)} {error}"))
    return violations


def _check_patterns(name: str, value: Any) -> list[Violation]:
    violations = check.strings(name, value)
    patterns = check.structured(value)
    if violations or not patterns:
        return violations
    if len(patterns) > MOST_PATTERNS:
        return [Violation(name, f"has {len(patterns)} patterns; {MOST_PATTERNS} are allowed")]
    return [
        violation for index, pattern in enumerate(patterns) for violation in check_pattern(f"{name}[{index}]", pattern)
    ]


def _check_namespace_files(value: Any) -> list[Violation]:
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Violation("namespaceFiles", f"must be a map with enabled, not {kind(value)}")]
    violations = [
        Violation(f"namespaceFiles.{name}", f"is not known; known are {', '.join(_NAMESPACE_FILES)}")
        for name in value
        if name not in _NAMESPACE_FILES
    ]
    violations += check.boolean("namespaceFiles.enabled", value.get("enabled"))
    for name in ("include", "exclude"):
        violations += _check_patterns(f"namespaceFiles.{name}", value.get(name))
    return violations
