"""What all commands have in common: the options that end each of them, their examples, and their session.

    @command(app, "get", examples=["farhand tenant get main"])
    def get(session: Session, id: Annotated[str, typer.Argument(…)]) -> None: …

The function sees its own arguments and a `Session`; the options of `Connection and output`
are read here. What it returns is the exit code.

Help is typer's plain text, not its panels: it is faster, can be copied, and wraps well.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from farhand.cli.profile import Choices, resolve
from farhand.cli.session import Session

Function = TypeVar("Function", bound=Callable[..., int | None])

_PANEL = "Connection and output"


def _option(flag: str, metavar: str, text: str) -> Any:
    return Annotated[str | None, typer.Option(flag, metavar=metavar, help=text, rich_help_panel=_PANEL)]


_SHARED = {
    "output": _option("--output", "FORMAT", "table, json or yaml. (FARHAND_OUTPUT; default table)"),
    "tenant": _option("--tenant", "ID", "The tenant to act in. (FARHAND_TENANT; default main)"),
    "registry": _option("--registry", "HOST:PORT", "The registry. (FARHAND_REGISTRY; default 127.0.0.1:7401)"),
    "scheduler": _option("--scheduler", "HOST:PORT", "The scheduler. (FARHAND_SCHEDULER; default 127.0.0.1:7402)"),
    "tls_ca": _option(
        "--tls-ca", "FILE", "Authority that signed the servers' certificates; turns TLS on. (FARHAND_TLS_CA)"
    ),
    "token": _option("--token", "TEXT", "Bearer token; others can see it here, so rather: (FARHAND_TOKEN)"),
    "token_file": _option("--token-file", "FILE", "File that holds the bearer token. (FARHAND_TOKEN_FILE)"),
    "profile": _option(
        "--profile", "NAME", "Profile to take the rest from; see farhand --help. (FARHAND_PROFILE; default default)"
    ),
}


class Command(TyperCommand):
    """A command whose help keeps the shared options apart and ends with examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Arguments are NAME where typer writes {NAME}."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, its own options, the shared ones."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], _PANEL: []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, TyperArgument):
                sections["Arguments"].append((parameter.display_name_raw, parameter.help or ""))
            elif record := parameter.get_help_record(ctx):
                sections[getattr(parameter, "rich_help_panel", None) or "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, as they are."""
        _write_examples(self.epilog, formatter)


class Group(TyperGroup):
    """A group of commands whose help ends with examples."""

    def get_help_option(self, ctx: Any) -> Any:
        """--help with a default: typer would import pydantic to coerce none, half of the time that help takes."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, as they are."""
        _write_examples(self.epilog, formatter)


def _write_examples(examples: str | None, formatter: Any) -> None:
    if examples:
        with formatter.section("Examples"):
            for line in examples.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def noun(text: str, examples: Sequence[str]) -> typer.Typer:
    """The group of a noun's commands."""
    return typer.Typer(
        cls=Group,
        help=text,
        epilog="\n".join(examples),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )


def single() -> typer.Typer:
    """The app of a noun that is itself the command."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def command(app: typer.Typer, name: str, *, examples: Sequence[str], **settings: Any) -> Callable[[Function], Function]:
    """Register a function as the command `name` of `app`; see above."""

    def register(function: Function) -> Function:
        _, *own = inspect.signature(function, eval_str=True).parameters.values()

        def invoke(**arguments: Any) -> None:
            profile = arguments.pop("profile")
            flags = Choices(**{key: arguments.pop(key) for key in _SHARED if key != "profile"})
            with Session(resolve(flags, profile, os.environ)) as session:
                exit_code = function(session, **arguments)
            if exit_code:
                raise typer.Exit(exit_code)

        invoke.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
            + [
                inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
                for key, annotation in _SHARED.items()
            ]
        )
        app.command(name, cls=Command, help=inspect.getdoc(function), epilog="\n".join(examples), **settings)(invoke)
        return function

    return register
