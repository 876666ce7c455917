"""What a database that was restored from a backup needs before anybody may trust its numbers again (P4)."""

from asyncpg import Connection

SEQUENCES = ("fence", "epoch", "job_key", "execution_key", "task_run_key")
"""What was handed out may never be handed out again: fencing tokens, session epochs, the ids of jobs, executions
and task runs."""

BUMP = 1 << 32
"""More of each than a scheduler hands out between two backups: at 10,000 a second, in five days."""


async def bump(connection: Connection, by: int) -> dict[str, int]:
    """Move each sequence ahead by so much; what it stands at then. Whoever holds numbers from before stays below
    or between, and equals nobody who comes after."""
    async with connection.transaction():
        return {
            name: await connection.fetchval(
                f"SELECT setval('scheduler.{name}', (SELECT last_value FROM scheduler.{name}) + $1)", by
            )
            for name in SEQUENCES
        }
