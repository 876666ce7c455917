"""The simulated network between workers and schedulers: streams that delay, break, and go silent one way.

Within a stream what arrives arrives in order; streams overtake each other. A stream
breaks for both ends, but not at the same moment; or one direction is dropped in
silence, until a keepalive finds out long after.

The ends look like grpc.aio's: a channel for the worker's own generated stub, a
request iterator and a generator for the scheduler's own servicer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import grpc
import grpc.aio

from farhand.kernel.errors import FarhandError
from farhand.runtime.security import Identity, set_caller
from tests.simulation.clockwork import Process, World

END = grpc.aio.EOF
CONNECT = "/farhand.api.worker.v1.WorkerService/Connect"


class Handler(Protocol):
    """What a scheduler does with a stream."""

    def __call__(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]: ...


class Listener:
    """A scheduler's address, and who answers there; None: nobody does."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.handler: Handler | None = None


class Network:
    """All streams, and what is wrong between whom."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.listeners: dict[str, Listener] = {}
        self.slow = 1.0  # delays are so many times longer
        self.blocked: set[tuple[str, str]] = set()  # (worker, address): no dial gets through
        self.streams: list[Stream] = []

    def delay(self) -> float:
        """Seconds from one end to the other, this time."""
        chance = self.world.random
        return self.slow * (chance.uniform(0.001, 0.01) if chance.random() < 0.9 else chance.uniform(0.01, 0.15))

    def channel(self, process: Process, worker: str, caller: Identity, address: str) -> "Channel":
        """A worker's channel to an address."""
        return Channel(self, process, worker, caller, address)

    def alive(self) -> "list[Stream]":
        """The streams that stand."""
        self.streams = [stream for stream in self.streams if not stream.over]
        return self.streams


class _Inbox:
    """What arrived at one end."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._wake = asyncio.Event()
        self.over = False  # the end is here

    def put(self, item: Any) -> None:
        self._items.append(item)
        self.over |= item is END or isinstance(item, Exception)
        self._wake.set()

    async def get(self) -> Any:
        """The next message; END stays; an error is raised, and stays too."""
        while not self._items:
            self._wake.clear()
            await self._wake.wait()
        item = self._items[0]
        if isinstance(item, Exception):
            raise item
        if item is not END:
            self._items.popleft()
        return item


class _Way:
    """One direction of a stream."""

    def __init__(self, network: Network, receiver: Process, inbox: _Inbox) -> None:
        self._network = network
        self._receiver = receiver
        self._inbox = inbox
        self._last = 0.0
        self.silent = False  # what is sent is lost, and nobody is told
        self.closed = False

    def send(self, message: Any) -> None:
        """It arrives later, behind what was sent before."""
        if self.silent or self.closed:
            return
        world = self._network.world
        self._last = max(self._last + 1e-6, world.now + self._network.delay())
        self._receiver.after(self._last - world.now, lambda: None if self.closed else self._inbox.put(message))
        world.effect("a frame sent")


class Stream:
    """A call of Connect between a worker and a scheduler."""

    def __init__(self, network: Network, client: Process, worker: str, caller: Identity, address: str) -> None:
        self.network = network
        self.client = client
        self.worker = worker
        self.address = address
        self._hung_up = False  # by the client, or by the network: nothing more comes through
        self._caller = caller
        self._to_client = _Inbox()
        self._server: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._up: _Way | None = None
        self._down: _Way | None = None
        client.after(network.delay() * 2, self._arrive)
        client.on_death.append(self._client_died)

    @property
    def over(self) -> bool:
        """Whether the worker's end knows of its end. The other end may have ended, and its word be lost."""
        return self._hung_up or self._to_client.over

    # ── the beginning ──

    def _arrive(self) -> None:
        listener = self.network.listeners[self.address]
        if self.over or (self.worker, self.address) in self.network.blocked:
            return  # nobody answers; the worker's own patience ends it
        process, handler = listener.process, listener.handler
        if process is None or handler is None or process.dead:
            self._fail(_unavailable("connection refused"))
            return
        self._server = process
        process.on_death.append(self._server_died)
        to_server = _Inbox()
        self._up = _Way(self.network, process, to_server)
        self._down = _Way(self.network, self.client, self._to_client)
        for message in self._early:
            self._up.send(message)
        self._task = process.start(self._serve(handler, to_server, self._down))
        self.network.streams.append(self)

    _early: tuple[Any, ...] = ()

    async def _serve(self, handler: Handler, inbox: _Inbox, down: _Way) -> None:
        set_caller(self._caller)
        try:
            async for message in handler(_requests(inbox), None):
                down.send(message)
                await asyncio.sleep(0)
        except FarhandError as error:
            down.send(_refusal(error))
        else:
            down.send(END)

    # ── the worker's end, as grpc.aio's call ──

    async def write(self, message: Any) -> None:
        """Send a frame."""
        await asyncio.sleep(0)
        if self.over:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._up is None:
            self._early = (*self._early, message)
        else:
            self._up.send(message)

    async def read(self) -> Any:
        """The next frame, END, or the error that ended the call."""
        return await self._to_client.get()

    async def done_writing(self) -> None:
        """No frame follows."""
        await self.write(END)

    def cancel(self) -> bool:
        """The worker hangs up."""
        self._hang_up()
        return True

    # ── ends ──

    def cut(self) -> None:
        """The connection is reset: each end learns it by itself, and what is on its way is lost."""
        if not self.over:
            self._hang_up()
            self._fail(_unavailable("connection reset"))

    def silence(self, *, upwards: bool, keepalive: float) -> None:
        """One direction is dropped in silence until a keepalive resets the connection."""
        way = self._up if upwards else self._down
        if way is not None and not self.over:
            way.silent = True
            self.client.after(keepalive, self.cut)

    def _hang_up(self) -> None:
        self._hung_up = True
        for way in (self._up, self._down):
            if way is not None:
                way.closed = True
        if self._task is not None and self._server is not None:
            self._server.after(self.network.delay(), self._task.cancel)

    def _fail(self, error: Exception) -> None:
        self.client.after(self.network.delay(), lambda: self._to_client.put(error))

    def _client_died(self) -> None:
        if self.over:
            return
        if self._up is not None and self.network.world.random.random() < 0.5:
            self._up.send(END)  # behind what the kernel had already
            self._hung_up = True
        else:
            self._hang_up()

    def _server_died(self) -> None:
        if self.over:
            return
        if self._down is not None and self.network.world.random.random() < 0.5:
            self._down.send(_unavailable("connection reset"))  # behind what the kernel had already
        else:
            self.cut()


