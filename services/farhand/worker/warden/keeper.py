"""The keeper: parent of one run's program, and reaper of all that the program leaves behind.

It is a fork of the warden that lives as long as the run. Being the child
subreaper closest to the program, it inherits every orphan of the run and no
other process. So the end of a run is exact: `waitpid` knows no child any more.

Orders from the warden, one byte each: T (SIGTERM to everything), K (kill until
nothing is left); end-of-file means K too, since the warden is dead. Words to
the warden, one datagram each: b"S" the program was started; then b"E" + exit
code when all is over, and after a blank why its undo could not be carried out;
or only b"F" + why it can't be run.

Killing races with processes that fork. The program's own process group dies in
one stroke that no fork can outrun; processes that left the group are found
below us and killed, again and again until none is new. A process that SIGKILL
has reached forks no more, so this ends as soon as we are faster than the rest.
"""

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress

from . import linux, tree
from .program import Program, become
from .undo import Undo, carry_out, is_due

TERMINATE = b"T"
KILL = b"K"
STARTED = b"S"
ENDED = b"E"
FAILED = b"F"

_LONGEST_REASON = 8192  # bytes of why a program can't be run, or an undo not be carried out
_FIRST_LOOK, _LAST_LOOK = 0.02, 1.0  # seconds between looks at a tree in which all is killed, but not all is gone


def keep(program: Program, warden: socket.socket, stdout: int, stderr: int) -> None:
    """Run the program to the end of its whole tree. Called in a fresh fork of the warden; never returns."""
    status = 1
    try:
        # Objects of the warden that die here would close descriptor numbers that are ours by now.
        gc.disable()
        _Keeper(program, warden, stdout, stderr).run()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def take_back(undo: Undo, warden: socket.socket) -> None:
    """What is left to do for a keeper that was killed. Called in a fresh fork of the warden; never returns."""
    try:
        gc.disable()
        _close_all_but(0, 1, 2, warden.fileno())
        linux.name_process("farhand-keeper")
        _tell_end(warden, -signal.SIGKILL, _taken_back(undo, True))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


