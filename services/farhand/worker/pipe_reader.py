"""Reads one pipe of a job into an asyncio.StreamReader, and knows an end other than end-of-file.

asyncio's own pipe transport waits for end-of-file, which comes when the last
process that holds the pipe is gone. A job may have handed its pipe to a process
that is not of its tree (a tmux or docker daemon takes its client's descriptors)
and that one may hold it for ever. So when the run is over, whatever is in the
pipe at that time is read to its last byte, and that is the end.
"""

import asyncio
import os

_CHUNK = 65_536  # a pipe's usual capacity


class PipeReader(asyncio.ReadTransport):
    """Owns `fd` and closes it at the end. Stops reading while the consumer is behind, so memory stays bounded."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._reading = False
        self._run_is_over = False
        self.stream = asyncio.StreamReader(limit=_CHUNK)
        self.stream.set_transport(self)
        self.resume_reading()

    def run_ended(self) -> None:
        """No process of the run is left: nothing more will be written by it."""
        if not self._run_is_over:
            self._run_is_over = True
            if self._reading:
                self._loop.call_soon(self._read)

    def close(self) -> None:
        """Give the rest up; the consumer finds the end. May be called often."""
        if self._fd >= 0:
            self.pause_reading()
            os.close(self._fd)
            self._fd = -1
            self.stream.feed_eof()

    def is_closing(self) -> bool:
        return self._fd < 0

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        if not self._reading and self._fd >= 0:
            self._reading = True
            self._loop.add_reader(self._fd, self._read)
            if self._run_is_over:
                self._loop.call_soon(self._read)

    def _read(self) -> None:
        if not self._reading:
            return
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            data = None
        if data:
            self.stream.feed_data(data)  # may pause us
            if self._run_is_over and self._reading:
                self._loop.call_soon(self._read)
        elif data is not None or self._run_is_over:
            self.close()
