"""Flags and environment variables become one frozen value, or one clear line and exit 2."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import pytest

from farhand.runtime.settings import (
    DatabaseSettings,
    DialSettings,
    ListenSettings,
    LogSettings,
    duration,
    parse,
    setting,
    size,
)


@dataclass(frozen=True, kw_only=True)
class Sample(LogSettings, ListenSettings, DialSettings):
    listen: str = setting("127.0.0.1:7401", "address to listen on")
    lease_floor: float = setting(10.0, "shortest lease", kind=duration)
    slots: int = setting(4, "jobs at once", kind=int)
    most: int = setting(262_144, "largest payload", kind=size)
    groups: tuple[str, ...] = setting((), "groups; 100% of them", many=True)
    paused: bool = setting(False, "start paused")

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError("--slots must be at least 1")


def read(*argv: str, **environ: str) -> Sample:
    return parse(Sample, argv, prog="farhand server sample", description="A sample.", environ=environ)


def refuse(capsys: pytest.CaptureFixture[str], *argv: str, **environ: str) -> str:
    with pytest.raises(SystemExit) as caught:
        read(*argv, **environ)
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    return errors


def test_without_anything_the_defaults_hold() -> None:
    settings = read()
    assert (settings.listen, settings.lease_floor, settings.slots) == ("127.0.0.1:7401", 10.0, 4)
    assert (settings.groups, settings.paused, settings.log_format, settings.tls_cert) == ((), False, None, None)


def test_a_flag_wins_over_its_variable() -> None:
    assert read(FARHAND_LEASE_FLOOR="30s").lease_floor == 30.0
    assert read("--lease-floor", "PT1M", FARHAND_LEASE_FLOOR="30s").lease_floor == 60.0


def test_an_empty_variable_counts_as_unset() -> None:
    assert read(FARHAND_SLOTS="").slots == 4


def test_switches_go_both_ways() -> None:
    assert read("--paused").paused
    assert read(FARHAND_PAUSED="yes").paused
    assert not read("--no-paused", FARHAND_PAUSED="true").paused


def test_a_repeated_flag_and_a_list_in_a_variable_are_the_same() -> None:
    assert read("--groups", "a", "--groups", "b").groups == ("a", "b")
    assert read(FARHAND_GROUPS="a, b,").groups == ("a", "b")


def test_paths_are_paths_and_sizes_are_bytes() -> None:
    settings = read("--tls-cert", "/x/y.crt", "--most", "2MiB")
    assert settings.tls_cert == Path("/x/y.crt")
    assert settings.most == 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("argv", "environ", "said"),
    [
        (["--lease-floor", "soon"], {}, "--lease-floor: 'soon' is not a duration"),
        ([], {"FARHAND_LEASE_FLOOR": "soon"}, "FARHAND_LEASE_FLOOR: 'soon' is not a duration"),
        (["--slots", "many"], {}, "--slots: 'many' is not a number"),
        (["--slots", "0"], {}, "--slots must be at least 1"),
        (["--most", "big"], {}, "--most: 'big' is not a size"),
        (["--log-level", "loud"], {}, "--log-level: 'loud' is not one of debug, info, warning, error"),
        ([], {"FARHAND_PAUSED": "perhaps"}, "FARHAND_PAUSED: 'perhaps' is neither true nor false"),
        (["--slot", "2"], {}, "unrecognized arguments: --slot 2"),
        (["stray"], {}, "unrecognized arguments: stray"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], environ: dict[str, str], said: str
) -> None:
    errors = refuse(capsys, *argv, **environ)
    assert errors.startswith("farhand server sample: ")
    assert said in errors
    assert "--help" in errors


def test_what_is_required_is_named_with_both_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(DatabaseSettings, [], prog="p", description="", environ={})
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "--database-url (or FARHAND_DATABASE_URL) is required" in errors


def test_help_shows_defaults_variables_and_examples_but_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(
            Sample,
            ["--help"],
            prog="farhand server sample",
            description="A sample.",
            examples=["farhand server sample --slots 8"],
            environ={"FARHAND_TOKEN": "secret"},
        )
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "shortest lease [default: 10s; FARHAND_LEASE_FLOOR]" in text
    assert "largest payload [default: 256KiB; FARHAND_MOST]" in text
    assert "100% of them" in text
    assert "farhand server sample --slots 8" in text
    assert "secret" not in text


def test_a_secret_is_in_no_repr() -> None:
    settings = read(FARHAND_TOKEN="secret")
    assert settings.token == "secret"
    assert "secret" not in repr(settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        read().slots = 5  # type: ignore[misc]


def test_reading_settings_loads_no_heavy_module() -> None:
    script = (
        "import sys; import farhand.runtime.settings; "
        "print([name for name in ('asyncio', 'grpc', 'google', 'opentelemetry', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("12", 12), ("3B", 3), ("256KiB", 262_144), ("1GiB", 1 << 30)])
def test_sizes(text: str, value: Any) -> None:
    assert size(text) == value
