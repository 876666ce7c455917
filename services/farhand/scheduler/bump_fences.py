"""`python -m farhand.scheduler.bump_fences`, which `farhand admin bump-fences` runs: after a restore from a backup.

A backup knows less than the world: workers and users' own stores have seen fences
that it never handed out. Handed out again, they would pass for new.
"""

import sys
from dataclasses import dataclass

from farhand.runtime.settings import DatabaseSettings, LogSettings, parse, setting
from farhand.scheduler.store.restoring import BUMP, bump


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 48:
        raise ValueError(f"{text!r} is not a number from 1 to 2^48")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class BumpSettings(LogSettings, DatabaseSettings):
    """Flags and environment of `farhand admin bump-fences`."""

    by: int = setting(BUMP, "how far; more than was handed out since the backup was made", kind=_count)


def main() -> None:
    """Bump, and say so."""
    settings = parse(
        BumpSettings,
        sys.argv[1:],
        prog="farhand admin bump-fences",
        description="After a database was restored from a backup, and before a scheduler is started on it: moves "
        "fencing tokens, session epochs and job ids ahead of all that was handed out since the backup was made, so "
        "that nothing of that time passes for new (P4). Harmless when it was not needed.",
        examples=("FARHAND_DATABASE_URL=postgresql://farhand:secret@db/farhand farhand admin bump-fences",),
    )
    from farhand.runtime.database import connect, wait_for_database
    from farhand.runtime.service import Lifecycle, StartupError, run

    async def work(lifecycle: Lifecycle) -> None:
        from asyncpg import UndefinedTableError

        await wait_for_database(settings.database_url, lifecycle, give_up_after=0.0)
        connection = await connect(settings.database_url)
        try:
            for name, value in (await bump(connection, settings.by)).items():
                print(f"{name:<13} continues after {value}")
        except UndefinedTableError:
            raise StartupError("This database has no scheduler's schema; was it restored?") from None
        finally:
            await connection.close()

    run("bump-fences", settings, work)


if __name__ == "__main__":
    main()
