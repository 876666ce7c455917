"""What the worker and its warden say to each other: a length (4 bytes, big-endian), then JSON.

    worker → warden
      {"do": "start", "run": id, "argv": [...], "env": {...}, "cwd": path, "undo": null or
       {"socket": path, "method": ..., "target": ..., "begun": path, "seconds": n}}   with two descriptors: the ends to
                                                 which the program writes its stdout and its stderr
      {"do": "deadline", "at": seconds of CLOCK_BOOTTIME}
      {"do": "kill", "run": id, "grace": seconds}
      end-of-file: kill everything and end
    warden → worker
      {"is": "ready"}                            once, first
      {"is": "started", "run": id}
      {"is": "refused", "run": id, "why": text, "fenced": bool}   fenced: nothing may run now; else the job's own fault
      {"is": "ended", "run": id, "code": exit code or -signal, "fenced": bool, "not_undone": text}

JSON with ASCII escapes carries every string that Python can hold, also bytes of
a file name that are not UTF-8 (as lone surrogates).
"""

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADER = 4
LARGEST = 64 * 1024 * 1024
"""Bytes. Above what the kernel takes as argv and environment together, so only a torn stream exceeds it."""


class TornStream(Exception):
    """What arrived is no frame; the two sides no longer understand each other."""


def encode(message: "dict[str, Any]") -> bytes:
    """The frame for a message."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(_HEADER, "big") + body


class Decoder:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "list[dict[str, Any]]":
        """The messages that `data` completes. Raises TornStream."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEADER:
            size = int.from_bytes(self._buffer[:_HEADER], "big")
            if size > LARGEST:
                raise TornStream(f"a frame of {size} bytes")
            if len(self._buffer) < _HEADER + size:
                break
            body = bytes(self._buffer[_HEADER : _HEADER + size])
            del self._buffer[: _HEADER + size]
            try:
                messages.append(json.loads(body))
            except ValueError as error:
                raise TornStream(f"no JSON: {error}") from error
        return messages
