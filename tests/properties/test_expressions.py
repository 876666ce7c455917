"""Whatever is written, rendering says a text within its limit or an ExpressionError."""

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farhand.kernel.expressions import ExpressionError, parse, render, render_deep, select
from farhand.kernel.expressions.filters import FILTERS, TESTS

LIMIT = 500

NAMES = st.sampled_from(["inputs", "outputs", "vars", "a", "b", "items", "__class__", "missing", "my-task"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | NAMES, inner, max_size=4),
    max_leaves=12,
)
SCOPES = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=4), max_size=4)

LITERALS = st.integers(-5, 10**6).map(str) | st.floats(0, 1e308).map(repr) | st.text(max_size=8).map(repr)
ATOMS = LITERALS | NAMES | st.builds("{}.{}".format, NAMES, NAMES) | st.sampled_from(["true", "none", "[]", "{}"])
OPERATORS = st.sampled_from(
    ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", ">=", "in", "not in", "and", "or", "??"]
)


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.builds("({} {} {})".format, inner, OPERATORS, inner)
        | st.builds("({} | {})".format, inner, st.sampled_from(sorted(FILTERS)))
        | st.builds("({} | {}({}))".format, inner, st.sampled_from(sorted(FILTERS)), inner)
        | st.builds("({} | {}({}, {}))".format, inner, st.sampled_from(sorted(FILTERS)), inner, inner)
        | st.builds("({} is {})".format, inner, st.sampled_from(sorted(TESTS)))
        | st.builds("{}[{}]".format, inner, inner)
        | st.builds("{}[{}:{}]".format, inner, inner, inner)
        | st.builds("[{}, {}]".format, inner, inner)
        | st.builds("{{{}: {}}}".format, inner, inner)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
        | st.builds("-{}".format, inner)
        | st.builds("{}({})".format, inner, inner)
    )


EXPRESSIONS = st.recursive(ATOMS, grown, max_leaves=12)
SIGNS = st.text(alphabet="{}%#-'\"\\ \nabraw|()[].?+*0", max_size=60)
TEXTS = (
    SIGNS
    | st.text(max_size=60)
    | st.lists(st.builds("{{{{ {} }}}}".format, EXPRESSIONS) | SIGNS, max_size=3).map("".join)
)


@given(st.text().filter(lambda text: not any(sign in text for sign in ("{{", "{%", "{#"))), SCOPES)
def test_a_text_without_expressions_renders_to_itself(text: str, scope: dict[str, Any]) -> None:
    assert render(text, scope, limit=1) == text


@given(TEXTS, SCOPES)
def test_rendering_keeps_to_its_limit_or_says_why_not(text: str, scope: dict[str, Any]) -> None:
    try:
        rendered = render(text, scope, limit=LIMIT)
    except ExpressionError as error:
        assert error.message
    else:
        assert rendered == text or len(rendered.encode()) <= LIMIT


@given(TEXTS, SCOPES)
def test_what_goes_along_renders_to_the_same(text: str, scope: dict[str, Any]) -> None:
    try:
        names = parse(text).names
    except ExpressionError:
        return

    def said(scope: dict[str, Any]) -> str:
        try:
            return render(text, scope)
        except ExpressionError:
            return "an error"

    assert said(select(scope, names)) == said(scope)


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)))
def test_a_whole_value_keeps_its_shape(value: Any) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(item) for key, item in value.items()}
        return [shape(item) for item in value] if isinstance(value, list) else str

    with suppress(ExpressionError):
        assert shape(render_deep(value, {})) == shape(value)
