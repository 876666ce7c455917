"""`python -m farhand.runtime.migrate`, which `farhand migrate` runs: every service's schema, brought up to date.

Each service does the same for its own schema when it starts; this is for operators
who want it done before, by an account that may change tables.
"""

import sys
from dataclasses import dataclass

from farhand.runtime.settings import DatabaseSettings, LogSettings, duration, parse, setting

SCHEMAS = {"registry": "farhand.registry", "scheduler": "farhand.scheduler"}
"""The schemas, and the packages that hold their Alembic histories."""


@dataclass(frozen=True, kw_only=True)
class MigrateSettings(LogSettings, DatabaseSettings):
    """Flags and environment of `farhand migrate`."""

    wait: float = setting(0.0, "how long to wait for a database that does not answer", kind=duration)


def main() -> None:
    """Migrate, and say so."""
    settings = parse(
        MigrateSettings,
        sys.argv[1:],
        prog="farhand migrate",
        description="Brings the schemas of registry and scheduler up to date, and exits. Running services may go on: "
        "a migration only adds what the present version does not miss.",
        examples=(
            "FARHAND_DATABASE_URL=postgresql://farhand:secret@db/farhand farhand migrate",
            "farhand migrate --wait 1m",
        ),
    )
    from farhand.runtime.database import migrate, wait_for_database
    from farhand.runtime.service import Lifecycle, run

    async def work(lifecycle: Lifecycle) -> None:
        await wait_for_database(settings.database_url, lifecycle, give_up_after=settings.wait)
        for schema, package in SCHEMAS.items():
            await migrate(settings.database_url, package, schema)
            print(f"Schema {schema} is up to date.")

    run("migrate", settings, work)


if __name__ == "__main__":
    main()
