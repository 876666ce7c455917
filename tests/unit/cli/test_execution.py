"""farhand execution: what is sent for which words, and what is shown of the answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from farhand.api.registry.v1.flow_pb2 import Flow
from farhand.api.registry.v1.flow_service_pb2 import GetFlowResponse
from farhand.api.scheduler.v1 import execution_pb2 as pb
from farhand.api.scheduler.v1.execution_service_pb2 import (
    CreateExecutionResponse,
    GetExecutionResponse,
    KillExecutionResponse,
    ListExecutionsResponse,
    ReadFileResponse,
    ReplayExecutionResponse,
    RestartExecutionResponse,
    TailExecutionLogsResponse,
    WatchExecutionResponse,
)
from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobResponse
from farhand.api.types.v1.fallback_pb2 import FALLBACK_WAIT
from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_STDOUT, LogRecord
from farhand.cli import execution_follow
from farhand.cli.execution_follow import merged
from farhand.cli.execution_tree import tree
from farhand.cli.execution_view import tree_rows
from farhand.kernel.errors import ShuttingDown
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

ID = "x3k8w0q2zr9m1t"


def a_run(task_id: str, state: str = "SUCCESS", **fields: Any) -> pb.TaskRun:
    """A task run of a leaf, unless job_id="" says otherwise."""
    known: dict[str, Any] = {"job_id": f"job-{task_id}", "attempt": 1, **fields}
    run = pb.TaskRun(task_id=task_id, state=pb.TaskRunState.Value(f"TASK_RUN_STATE_{state}"), **known)
    run.id = f"t-{task_id}-{run.iteration}-{run.attempt}"
    if run.job_id:
        run.fallback = FALLBACK_WAIT
    return run


def an_execution(state: str, *runs: pb.TaskRun, **fields: Any) -> pb.Execution:
    return pb.Execution(
        id=ID,
        tenant="main",
        namespace="company.team",
        flow_id="nightly",
        flow_revision=4,
        state=pb.ExecutionState.Value(f"EXECUTION_STATE_{state}"),
        task_runs=runs,
        **fields,
    )


def test_create_sends_inputs_labels_and_revision_and_prints_the_id(
    farhand: Farhand, servers: ScriptedServers, tmp_path: Path
) -> None:
    servers.on["CreateExecution"] = CreateExecutionResponse(execution=an_execution("CREATED"))
    more = tmp_path / "inputs.yaml"
    more.write_text("size: 3\ndate: 2026-11-23\n")
    result = farhand(
        *("execution", "create", "company.team/nightly", "--revision", "4", "--inputs", str(more)),
        *("--input", "date=2026-11-24", "-i", "formula=a=b", "--label", "by=me", "--request-id", "r"),
    )
    assert (result.code, result.out) == (0, f"{ID}\n")
    [request] = servers.requests["CreateExecution"]
    assert (request.namespace, request.flow_id, request.flow_revision) == ("company.team", "nightly", 4)
    assert MessageToDict(request.inputs) == {"size": 3.0, "date": "2026-11-24", "formula": "a=b"}
    assert (dict(request.labels), request.request_id) == ({"by": "me"}, "r")


def test_inputs_come_from_files_and_variables_and_are_not_printed(
    farhand: Farhand, servers: ScriptedServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.on["CreateExecution"] = CreateExecutionResponse(execution=an_execution("CREATED"))
    (tmp_path / "key.pem").write_text("n33dle\none\n")
    monkeypatch.setenv("TOKEN", "n33dle two")
    result = farhand(
        *("execution", "create", "company.team/nightly", "--input-env", "token=TOKEN"),
        *("--input", f"key=@{tmp_path / 'key.pem'}", "--input", "who=@@ada", "--input", "empty="),
    )
    assert (result.code, result.out, result.err) == (0, f"{ID}\n", "")
    [request] = servers.requests["CreateExecution"]
    assert MessageToDict(request.inputs) == {
        "key": "n33dle\none",
        "token": "n33dle two",
        "who": "@ada",
        "empty": "",
    }


@pytest.mark.parametrize(
    ("flow_inputs", "asked"),
    [
        ([{"id": "token", "type": "SECRET"}, {"id": "who", "type": "STRING"}], ["token"]),
        ([{"id": "token", "type": "SECRET", "required": False}], []),
        ([{"id": "given", "type": "SECRET"}], []),
    ],
)
def test_secrets_that_are_missing_are_asked_for_on_a_terminal(
    farhand: Farhand,
    servers: ScriptedServers,
    monkeypatch: pytest.MonkeyPatch,
    flow_inputs: list[dict[str, Any]],
    asked: list[str],
) -> None:
    servers.on["CreateExecution"] = CreateExecutionResponse(execution=an_execution("CREATED"))
    servers.on["GetFlow"] = GetFlowResponse(flow=Flow(definition=json.dumps({"inputs": flow_inputs})))
    prompts: list[str] = []
    monkeypatch.setattr("farhand.cli.inputs.on_a_terminal", lambda: True)

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return "n33dle"

    monkeypatch.setattr("getpass.getpass", answer)
    result = farhand("execution", "create", "company.team/nightly", "--input", "given=x", "--revision", "4")
    assert (result.code, result.out, result.err) == (0, f"{ID}\n", "")
    assert prompts == [f"{name} (it is not shown): " for name in asked]
    [request] = servers.requests["CreateExecution"]
    assert MessageToDict(request.inputs) == {"given": "x", **dict.fromkeys(asked, "n33dle")}
    assert servers.requests["GetFlow"][0].revision == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--input", "date"), "--input: 'date' is not NAME=VALUE"),
        (("--label", "=x"), "--label: '=' is not NAME=VALUE"),
        (("--input", "a=1", "--input", "a=2"), "--input: 'a' is given twice"),
        (("--inputs", "nowhere.json"), "nowhere.json can't be read"),
        (("--input", "a=@nowhere"), "--input: the file 'nowhere' for 'a' can't be read: No such file"),
        (("--input-env", "a=NO_SUCH_VARIABLE"), "--input-env: there is no variable 'NO_SUCH_VARIABLE'"),
        (("--input-env", "a=HOME", "--input", "a=1"), "--input-env: 'a' is given by --input, too"),
    ],
)
def test_words_that_are_no_inputs_are_wrong_use(
    farhand: Farhand, servers: ScriptedServers, words: tuple[str, ...], said: str
) -> None:
    result = farhand("execution", "create", "company.team/nightly", *words)
    assert (result.code, said in result.err) == (2, True)
    assert not servers.requests


def test_restart_and_replay_send_what_was_said_and_print_the_new_id(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["RestartExecution"] = RestartExecutionResponse(execution=an_execution("CREATED"))
    servers.on["ReplayExecution"] = ReplayExecutionResponse(execution=an_execution("CREATED"))
    assert farhand("execution", "restart", "xold", "--request-id", "r").out == f"{ID}\n"
    [restart] = servers.requests["RestartExecution"]
    assert (restart.id, restart.request_id) == ("xold", "r")
    words = ("--from", "report", "--revision", "5", "--input", "date=today")
    assert farhand("execution", "replay", "xold", *words).out == f"{ID}\n"
    [replay] = servers.requests["ReplayExecution"]
    assert (replay.id, replay.from_task_id, replay.flow_revision) == ("xold", "report", 5)
    assert MessageToDict(replay.inputs) == {"date": "today"} and replay.request_id


def test_a_restart_that_is_followed_exits_by_the_end_of_the_new_one(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on |= {
        "RestartExecution": RestartExecutionResponse(execution=an_execution("CREATED")),
        "GetExecution": GetExecutionResponse(execution=an_execution("CREATED")),
        "WatchExecution": [
            WatchExecutionResponse(execution=an_execution("FAILED", a_run("a", taken_from="xold"), message="Again."))
        ],
        "TailExecutionLogs": [some_lines("a", last=True)],
    }
    result = farhand("execution", "restart", "xold", "--follow")
    assert result.code == 1 and f"execution {ID} ended FAILED: Again." in result.err
    assert "farhand: a SUCCESS in group _default, taken over from xold\n" in result.err


def test_what_came_from_another_execution_is_shown_both_ways(farhand: Farhand, servers: ScriptedServers) -> None:
    execution = an_execution(
        "FAILED", a_run("first", taken_from="xold"), restart_of="xold", restarts=["xc", "xb", "xa"], replays=["xr"]
    )
    execution.trigger_id = "nightly"
    servers.on["GetExecution"] = GetExecutionResponse(execution=execution)
    lines = [line.split(maxsplit=2) for line in farhand("execution", "get", ID).out.splitlines()]
    assert ["restart", "of", "xold"] in lines and ["restarted", "as", "xc, xb, xa"] in lines
    assert ["replayed", "as", "xr"] in lines and any("taken over from xold" in line[-1] for line in lines if line)
    servers.on["ListExecutions"] = ListExecutionsResponse(executions=[execution])
    listed = farhand("execution", "list").out
    assert "started by trigger nightly; restart of xold; restarted as xc and 2 more; replayed as xr" in listed


def test_a_list_says_why_in_a_few_words(farhand: Farhand, servers: ScriptedServers) -> None:
    told = "Its flow allows 1 execution at a time.\nMore of it."
    found = [an_execution("FAILED", message=told, replay_of="xold"), an_execution("FAILED", message="a" * 101)]
    servers.on["ListExecutions"] = ListExecutionsResponse(executions=found)
    _, first, second = farhand("execution", "list").out.splitlines()
    assert first.endswith("  Its flow allows 1 execution at a time.; replay of xold")
    assert second.endswith(f"  {'a' * 99}…")


def test_get_shows_inputs_by_name_and_whole_numbers_as_such(farhand: Farhand, servers: ScriptedServers) -> None:
    execution = an_execution("SUCCESS")
    execution.inputs.update({"rates": [1, 0.5], "a": {"n": 3}})
    servers.on["GetExecution"] = GetExecutionResponse(execution=execution)
    lines = farhand("execution", "get", ID).out.splitlines()
    shown = [line.split(maxsplit=2)[1:] for line in lines if line.startswith("input")]
    assert shown == [["a", '{"n": 3}'], ["rates", "[1, 0.5]"]]


def test_list_sends_every_filter(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListExecutions"] = ListExecutionsResponse(executions=[an_execution("FAILED", labels={"by": "me"})])
    result = farhand(
        *("execution", "list", "--flow", "company.team/nightly", "--state", "failed", "--label", "by=me"),
        *("--since", "24h", "--until", "2026-11-24T08:00Z"),
    )
    assert result.out.splitlines()[1].split() == [ID, "FAILED", "company.team/nightly", "4", "by=me", "-", "-"]
    [request] = servers.requests["ListExecutions"]
    assert (request.namespace, request.flow_id) == ("company.team", "nightly")
    assert list(request.states) == [pb.EXECUTION_STATE_FAILED]
    assert dict(request.labels) == {"by": "me"}
    assert request.created_before.ToJsonString() == "2026-11-24T08:00:00Z"
    assert request.HasField("created_after")
    assert farhand("execution", "list", "--since", "yesterday").code == 2
    assert farhand("execution", "list", "--flow", "a/b", "--namespace", "a").code == 2


def test_get_shows_the_tree_of_tasks_with_what_each_needs_told(farhand: Farhand, servers: ScriptedServers) -> None:
    runs = (
        a_run("fetch", "FAILED", attempt=1, message="exit code 1"),
        a_run(
            "fetch",
            attempt=2,
            worker="vm-1",
            create_time=Timestamp(seconds=10),
            start_time=Timestamp(seconds=12),
            end_time=Timestamp(seconds=15),
        ),
        a_run("both", "RUNNING", job_id=""),
        a_run("train", "CREATED", parent_task_id="both", worker_group="gpu"),
    )
    servers.on["GetExecution"] = GetExecutionResponse(execution=an_execution("RUNNING", *runs))
    servers.on["ExplainJob"] = ExplainJobResponse(message="Its worker group 'gpu' has no active worker.")
    result = farhand("execution", "get", ID)
    shown = [line for line in result.out.splitlines() if line.startswith(("fetch", "both", "  train"))]
    assert [line.split()[:3] for line in shown] == [
        ["fetch", "SUCCESS", "_default"],
        ["both", "RUNNING", "-"],
        ["train", "CREATED", "gpu"],
    ]
    assert "vm-1" in shown[0] and " 2s" in shown[0] and " 3s" in shown[0] and "attempt 2" in shown[0]
    assert shown[2].endswith("Its worker group 'gpu' has no active worker.")
    assert [request.id for request in servers.requests["ExplainJob"]] == ["job-train"]
    assert len(json.loads(farhand("execution", "get", ID, "--output", "json").out)["task_runs"]) == 4


def test_outputs_that_found_no_room_are_said_to_be_had_from_their_job(
    farhand: Farhand, servers: ScriptedServers
) -> None:
    execution = an_execution("SUCCESS", a_run("first"), a_run("late", outputs_left_out=True))
    servers.on["GetExecution"] = GetExecutionResponse(execution=execution)
    first, late = farhand("execution", "get", ID).out.splitlines()[-2:]
    assert "`farhand job get job-late --output json`" in late and "job get" not in first
    [_, run] = json.loads(farhand("execution", "get", ID, "--output", "json").out)["task_runs"]
    assert run["outputs_left_out"] is True and run["job_id"] == "job-late"
    told = "files of late may be missing here; `farhand job get job-late --output json` shows all outputs of late"
    assert f"farhand: {told}\n" in farhand("execution", "files", ID).err


def test_no_task_run_is_left_out_of_the_tree() -> None:
    runs = [a_run("a"), a_run("b", parent_task_id="gone"), a_run("c", parent_task_id="a")]
    assert [(line.depth, line.run.task_id) for line in tree(an_execution("RUNNING", *runs))] == [
        (0, "a"),
        (1, "c"),
        (0, "b"),
    ]


def a_loop(rounds: int, *states: str, state: str = "RUNNING") -> list[pb.TaskRun]:
    """A loop of one task, and the states of the rounds that have begun."""
    inside = [a_run("train", each, parent_task_id="each", iteration=str(n)) for n, each in enumerate(states)]
    return [a_run("each", state, job_id="", rounds=rounds), *inside]


def told(*runs: pb.TaskRun) -> list[tuple[str, str, str]]:
    """Task, state and note of each line of the tree."""
    return [(row[0], row[1], row[-1]) for row in tree_rows(an_execution("RUNNING", *runs))]


def test_few_rounds_are_all_shown_round_after_round() -> None:
    runs = [
        *a_loop(3, "SUCCESS", "SUCCESS"),
        a_run("test", "FAILED", parent_task_id="each", iteration="0", message="no space"),
        a_run("test", "RUNNING", parent_task_id="each", iteration="1"),
    ]
    assert told(*runs) == [
        ("each", "RUNNING", "1 of 3 rounds, 1 failed"),
        ("  train[0]", "SUCCESS", ""),
        ("  test[0]", "FAILED", "no space"),
        ("  train[1]", "SUCCESS", ""),
        ("  test[1]", "RUNNING", ""),
    ]


def test_of_many_rounds_those_are_shown_that_failed_and_then_those_that_run() -> None:
    states = ["SUCCESS"] * 1000
    states[3], states[700], states[998], states[999] = "WARNING", "FAILED", "RUNNING", "CREATED"
    assert told(*a_loop(2000, *states)) == [
        ("each", "RUNNING", "998 of 2000 rounds, 1 failed, 1 warning"),
        ("  train[3]", "WARNING", ""),
        ("  train[700]", "FAILED", ""),
        ("  train[997]", "SUCCESS", ""),
        ("  train[998]", "RUNNING", ""),
        ("  train[999]", "CREATED", ""),
        ("  … 995 more rounds", "", ""),
    ]


def test_loops_in_loops_stand_in_their_round() -> None:
    runs = [
        a_run("outer", "RUNNING", job_id="", rounds=2),
        a_run("each", job_id="", parent_task_id="outer", iteration="0", rounds=1),
        a_run("each", "RUNNING", job_id="", parent_task_id="outer", iteration="1", rounds=1),
        a_run("choose", job_id="", parent_task_id="each", iteration="0/0", branch="cases.gpu"),
        a_run("leaf", parent_task_id="choose", iteration="0/0"),
        a_run("choose", "RUNNING", job_id="", parent_task_id="each", iteration="1/0", branch="defaults"),
        a_run("leaf", "RUNNING", parent_task_id="choose", iteration="1/0"),
    ]
    assert told(*runs) == [
        ("outer", "RUNNING", "1 of 2 rounds"),
        ("  each[0]", "SUCCESS", "1 round"),
        ("    choose[0/0]", "SUCCESS", "gpu"),
        ("      leaf[0/0]", "SUCCESS", ""),
        ("  each[1]", "RUNNING", "0 of 1 round"),
        ("    choose[1/0]", "RUNNING", "defaults"),
        ("      leaf[1/0]", "RUNNING", ""),
    ]


def test_a_long_loop_is_followed_by_its_tenths_and_by_what_goes_wrong(
    farhand: Farhand, servers: ScriptedServers
) -> None:
    def at(ended: int) -> WatchExecutionResponse:
        states = ["SUCCESS"] * ended + ["RUNNING"]
        states[2:3] = ["FAILED"] * (ended > 2)
        return WatchExecutionResponse(execution=an_execution("RUNNING", *a_loop(40, *states)))

    over = an_execution("FAILED", *a_loop(40, *["SUCCESS"] * 2, "FAILED", *["SUCCESS"] * 5, state="FAILED"))
    servers.on |= {
        "GetExecution": GetExecutionResponse(execution=an_execution("RUNNING")),
        "WatchExecution": [at(0), at(1), at(2), at(4), at(5), WatchExecutionResponse(execution=over)],
        "TailExecutionLogs": [some_lines("a", last=True)],
    }
    lines = [line for line in farhand("execution", "follow", ID).err.splitlines() if "each" in line or "train" in line]
    assert lines == [
        "farhand: each RUNNING: 0 of 40 rounds",
        "farhand: each RUNNING: 4 of 40 rounds, 1 failed",
        "farhand: train[2] FAILED in group _default",
        "farhand: each FAILED: 8 of 40 rounds, 1 failed",
    ]


def test_kill_prints_the_state(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["KillExecution"] = KillExecutionResponse(execution=an_execution("KILLING"))
    assert farhand("execution", "kill", ID).out == f"{ID} KILLING\n"


def some_lines(task: str, *texts: str, fence: int = 1, last: bool = False) -> TailExecutionLogsResponse:
    return TailExecutionLogsResponse(
        task_run_id=f"t-{task}",
        task_id=task,
        attempt=1,
        fence=fence,
        records=[LogRecord(text=text, stream=LOG_STREAM_STDOUT) for text in texts],
        execution=an_execution("SUCCESS") if last else None,
    )


def test_logs_have_their_task_before_them_unless_one_was_asked_for(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["TailExecutionLogs"] = [some_lines("a", "one"), some_lines("b", "two")]
    assert farhand("execution", "logs", ID).out == "a | one\nb | two\n"
    documents = [json.loads(line) for line in farhand("execution", "logs", ID, "--output", "json").out.splitlines()]
    assert [(each["task_id"], each["text"]) for each in documents] == [("a", "one"), ("b", "two")]
    second = some_lines("a", "three")
    second.iteration, second.attempt = "2/0", 2
    servers.on["TailExecutionLogs"] = [second]
    assert farhand("execution", "logs", ID).out == farhand("execution", "logs", ID, "--task", "a").out
    assert farhand("execution", "logs", ID).out == "a[2/0]#2 | three\n"
    servers.on["TailExecutionLogs"] = [some_lines("a", "one")]
    assert farhand("execution", "logs", ID, "--task", "a").out == "one\n"


@pytest.mark.parametrize(("state", "code"), [("SUCCESS", 0), ("WARNING", 0), ("FAILED", 1), ("KILLED", 1)])
def test_follow_exits_by_the_final_state(farhand: Farhand, servers: ScriptedServers, state: str, code: int) -> None:
    servers.on |= {
        "CreateExecution": CreateExecutionResponse(execution=an_execution("CREATED")),
        "GetExecution": GetExecutionResponse(execution=an_execution("CREATED")),
        "WatchExecution": [
            WatchExecutionResponse(execution=an_execution("RUNNING", a_run("a", "CREATED", worker_group="gpu"))),
            WatchExecutionResponse(execution=an_execution(state, a_run("a", state), message="because")),
        ],
        "TailExecutionLogs": [some_lines("a", "hello"), some_lines("a", last=True)],
    }
    result = farhand("execution", "create", "company.team/nightly", "--follow")
    assert (result.code, result.out) == (code, "a | hello\n")
    assert f"farhand: execution {ID} of company.team/nightly revision 4\n" in result.err
    assert "farhand: a CREATED in group gpu\n" in result.err
    assert f"ended {state}: because" in result.err
    document = json.loads(
        farhand("execution", "follow", ID, "--output", "json").out.partition("{\n")[2].join(("{", ""))
    )
    assert document["state"] == f"EXECUTION_STATE_{state}"


def test_after_a_cut_every_line_is_printed_once(farhand: Farhand, servers: ScriptedServers) -> None:
    watched = tailed = 0

    def watch(_: Any, __: Any) -> Iterator[WatchExecutionResponse]:
        nonlocal watched
        watched += 1
        yield WatchExecutionResponse(execution=an_execution("RUNNING", a_run("a", "RUNNING")))
        if watched == 1:
            raise ShuttingDown("This scheduler stops.")
        yield WatchExecutionResponse(execution=an_execution("SUCCESS", a_run("a")))

    def tail(_: Any, __: Any) -> Iterator[TailExecutionLogsResponse]:
        nonlocal tailed
        tailed += 1
        yield some_lines("a", "one", "two")
        if tailed == 1:
            raise ShuttingDown("This scheduler stops.")
        yield some_lines("a", "three")
        yield some_lines("a", "four", fence=2, last=True)

    servers.on |= {
        "GetExecution": GetExecutionResponse(execution=an_execution("RUNNING")),
        "WatchExecution": watch,
        "TailExecutionLogs": tail,
    }
    result = farhand("execution", "follow", ID)
    assert (result.code, result.out) == (0, "a | one\na | two\na | three\na | four\n")
    assert "The execution goes on; trying again." in result.err


def test_who_waits_says_why(farhand: Farhand, servers: ScriptedServers, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    explained, calls = threading.Event(), 0

    def explain(_: Any, __: Any) -> ExplainJobResponse:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first answer is shown by now
            explained.set()
        return ExplainJobResponse(message="Its worker group 'gpu' has no active worker.")

    def watch(_: Any, __: Any) -> Iterator[WatchExecutionResponse]:
        yield WatchExecutionResponse(execution=an_execution("RUNNING", a_run("a", "CREATED", worker_group="gpu")))
        assert explained.wait(30)
        yield WatchExecutionResponse(execution=an_execution("RUNNING", a_run("b", "RUNNING")))
        yield WatchExecutionResponse(execution=an_execution("KILLED", a_run("a", "KILLED")))

    monkeypatch.setattr(execution_follow, "EXPLAIN_EVERY", 0.01)
    servers.on |= {
        "GetExecution": GetExecutionResponse(execution=an_execution("RUNNING")),
        "WatchExecution": watch,
        "ExplainJob": explain,
        "TailExecutionLogs": [some_lines("a", last=True)],
    }
    result = farhand("execution", "follow", ID)
    assert "farhand: a CREATED in group gpu: Its worker group 'gpu' has no active worker.\n" in result.err


def test_what_did_not_change_is_kept() -> None:
    before = an_execution("RUNNING", a_run("a"), a_run("b", "RUNNING"))
    after = merged(before, an_execution("RUNNING", a_run("b"), a_run("c", "CREATED")))
    states = [(run.task_id, pb.TaskRunState.Name(run.state)) for run in after.task_runs]
    assert states == [
        ("a", "TASK_RUN_STATE_SUCCESS"),
        ("b", "TASK_RUN_STATE_SUCCESS"),
        ("c", "TASK_RUN_STATE_CREATED"),
    ]


def test_files_are_listed_and_read(farhand: Farhand, servers: ScriptedServers) -> None:
    run, other = a_run("make"), a_run("copy")
    run.outputs.update({"outputFiles": {"data.csv": "farhand:///1", "more.csv": "farhand:///2"}})
    other.outputs.update({"outputFiles": {"data.csv": "farhand:///3"}})
    servers.on |= {
        "GetExecution": GetExecutionResponse(execution=an_execution("SUCCESS", run, other)),
        "ReadFile": [ReadFileResponse(size=6, chunk=b"a,b"), ReadFileResponse(chunk=b"\n1,")],
    }
    assert "make  1        more.csv  farhand:///2" in farhand("execution", "files", ID).out
    assert farhand("execution", "files", ID, "--get", "more.csv").out == "a,b\n1,"
    assert servers.requests["ReadFile"][0].uri == "farhand:///2"
    farhand("execution", "files", ID, "--get", "copy/data.csv")
    assert servers.requests["ReadFile"][1].uri == "farhand:///3"
    assert "Name the task, too" in farhand("execution", "files", ID, "--get", "data.csv").err
    assert farhand("execution", "files", ID, "--get", "none").code == 1
