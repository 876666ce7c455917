"""Triggers on real PostgreSQL: taken over from flows, fired once by any number of replicas, over crashes too."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from farhand.scheduler.core.declared import RemovedTriggeredFlow, TriggeredFlow
from farhand.scheduler.loops import triggered_flows
from farhand.scheduler.loops import triggers as loop
from farhand.scheduler.store.triggers import lock_triggered_flow
from tests.fixtures.scheduler_with_flows import NAMESPACE, a_flow, noop
from tests.fixtures.trigger_stage import SCHEDULE, TriggerStage, scheduled

README = Path(__file__).parents[3].joinpath("README.md").read_text()
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


# ── what flows say ──


async def test_a_saved_schedule_waits_for_its_next_time(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("0 3 * * *", "timezone: Europe/Berlin"))
    row = await triggers.row()
    assert row["next_at"] > await triggers.now() and row["next_at"].astimezone(UTC).minute == 0
    assert (row["type"], row["revision"], row["disabled_by"], row["last_at"]) == (SCHEDULE, 1, None, None)
    assert not await triggers.replica().once()
    assert await triggers.ticks() == []


async def test_state_stays_over_a_revision_that_keeps_the_trigger(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("0 3 * * *"))
    late = await triggers.passed(30 * SECOND)
    before = await triggers.row()
    await triggers.save(scheduled("0 3 * * *", head="description: other\n"))
    after = await triggers.row()
    assert (after["key"], after["next_at"], after["revision"]) == (before["key"], late, 2)
    assert await triggers.replica().once()
    assert await triggers.ticks() == [late]
    assert await triggers.connection.fetchval("SELECT flow_revision FROM scheduler.execution") == 2


async def test_another_cron_begins_anew_and_never_fires_a_tick_again(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("0 3 * * *"))
    ahead = await triggers.now() + 50 * HOUR  # the database's clock was set back since it fired
    await triggers.connection.execute("UPDATE scheduler.trigger SET last_at = $1", ahead)
    await triggers.save(scheduled("0 4 * * *"))
    row = await triggers.row()
    assert row["next_at"] > ahead and row["next_at"].astimezone(UTC).hour == 4


async def test_what_a_flow_lacks_is_gone_and_another_type_is_another_trigger(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("* * * * *", trigger="a"))
    first = await triggers.row("a")
    other = "triggers:\n  - {id: a, type: io.kestra.plugin.core.http.Trigger, uri: 'http://localhost'}\n"
    await triggers.save(a_flow(noop("only"), more=other))
    assert (await triggers.row("a"))["key"] != first["key"]
    await triggers.save(scheduled("* * * * *", trigger="b"))
    assert [row["trigger_id"] for row in await triggers.connection.fetch("SELECT * FROM scheduler.trigger")] == ["b"]
    await triggers.tell(RemovedTriggeredFlow("main", NAMESPACE, "flow"))
    for table in ("trigger", "trigger_due", "triggered_flow"):
        assert await triggers.connection.fetchval(f"SELECT count(*) FROM scheduler.{table}") == 0


async def test_a_flow_may_disable_its_trigger_and_an_operators_word_outlives_revisions(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("* * * * *", "disabled: true"))
    assert ((await triggers.row())["disabled_by"], (await triggers.row())["next_at"]) == ("FLOW", None)
    await triggers.save(scheduled("* * * * *"))
    assert (await triggers.row())["disabled_by"] is None and (await triggers.row())["next_at"]
    await triggers.connection.execute("UPDATE scheduler.trigger SET disabled_by = 'OPERATOR', next_at = NULL")
    await triggers.save(scheduled("* * * * *", head="description: x\n"))
    assert ((await triggers.row())["disabled_by"], (await triggers.row())["next_at"]) == ("OPERATOR", None)


async def test_while_the_registry_is_away_the_revision_before_fires(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("0 3 * * *"))
    triggers.away = True
    await triggers.save(scheduled("0 4 * * *"))
    assert (await triggers.row())["revision"] == 1
    late = await triggers.passed(SECOND)
    await triggers.replica().once()
    assert await triggers.ticks() == [late]
    triggers.away = False
    await triggers.connection.execute("UPDATE scheduler.triggered_flow SET look_at = now()")
    await triggers.taker().once()
    assert (await triggers.row())["revision"] == 2


async def test_a_revision_that_is_older_than_the_copy_changes_nothing(
    triggers: TriggerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await triggers.save(scheduled("0 3 * * *"), take=False)

    async def lock(connection: asyncpg.Connection, flow: TriggeredFlow) -> datetime | None:
        monkeypatch.undo()
        await triggers.save(scheduled("0 4 * * *"), take=False)
        return await lock_triggered_flow(connection, flow)

    monkeypatch.setattr(triggered_flows, "lock_triggered_flow", lock)
    await triggers.taker().once()
    assert await triggers.connection.fetchval("SELECT count(*) FROM scheduler.trigger") == 0
    await triggers.taker().once()
    assert (await triggers.row())["revision"] == 2


async def test_of_many_replicas_that_take_flows_over_each_trigger_is_made_once(triggers: TriggerStage) -> None:
    for number in range(40):
        await triggers.save(scheduled("* * * * *", id=f"f{number}"), take=False)
    await asyncio.gather(*(triggers.taker().once() for _ in range(5)))
    assert await triggers.connection.fetchval("SELECT count(*) FROM scheduler.trigger") == 40


# ── ticks ──


async def test_a_tick_is_an_execution_with_its_inputs_and_its_times(triggers: TriggerStage) -> None:
    head = "inputs: [{id: when, type: STRING}, {id: n, type: INT, defaults: 3}]\nlabels: {a: b}\n"
    inputs = "timezone: Europe/Berlin\ninputs:\n  when: \"{{ trigger.date | date('HH:mm') }} {{ flow.id }}\"\n"
    await triggers.save(scheduled("* * * * * *", inputs, head=head))
    late = await triggers.passed(SECOND)
    await triggers.replica().once()
    row = await triggers.connection.fetchrow("SELECT * FROM scheduler.execution ORDER BY tick_at LIMIT 1")
    told = json.loads(row["trigger"])
    assert datetime.fromisoformat(told["date"]) == late and told["date"].endswith(("+01:00", "+02:00"))
    assert datetime.fromisoformat(told["next"]) - late == late - datetime.fromisoformat(told["previous"]) == SECOND
    assert json.loads(row["inputs"]) == {"when": f"{told['date'][11:16]} flow", "n": 3}
    trigger = await triggers.row()
    assert (row["trigger_key"], row["tick_at"], row["backfill"]) == (trigger["key"], late, 0)
    assert trigger["last_at"] >= late and trigger["next_at"] > trigger["last_at"] and trigger["result"] == "FIRED"
    assert trigger["execution_key"] == triggers.started[-1]


async def test_refused_inputs_are_told_and_the_next_tick_comes(triggers: TriggerStage) -> None:
    head = "inputs: [{id: n, type: INT}]\n"
    await triggers.save(scheduled("0 * * * *", "inputs: {n: '{{ trigger.date }}'}", head=head))
    await triggers.passed(SECOND)
    assert await triggers.replica().once()
    row = await triggers.row()
    assert await triggers.ticks() == [] and row["next_at"] > await triggers.now()
    assert row["result"] == "FAILED" and "inputs.n must be a whole number" in row["message"]


async def test_replicas_that_race_for_ticks_fire_each_once(triggers: TriggerStage) -> None:
    flows = [f"f{number}" for number in range(20)]
    for flow in flows:
        await triggers.save(scheduled("* * * * * *", id=flow))
    first = {flow: await triggers.passed(30 * SECOND, flow=flow) for flow in flows}
    replicas = [triggers.replica() for _ in range(4)]
    for _ in range(5):
        await asyncio.gather(*(replica.once() for replica in replicas))
    for flow in flows:
        ticks = await triggers.ticks(flow)
        assert ticks == [first[flow] + number * SECOND for number in range(len(ticks))]
        assert len(ticks) >= 30 and ticks[-1] == (await triggers.row(flow=flow))["last_at"]
    assert len(triggers.started) == len(set(triggers.started)) == sum([len(await triggers.ticks(f)) for f in flows])


async def test_a_look_that_dies_before_its_commit_leaves_the_tick_to_the_next(
    triggers: TriggerStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await triggers.save(scheduled("0 3 * * *"))
    late = await triggers.passed(SECOND)

    def die(point: str) -> None:
        if point == "ticks written":
            raise OSError("the connection is lost")

    monkeypatch.setattr(loop, "reach", die)
    with pytest.raises(Exception, match="database"):
        await triggers.replica().once()
    assert await triggers.ticks() == [] and len(await triggers.due()) == 1
    monkeypatch.undo()
    await triggers.replica().once()
    assert await triggers.ticks() == [late]
    assert not await triggers.replica().once()


async def test_a_tick_that_has_an_execution_can_not_get_a_second(triggers: TriggerStage) -> None:
    await triggers.save(scheduled("0 3 * * *"))
    await triggers.save(scheduled("0 3 * * *", id="sound"))
    late = await triggers.passed(SECOND)
    await triggers.replica().once()
    await triggers.connection.execute("UPDATE scheduler.trigger SET next_at = $1, last_at = NULL", late)
    await triggers.connection.execute(
        "INSERT INTO scheduler.trigger_due (trigger_key) SELECT key FROM scheduler.trigger"
    )
    await triggers.replica().once()
    assert await triggers.ticks() == [late] and await triggers.ticks("sound") == [late]
    assert await triggers.due() == []  # put off


async def test_what_says_that_a_trigger_is_due_goes_with_it(triggers: TriggerStage) -> None:
    await triggers.connection.execute("INSERT INTO scheduler.trigger_due (trigger_key) VALUES (77)")
    assert not await triggers.replica().once()
    assert await triggers.due() == []


async def test_the_schedule_in_the_readme_fires(triggers: TriggerStage) -> None:
    [example] = [part for part in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if SCHEDULE in part]
    await triggers.save(example)
    await triggers.passed(SECOND, id="every-night", flow="nightly")
    await triggers.replica().once()
    assert len(await triggers.ticks("nightly")) == 1
    told = json.loads(await triggers.connection.fetchval("SELECT trigger FROM scheduler.execution"))
    inputs = json.loads(await triggers.connection.fetchval("SELECT inputs FROM scheduler.execution"))
    assert inputs == {"date": told["date"][:10]} and told["next"].endswith(("T02:30:00+01:00", "T02:30:00+02:00"))
