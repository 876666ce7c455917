"""`python -m farhand.scheduler.rotate_key`, which `farhand admin rotate-key` runs: every secret under the first key.

Schedulers may run meanwhile, as long as each has both keys. First the key is named
under which all of them seal from then on; then what is under another is sealed anew, a
batch in each transaction. Whoever kills it leaves each secret under the one key or the
other, and it goes on where it is started again.
"""

import sys
from dataclasses import dataclass, field

from asyncpg import Connection

from farhand.kernel.job_id import execution_id
from farhand.runtime.crash_points import reach
from farhand.runtime.sealing import Keyring, Unreadable, load_keyring
from farhand.runtime.service import Lifecycle, StartupError, run
from farhand.runtime.settings import DatabaseSettings, LogSettings, SecretsSettings, parse
from farhand.scheduler.loops.secret_inputs import binding
from farhand.scheduler.store.secrets import (
    Sealed,
    change_sealing_key,
    count_secrets,
    seal_anew,
    secrets_under_other_keys,
)

BATCH = 500
MOST_TOLD = 20
_BEFORE_ALL = (-1, "")


@dataclass(frozen=True, kw_only=True)
class RotateSettings(LogSettings, DatabaseSettings, SecretsSettings):
    """Flags and environment of `farhand admin rotate-key`."""


@dataclass
class Rotated:
    """What a rotation came to."""

    anew: int = 0
    damaged: list[str] = field(default_factory=list)  # of each that can't be read, why; they stay as they are


async def rotate(connection: Connection, ring: Keyring, *, batch: int = BATCH) -> Rotated:
    """Seal every secret under the first key. Raises StartupError, and changes nothing, where some are under a key
    that is not in the ring."""
    found = await count_secrets(connection)
    if missing := {key_id: count for key_id, count in found.items() if key_id not in ring.ids}:
        told = ", ".join(f"{count:,} under the key {key_id}" for key_id, count in missing.items())
        raise StartupError(
            f"There are secrets under keys that were not given: {told}. Given were {', '.join(ring.ids)}. Nothing was "
            "changed; add the missing keys behind the first."
        )
    await change_sealing_key(connection, ring.first)
    total = sum(count for key_id, count in found.items() if key_id != ring.first)
    rotated, after = Rotated(), _BEFORE_ALL
    while True:
        async with connection.transaction():
            secrets = await secrets_under_other_keys(connection, ring.first, after=after, limit=batch)
            if not secrets:
                return rotated
            anew = [fresh for secret in secrets if (fresh := _under_first(ring, secret, rotated.damaged)) is not None]
            await seal_anew(connection, ring.first, anew)
            reach("secrets sealed anew")
        rotated.anew += len(anew)
        after = (secrets[-1].execution_key, secrets[-1].name)
        print(f"{rotated.anew:,} of {max(total, rotated.anew):,} secrets are encrypted anew", flush=True)


def _under_first(ring: Keyring, secret: Sealed, damaged: list[str]) -> Sealed | None:
    belongs_to = binding(secret.tenant, secret.execution_key, secret.name)
    try:
        text = ring.open(secret.sealed, belongs_to)
    except Unreadable as error:
        damaged.append(f"The secret input {secret.name} of execution {execution_id(secret.execution_key)}: {error}.")
        return None
    return secret._replace(sealed=ring.seal(text, belongs_to, ring.first))


def main() -> None:
    """Rotate, and say so."""
    settings = parse(
        RotateSettings,
        sys.argv[1:],
        prog="farhand admin rotate-key",
        description="Encrypts every secret input in the database under the first of the keys. Give all schedulers the "
        "new key first, before the old ones in their file, and start them again; then run this; then take the old "
        "keys away. Schedulers may run meanwhile. It may be killed and started again, and repeated.",
        examples=(
            "openssl rand -base64 32 | cat - secrets.key > new.key && mv new.key secrets.key",
            "FARHAND_DATABASE_URL=postgresql://farhand:secret@db/farhand farhand admin rotate-key "
            "--secrets-key-file secrets.key",
        ),
    )

    async def work(lifecycle: Lifecycle) -> None:
        from asyncpg import UndefinedTableError

        from farhand.runtime.database import connect, wait_for_database

        ring = load_keyring(settings)
        if ring is None:
            raise StartupError(
                "Give the keys: --secrets-key-file FILE, or FARHAND_SECRETS_KEY; the first is the new one."
            )
        await wait_for_database(settings.database_url, lifecycle, give_up_after=0.0)
        connection = await connect(settings.database_url)
        try:
            rotated = await rotate(connection, ring)
            count = (await count_secrets(connection)).get(ring.first, 0)
        except UndefinedTableError:
            raise StartupError("This database has no scheduler's schema, or an old one: run farhand migrate.") from None
        finally:
            await connection.close()
        print(f"{count:,} secrets are encrypted under the key {ring.first}; no other is needed any more.", flush=True)
        if rotated.damaged:
            raise StartupError(
                f"{len(rotated.damaged):,} can't be read with any key, and stay as they are; tasks that name them "
                "fail.\n" + "\n".join(rotated.damaged[:MOST_TOLD])
            )

    run("rotate-key", settings, work)


if __name__ == "__main__":
    main()
