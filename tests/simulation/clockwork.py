"""Virtual time: one queue of events for all processes of a simulated world, and an asyncio loop for each of them.

Every process has its own loop, so that one can be stopped or killed between any two
of its steps while the others go on. All loops draw from one queue, which the world
plays in the order of true time; nothing waits for real, and nothing depends on
memory addresses (tasks and futures hash by number), so a seed plays the same each time.

A host's clock runs a little fast or slow, never jumps (CLOCK_BOOTTIME), and is all
that its processes know of time.
"""

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")

Tell = Callable[[float, str, str], None]  # virtual time, who, what


class Crashed(BaseException):
    """Unwinds what a process was doing when it was killed in the middle of it; nobody catches it."""


class World:
    """True time, chance, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0  # seconds of true time
        self.events = 0
        self.over = False
        self.tell: Tell | None = None  # a transcript; None: nobody listens
        self.unexpected: list[str] = []  # what loops had to report to their exception handlers
        self.current: Process | None = None
        self.at_effect: Callable[[str], None] | None = None  # may kill the running process there, and raise Crashed
        self._ready: deque[tuple[Process, asyncio.Handle]] = deque()
        self._later: list[tuple[float, int, Process, asyncio.Handle]] = []
        self.numbers = itertools.count(1)  # of events, tasks and futures
        self.processes: list[Process] = []  # also the dead: none may be collected, or its `finally` would run

    def process(self, name: str, clock: "Clock | None" = None) -> "Process":
        """A new process."""
        made = Process(self, name, clock or Clock(self))
        self.processes.append(made)
        return made

    def say(self, who: str, what: str) -> None:
        """One line of the transcript."""
        if self.tell is not None:
            self.tell(self.now, who, what)

    def effect(self, name: str) -> None:
        """The running process has just done something that outlives it."""
        if self.at_effect is not None:
            self.at_effect(name)

    def soon(self, process: "Process", handle: asyncio.Handle) -> None:
        """After all that is due already."""
        self._ready.append((process, handle))

    def at(self, when: float, process: "Process", handle: asyncio.Handle) -> None:
        """At that true time."""
        heapq.heappush(self._later, (when, next(self.numbers), process, handle))

    def run(self, until: Callable[[], bool]) -> None:
        """Play until the condition holds; it is looked at whenever time moves."""
        try:
            self._play(until)
        finally:
            events._set_running_loop(None)
            self.current = None

    def _play(self, until: Callable[[], bool]) -> None:
        running: Process | None = None
        while True:
            if not self._ready:
                if until() or not self._later:
                    return
                when, _, process, handle = heapq.heappop(self._later)
                self.now = max(self.now, when)
                self._ready.append((process, handle))
            process, handle = self._ready.popleft()
            if process.dead or handle.cancelled():
                continue
            if process.paused:
                process.backlog.append(handle)
                continue
            self.events += 1
            if process is not running:
                self.current = running = process
                events._set_running_loop(process.loop)
            handle._run()

    def clear(self) -> None:
        """Nothing happens any more."""
        self._ready.clear()
        self._later.clear()
        self.processes.clear()

    @contextlib.contextmanager
    def inside(self, process: "Process") -> "Iterator[None]":
        """Call something as if this process did, from outside of all."""
        before, running = self.current, events._get_running_loop()
        self.current = process
        events._set_running_loop(process.loop)
        try:
            yield
        finally:
            events._set_running_loop(running)
            self.current = before


class Clock:
    """A host's CLOCK_BOOTTIME and CLOCK_MONOTONIC: `rate` seconds of it pass in one true second."""

    def __init__(self, world: World, rate: float = 1.0, offset: float = 1000.0) -> None:
        self._world = world
        self._rate = rate
        self._offset = offset

    def __call__(self) -> float:
        return self._offset + self._world.now * self._rate

    def true_time(self, reading: float) -> float:
        """When the clock shows this."""
        return (reading - self._offset) / self._rate


class Process:
    """A process: a loop that can be stopped, continued and killed."""

    def __init__(self, world: World, name: str, clock: Clock) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.program: object = None  # what runs in it
        self.loop = Loop(self)  # type: ignore[abstract]  # a process needs a few of its methods
        self.dead = False
        self.paused = False
        self.backlog: list[asyncio.Handle] = []
        self.on_death: list[Callable[[], None]] = []
        self.kept: list[object] = []  # what must not be collected before the world is over

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run it in this process."""
        with self.world.inside(self):
            task = self.loop.create_task(coroutine)
        task.add_done_callback(self._done)
        self.kept.append(task)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.loop.call_exception_handler({"message": f"{task.get_coro()} raised", "exception": error})

    def after(self, true_seconds: float, callback: Callable[[], object]) -> None:
        """Call it in this process, after that much true time."""
        self.world.at(self.world.now + true_seconds, self, asyncio.Handle(callback, (), self.loop))

    def kill(self) -> None:
        """kill -9: none of its steps follows, and the kernel closes what it held."""
        if not self.dead:
            self.dead = True
            self.backlog.clear()
            for callback in self.on_death:
                callback()

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what came due meanwhile happens now."""
        self.paused = False
        for handle in self.backlog:
            self.world.soon(self, handle)
        self.backlog.clear()


class NumberedTask(asyncio.Task[Any]):
    """A task with a place in every set that does not depend on its address. It has its number before it is made, since
    asyncio puts it into a set at once."""

    def __init__(self, coro: Coroutine[Any, Any, Any], number: int, **more: Any) -> None:
        self.number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number


class NumberedFuture(asyncio.Future[Any]):
    """The same for a future."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process, on the clock of its host."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    def time(self) -> float:
        return self._process.clock()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._world.soon(self._process, handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.at(self._process.clock.true_time(when), self._process, handle)
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        future = NumberedFuture(loop=self)
        future.number = next(self._world.numbers)
        return future

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: contextvars.Context | None = None
    ) -> "asyncio.Task[T]":
        task = NumberedTask(coro, next(self._world.numbers), loop=self, name=name, context=context)
        return cast("asyncio.Task[T]", task)

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._world.over and not self._process.dead:
            error = context.get("exception")
            self._world.unexpected.append(f"{self._process.name}: {context.get('message')}: {error!r}")
            self._world.say(self._process.name, f"UNEXPECTED {context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells; the queue finds out by itself."""
