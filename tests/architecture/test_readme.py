"""What README.md says can be typed, set, tested and opened is there. What it promises is tested elsewhere."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farhand.cli import demo, standalone
from farhand.cli.root import NOUNS, load
from farhand.registry.settings import RegistrySettings
from farhand.runtime.settings import flag, variable
from farhand.scheduler.settings import SchedulerSettings
from farhand.worker.settings import WorkerSettings
from tests.architecture.repository import ROOT, committed_files

README = (ROOT / "README.md").read_text()
PROSE = [ROOT / "README.md", ROOT / "services/README.md", ROOT / "protos/README.md"]
PROGRAMS: dict[str, type[Any]] = {
    "server registry": RegistrySettings,
    "server scheduler": SchedulerSettings,
    "server worker": WorkerSettings,
    "server standalone": standalone.Settings,
    "demo": demo.Settings,
}
# Headings of tables whose settings several programs share.
SHARED = {
    "Every service": tuple(PROGRAMS)[:4],
    "Registry and scheduler": ("server registry", "server scheduler"),
    "Scheduler and worker, for the servers that they dial": ("server scheduler", "server worker"),
}
MACHINE_DEPENDENT = {"one per CPU": "slots"}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def typed_commands() -> Iterator[str]:
    """Every line of a block of commands that calls farhand."""
    for block in code_blocks("sh"):
        yield from (line for line in block.splitlines() if line.startswith("farhand "))
    for block in code_blocks("console"):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ farhand "))


COMMANDS = list(typed_commands())


def settings(program: str) -> dict[str, dataclasses.Field[Any]]:
    """By flag."""
    return {flag(field.name): field for field in dataclasses.fields(PROGRAMS[program]) if field.metadata}


def follow(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """The command that these words name, the words that led there, and those that are left."""
    assert words and words[0] in NOUNS, f"there is no command {' '.join(words[:2])}"
    command, path, rest = load(words[0]), words[:1], words[1:]
    while children := getattr(command, "commands", None):
        assert rest and rest[0] in children, f"farhand {' '.join(path)} has no {' '.join(rest[:1])}"
        command, path, rest = children[rest[0]], [*path, rest[0]], rest[1:]
    return command, path, rest


def test_the_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_can_be_typed(line: str) -> None:
    command, path, rest = follow(shlex.split(line, comments=True)[1:])
    if (program := " ".join(path)) in PROGRAMS:
        named = [word.partition("=")[0] for word in rest if word.startswith("--")]
        assert not set(named) - settings(program).keys()
    else:
        command.make_context(program, rest)


def test_the_table_of_commands_names_all_there_are() -> None:
    section = README.partition("\n## Commands\n")[2].partition("\n## ")[0]
    found: set[str] = set()
    for cell in re.findall(r"^\| (`farhand .*?) \|", section, re.MULTILINE):
        first, *others = re.findall(r"`(.*?)`", cell)
        *noun, verb = first.removeprefix("farhand ").split()
        found |= {" ".join([*noun, each]) for each in (verb, *others)}

    def below(words: str, command: Any) -> set[str]:
        children = getattr(command, "commands", None)
        if children is None:
            return {words}
        return {leaf for child, inner in children.items() for leaf in below(f"{words} {child}", inner)}

    assert found == {leaf for noun in NOUNS for leaf in below(noun, load(noun))}


def setting_rows() -> dict[str, list[tuple[str, str, str]]]:
    """Heading → (flag, variable, default) of each row of its table."""
    section = README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for part in section.split("\n### ")[1:]:
        heading = part.partition("\n")[0].strip("`").removeprefix("farhand ")
        for row in re.findall(r"^\| `(--[\w-]+)` \| `(\w+)` \| (.*?) \|", part, re.MULTILINE):
            rows.setdefault(heading, []).append(row)
    return rows


def test_every_setting_of_the_readme_is_there_with_its_variable_and_default() -> None:
    for heading, rows in setting_rows().items():
        for program in SHARED.get(heading, (heading,)):
            fields = settings(program)
            for name, environment, shown in rows:
                field = fields.get(name)
                if field is None and heading == "Every service":
                    continue
                assert field is not None, f"{program} has no {name}"
                assert environment == variable(field.name)
                assert is_default(field, shown.strip("`")), f"{program} {name}: not {shown}"


def is_default(field: dataclasses.Field[Any], shown: str) -> bool:
    """Whether the README's text for it means the default."""
    if shown in MACHINE_DEPENDENT:
        return field.name == MACHINE_DEPENDENT[shown]
    if shown in ("required", "–"):
        return bool(field.metadata["required"]) == (shown == "required") and field.default in (None, (), "")
    if isinstance(field.default, bool):
        return shown == ("on" if field.default else "off")
    return bool(field.metadata["kind"](shown) == field.default)


def test_no_setting_is_missing_in_the_readme() -> None:
    rows = setting_rows()
    for program in PROGRAMS:
        headings = [program, *(heading for heading, programs in SHARED.items() if program in programs)]
        told = {row[0] for heading in headings for row in rows.get(heading, ())}
        assert not settings(program).keys() - told, program


def names_of_all_tests() -> set[str]:
    """Functions, and the classes that Hypothesis makes of state machines."""
    pattern = re.compile(r"^ *(?:async )?def (test_\w+)|^(?:class )?(Test\w+)", re.MULTILINE)
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for path in files for pair in pattern.findall(path.read_text()) for name in pair if name}


def test_every_guarantee_names_tests_that_exist() -> None:
    section = README.partition("\n## Guarantees\n")[2].partition("\n### ")[0]
    rows = dict(re.findall(r"^\| (P\d+) \| ((?:`[Tt]est\w+`(?:, )?)+) \|$", section, re.MULTILINE))
    assert list(rows) == [f"P{number}" for number in range(1, 14)]
    there = names_of_all_tests()
    named = {name for row in rows.values() for name in re.findall(r"`(\w+)`", row)}
    assert not named - there


def documents() -> list[Path]:
    return [*PROSE, *sorted((ROOT / "services/decisions").glob("*.md"))]


def anchors(path: Path) -> set[str]:
    """What its headings are called in links, as GitHub and its like make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    committed = set(committed_files())
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file in committed or any(file in other.parents for other in committed), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [*code_blocks("sh"), *code_blocks("console"), *re.findall(r"`(make [^`]*)`", README)]
    named = {name for text in lines for name in re.findall(r"^(?:\$ )?make ([a-z]+)", text, re.MULTILINE)}
    assert {"demo", "test", "bench", "mutants"} <= named <= targets


def test_decisions_are_numbered_and_say_what_a_record_says() -> None:
    records = sorted((ROOT / "services/decisions").glob("*.md"))
    numbers = [path.name[:4] for path in records]
    assert len(set(numbers)) == len(numbers) > 10
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]} ")
        for part in ("Status: ", "**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, f"{path.name}: {part}"