class _Keeper:
    def __init__(self, program: Program, warden: socket.socket, stdout: int, stderr: int) -> None:
        self._warden = warden
        _close_all_but(0, 1, 2, warden.fileno(), stdout, stderr)
        linux.name_process("farhand-keeper")
        linux.adopt_orphans()
        self._child_ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._complaints, complain = os.pipe2(os.O_CLOEXEC)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        keeper = os.getpid()
        self._undo = program.undo
        self._program = os.fork()
        if self._program == 0:
            become(program, stdout, stderr, complain, keeper)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for fd in (complain, stdout, stderr):
            os.close(fd)
        self._exit_code: int | None = None  # None: the program is not reaped, so its number is still its own
        self._reason = b""
        self._starting = True
        self._terminating = False
        self._killing = False
        self._struck: set[int] = set()  # children that SIGKILL was sent to, and that are not reaped
        self._killed: set[tree.Process] = set()  # deeper descendants that it was sent to
        self._pause = _FIRST_LOOK

    def run(self) -> None:
        poll = select.poll()
        for fd in (self._warden.fileno(), self._child_ended, self._complaints):
            poll.register(fd, select.POLLIN)
        timeout: float | None = None
        while True:
            ready = {fd for fd, _ in poll.poll(None if timeout is None else timeout * 1000)}
            if self._complaints in ready and not self._hear_complaint():
                poll.unregister(self._complaints)
            if self._child_ended in ready:
                _drain(self._child_ended)
            if self._warden.fileno() in ready and not self._obey(self._order()):
                poll.unregister(self._warden.fileno())
            if self._nothing_left():
                break
            timeout = self._kill_what_is_new() if self._killing else None
        while self._starting:
            self._hear_complaint()
        if self._reason:
            self._tell(FAILED + self._reason)
            return
        code = self._exit_code or 0
        cut_off = self._killing or self._terminating or code < 0
        _tell_end(self._warden, code, _taken_back(self._undo, cut_off))

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):  # the warden is dead; its end-of-file has us kill everything
            self._warden.send(word)

    def _order(self) -> bytes:
        try:
            return self._warden.recv(1)
        except ConnectionResetError:  # the warden died with a word of ours unread
            return b""

    def _hear_complaint(self) -> bool:
        """What the child says before exec; False at its end, which is exec or the child's death."""
        said = os.read(self._complaints, _LONGEST_REASON)
        if said:
            self._reason = (self._reason + said)[:_LONGEST_REASON]
            return True
        self._starting = False
        if not self._reason:
            self._tell(STARTED)
        return False

    def _obey(self, order: bytes) -> bool:
        """False where no order will follow."""
        if order == TERMINATE and not self._killing and not self._terminating:
            self._terminating = True
            self._terminate()
        elif order != TERMINATE:
            self._killing = True
        return bool(order)

    def _terminate(self) -> None:
        # Looked for before anything is struck: a parent that dies of it would hide its children from the look.
        apart = [process for process in tree.settled(os.getpid()) if process.group != self._program]
        if self._exit_code is None:
            _signal_group(self._program, signal.SIGTERM)
        for process in apart:
            tree.send(process, signal.SIGTERM)
            tree.send(process, signal.SIGCONT)
        if self._exit_code is None:
            # A stopped process handles SIGTERM only once it goes on.
            _signal_group(self._program, signal.SIGCONT)

    def _nothing_left(self) -> bool:
        """Reap what has ended; True when no child is left, so neither is any descendant."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return True
            if ended is None:
                return False
            if ended.si_pid == self._program:
                # Asked to end, the rest of the tree keeps its grace; otherwise it ends with the program.
                self._killing |= not self._terminating
                if self._killing:
                    _signal_group(self._program, signal.SIGKILL)
            _, status = os.waitpid(ended.si_pid, 0)
            self._struck.discard(ended.si_pid)
            if ended.si_pid == self._program:
                self._exit_code = os.waitstatus_to_exitcode(status)

    def _kill_what_is_new(self) -> float:
        """One round of killing; returns how many seconds to wait for an end before the next."""
        if self._exit_code is None:
            _signal_group(self._program, signal.SIGKILL)
        # Our own children first, and fast: whatever forks and exits lands here with its next link. Nobody else can
        # reap them, so these numbers need no second look.
        new_children = [pid for pid in tree.children(os.getpid()) if pid not in self._struck]
        for pid in new_children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        self._struck.update(new_children)
        if new_children:
            return 0
        # Then what is deeper, and does not fall to us because its parent is slow to die.
        new = [process for process in tree.descendants(os.getpid()) if process not in self._killed]
        for process in new:
            tree.send(process, signal.SIGKILL)
        self._killed.update(new)
        self._pause = _FIRST_LOOK if new else min(self._pause * 2, _LAST_LOOK)
        return 0 if new else self._pause


def _taken_back(undo: Undo | None, cut_off: bool) -> str:
    return "" if undo is None or not is_due(undo) else carry_out(undo, cut_off=cut_off)


def _tell_end(warden: socket.socket, code: int, not_undone: str) -> None:
    with suppress(OSError):
        warden.send(ENDED + f"{code} {not_undone}".encode("utf-8", "replace")[:_LONGEST_REASON])


def _signal_group(leader: int, number: int) -> None:
    """Signal the group of a child that is not reaped yet, so the number can't be another's. Once: see run_table."""
    with suppress(PermissionError):
        try:
            os.killpg(leader, number)
        except ProcessLookupError:  # it has not come to its setsid; what is sent now is pending until it has
            os.kill(leader, number)


def _drain(fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _close_all_but(*kept: int) -> None:
    """Close what is the warden's, above all its channels to other keepers: those must end when the warden dies."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):  # the one that listdir itself had open
                os.close(int(name))
