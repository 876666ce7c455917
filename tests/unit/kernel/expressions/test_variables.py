"""Variables may hold expressions: they are rendered where they are used, and what they come to is a text."""

import pytest

from farhand.kernel.expressions import ExpressionError, UndefinedName, render

SCOPE = {
    "vars": {
        "plain": 5,
        "greeting": "Hello {{ vars.who | upper }}",
        "who": "{{ inputs.name }}",
        "given": "{{ inputs.evil }}",
        "nested": {"list": ["{{ inputs.name }}", 1], "plain": {"a": 2}},
        "broken": "{{ inputs.nix }}",
        "circle": "{{ vars.round }}",
        "round": "{{ vars.circle }}",
        **{f"v{n}": f"{{{{ vars.v{n + 1} }}}}" for n in range(9)},
        "v9": "end",
    },
    "inputs": {"name": "Ada", "evil": "{{ vars.who }}"},
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ vars.plain + 1 }}", "6"),
        ("{{ vars.greeting }}!", "Hello ADA!"),
        ("{{ vars['who'] }}", "Ada"),
        ("{{ vars.nested.list[0] }} {{ vars.nested.list[1] + 1 }}", "Ada 2"),
        ("{{ vars.nested }}", '{"list":["Ada",1],"plain":{"a":2}}'),
        ("{{ vars.broken | default('there') }}", "there"),
        ("{{ vars.broken ?? vars.who }}", "Ada"),
        ("{{ vars.v0 }}", "end"),
        ("{{ vars.given }}", "{{ vars.who }}"),  # what somebody gave becomes no expression
        ("{{ inputs.evil }}", "{{ vars.who }}"),
    ],
)
def test_a_variable_is_rendered_where_it_is_used(text: str, rendered: str) -> None:
    assert render(text, SCOPE) == rendered


def test_what_is_missing_in_a_variable_names_it() -> None:
    with pytest.raises(UndefinedName, match=r"`inputs.nix` is not defined; .* \(in `vars.broken`\)"):
        render("{{ vars.broken }}", SCOPE)


def test_variables_in_a_circle_are_an_error_and_no_end_of_the_stack() -> None:
    with pytest.raises(ExpressionError, match=r"^variables name one another more than 10 deep, or in a circle: `vars"):
        render("{{ vars.circle }}", SCOPE)
