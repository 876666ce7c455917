"""The root command and the list of its nouns; a noun's file is imported when it is called."""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from farhand.cli.command import Group


@dataclass(frozen=True)
class Noun:
    """Where a command of the root lives (module:attribute), and the line that the root's help has for it."""

    target: str
    text: str


NOUNS = {
    "run": Noun("run:app", "Run a command on a worker and follow it to its end."),
    "flow": Noun("flow:app", "Flows: what runs, in which order, on which worker groups."),
    "apply": Noun("apply:app", "Bring the registry to what a folder says: groups, flows, files."),
    "execution": Noun("execution:app", "Executions: runs of flows, followed live."),
    "trigger": Noun("trigger:app", "Triggers: what starts executions by itself, and when next."),
    "job": Noun("job:app", "Jobs: list, explain, follow, kill, submit."),
    "worker-group": Noun("worker_group:app", "Worker groups: the places that a job can name."),
    "worker": Noun("worker:app", "Workers: the processes that run jobs."),
    "tenant": Noun("tenant:app", "Tenants: who is kept apart from whom."),
    "namespace": Noun("namespace:app", "Namespaces: what their jobs inherit."),
    "server": Noun("server:app", "Start a service in the foreground."),
    "demo": Noun("server:demo", "Everything on this machine, with something to watch."),
    "migrate": Noun("server:migration", "Bring the database's schemas up to date."),
    "admin": Noun("admin:app", "What an operator does now and then."),
    "version": Noun("version:app", "The version of this program."),
}

HELP = """Run jobs on machines that live anywhere.

Workers dial out and wait in groups; a job names its group and is run there once, in order,
with its log.

Settings come from flags, then from the environment (FARHAND_…), then from a profile in
~/.config/farhand/profiles.toml, then from defaults. A profile is a TOML table with any of
the keys registry, scheduler, tls_ca, token, token_file, tenant and output, such as:

\b
  [prod]
  registry   = "farhand.example.com:7401"
  scheduler  = "farhand.example.com:7402"
  tls_ca     = "prod-ca.crt"     # relative to the file
  token_file = "prod.token"

--profile or FARHAND_PROFILE picks one; without it [default] is taken, if it is there.

Exit codes: 0 success, 1 the asked-for thing failed, 2 wrong use; farhand run: the command's."""

EXAMPLES = [
    "farhand demo",
    "farhand server standalone",
    "farhand run --worker-group gpu -- nvidia-smi",
    "farhand worker-group list",
    "farhand job explain 3k8w0q2zr9m1t",
]


class Root(Group):
    """A group of stand-ins, which know their names and help lines; a call of one loads the real command."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, noun in NOUNS.items():
            self.add_command(TyperCommand(name, help=noun.text))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command behind the name that was typed."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in NOUNS else stand_in, rest


def load(name: str) -> Any:
    """The real command of a noun."""
    module, _, attribute = NOUNS[name].target.partition(":")
    command = typer.main.get_command(getattr(importlib.import_module(f"farhand.cli.{module}"), attribute))
    command.name = name
    return command


app = typer.Typer(
    cls=Root,
    name="farhand",
    # typer's completion options would import pydantic at each call, as much as all the rest of --help.
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from farhand.cli.version import version

        typer.echo(f"farhand {version()}")
        raise typer.Exit


@app.callback(help=HELP, epilog="\n".join(EXAMPLES))
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Nothing of its own: every command is a noun's."""
