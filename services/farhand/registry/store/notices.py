"""PostgreSQL's notices of changes: a wake-up, never the news itself.

A notice may be lost with its connection, so whoever waits for one also polls.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from farhand.registry.store.changes import CHANNEL
from farhand.runtime import database


class Notices:
    """Listens on connections of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def listening(self, wake: Callable[[], None]) -> AsyncIterator[Callable[[], bool]]:
        """Call ``wake`` at each notice while the block runs; gives a function that says whether it still listens.

        ``wake`` is also called when the connection is lost.
        """
        connection = await database.connect(self._url)

        def on_notice(*_: Any) -> None:
            wake()

        try:
            connection.add_termination_listener(on_notice)
            await connection.add_listener(CHANNEL, on_notice)
            yield lambda: not connection.is_closed()
        finally:
            # Nothing to say goodbye for, and a server that does not answer must not hold us up.
            connection.remove_termination_listener(on_notice)
            connection.terminate()
