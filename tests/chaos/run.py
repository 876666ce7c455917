"""One run: the mesh is set up, clients and nemesis go about it, and the history is judged."""

import asyncio
import random
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from farhand.api.registry.v1 import tenant_pb2, tenant_service_pb2
from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest
from tests.chaos.caller import Caller
from tests.chaos.clients import Client
from tests.chaos.crashes import Point
from tests.chaos.diary import Diary, Runs
from tests.chaos.flow_clients import FlowClient
from tests.chaos.flows import flows, source
from tests.chaos.hand import Ground, Landed
from tests.chaos.namespaces import Namespace, NotAllowed, clear_leftovers
from tests.chaos.nemesis import LANES, Nemesis
from tests.chaos.proxy import Proxy
from tests.chaos.trigger_clients import TriggerClient
from tests.checker.events import Event, RunLine
from tests.checker.findings import Finding
from tests.checker.reading import read
from tests.checker.verdicts import check
from tests.fixtures.mesh import Mesh, postgres

# By group: the tenants that may use it.
GROUPS = {"red": ["main"], "green": ["main", "acme"], "blue": ["acme"]}
TENANTS = ("main", "acme")
QUOTAS = {("green", "acme"): 5}  # by group and tenant: how many may run at once, of the slots that both share
LEASE = 4.0
PATIENCE = 180.0  # seconds that the last jobs may take, once the faults have stopped
# A scheduler stands still for 1.5 leases, perhaps while one transaction of it is open, and twice in a row.
MARGIN = LEASE * 4
AnyClient = Client | FlowClient | TriggerClient


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything."""

    seed: int
    seconds: float
    schedulers: int = 3
    workers_a_group: int = 4
    slots: int = 3
    clients: int = 4  # that submit jobs
    pause: float = 0.4  # seconds between two submits of a client, on average
    flow_clients: int = 3
    flow_pause: float = 0.8  # seconds between two executions of a client, on average
    lanes: int = LANES
    pace: float = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    jobs: int
    executions: int
    fired: int  # executions that triggers started
    task_runs: int
    reruns: int  # runs beyond the first of their jobs
    landed: dict[str, Landed]
    points: dict[str, Point]
    findings: list[Finding]
    errors: list[str]
    unended: list[str]

    @property
    def missing(self) -> list[str]:
        """Kinds of faults that never landed."""
        return [kind for kind, landed in self.landed.items() if not landed.times]


async def play(plan: Plan, folder: Path) -> Outcome:
    """One run, its logs and histories in the folder, which every user must be able to enter (PostgreSQL's own does)."""
    histories = folder / "history"
    histories.mkdir()
    if (task := asyncio.current_task()) is not None:  # as Ctrl-C does: all is taken down in order
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        database = await postgres(folder).start()
        mesh = Mesh(folder, str(database.facts["url"]), stack)
        mesh.processes.append(database)
        namespaces = await _namespaces(stack)
        stack.push_async_callback(mesh.kill_all)  # before these go
        stage = Diary(histories / "stage.jsonl")
        worker_proxies = await _set_up(plan, mesh, histories, stage, namespaces, stack)
        saved = await _save_flows(mesh, stage)
        stage.close()
        client_proxies = [await stack.enter_async_context(Proxy(scheduler.address)) for scheduler in mesh.schedulers]
        addresses = [proxy.address for proxy in client_proxies]

        async def caller(name: str, chance: random.Random) -> Caller:
            diary = Diary(histories / f"{name}.jsonl")
            return await stack.enter_async_context(Caller(addresses, diary, chance))

        clients: list[AnyClient] = []
        for number in range(1, plan.clients + 1):
            name, chance = f"client-{number}", random.Random(f"{plan.seed} {number}")
            clients.append(Client(name, await caller(name, chance), GROUPS, chance, plan.pause))
        for number in range(1, plan.flow_clients + 1):
            name, chance = f"flow-client-{number}", random.Random(f"{plan.seed} flow {number}")
            told = await caller(name, chance)
            clients.append(FlowClient(name, told, chance, flows=saved, pause=plan.flow_pause))
        for tenant in TENANTS:
            name, chance = f"triggers-of-{tenant}", random.Random(f"{plan.seed} triggers {tenant}")
            triggers = TriggerClient(
                name,
                await caller(name, chance),
                chance,
                registry=mesh.flows,
                tenant=tenant,
                groups=_groups_of(tenant),
                folder=folder / "arrivals" / tenant,
            )
            await triggers.begin()
            clients.append(triggers)
        runs = Runs([histories / f"{worker}.jsonl" for worker in mesh.workers])
        ground = Ground(mesh, database, worker_proxies, client_proxies, namespaces, LEASE)
        nemesis = Nemesis(ground, seed=plan.seed, running=runs.now, pace=plan.pace)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.submit_until(stop))
            await nemesis.run(plan.seconds, plan.lanes)
            stop.set()
        await nemesis.mend()
        await _see_the_end(clients)
    events = read(histories)
    return _judge(events, clients, nemesis)


