"""Schedules with real processes: schedulers die at each place in a tick's way and between, and no tick is lost or
comes twice.

The flow's task writes the tick that it runs for into a file, so that what happened is
judged by what was done.
"""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from farhand.api.registry.v1.flow_service_pb2 import CreateFlowRequest, UpdateFlowRequest
from farhand.runtime.crash_points import POINTS
from tests.e2e.test_crash_points import OF_TRIGGERS
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.trigger_stage import SCHEDULE
from tests.tasks import SHELL

SECOND = timedelta(seconds=1)


def story(file: Path, revision: int = 1) -> str:
    return f"""\
id: ticking
namespace: company
description: revision {revision}
tasks:
  - id: write
    type: {SHELL}
    commands: ["echo '{{{{ trigger.date }}}} {{{{ flow.revision }}}}' >> {file}"]
triggers:
  - id: each-second
    type: {SCHEDULE}
    cron: "* * * * * *"
    timezone: Europe/Berlin
"""


def written(file: Path) -> list[tuple[datetime, int]]:
    """The ticks that ran, by time, and of which revision."""
    lines = file.read_text().splitlines() if file.exists() else []
    return sorted((datetime.fromisoformat(date), int(revision)) for date, revision in map(str.split, lines))


async def until(file: Path, count: int, revision: int = 0) -> list[tuple[datetime, int]]:
    """Once so many ticks have run, the last of them of that revision or a later one."""
    async with asyncio.timeout(60):
        while len(ticks := written(file)) < count or ticks[-1][1] < revision:
            await asyncio.sleep(0.05)
    return ticks


def check(ticks: list[tuple[datetime, int]]) -> None:
    """Each second once, without a gap."""
    dates = [date for date, _ in ticks]
    assert dates == [dates[0] + number * SECOND for number in range(len(dates))]


async def dies(scheduler: Process, point: str) -> None:
    """The scheduler, which has ended, is started again and dies at that point, perhaps before it is ready."""
    await scheduler.ended()
    scheduler.command[scheduler.command.index("--listen") + 1] = scheduler.address
    scheduler.environment["FARHAND_CRASH_POINT"] = point
    await scheduler.launch()
    await scheduler.ended(60)


async def test_whatever_dies_no_tick_is_lost_and_none_comes_twice(mesh: Mesh, tmp_path: Path) -> None:
    file = tmp_path / "ticks"
    await mesh.start(slots=8, lease=60.0)  # no job is to be run again
    scheduler, other = mesh.schedulers[0], await mesh.add_scheduler()
    await mesh.flows.CreateFlow(CreateFlowRequest(source=story(file)))
    await until(file, 2)
    other.kill()
    check(await until(file, 4))  # the one that is left fires on
    scheduler.kill()
    for point in ("triggers locked", "ticks written", "ticks committed"):
        await dies(scheduler, point)
    await mesh.flows.UpdateFlow(UpdateFlowRequest(source=story(file, 2)))
    await dies(scheduler, "triggered flows claimed")
    connection = await asyncpg.connect(mesh.database_url)
    await connection.execute("UPDATE scheduler.triggered_flow SET look_at = now()")  # as if its claim had run out
    await connection.close()
    await dies(scheduler, "triggers taken over")
    del scheduler.environment["FARHAND_CRASH_POINT"]
    await scheduler.restart()
    there = written(file)
    check(await until(file, len(there) + 3, revision=2))


def test_every_point_of_triggers_is_tried() -> None:
    tried = {"triggers locked", "ticks written", "ticks committed", "triggered flows claimed", "triggers taken over"}
    tried.add("evaluations queued")  # test_polling_triggers.py
    assert tried == set(OF_TRIGGERS) and {POINTS[point].split(":")[0] for point in tried} == {"scheduler"}
