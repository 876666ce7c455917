"""The processes below a process, as /proc tells them, and signals that reach no stranger.

A number from /proc may belong to someone else by the time we use it. So a
process is its number *and* its start time, and a signal goes through a pidfd
that was checked after it was opened.
"""

import errno
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import suppress

_LOOKS = 20  # at a tree that never settles: what forks as fast as we look is not worth more


class Process:
    """One process at the moment of looking."""

    __slots__ = ("group", "parent", "pid", "started")

    def __init__(self, pid: int, parent: int, group: int, started: int) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.started = started  # clock ticks since boot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (self.pid, self.started) == (other.pid, other.started)

    def __hash__(self) -> int:
        return hash((self.pid, self.started))

    def __repr__(self) -> str:
        return f"Process({self.pid}, parent={self.parent}, group={self.group}, started={self.started})"


def look(pid: int) -> Process | None:
    """The process of that number now (also a zombie), or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold anything, also ")": the last one ends it.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, parent=int(fields[1]), group=int(fields[2]), started=int(fields[19]))


def children(pid: int) -> list[int]:
    """The numbers of the children of all threads of a process; none where this kernel doesn't list them."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def descendants(root: int, apart_from: Collection[int] = ()) -> list[Process]:
    """Everything below `root`, parents before children, without the branches that begin at `apart_from`.

    What forks meanwhile may be missed, and so may the children of one that ends meanwhile: they move to their next
    subreaper while we look elsewhere. Look again until nothing new is found.
    """
    below = children if _lists_children(root) else _by_parent().__getitem__
    found: list[Process] = []
    seen = set(apart_from)
    ahead = list(below(root))
    while ahead:
        pid = ahead.pop()
        if pid in seen:
            continue
        seen.add(pid)
        process = look(pid)
        if process is not None:
            found.append(process)
            ahead.extend(below(pid))
    return found


def settled(root: int) -> list[Process]:
    """Everything below `root`, looked at until two looks agree: nothing is missed because a parent ended in between."""
    found = descendants(root)
    for _ in range(_LOOKS):
        before, found = found, descendants(root)
        if set(before) == set(found):
            break
    return found


def send(process: Process, number: int) -> None:
    """Signal this very process; nothing where it is gone or belongs to another user."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError as error:
        if error.errno == errno.ENOSYS and look(process.pid) == process:  # Linux before 5.3: a tiny window remains
            _quietly_kill(process.pid, number)
        return
    try:
        if look(process.pid) == process:
            signal.pidfd_send_signal(handle, number)
    except (ProcessLookupError, PermissionError):
        pass
    finally:
        os.close(handle)


def marked(name: str, values: Collection[str]) -> Iterator[Process]:
    """Processes anywhere on this host that were started with `name=value` in their environment, one of `values`."""
    wanted = {f"{name}={value}".encode("utf-8", "surrogateescape") for value in values}
    for pid in _all_pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = file.read().split(b"\0")
        except OSError:  # another user's, or gone
            continue
        if not wanted.isdisjoint(variables):
            process = look(pid)
            if process is not None:
                yield process


def _lists_children(pid: int) -> bool:
    """Distributions' kernels do (CONFIG_PROC_CHILDREN); some small ones don't."""
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


class _ByParent(dict[int, list[int]]):
    def __missing__(self, key: int) -> list[int]:
        return []


def _by_parent() -> _ByParent:
    """The children of all processes at once, where the kernel doesn't list those of one."""
    table = _ByParent()
    for pid in _all_pids():
        process = look(pid)
        if process is not None:
            table.setdefault(process.parent, []).append(pid)
    return table


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _quietly_kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
