"""Help is there for every command, with examples that are right, and without the slow imports."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from farhand.cli.root import NOUNS, app, load
from farhand.cli.server import PassOn
from tests.unit.cli.conftest import Farhand


def leaves() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield words, command
        else:
            for child, leaf in children.items():
                yield from below((*words, child), leaf)

    for name in NOUNS:
        yield from below((name,), load(name))


LEAVES = {words: command for words, command in leaves() if not isinstance(command, PassOn)}


def test_help_imports_nothing_slow() -> None:
    script = f"""
import sys
from farhand.cli.__main__ import main
for words in {[["--help"], *([*words, "--help"] for words in LEAVES), ["server", "--help"], ["job"]]}:
    main(words)
slow = {{"grpc", "google.protobuf", "asyncio", "rich", "yaml", "opentelemetry", "pydantic", "sqlalchemy"}}
slow |= {{"jinja2", "httpx"}}
print("SLOW", sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "SLOW []"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_help_with_examples_and_the_shared_options(farhand: Farhand, words: tuple[str, ...]) -> None:
    result = farhand(*words, "--help")
    assert result.code == 0
    assert "Examples:\n  farhand" in result.out
    for option in ("--output", "--tenant", "--registry", "--scheduler", "--tls-ca", "--token-file", "--profile"):
        assert option in result.out


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_the_examples_of_a_command_can_be_typed(words: tuple[str, ...]) -> None:
    command = LEAVES[words]
    examples = [line for line in command.epilog.splitlines() if line.startswith(f"farhand {' '.join(words)}")]
    assert examples, "the first example shows the command itself"
    for example in examples:
        typed = shlex.split(example)[1 + len(words) :]
        stop = next((index for index, word in enumerate(typed) if word in ("|", "&&", "<", ">", "<<END")), len(typed))
        command.make_context(" ".join(words), typed[:stop])


def test_the_root_lists_every_noun_and_says_where_settings_come_from(farhand: Farhand) -> None:
    result = farhand("--help")
    assert result.code == 0
    for word in (*NOUNS, "profiles.toml", "FARHAND_PROFILE", "registry", "token_file", "Exit codes"):
        assert word in result.out


def test_each_noun_says_of_itself_what_the_root_lists() -> None:
    assert set(typer.main.get_command(app).commands) == set(NOUNS)  # type: ignore[attr-defined]
    for name in NOUNS:
        assert load(name).help


def test_a_mistyped_command_is_wrong_use_with_a_near_match(farhand: Farhand) -> None:
    result = farhand("worker-gruop", "list")
    assert result.code == 2
    assert "Did you mean 'worker-group'" in result.err


def test_an_unknown_option_is_wrong_use(farhand: Farhand) -> None:
    result = farhand("job", "list", "--nonsense")
    assert result.code == 2
    assert "--nonsense" in result.err


def test_both_ways_to_ask_for_the_version_agree(farhand: Farhand) -> None:
    version = json.loads(farhand("version", "--output", "json").out)["version"]
    assert farhand("--version").out == f"farhand {version}\n"
