"""How words become a line for the worker's shell."""

import subprocess

import pytest

from farhand.cli.failure import WrongUse
from farhand.cli.shell_task import environment, properties, shell_line


def test_one_word_is_a_line_for_the_shell() -> None:
    assert shell_line(["echo hi | wc -c"]) == "echo hi | wc -c"


@pytest.mark.parametrize(
    "words",
    [
        ["printf", "%s\n", "a b", "$HOME", "it's", "", "*", "a\nb", "-n", "ä"],
        ["printf", "%s", "; rm -rf /"],
    ],
)
def test_several_words_reach_the_command_as_they_were_typed(words: list[str]) -> None:
    direct = subprocess.run(words, capture_output=True, check=True).stdout
    through_shell = subprocess.run(["/bin/sh", "-c", shell_line(words)], capture_output=True, check=True).stdout
    assert through_shell == direct


@pytest.mark.parametrize("words", [[""], ["  "]])
def test_an_empty_command_is_refused(words: list[str]) -> None:
    with pytest.raises(WrongUse, match="empty"):
        shell_line(words)


def test_a_command_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(WrongUse, match="UTF-8"):
        shell_line(["echo", "\udcff"])


def test_variables_may_hold_equals_signs_and_nothing() -> None:
    assert environment(["A=1=2", "B=", "A=3"]) == {"A": "3", "B": ""}


@pytest.mark.parametrize("pair", ["A", "=x", "1A=x", "A B=x", "A-B=x"])
def test_a_variable_without_a_proper_name_is_refused(pair: str) -> None:
    with pytest.raises(WrongUse, match="--env"):
        environment([pair])


def test_without_variables_there_is_no_env() -> None:
    assert properties(["true"], []) == {"commands": ["true"]}
