"""farhand job: list, get, explain, logs, wait, kill, submit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_pb2 import LostDelivery
from farhand.api.scheduler.v1.job_service_pb2 import (
    WAIT_REASON_SLOTS_BUSY,
    ExplainJobResponse,
    GetJobResponse,
    GroupFigures,
    KillJobResponse,
    ListJobsResponse,
    SubmitJobResponse,
    TailLogsResponse,
    WaitJobResponse,
)
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDERR
from farhand.kernel.errors import ShuttingDown
from farhand.runtime.wire import duration
from tests.unit.cli.builders import JOB_ID, SHELL, a_job, an_ended_job, at, lines, the_end
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers


def test_a_list_shows_where_each_job_is_and_stops_at_its_limit(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListJobs"] = ListJobsResponse(jobs=[an_ended_job(), a_job()], next_page_token="more")
    result = farhand("job", "list", "--limit", "3", "--state", "created", "--worker-group", "gpu", "--tenant", "t")
    header, ended, waiting, _ = result.out.splitlines()
    assert header.split() == ["ID", "STATE", "GROUP", "TYPE", "WORKER", "AGE", "WAITED", "RAN"]
    assert ended.split()[:5] == [JOB_ID, "SUCCESS", "gpu", "scripts.shell.Commands", "gpu-1"]
    assert ended.split()[6:] == ["2s", "1.5s"]
    assert waiting.split()[6:] == ["-", "-"]
    first, second = servers.requests["ListJobs"]
    assert (first.tenant, first.worker_group, list(first.states)) == ("t", "gpu", [job_pb2.JOB_STATE_CREATED])
    assert [(request.page_size, request.page_token) for request in (first, second)] == [(3, ""), (1, "more")]


def test_one_job_tells_its_whole_story(farhand: Farhand, servers: ScriptedServers) -> None:
    job = an_ended_job(3, lost=[LostDelivery(fence=1, worker="gpu-0", lose_time=at(4), reason="LEASE_EXPIRED")])
    job.spec.task.properties.update({"commands": ["echo hi"], "attempts": 3})
    servers.on["GetJob"] = GetJobResponse(job=job)
    told = dict(line.split("  ", 1) for line in farhand("job", "get", JOB_ID).out.splitlines() if line[0] != " ")
    told = {name: value.strip() for name, value in told.items()}
    assert told["state"] == "FAILED"
    assert told["exit code"] == "3"
    assert told["submitted"] == "2026-11-23 12:00:00Z"
    assert told["lost"] == "2026-11-23 12:00:04Z by gpu-0: LEASE_EXPIRED (fence 1)"
    properties = [line.split(maxsplit=1) for line in farhand("job", "get", JOB_ID).out.splitlines() if line[0] == " "]
    assert properties == [["attempts", "3"], ["commands", '["echo hi"]']]


def test_an_explanation_says_why_and_where_in_the_queue(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ExplainJob"] = ExplainJobResponse(
        job=a_job(),
        reason=WAIT_REASON_SLOTS_BUSY,
        message="All 4 slots are busy.",
        position=10_001,
        head_wait=duration(61),
        figures=GroupFigures(worker_group="gpu", active_workers=1, slots=4, queued_jobs=9, running_jobs=4),
    )
    told = farhand("job", "explain", JOB_ID).out
    for part in ("CREATED", "All 4 slots are busy.", "SLOTS_BUSY", "over 10000", "1m1s", "1 workers with 4 slots"):
        assert part in told
    assert json.loads(farhand("job", "explain", JOB_ID, "--output", "json").out)["position"] == "10001"


def test_logs_come_as_lines_or_as_one_document_each(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["TailLogs"] = [lines("out"), lines("err", stream=LOG_STREAM_STDERR)]
    plain = farhand("job", "logs", JOB_ID)
    assert (plain.out, plain.err) == ("out\n", "err\n")
    assert not servers.requests["TailLogs"][0].follow
    assert farhand("job", "logs", JOB_ID, "--timestamps").out == "2026-11-23T12:00:03Z out\n"
    documents = [json.loads(line) for line in farhand("job", "logs", JOB_ID, "--output", "json").out.splitlines()]
    assert documents == [
        {"time": "2026-11-23T12:00:03Z", "stream": "STDOUT", "text": "out", "level": "INFO"},
        {"time": "2026-11-23T12:00:03Z", "stream": "STDERR", "text": "err", "level": "ERROR"},
    ]
    assert "---\n" in farhand("job", "logs", JOB_ID, "--output", "yaml").out


def test_followed_logs_go_on_after_a_cut(farhand: Farhand, servers: ScriptedServers) -> None:
    def tail(request: Any, _: Any) -> Iterator[TailLogsResponse]:
        assert request.follow
        if not request.position:
            yield lines("one", position="p1")
            raise ShuttingDown("This scheduler stops.")
        yield lines("two")
        yield the_end(an_ended_job(9))

    servers.on |= {"TailLogs": tail, "GetJob": GetJobResponse(job=a_job())}
    result = farhand("job", "logs", JOB_ID, "--follow")
    assert (result.code, result.out) == (0, "one\ntwo\n")


def test_followed_logs_of_a_scheduler_that_is_not_there_are_an_error(farhand: Farhand, unused_address: str) -> None:
    assert farhand("job", "logs", JOB_ID, "--follow", "--scheduler", unused_address).code == 1


@pytest.mark.parametrize(("own", "code"), [(0, 0), (5, 1)])
def test_wait_ends_with_whether_it_went_well(farhand: Farhand, servers: ScriptedServers, own: int, code: int) -> None:
    answers = iter(
        [
            WaitJobResponse(job=a_job(job_pb2.JOB_STATE_RUNNING)),
            ShuttingDown("This scheduler stops."),
            WaitJobResponse(job=an_ended_job(own)),
        ]
    )
    servers.on |= {"GetJob": GetJobResponse(job=a_job()), "WaitJob": lambda request, context: next(answers)}
    result = farhand("job", "wait", JOB_ID)
    assert result.code == code
    assert result.out.startswith(JOB_ID)


def test_wait_for_a_job_that_has_ended_asks_once(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetJob"] = GetJobResponse(job=an_ended_job())
    assert farhand("job", "wait", JOB_ID).code == 0
    assert "WaitJob" not in servers.requests


def test_wait_gives_up_when_its_time_is_over(farhand: Farhand, servers: ScriptedServers) -> None:
    def wait(_: object, __: object) -> WaitJobResponse:
        servers.ending.wait(0.5)
        return WaitJobResponse(job=a_job(job_pb2.JOB_STATE_RUNNING))

    servers.on |= {"GetJob": GetJobResponse(job=a_job(job_pb2.JOB_STATE_RUNNING)), "WaitJob": wait}
    result = farhand("job", "wait", JOB_ID, "--timeout", "50ms")
    assert (result.code, result.err) == (1, f"farhand: Job {JOB_ID} is still RUNNING; the time to wait is over.\n")


def test_a_kill_says_what_it_came_to(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["KillJob"] = KillJobResponse(job=a_job(job_pb2.JOB_STATE_KILLING))
    assert farhand("job", "kill", JOB_ID, "--grace", "1m").out == f"{JOB_ID} KILLING\n"
    farhand("job", "kill", JOB_ID)
    first, second = servers.requests["KillJob"]
    assert first.grace.seconds == 60
    assert not second.HasField("grace")


SPEC = """
worker_group: gpu
fallback: cancel
max_deliveries: 1
task:
  type: io.kestra.plugin.scripts.shell.Commands
  timeout: 10m
  properties:
    commands: [echo 2026-11-23]
    day: 2026-11-23
