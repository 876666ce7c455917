"""What the schedulers' names stand for now: every address of every name.

A name with several A or AAAA records stands for several schedulers, and a library
that picks one by itself would dial the same one again and again. So names are
looked up here, anew for each round of dials, and TLS still checks the name. Behind
an HTTP proxy the proxy looks names up, since this machine may not be able to.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence

from farhand.runtime.address import Address
from farhand.worker.core.redial import Target

LOOKUP_SECONDS = 5.0
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # that gRPC obeys

Lookup = Callable[[str, int], Awaitable[list[str]]]


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, in the system's order. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for _, _, _, _, where in found]


async def targets(names: Sequence[str], lookup: Lookup = look_up) -> list[Target]:
    """Where to dial for these names, HOST:PORT each. A name that can't be looked up stands for itself: then the dial
    tells what is wrong."""
    if any(os.environ.get(proxy) for proxy in _PROXIES):
        return [Target(name, name) for name in names]
    return [target for found in await asyncio.gather(*(_of(name, lookup) for name in names)) for target in found]


async def _of(name: str, lookup: Lookup) -> list[Target]:
    address = Address.parse(name)
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            hosts = await lookup(address.host, address.port)
    except (OSError, UnicodeError):  # TimeoutError is an OSError
        return [Target(name, name)]
    return [Target(name, str(Address(host, address.port))) for host in dict.fromkeys(hosts)]
