"""The last steps of a forked child before it becomes a job's program, and what to say where that fails.

A program gets: a session of its own, /dev/null as stdin, its two pipes, no
other descriptor, every signal at its default, and death when its keeper dies.
"""

import errno
import os
import signal
from collections.abc import Mapping, Sequence

from . import linux
from .undo import Undo


class Program:
    """What to run: argv, the complete environment, the folder; and what takes back what it began elsewhere."""

    __slots__ = ("argv", "cwd", "env", "undo")

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str, undo: Undo | None = None) -> None:
        self.argv = argv
        self.env = env
        self.cwd = cwd
        self.undo = undo


def become(program: Program, stdout: int, stderr: int, complaints: int, keeper: int) -> None:
    """Replace this process by the program. Never returns.

    `complaints` (close-on-exec) ends without a byte where that works; else it carries one line that says why not.
    Called with all signals blocked.
    """
    try:
        os.setsid()
        linux.die_with_parent(signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(127)
        # What is ignored stays ignored through exec, and Python and the warden ignore some. A SIGTERM that came
        # before this point is pending, not lost, since it is blocked.
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _enter(program.cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.execvpe(program.argv[0], list(program.argv), program.env)
    except _NoFolder as error:
        os.write(complaints, str(error).encode("utf-8", "replace"))
    except BaseException as error:
        os.write(complaints, explain(program, error).encode("utf-8", "replace"))
    os._exit(127)


def explain(program: Program, error: BaseException) -> str:
    """One line for the job's log: which program could not be run, and why."""
    if not program.argv:
        return "the command is empty"
    name = program.argv[0]
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOENT, errno.ENOTDIR):
        if "/" in name:
            reason = "there is no such file, or the interpreter that its first line names is missing"
        else:
            reason = f"no such program in PATH ({program.env.get('PATH', os.defpath)})"
    elif number == errno.EACCES:
        reason = "it is not executable, or its folder can't be searched (permission denied)"
    elif number == errno.ENOEXEC:
        reason = "it is no program for this machine; a script needs a first line like #!/bin/sh"
    elif number == errno.E2BIG:
        reason = "its arguments and environment are too long for this system together; pass large data in files"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = str(error)  # a NUL byte in an argument, a "=" in the name of a variable
    return f"can't run {name!r}: {reason}"


class _NoFolder(Exception):
    pass


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise _NoFolder(f"can't enter the working folder {folder!r}: {why}") from error
