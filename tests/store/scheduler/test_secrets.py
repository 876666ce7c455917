"""Secrets in the database: bound to their places, and moved from key to key."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from farhand.kernel.errors import SecretsNeedKey
from farhand.runtime.database import connect
from farhand.runtime.sealing import Keyring
from farhand.runtime.service import StartupError
from farhand.scheduler import rotate_key
from farhand.scheduler.loops.secret_inputs import SecretInputs, equal
from farhand.scheduler.rotate_key import rotate
from farhand.scheduler.store.secrets import count_secrets

A, B, C = (bytes([letter]) * 32 for letter in b"abc")
ID = {name: Keyring([key]).first for name, key in (("A", A), ("B", B), ("C", C))}


class Place:
    """A database with executions, and rings that seal in it."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self.url = url
        self.connection = connection

    async def execution(self, *keys: bytes, tenant: str = "main", **secrets: str) -> int:
        """An execution with these secrets, sealed by a scheduler that has these keys."""
        async with self.connection.transaction():
            return await self.begin(self.connection, *keys, tenant=tenant, **secrets)

    async def begin(self, connection: asyncpg.Connection, *keys: bytes, tenant: str = "main", **secrets: str) -> int:
        flow = await connection.fetchval(
            """INSERT INTO scheduler.flow_revision (tenant, namespace, flow_id, revision, digest, definition)
               VALUES ($1, 'company', 'flow', 1, decode(md5(random()::text), 'hex'), '{}') RETURNING key""",
            tenant,
        )
        key: int = await connection.fetchval(
            """INSERT INTO scheduler.execution (key, flow_key, tenant, namespace, flow_id, flow_revision, state,
                   inputs, labels, created_at, states, state_times)
               VALUES (nextval('scheduler.execution_key'), $1, $2, 'company', 'flow', 1, 'RUNNING', '{}', '{}', now(),
                   '{}', '{}') RETURNING key""",
            flow,
            tenant,
        )
        await SecretInputs(Keyring(keys)).seal(connection, tenant, key, secrets)
        return key

    async def opened(self, execution: int, *keys: bytes, tenant: str = "main") -> dict[str, str] | str:
        """What a scheduler with these keys reads."""
        found = await SecretInputs(Keyring(keys)).open(self.connection, {execution: tenant})
        return found.get(execution, {})

    async def under(self) -> dict[str, int]:
        """How many secrets are under which key."""
        names = {id: name for name, id in ID.items()}
        return {names[id]: count for id, count in (await count_secrets(self.connection)).items()}

    @asynccontextmanager
    async def another(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await connect(self.url)
        yield connection
        await connection.close()


@pytest.fixture
async def place(fresh_database: str) -> AsyncIterator[Place]:
    connection = await connect(fresh_database)
    yield Place(fresh_database, connection)
    await connection.close()


async def test_what_is_sealed_is_opened_by_name(place: Place) -> None:
    first = await place.execution(A, token="t0ken", pin="p1npin")
    second = await place.execution(A, token="another")
    assert await place.opened(first, A) == {"token": "t0ken", "pin": "p1npin"}
    assert await place.opened(second, B, A) == {"token": "another"}
    assert await place.opened(await place.execution(), A) == {}


async def test_a_value_in_anothers_place_is_not_opened(place: Place) -> None:
    first = await place.execution(A, token="first", other="other")
    second = await place.execution(A, token="second")
    elsewhere = await place.execution(A, token="elsewhere", tenant="other")
    swap = "UPDATE scheduler.secret_input SET sealed = (SELECT sealed FROM scheduler.secret_input WHERE {}) WHERE {}"
    for source, target, execution, tenant in (
        (f"execution_key = {second}", f"execution_key = {first} AND name = 'token'", first, "main"),
        (f"execution_key = {first} AND name = 'other'", f"execution_key = {second}", second, "main"),
    ):
        await place.connection.execute(swap.format(source, target))
        why = await place.opened(execution, A, tenant=tenant)
        assert isinstance(why, str) and "'token'" in why and "changed, or put here from another place" in why
    assert isinstance(await place.opened(elsewhere, A, tenant="main"), str)
    assert await place.opened(elsewhere, A, tenant="other") == {"token": "elsewhere"}


async def test_a_value_that_was_changed_is_not_opened_and_says_nothing_of_itself(place: Place) -> None:
    execution = await place.execution(A, token="t0ken")
    await place.connection.execute(
        "UPDATE scheduler.secret_input SET sealed = set_byte(sealed, length(sealed) - 1, "
        "get_byte(sealed, length(sealed) - 1) # 1)"
    )
    why = await place.opened(execution, A)
    assert isinstance(why, str) and "t0ken" not in why


async def test_a_key_that_is_missing_is_named(place: Place) -> None:
    execution = await place.execution(A, token="t0ken")
    why = await place.opened(execution, B)
    assert isinstance(why, str) and ID["A"] in why and "--secrets-key-file" in why
    with pytest.raises(SecretsNeedKey, match="has no keys"):
        await SecretInputs(None).of(place.connection, "main", execution)


async def test_all_seal_under_the_key_of_the_first_secret_until_another_is_named(place: Place) -> None:
    await place.execution(A, token="t0ken")
    await place.execution(B, A, token="t0ken")
    assert await place.under() == {"A": 2}
    with pytest.raises(SecretsNeedKey, match=f"under the key {ID['A']}, which this scheduler was not given"):
        await place.execution(B, token="t0ken")
    await rotate(place.connection, Keyring([B, A]))
    await place.execution(A, B, token="t0ken")
    assert await place.under() == {"B": 3}


async def test_rotation_moves_all_to_the_first_key_in_batches_and_the_others_can_go(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    executions = [await place.execution(A, token=f"t0ken{number}", pin=f"pin {number}") for number in range(7)]
    rotated = await rotate(place.connection, Keyring([B, A]), batch=5)
    assert (rotated.anew, rotated.damaged) == (14, [])
    assert [int(number) for number in re.findall(r"(\d+) of 14 secrets", capsys.readouterr().out)] == [5, 10, 14]
    assert await place.under() == {"B": 14}
    for number, execution in enumerate(executions):
        assert await place.opened(execution, B) == {"token": f"t0ken{number}", "pin": f"pin {number}"}
    assert (await rotate(place.connection, Keyring([B, A]))).anew == 0


async def test_rotation_changes_nothing_where_a_key_is_missing(place: Place) -> None:
    execution = await place.execution(A, token="t0ken", pin="p1npin")
    with pytest.raises(StartupError, match=rf"2 under the key {ID['A']}\. Given were {ID['C']}, {ID['B']}\. Nothing"):
        await rotate(place.connection, Keyring([C, B]))
    assert await place.under() == {"A": 2}
    assert await place.opened(execution, A) == {"token": "t0ken", "pin": "p1npin"}
    assert await place.under() == {"A": 2}
    await place.execution(A, token="t0ken")  # the key under which all seal is the old one, still


async def test_a_rotation_that_was_ended_in_the_middle_goes_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    executions = [await place.execution(A, token=f"t0ken{number}") for number in range(6)]
    batches = 0

    def die(point: str) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise ConnectionError(point)

    monkeypatch.setattr(rotate_key, "reach", die)
    with pytest.raises(ConnectionError):
        await rotate(place.connection, Keyring([B, A]), batch=2)
    assert await place.under() == {"A": 4, "B": 2}
    for number, execution in enumerate(executions):
        assert await place.opened(execution, A, B) == {"token": f"t0ken{number}"}
    assert (await rotate(place.connection, Keyring([B, A]), batch=2)).anew == 4
    for number, execution in enumerate(executions):
        assert await place.opened(execution, B) == {"token": f"t0ken{number}"}


async def test_what_can_t_be_read_is_told_and_does_not_keep_the_old_key(place: Place) -> None:
    good, bad = await place.execution(A, token="good"), await place.execution(A, token="evil")
    await place.connection.execute(
        "UPDATE scheduler.secret_input SET sealed = sealed || '\\x00'::bytea WHERE execution_key = $1", bad
    )
    rotated = await rotate(place.connection, Keyring([B, A]), batch=1)
    assert rotated.anew == 1 and len(rotated.damaged) == 1 and "evil" not in rotated.damaged[0]
    assert await place.opened(good, B) == {"token": "good"}


async def test_rotation_waits_for_what_is_being_sealed_and_takes_it_along(place: Place) -> None:
    await place.execution(A, token="t0ken")
    async with place.another() as replica, place.another() as operator:
        creation = replica.transaction()
        await creation.start()
        execution = await place.begin(replica, A, token="under way")
        rotation = asyncio.create_task(rotate(operator, Keyring([B, A])))
        pid = operator.get_server_pid()
        async with asyncio.timeout(20):
            while not await place.connection.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
                assert not rotation.done(), "it did not wait"
        await creation.commit()
        assert (await rotation).anew == 2
    assert await place.opened(execution, B) == {"token": "under way"}
    assert await place.under() == {"B": 2}


def test_secrets_are_equal_only_if_each_is() -> None:
    secrets = {"a": "naïve", "b": "text"}
    assert equal(secrets, {"a": "naïve", "b": "text", "c": 1})
    assert not equal(secrets, {"a": "naïve", "b": "texts"})
    assert not equal(secrets, {"a": "naïve"})
    assert not equal({"a": "1234"}, {"a": 1234})
    assert equal({}, {"a": "x"})
