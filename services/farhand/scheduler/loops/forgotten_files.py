"""The leader deletes the files of jobs that upkeep has forgotten.

Apart from upkeep, so that a file store that is away keeps nothing else from being
forgotten: the list of what is to be deleted stands in the database meanwhile.
"""

import asyncio
import logging

from farhand.kernel.errors import Unavailable
from farhand.kernel.file_uri import owner_key
from farhand.kernel.job_id import encode
from farhand.runtime.file_store import FileStore
from farhand.scheduler.loops.group_commit import HotConnection
from farhand.scheduler.loops.using import using
from farhand.scheduler.loops.waiting import Waiting
from farhand.scheduler.store.files import forget_files, read_forgotten

log = logging.getLogger(__name__)

EVERY = 600.0  # seconds
JOBS = 100  # in one batch


class ForgottenFiles:
    """See the module."""

    def __init__(self, connection: HotConnection, store: FileStore) -> None:
        self._connection = connection
        self._store = store
        self._waiting = Waiting(log, "the database or the file store, to delete files of forgotten jobs")

    async def run(self) -> None:
        """Delete, for ever."""
        while True:
            try:
                await self.once()
                self._waiting.over()
            except Unavailable as error:
                self._waiting.still(error.message)
            await asyncio.sleep(EVERY)

    async def once(self) -> None:
        """Delete what is there to be deleted. Raises Unavailable; what is left then is left for the next time."""
        deleted = 0
        while True:
            async with using(self._connection) as connection:
                jobs = await read_forgotten(connection, limit=JOBS)
            if not jobs:
                break
            for key, tenant in jobs:
                await self._store.delete(owner_key(tenant, encode(key)))
            async with using(self._connection) as connection:
                await forget_files(connection, [key for key, _ in jobs])
            deleted += len(jobs)
        if deleted:
            log.info("files of forgotten jobs are deleted", extra={"jobs": deleted})
