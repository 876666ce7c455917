"""farhand flow: what is sent for which words, and what is shown of the answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from farhand.api.registry.v1.flow_pb2 import (
    FLOW_PROBLEM_SEVERITY_ERROR,
    FLOW_PROBLEM_SEVERITY_WARNING,
    Flow,
    FlowProblem,
    TaskResolution,
    TriggerResolution,
)
from farhand.api.registry.v1.flow_service_pb2 import (
    CreateFlowResponse,
    DeleteFlowResponse,
    ExplainFlowResponse,
    GetFlowResponse,
    GetFlowSchemaResponse,
    ListFlowRevisionsResponse,
    ListFlowsResponse,
    UpdateFlowResponse,
    ValidateFlowResponse,
)
from farhand.api.types.v1.fallback_pb2 import FALLBACK_FAIL
from farhand.kernel.errors import NotFound
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

SOURCE = "id: nightly\nnamespace: company.team\ntasks: []\n"
WRONG_KEY = FlowProblem(
    line=7,
    column=12,
    path="tasks[0].workerGroup.key",
    message="there is no worker group 'gpuu'; did you mean 'gpu'?",
    severity=FLOW_PROBLEM_SEVERITY_ERROR,
)
A_WARNING = FlowProblem(line=2, message="triggers do not fire yet", severity=FLOW_PROBLEM_SEVERITY_WARNING)


def a_flow(revision: int = 3, source: str = SOURCE) -> Flow:
    return Flow(
        tenant="main", namespace="company.team", id="nightly", revision=revision, source=source, labels={"a": "b"}
    )


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "nightly.yaml"
    path.write_text(SOURCE)
    return str(path)


def test_validate_says_every_problem_with_its_place_and_fails(
    farhand: Farhand, servers: ScriptedServers, file: str
) -> None:
    servers.on["ValidateFlow"] = ValidateFlowResponse(problems=[A_WARNING, WRONG_KEY])
    result = farhand("flow", "validate", file, "--tenant", "acme")
    assert result.code == 1
    assert f"{file}:2: warning: triggers do not fire yet\n" in result.err
    assert f"{file}:7:12: error: {WRONG_KEY.message} (tasks[0].workerGroup.key)\n" in result.err
    assert servers.requests["ValidateFlow"][0].source == SOURCE
    assert servers.requests["ValidateFlow"][0].tenant == "acme"
    [document] = json.loads(farhand("flow", "validate", file, "--output", "json").out)
    assert (document["valid"], [each["line"] for each in document["problems"]]) == (False, [2, 7])


def test_a_flow_with_warnings_alone_is_fine(farhand: Farhand, servers: ScriptedServers, file: str) -> None:
    servers.on["ValidateFlow"] = ValidateFlowResponse(problems=[A_WARNING])
    assert farhand("flow", "validate", file).code == 0


def test_a_wrong_flow_is_not_sent_to_be_saved(farhand: Farhand, servers: ScriptedServers, file: str) -> None:
    servers.on["ValidateFlow"] = ValidateFlowResponse(problems=[WRONG_KEY])
    for verb in ("create", "update"):
        result = farhand("flow", verb, file)
        assert result.code == 1
        assert "7:12: error" in result.err
        assert "was not saved: it has 1 error" in result.err
    assert servers.requests.keys() == {"ValidateFlow"}


def test_create_and_update_print_what_was_saved(farhand: Farhand, servers: ScriptedServers, file: str) -> None:
    servers.on |= {
        "ValidateFlow": ValidateFlowResponse(),
        "CreateFlow": CreateFlowResponse(flow=a_flow(1)),
        "UpdateFlow": UpdateFlowResponse(flow=a_flow(2)),
    }
    assert farhand("flow", "create", file, "--request-id", "r1").out == "company.team/nightly revision 1\n"
    assert farhand("flow", "update", file, "--etag", "e1").out == "company.team/nightly revision 2\n"
    assert servers.requests["CreateFlow"][0].request_id == "r1"
    assert servers.requests["UpdateFlow"][0].etag == "e1"


def test_a_file_that_is_not_there_or_no_text_is_wrong_use(
    farhand: Farhand, servers: ScriptedServers, tmp_path: Path
) -> None:
    result = farhand("flow", "create", str(tmp_path / "none.yaml"))
    assert (result.code, "can't be read: No such file" in result.err) == (2, True)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"id: \xff")
    result = farhand("flow", "create", str(binary))
    assert (result.code, "no UTF-8 text: byte 4 is 0xff" in result.err) == (2, True)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    result = farhand("flow", "create", str(large))
    assert (result.code, "more than 1,048,576 bytes" in result.err) == (2, True)


def test_lists_and_single_flows(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on |= {
        "ListFlows": ListFlowsResponse(flows=[a_flow()]),
        "GetFlow": GetFlowResponse(flow=a_flow()),
        "ListFlowRevisions": ListFlowRevisionsResponse(flows=[a_flow(3), a_flow(2)]),
        "DeleteFlow": DeleteFlowResponse(),
    }
    assert "company.team  nightly  3" in farhand("flow", "list", "--namespace", "company").out
    assert servers.requests["ListFlows"][0].namespace == "company"
    assert farhand("flow", "get", "company.team/nightly", "--source").out == SOURCE
    assert "revision     3" in farhand("flow", "get", "company.team/nightly", "--revision", "3").out
    assert servers.requests["GetFlow"][1].revision == 3
    assert farhand("flow", "get", "company.team/nightly", "--revisions").out.splitlines()[1:] == [
        "3         -      -   -",
        "2         -      -   -",
    ]
    assert farhand("flow", "delete", "company.team/nightly").code == 0
    assert (servers.requests["DeleteFlow"][0].namespace, servers.requests["DeleteFlow"][0].id) == (
        "company.team",
        "nightly",
    )


@pytest.mark.parametrize("word", ["nightly", "company.team.nightly", "/nightly", "company.team/"])
def test_a_name_that_is_none_says_how_it_is_written(farhand: Farhand, servers: ScriptedServers, word: str) -> None:
    result = farhand("flow", "get", word)
    assert result.code == 2
    assert "write NAMESPACE/ID" in result.err
    assert ("Did you mean company.team/nightly?" in result.err) == (word == "company.team.nightly")


def test_explain_shows_group_and_fallback_with_the_levels_that_said_so(
    farhand: Farhand, servers: ScriptedServers, file: str
) -> None:
    tasks = [
        TaskResolution(
            task_id="train",
            task_type="io.kestra.plugin.scripts.shell.Commands",
            worker_group="gpu",
            worker_group_level="task",
            fallback=FALLBACK_FAIL,
            fallback_level="namespace 'company'",
            timeout="PT5M",
            timeout_level="flow",
        ),
        TaskResolution(task_id="both", task_type="io.kestra.plugin.core.flow.Parallel"),
    ]
    triggers = [
        TriggerResolution(trigger_id="arrives", worker_group="edge", worker_group_level="trigger"),
        TriggerResolution(trigger_id="nightly", trigger_type="io.kestra.plugin.core.trigger.Schedule"),
    ]
    explained = ExplainFlowResponse(tasks=tasks, triggers=triggers)
    servers.on |= {"ValidateFlow": ValidateFlowResponse(), "ExplainFlow": explained}
    lines = farhand("flow", "explain", file).out.splitlines()
    assert lines[1].split()[:2] == ["train", "gpu"]
    for part in ("task", "FAIL", "namespace 'company'", "PT5M (flow)"):
        assert part in lines[1]
    assert "the scheduler" in lines[2]
    assert [part.strip() for part in lines[3].split("  ") if part][:3] == ["arrives (trigger)", "edge", "trigger"]
    assert lines[4].startswith("nightly (trigger)") and "the scheduler" in lines[4]
    assert servers.requests["ExplainFlow"][0].source == SOURCE
    farhand("flow", "explain", "company.team/nightly", "--revision", "2")
    named = servers.requests["ExplainFlow"][1].name
    assert (named.namespace, named.id, named.revision) == ("company.team", "nightly", 2)


def test_the_schema_is_json(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetFlowSchema"] = GetFlowSchemaResponse(schema='{"type":"object"}')
    assert json.loads(farhand("flow", "schema").out) == {"type": "object"}


def test_diff_compares_a_file_with_what_is_saved_and_revisions_with_each_other(
    farhand: Farhand, servers: ScriptedServers, file: str
) -> None:
    def get(request: Any, _: Any) -> GetFlowResponse:
        return GetFlowResponse(flow=a_flow(request.revision or 3, f"{SOURCE}# {request.revision or 3}\n"))

    servers.on["GetFlow"] = get
    assert "-# 3" in farhand("flow", "diff", file).out.splitlines()
    changed = farhand("flow", "diff", "company.team/nightly").out.splitlines()
    assert changed[:2] == ["--- company.team/nightly revision 2", "+++ company.team/nightly revision 3"]
    assert "-# 2" in changed and "+# 3" in changed
    assert "-# 1" in farhand("flow", "diff", "company.team/nightly", "--from", "1", "--to", "3").out.splitlines()


def test_diff_of_a_flow_that_is_not_saved_shows_all_of_it(
    farhand: Farhand, servers: ScriptedServers, file: str
) -> None:
    servers.on["GetFlow"] = NotFound("There is no flow 'nightly'.")
    result = farhand("flow", "diff", file)
    assert result.code == 0
    assert "+id: nightly" in result.out.splitlines()
