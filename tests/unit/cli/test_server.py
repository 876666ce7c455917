"""farhand server and demo turn into the programs that they start."""

import os
import sys
import types

import pytest

from tests.unit.cli.conftest import Farhand


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("server", "registry"), "farhand.registry"),
        (("server", "scheduler"), "farhand.scheduler"),
        (("server", "worker"), "farhand.worker"),
        (("migrate",), "farhand.runtime.migrate"),
        (("admin", "bump-fences"), "farhand.scheduler.bump_fences"),
        (("admin", "rotate-key"), "farhand.scheduler.rotate_key"),
    ],
)
def test_a_program_gets_all_that_follows_its_name(
    farhand: Farhand, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], module: str
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, argv: became.append([program, *argv]))
    farhand(*words, "--listen", "127.0.0.1:0", "--unknown=1", "--", "-x", "--help")
    assert became == [
        [
            sys.executable,
            sys.executable,
            "-P",
            "-m",
            module,
            "--listen",
            "127.0.0.1:0",
            "--unknown=1",
            "--",
            "-x",
            "--help",
        ]
    ]


def test_a_service_that_lacks_its_packages_says_what_to_install(
    farhand: Farhand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = farhand("server", "registry")
    assert result.code == 1
    assert "sqlalchemy, asyncpg" in result.err
    assert "pip install 'farhand[server]'" in result.err


@pytest.mark.parametrize(("words", "module"), [(("server", "standalone"), "standalone"), (("demo",), "demo")])
def test_a_program_of_the_command_line_gets_all_that_follows(
    farhand: Farhand, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], module: str
) -> None:
    seen: list[list[str]] = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    program = types.ModuleType(f"farhand.cli.{module}")
    program.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"farhand.cli.{module}", program)
    monkeypatch.setattr(f"farhand.cli.{module}", program, raising=False)
    assert farhand(*words, "--data", "x", "--help").code == 7
    assert seen == [["--data", "x", "--help"]]
