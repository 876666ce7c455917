"""Which fields an update changes (AIP-134)."""

import re
from collections.abc import Collection, Iterable, Sequence

from farhand.kernel.errors import Violation
from farhand.kernel.names import shown

_PATH = "update_mask"
_MOST_PATHS = 100


def fields_to_change(
    paths: Sequence[str], set_fields: Collection[str], changeable: Sequence[str], known: Collection[str]
) -> tuple[list[str], list[Violation]]:
    """The fields to take from the request, and what is wrong with its mask.

    No paths: every changeable field that is set there. "*": every changeable field, set or
    not. ``known`` are all fields of the resource, to tell "can't be changed" from "no such field".
    """
    if not paths:
        return [field for field in changeable if field in set_fields], []
    if list(paths) == ["*"]:
        return list(changeable), []
    allowed = ", ".join(changeable)
    violations = []
    for path in dict.fromkeys(paths[:_MOST_PATHS]):
        if path in known and path not in changeable:
            violations.append(Violation(_PATH, f"{shown(path)} can't be changed; {allowed} can"))
        elif path not in known:
            violations.append(Violation(_PATH, f"{shown(path)} is no field of the resource; {allowed} can be changed"))
    if len(paths) > _MOST_PATHS:
        violations.append(Violation(_PATH, f"has {len(paths)} paths; at most {_MOST_PATHS} are allowed"))
    return [field for field in changeable if field in paths], violations


def concerning(fields: Collection[str], violations: Iterable[Violation]) -> list[Violation]:
    """Of what is wrong with a resource in a request ("tenant.lease"), that which is about these fields of it."""
    return [each for each in violations if re.split(r"[.\[]", each.path)[1] in fields]