async def _requests(inbox: _Inbox) -> AsyncIterator[Any]:
    while (message := await inbox.get()) is not END:
        yield message


class Channel:
    """As grpc.aio's: the generated stub makes its calls by it."""

    def __init__(self, network: Network, process: Process, worker: str, caller: Identity, address: str) -> None:
        self._network = network
        self._process = process
        self._worker = worker
        self._caller = caller
        self._address = address
        self._calls: list[Stream] = []

    def stream_stream(self, path: str, *_: object, **__: object) -> Callable[[], Stream]:
        """Connect."""
        assert path == CONNECT

        def call() -> Stream:
            stream = Stream(self._network, self._process, self._worker, self._caller, self._address)
            self._calls.append(stream)
            return stream

        return call

    def stream_unary(self, path: str, *_: object, **__: object) -> Callable[..., object]:
        """AppendLogs, which nobody calls here."""
        return lambda *_: None

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        for call in self._calls:
            call.cancel()


async def ask(
    network: Network, caller: Process, address: str, what: Callable[[Any], Coroutine[Any, Any, Any]], patience: float
) -> Any:
    """A unary call of a client. Answers or raises what the scheduler did; TimeoutError where nothing came back."""
    answer: asyncio.Future[tuple[Any, Exception | None]] = asyncio.get_running_loop().create_future()
    listener = network.listeners[address]

    def come_back(value: Any, error: Exception | None) -> None:
        def put() -> None:
            if not answer.done():
                answer.set_result((value, error))

        if (caller.name, address) not in network.blocked:
            caller.after(network.delay(), put)

    def arrive() -> None:
        process, handler = listener.process, listener.handler
        if process is None or handler is None or process.dead:
            come_back(None, ConnectionRefusedError(address))
            return

        async def serve() -> None:
            try:
                value = await what(handler)
            except Exception as error:
                come_back(None, error)
            else:
                come_back(value, None)

        process.start(serve())

    caller.after(network.delay(), arrive)
    async with asyncio.timeout(patience):
        value, error = await answer
    if error is not None:
        raise error
    return value


def _unavailable(why: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), why)


def _refusal(error: FarhandError) -> grpc.aio.AioRpcError:
    code = grpc.StatusCode[error.status]
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), error.message)