"""


def test_a_file_becomes_a_job(farhand: Farhand, servers: ScriptedServers, tmp_path: Path) -> None:
    servers.on["SubmitJob"] = SubmitJobResponse(job=a_job())
    file = tmp_path / "job.yaml"
    file.write_text(SPEC)
    assert farhand("job", "submit", "-f", str(file), "--tenant", "research").out == f"{JOB_ID}\n"
    spec = servers.requests["SubmitJob"][0].spec
    assert (spec.tenant, spec.worker_group, spec.fallback, spec.max_deliveries) == (
        "research",
        "gpu",
        FALLBACK_CANCEL,
        1,
    )
    assert (spec.task.type, spec.task.timeout.seconds) == (SHELL, 600)
    assert dict(spec.task.properties.items())["day"] == "2026-11-23"


def test_what_json_output_prints_can_be_submitted_again(
    farhand: Farhand, servers: ScriptedServers, tmp_path: Path
) -> None:
    servers.on["SubmitJob"] = SubmitJobResponse(job=a_job())
    servers.on["GetJob"] = GetJobResponse(job=a_job())
    spec = json.loads(farhand("job", "get", JOB_ID, "--output", "json").out)["spec"]
    file = tmp_path / "job.json"
    file.write_text(json.dumps(spec))
    assert farhand("job", "submit", "-f", str(file)).code == 0
    assert servers.requests["SubmitJob"][0].spec == a_job().spec


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must hold one job"),
        ("[1]", "must hold one job"),
        ("a: [", "neither YAML nor JSON"),
        ("worker_group: gpu", "there is no task"),
        ("worker_gruop: gpu\ntask: {type: x}", "Did you mean worker_group"),
        ("task: {tpye: x}", "task has no field 'tpye'. Did you mean type"),
        ("task: {type: x, timeout: soon}", "task.timeout: 'soon' is not a duration"),
        ("fallback: explode\ntask: {type: x}", "is not a job"),
        ("task: {type: [x]}", "is not a job"),
        ("task: {type: x, properties: &a [*a]}", "aliases are not taken"),
        ("1: 2\ntask: {type: x}", "no field '1'"),
        ("[" * 5000, "neither YAML nor JSON"),
        ("\x00", "neither YAML nor JSON"),
        ("task: {type: x, properties: {1: 2}}", "is not a job"),
    ],
)
def test_a_file_that_is_no_job_is_wrong_use(farhand: Farhand, tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    result = farhand("job", "submit", "-f", str(file))
    assert result.code == 2
    assert complaint in result.err
    assert "Traceback" not in result.err


def test_a_file_that_is_not_there_is_wrong_use(farhand: Farhand, tmp_path: Path) -> None:
    assert "can't be read" in farhand("job", "submit", "-f", str(tmp_path / "none")).err
