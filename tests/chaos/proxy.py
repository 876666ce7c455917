"""A TCP proxy that can be cut both ways or one way, slowed down, and made to reset what is open.

A cut holds data back while the connections stay open, as when a cable is pulled: TCP
would send again once it is back, and so does this.
"""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType


class Proxy:
    """`async with Proxy("127.0.0.1:7402") as proxy`: dial `proxy.address` instead."""

    def __init__(self, target: str, host: str = "127.0.0.1") -> None:
        """host: an address of ours, to listen on."""
        self._listen = host
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._flows = {True: asyncio.Event(), False: asyncio.Event()}  # towards the target, and back
        self._delay = 0.0
        self._open: set[asyncio.Task[None]] = set()
        self.address = ""
        self.heal()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, self._listen, 0)
        self.address = f"{self._listen}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()
        if self._open:
            await asyncio.wait(self._open)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def cut(self, *, towards: bool = True, back: bool = True) -> None:
        """Nothing passes any more in these directions."""
        if towards:
            self._flows[True].clear()
        if back:
            self._flows[False].clear()

    def slow(self, seconds: float) -> None:
        """Everything takes so much longer, each way."""
        self._delay = seconds

    def heal(self) -> None:
        """What was held up goes on, and at once."""
        self._delay = 0.0
        for flow in self._flows.values():
            flow.set()

    def reset(self) -> None:
        """Every connection is reset now (RST)."""
        for task in self._open:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        ends = [writer]
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
            ends.append(back)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, back, towards=True))
                pumps.create_task(self._pump(there, writer, towards=False))
        except* OSError:
            pass  # one end is gone; so is the other
        except* asyncio.CancelledError:  # reset() alone cancels this, and it ends here
            for end in ends:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()
        finally:
            self._open.discard(task)
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, towards: bool) -> None:
        while data := await reader.read(65536):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._flows[towards].wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()
