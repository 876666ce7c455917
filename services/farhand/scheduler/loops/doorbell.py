"""How replicas wake one another: LISTEN/NOTIFY, debounced, outside every transaction.

A ring only ever means "look"; what to do is in the tables, and every loop also
looks by itself now and then, so a lost ring costs time and nothing else.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from farhand.runtime.database import connect, database_error

log = logging.getLogger(__name__)

CHANNEL = "farhand_scheduler"
DEBOUNCE_SECONDS = 0.005
LONGEST_PAYLOAD = 7000  # PostgreSQL's limit is 8000 bytes


@dataclass(slots=True)
class Ring:
    """What there is to look at."""

    groups: set[str] = field(default_factory=set)  # where jobs may be assignable
    sessions: set[int] = field(default_factory=set)  # whose state or epoch changed
    kills: bool = False  # kills wait to be sent
    jobs: bool = False  # jobs or logs changed
    everything: bool = False
    streams: int | None = None  # that the sender holds; nothing to look at, but it is known then
    sender: str = ""  # the replica; empty for one that is yet to be sent

    def __bool__(self) -> bool:
        return bool(
            self.groups or self.sessions or self.kills or self.jobs or self.everything or self.streams is not None
        )

    def encode(self, replica: str) -> str:
        """The payload; an overlong one says "everything"."""
        body: dict[str, Any] = {"from": replica, "kills": self.kills, "jobs": self.jobs, "everything": self.everything}
        if self.streams is not None:
            body["streams"] = self.streams
        text = json.dumps(body | {"groups": sorted(self.groups), "sessions": sorted(self.sessions)})
        return text if len(text) <= LONGEST_PAYLOAD else json.dumps(body | {"everything": True})

    @classmethod
    def decode(cls, payload: str) -> "tuple[str, Ring]":
        """Who rang, and for what."""
        body = json.loads(payload)
        ring = cls(
            set(body.get("groups", ())),
            set(body.get("sessions", ())),
            body["kills"],
            body["jobs"],
            body["everything"],
            body.get("streams"),
            body["from"],
        )
        return body["from"], ring


class Doorbell:
    """Rings for the other replicas, and calls `heard` when one of them rings."""

    def __init__(self, url: str, replica: str, heard: Callable[[Ring], None]) -> None:
        self._url = url
        self._replica = replica
        self._heard = heard
        self._ring = Ring()
        self._wake = asyncio.Event()

    def ring(
        self,
        *,
        groups: "set[str] | None" = None,
        sessions: "set[int] | None" = None,
        kills: bool = False,
        jobs: bool = False,
        streams: int | None = None,
    ) -> None:
        """Tell the others soon."""
        self._ring.groups |= groups or set()
        self._ring.sessions |= sessions or set()
        self._ring.kills |= kills
        self._ring.jobs |= jobs
        if streams is not None:
            self._ring.streams = streams
        self._wake.set()

    async def run(self) -> None:
        """Listen and ring until cancelled; dial again for ever."""
        while True:
            connection: asyncpg.Connection | None = None
            try:
                connection = await connect(self._url)
                lost = asyncio.Event()
                connection.add_termination_listener(lambda _, lost=lost: lost.set())
                await connection.add_listener(CHANNEL, self._receive)
                self._heard(Ring(everything=True))  # whatever rang while nobody listened
                await self._ring_until(connection, lost)
            except Exception as error:
                if database_error(error) is None and not isinstance(error, asyncpg.PostgresError):
                    raise
                log.info("the doorbell waits for the database", extra={"reason": str(error)})
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(0.5)

    async def _ring_until(self, connection: asyncpg.Connection, lost: asyncio.Event) -> None:
        gone = asyncio.ensure_future(lost.wait())
        try:
            while not gone.done():
                rung = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait((gone, rung), return_when=asyncio.FIRST_COMPLETED)
                rung.cancel()
                if gone.done():
                    return
                await asyncio.sleep(DEBOUNCE_SECONDS)
                self._wake.clear()
                ring, self._ring = self._ring, Ring()
                if ring:
                    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, ring.encode(self._replica))
        finally:
            gone.cancel()

    def _receive(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        sender, ring = Ring.decode(str(payload))
        if sender != self._replica:
            self._heard(ring)
