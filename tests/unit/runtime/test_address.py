"""HOST:PORT, and what stays on this machine."""

import pytest

from farhand.runtime.address import Address


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("127.0.0.1:7401", True),
        ("127.9.9.9:1", True),
        ("localhost:7401", True),
        ("[::1]:7401", True),
        ("0.0.0.0:7401", False),
        ("[::]:7401", False),
        ("192.168.1.5:7401", False),
        ("localhost.example:7401", False),
        ("scheduler:7402", False),
    ],
)
def test_an_address_is_written_as_it_was_read_and_knows_its_reach(text: str, loopback: bool) -> None:
    address = Address.parse(text)
    assert str(address) == text
    assert address.loopback is loopback


@pytest.mark.parametrize(
    "text", ["", "host", ":7401", "host:", "host:http", "host:65536", "host:-1", "::1:7401", "[]:1"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        Address.parse(text)
