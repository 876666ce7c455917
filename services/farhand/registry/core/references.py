"""How one declared thing names another: the check of a named group, and the list of those who name."""

from collections.abc import Sequence

from farhand.kernel import names
from farhand.kernel.errors import GroupDeleting, InvalidArgument, Violation
from farhand.registry.core.worker_group import GroupState, WorkerGroup

_MOST_LISTED = 10  # the details of an error have 4 KiB


def check_default_group(path: str, key: str | None) -> list[Violation]:
    """The form of a group's key where a default group is declared; unset and empty are fine."""
    return names.check_group_key(path, key) if key else []


def check_default_group_use(path: str, group: WorkerGroup, tenant: str) -> None:
    """Whether a tenant may have this group as a default: it must stay, and allow the tenant.

    Raises GroupDeleting or InvalidArgument. A group that is narrowed later keeps
    its users; their submits are then refused, with the reason.
    """
    if group.state is GroupState.DELETING:
        raise GroupDeleting(f"The worker group {names.shown(group.key)} is being deleted; name another.")
    if group.allowed_tenants and tenant not in group.allowed_tenants:
        label = names.shown(names.group_label(group.key))
        raise InvalidArgument.of(Violation(path, f"the worker group {label} does not allow the tenant {tenant!r}"))


def listed(things: Sequence[str]) -> str:
    """Names for a message: the first 10, and how many more there are."""
    text = ", ".join(things[:_MOST_LISTED])
    return text if len(things) <= _MOST_LISTED else f"{text} and {len(things) - _MOST_LISTED} more"
