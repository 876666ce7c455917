"""Plugin defaults and resolution agree with a naive model that lists everything that is said and sorts it."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farhand.kernel.flow import Declaration, PluginDefault, Task, effective, levels, wait_timeout
from farhand.kernel.resolution import Fallback, resolve

TYPES = ["a", "a.b", "a.b.C", "a.b.CX", "a.bc.D"]
WORDS = st.sampled_from(["p", "q", "r"])
SCALARS = st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"])
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2), lambda inside: st.dictionaries(WORDS, inside, max_size=3), max_leaves=6
)


def without_nothing(**said: Any) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


KEYS = st.none() | st.sampled_from(["", "gpu", "cpu", "{{ inputs.x }}"])
FALLBACKS = st.none() | st.sampled_from(Fallback)
GROUPS = st.none() | st.builds(
    without_nothing, key=KEYS, fallback=FALLBACKS.map(lambda f: f and f.value), timeout=st.none() | st.just("PT1M")
)


@st.composite
def mappings(draw: st.DrawFn) -> dict[str, Any]:
    """What a task or a default says: some properties, and perhaps a worker group."""
    said = draw(st.dictionaries(WORDS, VALUES, max_size=3))
    group = draw(GROUPS)
    return said if group is None else said | {"workerGroup": group}


DEFAULTS = st.builds(
    lambda type, forced, values: PluginDefault.model_validate({"type": type, "forced": forced, "values": values}),
    st.sampled_from(TYPES),
    st.booleans(),
    mappings(),
)
NAMES = ["flow", "namespace 'n.m'", "namespace 'n'", "tenant 't'"]


@st.composite
def around_a_task(draw: st.DrawFn) -> list[Declaration]:
    return [
        Declaration(
            name,
            draw(KEYS),
            draw(FALLBACKS),
            draw(st.none() | st.just("PT2M")) if name == "flow" else None,
            draw(st.lists(DEFAULTS, max_size=3)),
        )
        for name in NAMES
    ]


TASKS = st.builds(lambda type, said: {"id": "i", **said, "type": type}, st.sampled_from(TYPES), mappings())


def layers(written: dict[str, Any], declarations: list[Declaration]) -> list[tuple[str, Mapping[str, Any]]]:
    """All that is said for the task, the strongest first: each saying with a rank, sorted."""
    ranked: list[tuple[tuple[int, ...], str, Mapping[str, Any]]] = [((1, 0, 0, 0), "task", written)]
    for depth, declaration in enumerate(declarations):
        for index, default in enumerate(declaration.plugin_defaults):
            if written["type"] == default.type or written["type"].startswith(f"{default.type}."):
                specific = -len(default.type)
                where = "the flow" if depth == 0 else declaration.name
                if default.forced:
                    name = f"forced plugin defaults of {where}"
                    ranked.append(((0, -depth, specific, index), name, default.values.written))
                else:
                    ranked.append(((2, depth, specific, index), f"plugin defaults of {where}", default.values.written))
    return [(name, said) for _, name, said in sorted(ranked, key=lambda each: each[0])]


def overlaid(said: list[Any]) -> Any:
    """The first that says something; a map goes on into the maps behind it, up to one that is none."""
    values = [value for value in said if value is not None]
    if not values or not isinstance(values[0], dict):
        return values[0] if values else None
    maps: list[dict[str, Any]] = []
    for value in values:
        if not isinstance(value, dict):
            break
        maps.append(value)
    return {name: overlaid([each[name] for each in maps if name in each]) for name in {n for m in maps for n in m}}


@settings(deadline=None)
@given(TASKS, around_a_task())
def test_defaults_merge_as_the_naive_model_does(written: dict[str, Any], declarations: list[Declaration]) -> None:
    assert effective(written, declarations) == overlaid([said for _, said in layers(written, declarations)])


@settings(deadline=None)
@given(TASKS, around_a_task())
def test_group_and_fallback_come_from_the_first_level_that_says_so(
    written: dict[str, Any], declarations: list[Declaration]
) -> None:
    task = Task.model_validate(written)
    said = [(name, each.get("workerGroup") or {}) for name, each in layers(written, declarations)]
    said += [
        (each.name, without_nothing(key=each.key, fallback=each.fallback, timeout=each.timeout))
        for each in declarations
    ]
    said.append(("default", {"key": "", "fallback": "WAIT"}))

    def first(wanted: str) -> tuple[Any, str]:
        return next((each[wanted], name) for name, each in said if wanted in each)

    resolved = resolve(levels(task, declarations))
    assert (resolved.key, resolved.key_level) == first("key")
    assert (resolved.fallback, resolved.fallback_level) == first("fallback")
    said.append(("", {"timeout": None}))
    assert (wait_timeout(task, declarations) or (None, "")) == first("timeout")


@settings(deadline=None)
@given(TASKS, around_a_task())
def test_merging_changes_nothing_that_it_was_given(written: dict[str, Any], declarations: list[Declaration]) -> None:
    before = repr((written, declarations))
    effective(written, declarations)
    assert repr((written, declarations)) == before
