"""One command's dealings with the servers: settings, channels, errors made readable, results printed.

    with session.registry() as channel:
        answer = TenantServiceStub(channel).GetTenant(request, timeout=DEADLINE)

An error of a call in such a block becomes a `CommandFailed` that names the server, its
address and what to do.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from farhand.cli.failure import CommandFailed, remote_failure
from farhand.cli.profile import Settings
from farhand.cli.render import Printer

if TYPE_CHECKING:
    import grpc

    from farhand.runtime.settings import DialSettings

DEADLINE = 30.0  # seconds for a call that is not meant to wait

Channel = TypeVar("Channel")


class Session:
    """Channels are dialled when they are first used and closed when the command ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.printer = Printer(settings.output)
        self._channels: dict[str, grpc.Channel] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            channel.close()

    @contextmanager
    def registry(self) -> Iterator["grpc.Channel"]:
        """A block with a channel to the registry."""
        with self._to("registry", self.settings.registry) as channel:
            yield channel

    @contextmanager
    def scheduler(self) -> Iterator["grpc.Channel"]:
        """A block with a channel to the scheduler."""
        with self._to("scheduler", self.settings.scheduler) as channel:
            yield channel

    @contextmanager
    def _to(self, server: str, address: str) -> Iterator["grpc.Channel"]:
        import grpc

        from farhand.runtime.grpc_channel import make_blocking_channel

        if server not in self._channels:
            self._channels[server] = self._dial(make_blocking_channel, address)
        try:
            yield self._channels[server]
        except grpc.RpcError as error:
            raise remote_failure(error, server, address) from None

    @asynccontextmanager
    async def scheduler_stream(self) -> AsyncIterator["grpc.aio.Channel"]:
        """An asynchronous channel to the scheduler, for what goes on for long. Errors pass as they are."""
        from farhand.runtime.grpc_channel import make_channel

        async with self._dial(make_channel, self.settings.scheduler) as channel:
            yield channel

    def _dial(self, make: "Callable[[str, DialSettings], Channel]", address: str) -> Channel:
        """A channel with this session's credentials; what forbids it (no TLS, no such file) is one line."""
        from farhand.runtime.service import StartupError
        from farhand.runtime.settings import DialSettings

        dial = DialSettings(tls_ca=self.settings.tls_ca, token=self.settings.token, token_file=self.settings.token_file)
        try:
            return make(address, dial)
        except StartupError as error:
            raise CommandFailed(str(error)) from None
