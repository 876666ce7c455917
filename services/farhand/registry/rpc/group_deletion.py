"""Waiting, on behalf of an administrator, for the scheduler's answer about a group that is DELETING."""

import asyncio

from farhand.registry.core.deletion import has_jobs
from farhand.registry.core.worker_group import GroupState, WorkerGroup
from farhand.registry.loops.feed import Feed
from farhand.registry.store import changes, worker_groups
from farhand.registry.store.transactions import Transactions


class GroupDeletion:
    """Reads the outcome from the database: the answer may have come to another replica."""

    def __init__(self, transactions: Transactions, feed: Feed, wait: float = 10.0) -> None:
        """wait: seconds until the deletion is left to itself."""
        self._transactions = transactions
        self._feed = feed
        self._wait = wait

    async def outcome(self, uid: str) -> WorkerGroup | None:
        """None when the group is gone; the group, still DELETING, when nobody answered in time.

        Raises HasJobs when the deletion was refused. Whoever stops waiting stops nothing else.
        """
        clock = asyncio.get_running_loop()
        until = clock.time() + self._wait
        while True:
            async with self._transactions.reading() as connection:
                seen = await changes.current(connection)
                group = await worker_groups.get_by_uid(connection, uid)
            if group is None:
                return None
            if group.state is GroupState.ACTIVE:
                raise has_jobs(group)
            if not await self._feed.beyond(seen, within=max(0.0, until - clock.time())):
                return group
