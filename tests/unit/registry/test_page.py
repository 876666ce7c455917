"""Page sizes and tokens (AIP-158)."""

import base64

import pytest

from farhand.kernel.errors import InvalidArgument
from farhand.registry.core import page


def test_sizes_have_a_default_and_a_limit() -> None:
    assert [page.size(given) for given in (0, 1, 1000, 1001, 2**31 - 1)] == [50, 1, 1000, 1000, 1000]
    with pytest.raises(InvalidArgument) as error:
        page.size(-1)
    assert error.value.violations[0].path == "page_size"


@pytest.mark.parametrize("key", ["", "gpu", "company.team", "ü" * 200])
def test_a_token_gives_its_key_back(key: str) -> None:
    assert page.after(("groups",), page.token(("groups",), key)) == key


def test_no_token_is_the_first_page() -> None:
    assert page.after(("groups",), "") is None


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "nonsense",
        "nicht möglich",
        "A" * 10_000,
        page.token(("groups", "b"), "gpu"),
        page.token(("groupsa",), "gpu"),
        page.token(("groups", "a"), "gpu")[:-2],
        "A" + page.token(("groups", "a"), "gpu"),
        page.token(("groups", "a"), "g\0u"),
        base64.urlsafe_b64encode(b"\xff" * 20).decode(),
    ],
)
def test_what_is_no_token_of_this_list_with_these_filters_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        page.after(("groups", "a"), token)
    assert error.value.violations[0].path == "page_token"
