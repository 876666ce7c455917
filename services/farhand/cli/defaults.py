"""The flags that tenants and namespaces share: both declare a default worker group, a fallback, plugin defaults."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from farhand.cli import plugin_defaults
from farhand.cli.failure import WrongUse
from farhand.cli.fields import fallback_flag, fallback_name
from farhand.kernel.names import group_key, group_label

if TYPE_CHECKING:
    from farhand.api.registry.v1.namespace_pb2 import Namespace
    from farhand.api.registry.v1.tenant_pb2 import Tenant

Description = Annotated[str | None, typer.Option("--description", metavar="TEXT", help="For people.")]
DefaultGroup = Annotated[
    str | None,
    typer.Option("--default-worker-group", metavar="KEY", help="Worker group of jobs that name none, or _default."),
]
DefaultFallback = Annotated[
    str | None,
    typer.Option("--default-fallback", metavar="wait|fail|cancel", help="Fallback of jobs that say none."),
]
NoDefaultGroup = Annotated[
    bool, typer.Option("--no-default-worker-group", help="Declare no worker group any more: inherit it.")
]
NoDefaultFallback = Annotated[
    bool, typer.Option("--no-default-fallback", help="Declare no fallback any more: inherit it.")
]
Etag = Annotated[str, typer.Option("--etag", metavar="TEXT", help="Refuse if it changed since it had this etag.")]
RequestId = Annotated[
    str | None, typer.Option("--request-id", metavar="TEXT", help="A repeated call with the same id changes nothing.")
]


def declare(
    resource: "Tenant | Namespace",
    description: str | None,
    worker_group: str | None,
    fallback: str | None,
    defaults_file: str | None,
) -> list[str]:
    """Set what is given, and return the names of the fields that were set."""
    fields = []
    if description is not None:
        resource.description = description
        fields.append("description")
    if worker_group is not None:
        resource.default_worker_group = group_key(worker_group)
        fields.append("default_worker_group")
    if fallback is not None:
        resource.default_fallback = fallback_flag("--default-fallback", fallback)
        fields.append("default_fallback")
    if defaults_file is not None:
        resource.plugin_defaults.extend(plugin_defaults.read(defaults_file))
        fields.append("plugin_defaults")
    return fields


def undeclare(fields: Sequence[str], no_worker_group: bool, no_fallback: bool) -> list[str]:
    """The update mask: the fields that were set and those that are to be unset (named, and left unset)."""
    mask = list(fields)
    for unset, field in (no_worker_group, "default_worker_group"), (no_fallback, "default_fallback"):
        if unset and field in fields:
            flag = field.replace("_", "-")
            raise WrongUse(f"Give --{flag} or --no-{flag}, not both.")
        if unset:
            mask.append(field)
    if not mask:
        raise WrongUse("There is nothing to change: say what by an option (see --help).")
    return mask


def default_group(resource: "Tenant | Namespace") -> str:
    """The declared worker group for people; "-" where none is declared."""
    return group_label(resource.default_worker_group) if resource.HasField("default_worker_group") else "-"


def default_fallback(resource: "Tenant | Namespace") -> str:
    """The declared fallback; "-" where none is declared."""
    return fallback_name(resource.default_fallback)
