"""Sources that are meant to hurt: each is told what is wrong with it, and nobody else waits."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sql

from farhand.api.registry.v1.tenant_service_pb2 import GetTenantRequest
from tests.rpc.refusal import refused
from tests.rpc.registry.flow_calls import LOG, create, errors, explain, make_group, source, update, validate
from tests.rpc.registry.registry_house import House

HEAD = "id: hello\nnamespace: a\n"
BOMB = (
    HEAD
    + "x0: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"x{n}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for n, (before, name) in enumerate(zip("abcdefgh", "bcdefghi", strict=True), 1)
    )
)
BAD = {
    "a bomb of aliases": BOMB,
    "10 MB of text": HEAD + f"tasks:\n  - {{id: t, type: {LOG}, message: {'x' * 10_000_000}}}\n",
    "10 MB of nothing": " " * 10_000_000,
    "ten thousand tasks": HEAD
    + "tasks:\n"
    + "".join(f"  - {{id: t{number}, type: {LOG}, message: hi}}\n" for number in range(10_000)),
    "brackets": HEAD + "tasks: " + "[" * 500_000,
    "braces that are closed": HEAD + "tasks: " + "[" * 200_000 + "]" * 200_000,
    "a namespace of dots": "id: hello\nnamespace: " + "a." * 400_000 + "\n",
    "duplicate keys": source() + "id: other\n",
    "tabs": "id: hello\n\tnamespace: a\n",
    "NUL": source(message='"a\\0b"'),
    "NUL itself": source(message="a\0b"),
    "no YAML": "]]]]",
    "nothing": "",
    "a list": "- a\n- b\n",
    "another type": source().replace("core.log.Log", "core.log.Logg"),
    "a property that is none": source(more="    mesage: hi\n"),
    "a duration that is none": source(more="    timeout: soon\n"),
    "an expression that is none": source(message='"{{ 1 + }}"'),
    "a lone surrogate": source(message='"\\ud800"'),
    "many unknown groups": HEAD
    + "tasks:\n"
    + "".join(f"  - {{id: t{n}, type: {LOG}, message: hi, workerGroup: {{key: g{n}x}}}}\n" for n in range(900)),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
async def test_it_is_told_what_is_wrong_and_saved_by_nobody(house: House, text: str) -> None:
    assert errors(await validate(house, text))
    error = await refused(create(house, text))
    assert error.reason == "FLOW_INVALID" and error.violations and len(error.message) <= 1000


async def test_whoever_takes_a_source_refuses_a_bad_one_alike(house: House) -> None:
    for call in (create(house, BOMB), update(house, BOMB), explain(house, BOMB)):
        assert (await refused(call)).reason == "FLOW_INVALID"


async def test_unknown_names_among_thousands_are_told_all_the_same(house: House) -> None:
    async with house.transactions.changing() as connection:
        await connection.execute(
            sql.text(
                "INSERT INTO registry.worker_group (uid, key, description, allowed_tenants, lease, paused, state, "
                "force_deletion, revision) SELECT 'wg_' || n, 'group-number-' || n, '', '{}', '60 s', false, "
                "'ACTIVE', false, 3 FROM generate_series(1, 5000) n"
            )
        )
    found = await validate(house, BAD["many unknown groups"].replace("key: g", "key: group-number-"))
    assert len(errors(found)) >= 100 and "Did you mean 'group-number-" in found[0].message


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What keeps a thread busy until the test ends."""
    event = threading.Event()
    yield event
    event.set()


async def test_while_a_flow_is_read_others_are_answered_and_usual_flows_do_not_wait_behind_large_ones(
    house: House, hold: threading.Event
) -> None:
    await make_group(house, "gpu")
    large = source(message="x" * 100_000)
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stuck() -> None:
        loop.call_soon_threadsafe(began.set)
        hold.wait()

    reading = asyncio.ensure_future(house.threads.run(large, stuck))
    await began.wait()
    waiting = [asyncio.ensure_future(validate(house, large)) for _ in range(3)]
    while house.threads.taken(large) < 4:
        await asyncio.sleep(0)
    error = await refused(validate(house, large))
    assert (error.reason, error.retry_delay) == ("OVERLOADED", 1.0)
    assert (await house.tenants().GetTenant(GetTenantRequest(id="acme"))).tenant.id == "acme"
    assert await validate(house, source()) == []
    assert (await create(house, source())).revision == 1
    waiting[0].cancel()  # whose caller leaves makes room for the next
    while house.threads.taken(large) == 4:
        await asyncio.sleep(0)
    waiting[0] = asyncio.ensure_future(validate(house, large))
    hold.set()
    assert await asyncio.gather(*waiting) == [[], [], []]
    await reading
