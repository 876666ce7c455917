"""farhand trigger: what is sent for which words, and what is shown of the answers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.scheduler.v1 import trigger_pb2 as pb
from farhand.api.scheduler.v1 import trigger_service_pb2 as api
from farhand.runtime.wire import timestamp
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

NAME = "company.team/nightly/every-night"
THREE = datetime(2026, 11, 25, 3, tzinfo=UTC)


def a_trigger(**fields: Any) -> pb.Trigger:
    known: dict[str, Any] = {
        "tenant": "main",
        "namespace": "company.team",
        "flow_id": "nightly",
        "trigger_id": "every-night",
        "type": "io.kestra.plugin.core.trigger.Schedule",
        "flow_revision": 4,
        "state": pb.TRIGGER_STATE_ENABLED,
        "next_time": timestamp(THREE),
    }
    return pb.Trigger(**(known | fields))


def test_a_list_shows_next_last_result_and_holder(farhand: Farhand, servers: ScriptedServers) -> None:
    fired = a_trigger(last_time=timestamp(datetime(2026, 11, 24, 3, tzinfo=UTC)), last_result=pb.TRIGGER_RESULT_FIRED)
    held = a_trigger(trigger_id="watch", type="io.kestra.plugin.core.http.Trigger", job_id="j1", worker="w-7")
    waits = a_trigger(trigger_id="wait", type="mine", job_id="j2", state=pb.TRIGGER_STATE_STOPPED)
    servers.on["ListTriggers"] = api.ListTriggersResponse(triggers=[fired, held, waits])
    result = farhand("trigger", "list", "--flow", "company.team/nightly")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["TRIGGER", "TYPE", "STATE", "NEXT", "LAST", "RESULT", "HOLDER", "BACKFILL"]
    assert lines[1] == [
        *(NAME, "trigger.Schedule", "ENABLED", "2026-11-25", "03:00:00Z", "2026-11-24", "03:00:00Z", "FIRED", "-", "-"),
    ]
    assert lines[2][-2] == "w-7"
    assert "job j2 in the queue" in result.out.splitlines()[3]
    [request] = servers.requests["ListTriggers"]
    assert (request.namespace, request.flow_id) == ("company.team", "nightly")


def test_get_shows_all_of_it_and_json_is_the_message(farhand: Farhand, servers: ScriptedServers) -> None:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 11, tzinfo=UTC)
    backfill = pb.Backfill(
        start_time=timestamp(start),
        end_time=timestamp(end),
        next_time=timestamp(datetime(2026, 11, 6, tzinfo=UTC)),
        state=pb.BACKFILL_STATE_PAUSED,
        fired=5,
    )
    trigger = a_trigger(backfill=backfill, last_result=pb.TRIGGER_RESULT_FAILED, message="inputs.n must be a number")
    servers.on["GetTrigger"] = api.GetTriggerResponse(trigger=trigger)
    shown = farhand("trigger", "get", NAME).out
    for part in (NAME, "PAUSED, 5 started, 50 %", "FAILED", "inputs.n must be a number", "2026-11-25 03:00:00Z"):
        assert part in shown
    [request] = servers.requests["GetTrigger"]
    assert MessageToDict(request.name) == {
        "namespace": "company.team",
        "flowId": "nightly",
        "triggerId": "every-night",
    }
    assert json.loads(farhand("trigger", "get", NAME, "--output", "json").out)["backfill"]["fired"] == 5


@pytest.mark.parametrize("verb", ["enable", "disable", "unlock", "evaluate"])
def test_each_order_is_its_call(farhand: Farhand, servers: ScriptedServers, verb: str) -> None:
    method = f"{verb.capitalize()}Trigger"
    servers.on[method] = getattr(api, f"{method}Response")(trigger=a_trigger())
    result = farhand("trigger", verb, NAME)
    assert (result.code, result.out) == (0, f"{NAME} ENABLED, next 2026-11-25 03:00:00Z\n")
    assert servers.requests[method][0].name.trigger_id == "every-night"


def test_a_backfill_has_a_window_inputs_and_labels(farhand: Farhand, servers: ScriptedServers) -> None:
    backfill = pb.Backfill(state=pb.BACKFILL_STATE_RUNNING)
    servers.on["CreateBackfill"] = api.CreateBackfillResponse(trigger=a_trigger(backfill=backfill))
    result = farhand(
        *("trigger", "backfill", NAME, "--start", "2026-11-01T00:00Z", "--end", "2026-11-02T00:00Z"),
        *("--input", "full=true", "--label", "why=repair"),
    )
    assert (result.code, result.out) == (0, f"{NAME}: backfill RUNNING, 0 started\n")
    [request] = servers.requests["CreateBackfill"]
    assert request.start_time == timestamp(datetime(2026, 11, 1, tzinfo=UTC))
    assert request.end_time == timestamp(datetime(2026, 11, 2, tzinfo=UTC))
    assert (MessageToDict(request.inputs), dict(request.labels)) == ({"full": "true"}, {"why": "repair"})


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_a_backfill_is_paused_goes_on_and_is_ended(farhand: Farhand, servers: ScriptedServers, verb: str) -> None:
    method = f"{verb.capitalize()}Backfill"
    servers.on[method] = getattr(api, f"{method}Response")(trigger=a_trigger(backfill=pb.Backfill(fired=3)))
    assert farhand("trigger", "backfill", NAME, f"--{verb}").code == 0
    assert servers.requests[method][0].name.flow_id == "nightly"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("get", "company.team/nightly"), "names no trigger: write NAMESPACE/FLOW/TRIGGER"),
        (("backfill", NAME), "Give one of --start, --pause, --resume and --cancel."),
        (("backfill", NAME, "--pause", "--cancel"), "Give one of --start"),
        (("backfill", NAME, "--cancel", "--input", "a=1"), "belong to --start"),
        (("backfill", NAME, "--start", "soon"), "--start: 'soon' is no time"),
        (("list", "--flow", "a/b", "--namespace", "a"), "Give --flow or --namespace, not both"),
    ],
)
def test_wrong_words(farhand: Farhand, servers: ScriptedServers, words: tuple[str, ...], said: str) -> None:
    result = farhand("trigger", *words)
    assert (result.code, said in result.err) == (2, True), result.err
    assert not servers.requests
