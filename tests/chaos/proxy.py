"""A TCP proxy that can be cut: both ways, one way, or by resetting what is open."""

import asyncio
import contextlib
from types import TracebackType


class Proxy:
    """`async with Proxy("127.0.0.1:7402") as proxy`: dial `proxy.address` instead."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._flows = {True: asyncio.Event(), False: asyncio.Event()}  # towards the target, and back
        self._open: set[asyncio.Task[None]] = set()
        self.address = ""
        self.heal()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()

    def cut(self, *, towards: bool = True, back: bool = True) -> None:
        """Nothing passes any more in these directions; the connections stay open, as when a cable is pulled."""
        if towards:
            self._flows[True].clear()
        if back:
            self._flows[False].clear()

    def heal(self) -> None:
        """What was held up goes on."""
        for flow in self._flows.values():
            flow.set()

    def reset(self) -> None:
        """Every connection ends now."""
        for task in self._open:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, back, towards=True))
                    pumps.create_task(self._pump(there, writer, towards=False))
            finally:
                back.close()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # one end is gone; so is the other
        finally:
            self._open.discard(task)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, towards: bool) -> None:
        while data := await reader.read(65536):
            await self._flows[towards].wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
