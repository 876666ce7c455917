"""What a client may ask for, row by row."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from farhand.api.scheduler.v1.job_pb2 import JobSpec
from farhand.api.types.v1.task_pb2 import Task
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.errors import FarhandError, InvalidArgument, PayloadTooLarge, PermissionDenied
from farhand.kernel.nesting import MOST_LEVELS
from farhand.kernel.resolution import Fallback
from farhand.runtime.security import LOCAL, Identity, Role
from farhand.scheduler.core.submission import JobRow
from farhand.scheduler.rpc.validation import SpecCheck, check_request_id

SHELL = "io.kestra.plugin.scripts.shell.Commands"


def a_spec(**fields: object) -> JobSpec:
    return JobSpec(**{"task": a_task(), **fields})  # type: ignore[arg-type]


def a_task(properties: dict[str, Any] | None = None, **fields: object) -> Task:
    task = Task(**{"type": SHELL, **fields})  # type: ignore[arg-type]
    task.properties.update(properties or {"commands": ["echo hi"]})
    return task


def check(spec: JobSpec, *, limit: int = 256 << 10, caller: Identity = LOCAL) -> JobRow:
    return SpecCheck(caller, limit, None).row(spec, "specs[3]")


def paths(spec: JobSpec) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        check(spec)
    return [violation.path for violation in caught.value.violations]


def test_a_plain_job_gets_the_defaults() -> None:
    row = check(a_spec())
    assert (row.tenant, row.namespace, row.group_key, row.fallback) == ("main", None, None, None)
    assert (row.task_type, row.max_deliveries) == (SHELL, 3)
    assert Task.FromString(row.task) == a_task()


def test_what_is_said_is_kept() -> None:
    row = check(
        a_spec(tenant="acme", namespace="a.b", worker_group="gpu", fallback="FALLBACK_CANCEL", max_deliveries=100)
    )
    assert (row.tenant, row.namespace, row.group_key) == ("acme", "a.b", "gpu")
    assert (row.fallback, row.max_deliveries) == (Fallback.CANCEL, 100)


@pytest.mark.parametrize("said", ["", "_default"])
def test_the_default_group_may_be_named_in_both_ways(said: str) -> None:
    assert check(a_spec(worker_group=said)).group_key == ""


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (a_spec(task=a_task(type="")), "specs[3].task.type"),
        (JobSpec(), "specs[3].task.type"),
        (a_spec(task=a_task(type="a b")), "specs[3].task.type"),
        (a_spec(task=a_task(type="x" * 201)), "specs[3].task.type"),
        (a_spec(tenant="Main"), "specs[3].tenant"),
        (a_spec(namespace="a..b"), "specs[3].namespace"),
        (a_spec(worker_group="-gpu"), "specs[3].worker_group"),
        (a_spec(worker_group="g\0pu"), "specs[3].worker_group"),
        (a_spec(fallback=17), "specs[3].fallback"),
        (a_spec(max_deliveries=-1), "specs[3].max_deliveries"),
        (a_spec(max_deliveries=101), "specs[3].max_deliveries"),
        (a_spec(task=a_task(timeout=Duration(seconds=-1))), "specs[3].task.timeout"),
        (a_spec(task=a_task(timeout=Duration(nanos=-1))), "specs[3].task.timeout"),
        (a_spec(task=a_task(timeout=Duration(seconds=10**12))), "specs[3].task.timeout"),
        (a_spec(task=a_task({"commands": ["ok", "a\0b"]})), "specs[3].task.properties.commands[1]"),
        (a_spec(task=a_task({"env": {"A": {"B": "\0"}}})), "specs[3].task.properties.env.A.B"),
        (a_spec(task=a_task({"env": {"A\0": "b"}})), "specs[3].task.properties.env.A␀"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(spec: JobSpec, path: str) -> None:
    assert paths(spec) == [path]


def test_all_that_is_wrong_is_said_at_once() -> None:
    spec = a_spec(tenant="Main", namespace=".", worker_group="?", fallback=9, max_deliveries=-2, task=a_task(type=""))
    assert len(paths(spec)) == 6


def test_numbers_hold_zero_bytes_and_are_no_nul_characters() -> None:
    check(a_spec(task=a_task({"retries": 1, "list": [0, {"deep": 2.0}], "none": None})))  # raises nothing


def test_a_row_is_checked_even_where_one_like_it_was_fine() -> None:
    rows = SpecCheck(LOCAL, 1000, None)
    rows.row(a_spec(), "specs[0]")
    with pytest.raises(InvalidArgument):
        rows.row(a_spec(task=a_task({"commands": ["\0"]})), "specs[1]")
    with pytest.raises(PayloadTooLarge):
        rows.row(a_spec(task=a_task({"commands": ["x" * 1000]})), "specs[1]")
    with pytest.raises(InvalidArgument):
        rows.row(a_spec(task=a_task(timeout=Duration(seconds=-1))), "specs[1]")


def test_the_payload_limit_is_exact_and_the_refusal_names_both_sizes() -> None:
    spec = a_spec(task=a_task({"commands": ["x" * 3000]}))
    size = spec.task.ByteSize()
    check(spec, limit=size)
    with pytest.raises(PayloadTooLarge, match=f"{size:,} bytes.*{size - 1:,} are allowed") as caught:
        check(spec, limit=size - 1)
    assert caught.value.reason == "PAYLOAD_TOO_LARGE"
    assert caught.value.violations[-1].path == "specs[3].task"


def test_a_client_may_use_its_own_tenants_alone() -> None:
    client = Identity("ci", Role.CLIENT, tenants=frozenset({"acme"}))
    assert check(a_spec(tenant="acme"), caller=client).tenant == "acme"
    for other in ("main", "", "acme2"):
        with pytest.raises(PermissionDenied, match="acme"):
            check(a_spec(tenant=other), caller=client)


def test_the_traceparent_of_the_call_goes_to_every_row() -> None:
    rows = SpecCheck(LOCAL, 1000, "00-aa-bb-01")
    assert [rows.row(a_spec(), f"specs[{index}]").traceparent for index in range(2)] == ["00-aa-bb-01"] * 2


@pytest.mark.parametrize("request_id", ["x" * 101, "a\0b"])
def test_a_request_id_has_a_rule_too(request_id: str) -> None:
    with pytest.raises(FarhandError) as caught:
        check_request_id(request_id)
    assert caught.value.violations[0].path == "request_id"


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "maps"])
def test_properties_that_no_frame_could_carry_are_refused(wrap: Any) -> None:
    value: Any = "x"
    for _ in range(MOST_LEVELS - 1):
        value = wrap(value)
    deepest = check(a_spec(task=a_task({"commands": value})))
    carried = pb.Assignments(assignments=[pb.Assignment(task=Task.FromString(deepest.task))])
    frame = pb.ConnectResponse(assignments=carried).SerializeToString()
    assert pb.ConnectResponse.FromString(frame).assignments == carried
    assert paths(a_spec(task=a_task({"commands": wrap(value)}))) == ["specs[3].task.properties"]
    too_deep = a_task()
    too_deep.context.update({"inputs": wrap(value)})
    assert paths(a_spec(task=too_deep)) == ["specs[3].task.context"]


def test_a_context_holds_no_nul() -> None:
    task = a_task()
    task.context.update({"inputs": {"name": "a\0b"}})
    assert paths(a_spec(task=task)) == ["specs[3].task.context.inputs.name"]
