"""Where a command's settings come from: flag, then environment, then profile, then default.

The profile file is TOML, one table per profile; the profile "default" is taken where none
is named:

    [default]
    registry = "127.0.0.1:7401"

    [prod]
    registry   = "farhand.example.com:7401"
    scheduler  = "farhand.example.com:7402"
    tls_ca     = "prod-ca.crt"      # a relative path starts at the profile file's folder
    token_file = "prod.token"
    tenant     = "research"
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from farhand.cli.failure import WrongUse
from farhand.kernel.names import near_matches, shown

OUTPUTS = ("table", "json", "yaml")


@dataclass(frozen=True)
class Choices:
    """What one source says; None: nothing."""

    output: str | None = None
    tenant: str | None = None
    registry: str | None = None
    scheduler: str | None = None
    tls_ca: str | None = None
    token: str | None = None
    token_file: str | None = None


KEYS = tuple(field.name for field in fields(Choices))
_PATHS = ("tls_ca", "token_file")
DEFAULTS = Choices(output="table", tenant="", registry="127.0.0.1:7401", scheduler="127.0.0.1:7402")


@dataclass(frozen=True)
class Settings:
    """What holds. An empty tenant leaves the choice to the server ("main")."""

    output: str
    tenant: str
    registry: str
    scheduler: str
    tls_ca: Path | None
    token: str | None
    token_file: Path | None


def profiles_path(environ: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME/farhand/profiles.toml, by default below ~/.config."""
    folder = environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "farhand" / "profiles.toml"


def resolve(flags: Choices, profile: str | None, environ: Mapping[str, str]) -> Settings:
    """The settings that hold. WrongUse says which source is wrong, and how."""
    named = profile or environ.get("FARHAND_PROFILE") or None
    sources = [
        _checked(flags, lambda key: f"--{key.replace('_', '-')}"),
        _checked(from_environment(environ), lambda key: f"FARHAND_{key.upper()}"),
        _from_file(profiles_path(environ), named),
        DEFAULTS,
    ]

    def first(key: str) -> str | None:
        return next((value for source in sources if (value := getattr(source, key)) is not None), None)

    # token and token_file are two ways to say one thing: the strongest source that says either decides.
    credential = next((source for source in sources if source.token or source.token_file), DEFAULTS)
    tls_ca = first("tls_ca")
    return Settings(
        output=first("output") or "table",
        tenant=first("tenant") or "",
        registry=first("registry") or "",
        scheduler=first("scheduler") or "",
        tls_ca=Path(tls_ca).expanduser() if tls_ca else None,
        token=credential.token,
        token_file=Path(credential.token_file).expanduser() if credential.token_file else None,
    )


def from_environment(environ: Mapping[str, str]) -> Choices:
    """What FARHAND_… variables say; an empty one says nothing."""
    return Choices(**{key: environ.get(f"FARHAND_{key.upper()}") or None for key in KEYS})


def _checked(choices: Choices, name: Any) -> Choices:
    """The same choices, if they can be; `name` tells how a key is spelled in their source."""
    if choices.output is not None and choices.output not in OUTPUTS:
        raise WrongUse(f"{name('output')}: {shown(choices.output)} is not one of {', '.join(OUTPUTS)}.")
    if choices.token and choices.token_file:
        raise WrongUse(f"Give {name('token')} or {name('token_file')}, not both.")
    for key in ("registry", "scheduler"):
        address = getattr(choices, key)
        if address is not None and not _is_address(address):
            raise WrongUse(f"{name(key)}: {shown(address)} is not an address; write HOST:PORT.")
    return choices


def _is_address(text: str) -> bool:
    from farhand.runtime.address import Address

    try:
        return Address.parse(text).port > 0
    except ValueError:
        return False


def _from_file(path: Path, named: str | None) -> Choices:
    """One profile of the file. A file that isn't there is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named is None:
            return Choices()
        raise WrongUse(f"There is no profile {shown(named)}: {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path} can't be read: {error}") from None
    import tomllib

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongUse(f"{path} is not TOML: {error}") from None
    if named is None and "default" not in tables:
        return Choices()
    table = tables.get(named or "default")
    if table is None:
        near = near_matches(named or "", tables)
        hint = f" Did you mean {' or '.join(map(shown, near))}?" if near else f" It has: {', '.join(tables) or 'none'}."
        raise WrongUse(f"There is no profile {shown(named or '')} in {path}.{hint}")
    return _from_table(path, named or "default", table)


def _from_table(path: Path, profile: str, table: Any) -> Choices:
    where = f"{path}, profile {shown(profile)}"
    if not isinstance(table, dict):
        raise WrongUse(f"{where}: must be a table of settings, [{profile}].")
    for key, value in table.items():
        if key not in KEYS:
            near = near_matches(key, KEYS)
            raise WrongUse(
                f"{where}: there is no setting {shown(key)}."
                + (f" Did you mean {shown(near[0])}?" if near else f" There are: {', '.join(KEYS)}.")
            )
        if not isinstance(value, str) or not value:
            raise WrongUse(f"{where}: {key} must be a text in quotes.")
    values = dict(table)
    for key in _PATHS:
        if key in values:
            values[key] = str(path.parent / Path(values[key]).expanduser())
    return _checked(Choices(**values), lambda key: f"{where}: {key}")
