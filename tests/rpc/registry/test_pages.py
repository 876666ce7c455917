"""How a page is filled."""

from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import ListTenantsResponse
from farhand.registry.core import page
from farhand.registry.rpc.pages import fill

SCOPE = ("tenants",)


def filled(sizes: list[int], size: int) -> tuple[int, str | None]:
    """How many of these rows make the page, and after which the next one begins."""
    response = ListTenantsResponse()
    rows = [Tenant(id=f"t{number}", description="x" * length) for number, length in enumerate(sizes)]
    token = fill(response.tenants, rows, size, lambda row: row, lambda row: row.id, SCOPE)
    return len(response.tenants), page.after(SCOPE, token)


def test_a_page_ends_at_its_size_and_says_where_the_next_one_begins() -> None:
    assert filled([1, 1, 1], 2) == (2, "t1")
    assert filled([1, 1], 2) == (2, None)
    assert filled([], 2) == (0, None)


def test_a_page_ends_before_it_is_larger_than_every_client_accepts() -> None:
    assert filled([1 << 20] * 5, 100) == (2, "t1")


def test_one_row_is_always_a_page() -> None:
    assert filled([5 << 20, 1], 100) == (1, "t0")
