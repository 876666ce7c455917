"""Taking back what a program began elsewhere: one HTTP request over a unix socket, until it is done or time is up.

Sent by the keeper when nothing of its program is left, by the warden for a keeper that was killed, and by the
worker for what neither of them could (farhand.worker.undo_notes). By hand, since http.client costs 3 MB in every
warden. Blocks.
"""

import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PAUSE = 0.2  # seconds between attempts
_UNBORN = 3  # looks for what a killed program had asked for, and whose making may go on without it
_LONGEST_ANSWER = 65_536


class Undo:
    """See farhand.worker.process_control.Undo."""

    __slots__ = ("begun", "method", "seconds", "socket", "target")

    def __init__(self, socket: str, method: str, target: str, begun: str, seconds: float) -> None:
        self.begun = begun
        self.socket = socket
        self.method = method
        self.target = target
        self.seconds = seconds


def read(said: "Mapping[str, Any]") -> Undo:
    """What a frame or a note says."""
    return Undo(said["socket"], said["method"], said["target"], said["begun"], said["seconds"])


def is_due(undo: Undo) -> bool:
    """Whether the program began what is to be taken back."""
    return not undo.begun or os.path.exists(undo.begun)


def carry_out(undo: Undo, *, cut_off: bool) -> str:
    """Returns "" when it is done, else why it is not.

    `cut_off`: the program was killed, so a request of its own may still be under way: what is not there may be yet.
    """
    give_up = time.monotonic() + undo.seconds
    absent = 0
    while True:
        status, why = _ask(undo, give_up)
        if status == 404:
            absent += 1
        if 200 <= status < 300 or (status == 404 and (not cut_off or absent >= _UNBORN)):
            return ""
        if time.monotonic() + _PAUSE > give_up:
            return "" if status == 404 else why
        time.sleep(_PAUSE)


def _ask(undo: Undo, give_up: float) -> tuple[int, str]:
    """One attempt: the status, or 0, and why it is not done."""
    head = f"{undo.method} {undo.target} HTTP/1.1", "Host: localhost", "Content-Length: 0", "Connection: close"
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_left(give_up))
            connection.connect(undo.socket)
            connection.sendall("\r\n".join([*head, "", ""]).encode())
            while len(answer) < _LONGEST_ANSWER:
                connection.settimeout(_left(give_up))
                if not (part := connection.recv(4096)):
                    break
                answer += part
    except TimeoutError:
        return 0, f"{undo.socket} does not answer"
    except OSError as error:
        return 0, f"{undo.socket}: {error.strerror or error}"
    try:
        status = int(answer.split(maxsplit=2)[1])
    except (IndexError, ValueError):
        return 0, f"{undo.socket} gave no answer"
    said = answer.partition(b"\r\n\r\n")[2][:500].decode("utf-8", "replace").strip()
    return status, f"{undo.socket} answered {status}: {said}"


def _left(give_up: float) -> float:
    return max(give_up - time.monotonic(), 0.001)
