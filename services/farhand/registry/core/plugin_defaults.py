"""Plugin defaults as tenants and namespaces declare them: what they may hold, and the worker groups that they name.

What they mean is `farhand.kernel.flow.defaults`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from farhand.kernel import names
from farhand.kernel.errors import Violation
from farhand.kernel.expressions import is_template
from farhand.kernel.flow import PluginDefault
from farhand.kernel.flow.source import path_text
from farhand.kernel.flow.wording import told
from farhand.kernel.nesting import MOST_LEVELS, too_deep

MOST = 100
MOST_BYTES = 64 * 1024  # of all that one tenant or namespace declares, as JSON

Values = Mapping[str, Any]


def read(path: str, given: Sequence[Values]) -> tuple[tuple[PluginDefault, ...], list[Violation]]:
    """What a request asks for, and all that is wrong with it, by its paths; with violations there are no values.

    Each one given is a map of type, forced and values, as in a flow; `path` is that of the list.
    """
    if len(given) > MOST:
        return (), [Violation(path, f"has {len(given)} entries; at most {MOST} are allowed")]
    violations = [
        Violation(f"{path}[{index}].values{where}", what)
        for index, default in enumerate(given)
        for where, what in _unfit(default.get("values", {}))
    ]
    if not violations and (size := _size(given)) > MOST_BYTES:
        violations = [Violation(path, f"has {size} bytes as JSON; at most {MOST_BYTES} are allowed")]
    if violations:
        return (), violations
    defaults = []
    for index, default in enumerate(given):
        try:
            defaults.append(PluginDefault.model_validate(default))
        except ValidationError as error:
            for steps, what, _ in told(error, default, PluginDefault, "plugin defaults"):
                violations.append(Violation(f"{path}[{index}].{path_text(steps)}", what))
    for where, key in groups(path, defaults):
        violations += names.check_group_key(where, key)
    return ((), violations) if violations else (tuple(defaults), [])


def groups(path: str, defaults: Sequence[PluginDefault]) -> Iterator[tuple[str, str]]:
    """The worker groups that they name, each with its path; the default group and expressions apart."""
    for index, default in enumerate(defaults):
        group = default.values.worker_group
        if group is not None and group.key and not is_template(group.key) and (key := names.group_key(group.key)):
            yield f"{path}[{index}].values.workerGroup.key", key


def written(defaults: Sequence[PluginDefault]) -> list[dict[str, Any]]:
    """As JSON values, the way a flow has them; `stored` reads them."""
    return [default.model_dump(mode="json", by_alias=True, exclude_unset=True) for default in defaults]


def stored(documents: Sequence[Values]) -> tuple[PluginDefault, ...]:
    """What `written` gave."""
    return tuple(map(PluginDefault.model_validate, documents))


def _size(given: Sequence[Values]) -> int:
    return len(json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode())


def _unfit(values: Any) -> Iterator[tuple[str, str]]:
    """What no JSON document of the database can hold, and what would not fit into messages."""
    if too_deep(values):
        yield "", f"is nested more than {MOST_LEVELS} levels deep"
        return
    yield from _unfit_inside("", values)


def _unfit_inside(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            where = f"{path}.{name.replace(chr(0), '␀')}"
            if "\0" in name:
                yield where, "must not hold a NUL character"
            yield from _unfit_inside(where, item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unfit_inside(f"{path}[{index}]", item)
    elif isinstance(value, str) and "\0" in value:
        yield path, "must not hold a NUL character"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "must be a number of JSON"
