"""The warden itself: one thread, one selector, and the run table between what comes in and what goes out.

Comes in: frames of the worker, words of the keepers, ended children, the timer.
Each round handles them in the order in which they decide: what the keepers know
about the past, then what the time demands, then what the worker wants next. So
a deadline that has passed is never outrun by a later one in the same round.

Nothing here may block, least of all on a worker that is stopped: what the
worker doesn't read waits in `_outbox`, at most two frames for each run.
"""

import array
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from . import frames, linux, tree
from .keeper import ENDED, FAILED, KILL, STARTED, TERMINATE, keep, take_back
from .program import Program
from .run_table import Effect, Event, RunTable
from .undo import Undo, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DESCRIPTORS_PER_START = 2
_SWEEP_PAUSE = 0.02  # seconds between looks at the orphans of a keeper that was killed


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Keeper:
    """A keeper as its parent sees it."""

    __slots__ = ("channel", "pid", "run")

    def __init__(self, pid: int, run: str, channel: socket.socket) -> None:
        self.pid = pid
        self.run = run
        self.channel = channel


class Warden:
    """Serves one worker until that is gone, and then until nothing of its runs is left."""

    def __init__(self, worker: socket.socket) -> None:
        self._worker = worker
        self._worker_reads = True
        self._worker_writes = True
        self._decoder = frames.Decoder()
        self._outbox = bytearray()
        self._received: list[tuple[int, int] | None] = []  # the pipes of starts to come; None: lost on the way
        self._table = RunTable()
        self._keepers: dict[int, _Keeper] = {}
        self._bereft: list[str] = []  # runs whose keeper was killed and whose processes may be ours now
        self._undos: dict[str, Undo] = {}  # of runs that are not over
        self._timer = linux.BootTimer()
        self._child_ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wakeup descriptor is written to
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._timer.fd, selectors.EVENT_READ)
        self._selector.register(self._child_ended, selectors.EVENT_READ)
        self._selector.register(worker, selectors.EVENT_READ)

    def run(self) -> None:
        """Returns when the worker is gone and everything is killed."""
        self._tell({"is": "ready"})
        while self._worker_writes or self._keepers or self._bereft:
            self._flush()
            self._timer.set(self._table.next_due())
            ready = [key.fileobj for key, _ in self._selector.select(_SWEEP_PAUSE if self._bereft else None)]
            for keeper in [k for k in self._keepers.values() if k.channel in ready]:
                self._hear(keeper)
            if self._child_ended in ready:
                os.read(self._child_ended, 4096)
                self._reap()
            if self._bereft:
                self._sweep()
            if self._timer.fd in ready:
                self._timer.acknowledge()
            self._do(self._table.due(_now()))
            if self._worker in ready and self._worker_writes:
                self._listen()
        self._flush()

    # ── the worker ──

    def _listen(self) -> None:
        room = socket.CMSG_SPACE(_DESCRIPTORS_PER_START * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._worker.recvmsg(262_144, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._take_descriptors(content)
        if flags & socket.MSG_CTRUNC and not ancillary:
            self._received.append(None)
        if not data:
            self._worker_writes = False
            self._selector.unregister(self._worker)
            self._do(self._table.abandon())
            return
        for message in self._decoder.feed(data):
            self._obey(message)

    def _take_descriptors(self, content: bytes) -> None:
        descriptors = array.array("i")
        descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        if len(descriptors) == _DESCRIPTORS_PER_START:
            self._received.append((descriptors[0], descriptors[1]))
            return
        for fd in descriptors:  # this process has reached its limit of open files
            os.close(fd)
        self._received.append(None)

    def _obey(self, message: "dict[str, Any]") -> None:
        match message["do"]:
            case "start":
                undo = None if message["undo"] is None else read(message["undo"])
                self._start(message["run"], Program(message["argv"], message["env"], message["cwd"], undo))
            case "deadline":
                self._table.set_deadline(message["at"])
            case "kill":
                self._do(self._table.ask_kill(message["run"], _now(), message["grace"]))
            case other:
                raise frames.TornStream(f"no such order: {other}")

    def _start(self, run: str, program: Program) -> None:
        pipes = self._received.pop(0)
        if pipes is None:
            self._refuse(run, "the worker's warden has too many files open: run fewer slots, or raise `ulimit -n`")
            return
        try:
            why = self._table.admit(run, _now())
            if why:
                self._refuse(run, why, fenced=True)
                return
            try:
                self._fork_keeper(run, lambda channel: keep(program, channel, *pipes))
                if program.undo is not None:
                    self._undos[run] = program.undo
            except OSError as error:
                why = f"can't start a process: {error.strerror}; run fewer slots, or raise the limits of this machine"
                self._do(self._table.happened(run, Event.FAILED), why=why)
        finally:
            for fd in pipes:
                os.close(fd)

    def _fork_keeper(self, run: str, life: "Callable[[socket.socket], None]") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                life(theirs)
        ours.setblocking(False)
        self._keepers[pid] = _Keeper(pid, run, ours)
        self._selector.register(ours, selectors.EVENT_READ)

    def _refuse(self, run: str, why: str, *, fenced: bool = False) -> None:
        self._tell({"is": "refused", "run": run, "why": why, "fenced": fenced})

    def _tell(self, message: "dict[str, Any]") -> None:
        self._outbox += frames.encode(message)

    def _flush(self) -> None:
        """Send what the worker takes now. Waits for room only while a worker is there to make it."""
        while self._outbox and self._worker_reads:
            try:
                del self._outbox[: self._worker.send(self._outbox)]
            except BlockingIOError:
                break
            except OSError:
                self._worker_reads = False
                self._outbox.clear()
        if self._worker_writes:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
            if self._selector.get_key(self._worker).events != wanted:
                self._selector.modify(self._worker, wanted)

    # ── the keepers ──

    def _hear(self, keeper: _Keeper) -> None:
        """Take all that the keeper has said so far."""
        while True:
            try:
                word = keeper.channel.recv(65_536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                word = b""
            kind, rest = word[:1], word[1:]
            if kind == STARTED:
                self._do(self._table.happened(keeper.run, Event.STARTED))
            elif kind == FAILED:
                self._do(self._table.happened(keeper.run, Event.FAILED), why=rest.decode("utf-8", "replace"))
            elif kind == ENDED:
                code, _, not_undone = rest.decode("utf-8", "replace").partition(" ")
                self._do(self._table.happened(keeper.run, Event.ENDED), code=int(code), why=not_undone)
            else:
                # It is about to end. Not before it is reaped do we know that its orphans are ours.
                self._selector.unregister(keeper.channel)
                keeper.channel.close()
                return

    def _reap(self) -> None:
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            keeper = self._keepers.pop(pid, None)
            if keeper is None:
                continue  # the orphan of a killed keeper
            if keeper.channel.fileno() >= 0:
                self._hear(keeper)
            if keeper.run in self._table:
                self._bereft.append(keeper.run)

    def _sweep(self) -> None:
        """Kill what fell to us from keepers that were killed: all below us that has no keeper above it."""
        orphans = tree.descendants(os.getpid(), apart_from=self._keepers)
        for orphan in orphans:
            tree.send(orphan, signal.SIGKILL)
        self._reap()
        if not orphans:
            bereft, self._bereft = self._bereft, []
            for run in bereft:
                self._after_its_keeper(run)

    def _after_its_keeper(self, run: str) -> None:
        """All of the run is dead that was a process here."""
        undo = self._undos.get(run)
        why = ""
        if undo is not None:
            try:
                self._fork_keeper(run, lambda channel: take_back(undo, channel))
                return
            except OSError as error:
                why = f"can't start a process: {error.strerror}"
        self._do(self._table.happened(run, Event.ENDED), code=-signal.SIGKILL, why=why)

    # ── what follows ──

    def _do(self, effects: Iterable[tuple[Effect, str]], *, code: int = 0, why: str = "") -> None:
        for effect, run in effects:
            match effect:
                case Effect.TERMINATE:
                    self._order(run, TERMINATE)
                case Effect.KILL:
                    self._order(run, KILL)
                case Effect.TELL_STARTED:
                    self._tell({"is": "started", "run": run})
                case Effect.TELL_FAILED:
                    self._undos.pop(run, None)
                    self._refuse(run, why)
                case Effect.TELL_ENDED | Effect.TELL_FENCED:
                    fenced = effect is Effect.TELL_FENCED
                    self._undos.pop(run, None)
                    self._tell({"is": "ended", "run": run, "code": code, "fenced": fenced, "not_undone": why})

    def _order(self, run: str, order: bytes) -> None:
        for keeper in self._keepers.values():
            if keeper.run == run:
                with suppress(OSError):  # it ends: it is done, or was killed and _reap sees to what it leaves
                    keeper.channel.send(order)
