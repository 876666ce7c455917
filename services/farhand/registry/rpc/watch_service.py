"""WatchService: one cursor per watcher over the feed that all of them share."""

from collections.abc import AsyncIterator, Sequence

from farhand.api.registry.v1 import watch_service_pb2 as api
from farhand.api.registry.v1.watch_service_pb2_grpc import WatchServiceServicer
from farhand.kernel.errors import FutureRevision, InvalidArgument, Violation
from farhand.registry.core.change import Change, Snapshot
from farhand.registry.loops.feed import Feed
from farhand.registry.rpc.wire_watch import change_step, snapshot_step
from farhand.registry.store import changes, snapshots
from farhand.registry.store.transactions import Transactions

_BATCH = 500


class WatchService(WatchServiceServicer):
    """Tells what is declared, and every change of it, in order."""

    def __init__(self, transactions: Transactions, feed: Feed, heartbeat: float = 5.0) -> None:
        """heartbeat: seconds of silence after which a watcher hears that we live."""
        self._transactions = transactions
        self._feed = feed
        self._heartbeat = heartbeat

    async def Watch(self, request: api.WatchRequest, context: object) -> AsyncIterator[api.WatchResponse]:
        """What follows the watcher's revision, for ever.

        Nothing is read ahead of the watcher, and no transaction is open while it takes
        its time: between two steps this holds one number.
        """
        reached = request.revision
        if reached < 0:
            raise InvalidArgument.of(Violation("revision", "must not be negative"))
        await self._check_reached(reached)
        while True:
            following = self._feed.after(reached) if reached else None
            if following is None:
                read = await self._read(reached)
                if isinstance(read, Snapshot):
                    reached = read.revision
                    step = snapshot_step(read)
                    del read  # not kept while the watcher takes its time
                    yield step
                    continue
                following = read
            for change in following:
                yield change_step(change)
                reached = change.revision
            if not following and not await self._feed.beyond(reached, within=self._heartbeat):
                if self._feed.latest < reached:
                    raise _future(reached, self._feed.latest)
                yield api.WatchResponse(heartbeat_revision=reached)

    async def _check_reached(self, revision: int) -> None:
        """The database knows; this replica's feed may be a moment behind it."""
        async with self._transactions.reading() as connection:
            current = await changes.current(connection)
        if revision > current:
            raise _future(revision, current)

    async def _read(self, revision: int) -> Sequence[Change] | Snapshot:
        """What the feed keeps no more: from the log, and where that has forgotten it too, everything."""
        async with self._transactions.reading() as connection:
            if revision and (found := await changes.after(connection, revision, _BATCH)) is not None:
                return found
            return await snapshots.read(connection)


def _future(asked: int, current: int) -> FutureRevision:
    return FutureRevision(
        f"Revision {asked} has not been reached, the newest is {current}: this registry's past is another one. "
        "Start again from 0."
    )
