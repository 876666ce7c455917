"""Connections of workers and clients are cut, slowed and reset; packets of workers in namespaces are lost."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.chaos.hand import Fault, Ground, Hand
from tests.chaos.namespaces import Namespace
from tests.chaos.proxy import Proxy


class NetworkFaults:
    """See the module."""

    def __init__(self, ground: Ground, hand: Hand) -> None:
        self._ground = ground
        self._hand = hand
        self.kinds: dict[str, Fault] = {
            "a worker is cut off for longer than its lease": self._worker_cut_long,
            "a worker is cut off for a moment": self._worker_cut_short,
            "a worker is not heard any more": self._worker_muted,
            "a worker hears nothing any more": self._worker_deafened,
            "a worker's connections are reset": self._worker_reset,
            "a worker's connections are slow": self._worker_slow,
            "clients are cut off from a scheduler": self._clients_cut,
            "clients' connections to a scheduler are reset": self._clients_reset,
        }
        if ground.namespaces:
            self.kinds |= {
                "a worker's packets are dropped one way": self._packets_dropped_one_way,
                "a worker's packets are dropped both ways": self._packets_dropped,
                "a worker's packets get lost at random": self._packets_lost,
                "a worker's packets are rejected by a reset": self._packets_rejected,
            }

    async def heal(self) -> None:
        """Everything passes again."""
        for proxies in (self._ground.client_proxies, *self._ground.worker_proxies.values()):
            for proxy in proxies:
                proxy.heal()
        for namespace in self._ground.namespaces.values():
            await namespace.heal()

    async def _worker_network(self, kind: str, seconds: float, change: Callable[[Proxy], None]) -> None:
        name = self._ground.worker(self._hand)
        proxies = self._ground.worker_proxies[name]
        async with self._hand.hits(kind, name, lands=lambda: any(proxy.connections for proxy in proxies)) as hit:
            if hit:
                for proxy in proxies:
                    change(proxy)
                await asyncio.sleep(seconds)
                for proxy in proxies:
                    proxy.heal()

    async def _worker_cut_long(self, kind: str) -> None:
        await self._worker_network(kind, self._ground.lease * 1.5, lambda proxy: proxy.cut())

    async def _worker_cut_short(self, kind: str) -> None:
        await self._worker_network(
            kind, self._hand.chance.uniform(0.1, self._ground.lease / 2), lambda proxy: proxy.cut()
        )

    async def _worker_muted(self, kind: str) -> None:
        await self._worker_network(kind, self._ground.lease * 1.3, lambda proxy: proxy.cut(back=False))

    async def _worker_deafened(self, kind: str) -> None:
        await self._worker_network(kind, self._ground.lease * 1.3, lambda proxy: proxy.cut(towards=False))

    async def _worker_reset(self, kind: str) -> None:
        await self._worker_network(kind, 0.0, lambda proxy: proxy.reset())

    async def _worker_slow(self, kind: str) -> None:
        delay = self._hand.chance.uniform(0.05, 0.4)
        await self._worker_network(kind, self._ground.lease, lambda proxy: proxy.slow(delay))

    # ── packets ──

    async def _packets(self, kind: str, change: Callable[[Namespace], Awaitable[None]]) -> None:
        name = self._hand.one(sorted(self._ground.namespaces))
        proxies = self._ground.worker_proxies[name]
        async with self._hand.hits(kind, name, lands=lambda: any(proxy.connections for proxy in proxies)) as hit:
            if hit:
                await change(self._ground.namespaces[name])
                await asyncio.sleep(self._ground.lease * self._hand.chance.choice((0.3, 1.3)))
                await self._ground.namespaces[name].heal()

    async def _packets_dropped_one_way(self, kind: str) -> None:
        towards = self._hand.chance.random() < 0.5
        await self._packets(kind, lambda namespace: namespace.drop(towards=towards, back=not towards))

    async def _packets_dropped(self, kind: str) -> None:
        await self._packets(kind, lambda namespace: namespace.drop())

    async def _packets_lost(self, kind: str) -> None:
        share = self._hand.chance.uniform(0.05, 0.5)
        await self._packets(kind, lambda namespace: namespace.drop(share=share))

    async def _packets_rejected(self, kind: str) -> None:
        await self._packets(kind, lambda namespace: namespace.reject())

    # ── clients ──

    async def _clients_cut(self, kind: str) -> None:
        proxy = self._hand.chance.choice(self._ground.client_proxies)
        async with self._hand.hits(kind, f"clients at {proxy.address}", lands=lambda: proxy.connections > 0) as hit:
            if hit:
                proxy.cut(towards=self._hand.chance.random() < 0.5)
                await asyncio.sleep(self._ground.lease)
                proxy.heal()

    async def _clients_reset(self, kind: str) -> None:
        proxy = self._hand.chance.choice(self._ground.client_proxies)
        async with self._hand.hits(kind, f"clients at {proxy.address}", lands=lambda: proxy.connections > 0) as hit:
            if hit:
                proxy.reset()