async def _namespaces(stack: AsyncExitStack) -> dict[str, Namespace]:
    """One for the first worker of each group, by the worker; none where that is not allowed."""
    try:
        await clear_leftovers()
        workers = [f"{group}-1" for group in GROUPS]
        return {name: await stack.enter_async_context(Namespace(number)) for number, name in enumerate(workers, 1)}
    except NotAllowed as error:
        print(f"no network namespaces: {error}. Workers are cut off by proxies alone.", file=sys.stderr)
        return {}


async def _set_up(
    plan: Plan,
    mesh: Mesh,
    histories: Path,
    stage: Diary,
    namespaces: dict[str, Namespace],
    stack: AsyncExitStack,
) -> dict[str, list[Proxy]]:
    """All processes; answers each worker's proxies."""
    await mesh.add_registry()
    tenant = tenant_service_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(id="acme"))
    await mesh.tenants.CreateTenant(tenant)
    for key, tenants in GROUPS.items():
        quotas = {tenant: most for (group, tenant), most in QUOTAS.items() if group == key}
        await mesh.set_group(key, lease=LEASE, allowed_tenants=tenants, max_running=quotas)
        for whose, most in quotas.items():
            stage.write("quota", group=key, tenant=whose, max_running=most)
    for _ in range(plan.schedulers):
        await mesh.add_scheduler()
    proxies: dict[str, list[Proxy]] = {}
    for key, tenants in GROUPS.items():
        for number in range(1, plan.workers_a_group + 1):
            name = f"{key}-{number}"
            stage.write("worker", worker=name, group=key, tenants=tenants)
            space = namespaces.get(name)
            host = space.ours if space is not None else "127.0.0.1"
            proxies[name] = [await stack.enter_async_context(Proxy(each.address, host)) for each in mesh.schedulers]
            addresses = [proxy.address for proxy in proxies[name]]
            if space is not None:
                addresses = [await space.redirect(address) for address in addresses]
            await mesh.add_worker(
                key,
                "--drain-timeout",
                "3s",
                slots=plan.slots,
                name=name,
                scheduler=",".join(addresses),
                prefix=space.prefix if space is not None else (),
                CHAOS_FILE=str(histories / f"{name}.jsonl"),
                CHAOS_WORKER=name,
                CHAOS_GROUP=key,
            )
    return proxies


async def _save_flows(mesh: Mesh, stage: Diary) -> dict[str, list[str]]:
    """All flows of each tenant; answers their ids, by tenant."""
    saved = {}
    for tenant in TENANTS:
        trees = flows(*_groups_of(tenant))
        for id, tree in trees.items():
            await mesh.flows.CreateFlow(CreateFlowRequest(tenant=tenant, source=source(id, tree)))
            stage.write("flow", tenant=tenant, flow=id, **tree)
        saved[tenant] = list(trees)
    return saved


def _groups_of(tenant: str) -> tuple[str, str]:
    first, second = (key for key, tenants in GROUPS.items() if tenant in tenants)
    return first, second


async def _see_the_end(clients: list[AnyClient]) -> None:
    """Until every acknowledged job has ended, or nobody has the patience."""
    print(
        f"faults stop; {sum(len(client.open) for client in clients)} jobs and executions have not been seen to end",
        file=sys.stderr,
    )
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.see_the_end())
    except TimeoutError:
        return
    print(f"all have ended, {time.monotonic() - began:.1f} s later", file=sys.stderr)
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.look_again())


def _judge(events: list[Event], clients: list[AnyClient], nemesis: Nemesis) -> Outcome:
    starts = [event for event in events if isinstance(event, RunLine) and event.what == "start"]
    acknowledged = {kind: set[str]() for kind in (Client, FlowClient, TriggerClient)}
    for client in clients:
        acknowledged[type(client)].update(client.acknowledged)
    return Outcome(
        jobs=len(acknowledged[Client]),
        executions=len(acknowledged[FlowClient]),
        fired=len(acknowledged[TriggerClient]),
        task_runs=len({(start.execution, start.task, start.attempt) for start in starts if start.execution}),
        reruns=len(starts) - len({start.job for start in starts}),
        landed=nemesis.landed,
        points=nemesis.points,
        findings=check(events, margin=MARGIN),
        errors=[f"{client.name}: {error}" for client in clients for error in client.caller.errors],
        unended=[id for client in clients for id in sorted(client.open)],
    )
