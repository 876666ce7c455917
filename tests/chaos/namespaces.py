"""Workers in network namespaces of their own, whose packets are dropped, lost or rejected by iptables.

A namespace has one veth pair and nothing else. Its worker goes on dialling loopback, as
one without TLS must; what it sends there is redirected to our end of the pair, where its
proxies listen. All rules are made inside of the namespace, so nothing else on the machine
is touched. Where namespaces are not allowed, the proxies alone cut.
"""

import asyncio
import os
import shutil
from pathlib import Path
from types import TracebackType

_NAME = "farhand-chaos"
_NET = "198.18"  # of RFC 2544, for tests: no real network has it


class NotAllowed(Exception):
    """There can be no namespace here; says why."""


class Namespace:
    """`async with Namespace(3) as namespace`: `namespace.ours` is the address at which it reaches us."""

    def __init__(self, number: int) -> None:
        """number: from 1 to 63, another for each namespace of this process."""
        self._name = f"{_NAME}-{os.getpid()}-{number}"
        self._link = f"fc{os.getpid()}-{number}"
        self.ours = f"{_NET}.{os.getpid() % 256}.{4 * number + 1}"
        self._theirs = f"{_NET}.{os.getpid() % 256}.{4 * number + 2}"

    @property
    def prefix(self) -> list[str]:
        """What stands before a command that is to run in it."""
        return ["ip", "netns", "exec", self._name]

    async def __aenter__(self) -> "Namespace":
        """Raises NotAllowed."""
        await _run("ip", "netns", "add", self._name)
        try:
            await _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._name)
            await _run("ip", "address", "add", f"{self.ours}/30", "dev", self._link)
            await _run("ip", "link", "set", self._link, "up")
            await self._inside("ip", "address", "add", f"{self._theirs}/30", "dev", "eth0")
            await self._inside("ip", "link", "set", "eth0", "up")
            await self._inside("ip", "link", "set", "lo", "up")
            await self._inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
            nat = ("iptables", "-t", "nat", "-A")
            await self._inside(*nat, "POSTROUTING", "-o", "eth0", "-j", "SNAT", "--to-source", self._theirs)
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._remove()

    async def redirect(self, address: str) -> str:
        """From now on a loopback address leads to this one of ours; answers it."""
        port = address.rpartition(":")[2]
        rule = ("OUTPUT", "-p", "tcp", "-d", "127.0.0.1", "--dport", port, "-j", "DNAT", "--to-destination", address)
        await self._inside("iptables", "-t", "nat", "-A", *rule)
        return f"127.0.0.1:{port}"

    async def drop(self, *, towards: bool = True, back: bool = True, share: float = 1.0) -> None:
        """This share of the packets that leave it (towards) and that come (back) is dropped."""
        chance = () if share == 1.0 else ("-m", "statistic", "--mode", "random", "--probability", str(share))
        if towards:
            await self._inside("iptables", "-A", "OUTPUT", "-o", "eth0", *chance, "-j", "DROP")
        if back:
            await self._inside("iptables", "-A", "INPUT", "-i", "eth0", *chance, "-j", "DROP")

    async def reject(self) -> None:
        """Whatever it sends is answered by a reset, of which the other side learns nothing."""
        rule = ("OUTPUT", "-o", "eth0", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
        await self._inside("iptables", "-A", *rule)

    async def heal(self) -> None:
        """Everything passes again."""
        await self._inside("iptables", "-F")

    async def _inside(self, *command: str) -> None:
        await _run(*self.prefix, *command)

    async def _remove(self) -> None:
        for command in (("ip", "link", "delete", self._link), ("ip", "netns", "delete", self._name)):
            await _run(*command, check=False)


async def clear_leftovers() -> None:
    """Remove the namespaces of runs that were killed. Raises NotAllowed where there can be none at all."""
    if os.geteuid():
        raise NotAllowed("it needs root")
    if missing := [program for program in ("ip", "iptables") if shutil.which(program) is None]:
        raise NotAllowed(f"there is no {' and no '.join(missing)}; on Debian: apt-get install iproute2 iptables")
    for namespace in Path("/run/netns").glob(f"{_NAME}-*"):
        pid = namespace.name.split("-")[2]
        if not Path("/proc", pid).exists():
            await _run("ip", "netns", "delete", namespace.name, check=False)


async def _run(*command: str, check: bool = True) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, stdin=asyncio.subprocess.DEVNULL)
    _, said = await process.communicate()
    if check and process.returncode:
        raise NotAllowed(f"`{' '.join(command)}` says: {said.decode(errors='replace').strip()}")
