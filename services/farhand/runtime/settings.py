"""Settings of a process: a frozen dataclass whose fields are flags and environment variables.

    @dataclass(frozen=True, kw_only=True)
    class Settings(LogSettings, ListenSettings):
        listen: str = setting("127.0.0.1:7401", "address to listen on")
        lease_floor: float = setting(10.0, "shortest lease that a group may have", kind=duration)

    settings = parse(Settings, sys.argv[1:], prog="farhand server registry", description="…")

`lease_floor` is `--lease-floor 10s`, or `FARHAND_LEASE_FLOOR=10s`; the flag wins,
and an empty variable counts as unset (Compose passes those). Standard library
only, so that --help answers at once.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from farhand.kernel.durations import format_duration, parse_duration

T = TypeVar("T")

ENVIRONMENT_PREFIX = "FARHAND_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def setting(
    default: Any, help: str, *, kind: Callable[[str], Any] = str, secret: bool = False, many: bool = False
) -> Any:
    """A field of a settings class.

    default: the value where neither flag nor variable is given; `...` makes it
    required. A bool makes a switch (--x, --no-x). kind turns the text into the
    value and raises ValueError with what it accepts. many: the flag may be given
    several times, the variable is split at commas, the value is a tuple. secret:
    the value is in no help and no repr.
    """
    metadata = {"help": help, "kind": kind, "secret": secret, "many": many, "required": default is ...}
    if default is ...:
        default = None
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def duration(text: str) -> float:
    """Kind for durations: seconds from 90s, 2m30s, 1h, 500ms or ISO-8601."""
    return parse_duration(text)


def size(text: str) -> int:
    """Kind for sizes: bytes from 256KiB, 1MiB, 2GiB or a bare number."""
    for suffix, factor in (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)):
        number = text.removesuffix(suffix).strip()
        if text.endswith(suffix) and number.isdecimal():
            return int(number) * factor
    raise ValueError(f"{text!r} is not a size; write 256KiB, 1MiB, 2GiB or a number of bytes")


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How a process logs; always to stderr."""

    log_format: str | None = setting(
        None, "text or json (default: text on a terminal, else json)", kind=lambda text: _one_of(text, "text", "json")
    )
    log_level: str = setting(
        "info",
        "debug, info, warning or error",
        kind=lambda text: _one_of(text.lower(), "debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Where a server listens, and what it asks of its callers."""

    listen: str = setting("127.0.0.1:0", "address to listen on, HOST:PORT; beyond loopback it needs TLS and tokens")
    tls_cert: Path | None = setting(None, "PEM file with the server's certificate chain", kind=Path)
    tls_key: Path | None = setting(None, "PEM file with the certificate's private key", kind=Path)
    tokens: Path | None = setting(None, "TOML file with the accepted tokens", kind=Path)


@dataclass(frozen=True, kw_only=True)
class DialSettings:
    """How this process knows the servers that it dials, and they it."""

    tls_ca: Path | None = setting(None, "PEM file with the authority that signed the server's certificate", kind=Path)
    token: str | None = setting(None, "bearer token; rather use the variable or --token-file", secret=True)
    token_file: Path | None = setting(None, "file that holds the bearer token", kind=Path)


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where the database is."""

    database_url: str = setting(..., "postgresql://USER:PASSWORD@HOST:PORT/DATABASE", secret=True)


@dataclass(frozen=True, kw_only=True)
class SecretsSettings:
    """The keys under which secret inputs are encrypted in the database (sealing.py)."""

    secrets_key_file: Path | None = setting(
        None,
        "file with the keys that encrypt secret inputs, one a line, each 32 bytes in Base64; without a key flows can't "
        "be given secrets",
        kind=Path,
    )
    secrets_key: str | None = setting(
        None, "the same keys, with commas between; rather use the variable or --secrets-key-file", secret=True
    )


def parse(
    cls: type[T],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    examples: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> T:
    """Settings from flags and environment.

    Exits 0 after --help, and 2 with one line on stderr on wrong use: an unknown
    flag, a text that its kind refuses, a required setting that is missing, or a
    ValueError of the class's own __post_init__.
    """
    environ = os.environ if environ is None else environ
    parser = _Parser(
        prog=prog,
        description=description,
        epilog="\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    fields = [field for field in dataclasses.fields(cls) if field.metadata]  # type: ignore[arg-type]
    for field in fields:
        _add(parser, field)
    given = vars(parser.parse_args(argv))
    values: dict[str, Any] = {}
    for field in fields:
        try:
            values[field.name] = _value(field, given[field.name], environ)
        except ValueError as error:
            parser.error(str(error))
    try:
        return cls(**values)
    except ValueError as error:
        parser.error(str(error))


class _Parser(argparse.ArgumentParser):
    """Wrong use is one line, not a page of usage."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        sys.exit(2)


def flag(name: str) -> str:
    """lease_floor → --lease-floor."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """lease_floor → FARHAND_LEASE_FLOOR."""
    return ENVIRONMENT_PREFIX + name.upper()


def _add(parser: argparse.ArgumentParser, field: dataclasses.Field[Any]) -> None:
    notes = [variable(field.name)]
    if field.metadata["required"]:
        notes.insert(0, "required")
    elif field.default not in (None, (), "") and not field.metadata["secret"]:
        notes.insert(0, f"default: {_shown(field)}")
    help_text = f"{field.metadata['help']} [{'; '.join(notes)}]".replace("%", "%%")
    if isinstance(field.default, bool):
        parser.add_argument(
            flag(field.name), dest=field.name, default=None, action=argparse.BooleanOptionalAction, help=help_text
        )
    else:
        action = "append" if field.metadata["many"] else "store"
        metavar = field.name.upper().rsplit("_", 1)[-1]
        parser.add_argument(
            flag(field.name), dest=field.name, default=None, action=action, metavar=metavar, help=help_text
        )


def _format_size(count: int) -> str:
    """As `size` reads it, in the largest unit of which there is a whole number."""
    for suffix, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count and count % factor == 0:
            return f"{count // factor}{suffix}"
    return str(count)


def _shown(field: dataclasses.Field[Any]) -> str:
    if field.metadata["kind"] is duration and isinstance(field.default, float):
        return format_duration(field.default)
    if field.metadata["kind"] is size and isinstance(field.default, int):
        return _format_size(field.default)
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if isinstance(field.default, tuple):
        return ",".join(str(item) for item in field.default)
    return str(field.default)


def _value(field: dataclasses.Field[Any], given: Any, environ: Mapping[str, str]) -> Any:
    source = flag(field.name)
    if given is None:
        source = variable(field.name)
        given = environ.get(source) or None
        if given is not None and field.metadata["many"]:
            given = [part.strip() for part in given.split(",") if part.strip()]
    if given is None:
        if field.metadata["required"]:
            raise ValueError(f"{flag(field.name)} (or {variable(field.name)}) is required: {field.metadata['help']}")
        return field.default
    if isinstance(field.default, bool):
        return given if isinstance(given, bool) else _switch(source, given)
    try:
        if field.metadata["many"]:
            return tuple(field.metadata["kind"](item) for item in given)
        return field.metadata["kind"](given)
    except ValueError as error:
        kind = field.metadata["kind"]
        reason = f"{given!r} is not a number" if kind in (int, float) else str(error)
        raise ValueError(f"{source}: {'not accepted' if field.metadata['secret'] else reason}") from None


def _switch(source: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{source}: {text!r} is neither true nor false")


def _one_of(text: str, *accepted: str) -> str:
    if text not in accepted:
        raise ValueError(f"{text!r} is not one of {', '.join(accepted)}")
    return text
