"""What the schedulers' names stand for."""

import pytest

from farhand.worker.addresses import targets
from farhand.worker.core.redial import Target

RECORDS = {"one.test": ["10.0.0.1"], "three.test": ["10.0.0.1", "10.0.0.2", "::1", "10.0.0.2"]}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


async def lookup(host: str, port: int) -> list[str]:
    if host not in RECORDS:
        raise OSError("no such name")
    return RECORDS[host]


async def test_a_name_stands_for_all_its_addresses_each_once() -> None:
    assert await targets(["three.test:7402"], lookup) == [
        Target("three.test:7402", "10.0.0.1:7402"),
        Target("three.test:7402", "10.0.0.2:7402"),
        Target("three.test:7402", "[::1]:7402"),
    ]


async def test_several_names_add_up() -> None:
    found = await targets(["one.test:1", "three.test:2"], lookup)
    assert [target.at for target in found] == ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:2", "[::1]:2"]


async def test_a_name_that_is_not_known_stands_for_itself_beside_the_others() -> None:
    found = await targets(["nowhere.test:1", "one.test:1"], lookup)
    assert found == [Target("nowhere.test:1", "nowhere.test:1"), Target("one.test:1", "10.0.0.1:1")]


async def test_an_address_is_its_own_name() -> None:
    assert await targets(["127.0.0.1:7402"]) == [Target("127.0.0.1:7402", "127.0.0.1:7402")]


async def test_behind_a_proxy_the_proxy_looks_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    assert await targets(["three.test:1"], lookup) == [Target("three.test:1", "three.test:1")]
