"""tenant, namespace, worker-group and worker: what is asked of the servers, and what is shown."""

import json
from typing import Any

import pytest
import yaml

from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import (
    DeleteNamespaceResponse,
    ListNamespacesResponse,
    UpdateNamespaceResponse,
)
from farhand.api.registry.v1.roll_service_pb2 import ListWorkersResponse
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import (
    CreateTenantResponse,
    GetTenantResponse,
    ListTenantsResponse,
    UpdateTenantResponse,
)
from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING, TenantQuota
from farhand.api.registry.v1.worker_group_service_pb2 import (
    CreateWorkerGroupResponse,
    DeleteWorkerGroupResponse,
    GetWorkerGroupResponse,
    ListWorkerGroupsResponse,
    UpdateWorkerGroupResponse,
)
from farhand.api.registry.v1.worker_pb2 import WORKER_STATE_CONNECTED, WORKER_STATE_DRAINING, WORKER_STATE_LOST, Worker
from farhand.api.scheduler.v1.group_service_pb2 import ListGroupFiguresResponse
from farhand.api.scheduler.v1.job_service_pb2 import GroupFigures, TenantFigures
from farhand.api.scheduler.v1.worker_control_service_pb2 import DrainWorkerResponse
from farhand.api.types.v1.fallback_pb2 import FALLBACK_FAIL
from farhand.kernel.errors import Unavailable
from farhand.runtime.wire import duration
from tests.unit.cli.builders import a_group, at
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

RESEARCH = Tenant(id="research", default_worker_group="", default_fallback=FALLBACK_FAIL, etag="e7", create_time=at(5))


OF_TENANTS = [
    TenantFigures(tenant="main", running_jobs=2, max_running=4, queued_jobs=7, max_queued=9),
    TenantFigures(tenant="research", running_jobs=1, max_running=2, queued_jobs=3),
]


def figures(**fields: Any) -> ListGroupFiguresResponse:
    values: dict[str, Any] = {"worker_group": "gpu", "worker_group_uid": "gpu-uid", "active_workers": 2, "slots": 8}
    return ListGroupFiguresResponse(figures=[GroupFigures(**(values | fields))])


def test_a_list_asks_for_every_page(farhand: Farhand, servers: ScriptedServers) -> None:
    def pages(request: Any, _: Any) -> ListTenantsResponse:
        if not request.page_token:
            return ListTenantsResponse(tenants=[Tenant(id="main")], next_page_token="more")
        return ListTenantsResponse(tenants=[RESEARCH])

    servers.on["ListTenants"] = pages
    result = farhand("tenant", "list")
    assert result.out == (
        "ID        DEFAULT GROUP  DEFAULT FALLBACK  DESCRIPTION\n"
        "main      -              -\n"
        "research  _default       FAIL\n"
    )
    assert [request.page_token for request in servers.requests["ListTenants"]] == ["", "more"]


def test_json_has_every_field_by_its_name_in_the_proto(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetTenant"] = GetTenantResponse(tenant=RESEARCH)
    assert json.loads(farhand("tenant", "get", "research", "--output", "json").out) == {
        "id": "research",
        "description": "",
        "default_worker_group": "",
        "default_fallback": "FALLBACK_FAIL",
        "etag": "e7",
        "create_time": "2026-11-23T12:00:05Z",
        "plugin_defaults": [],
    }


def test_yaml_says_the_same_as_json(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListTenants"] = ListTenantsResponse(tenants=[RESEARCH, Tenant(id="main", description="ä")])
    as_yaml = yaml.safe_load(farhand("tenant", "list", "--output", "yaml").out)
    assert as_yaml == json.loads(farhand("tenant", "list", "--output", "json").out)


def test_an_empty_list_is_an_empty_array_or_a_word_on_stderr(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListTenants"] = ListTenantsResponse()
    assert farhand("tenant", "list", "--output", "json").out == "[]\n"
    table = farhand("tenant", "list")
    assert (table.code, table.out, table.err) == (0, "", "There are no tenants.\n")


def test_a_creation_carries_a_request_id_of_its_own(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["CreateTenant"] = CreateTenantResponse(tenant=RESEARCH)
    farhand("tenant", "create", "research", "--default-worker-group", "_default", "--default-fallback", "fail")
    farhand("tenant", "create", "research", "--request-id", "mine")
    first, second = servers.requests["CreateTenant"]
    assert first.tenant == Tenant(id="research", default_worker_group="", default_fallback=FALLBACK_FAIL)
    assert len(first.request_id) == 32
    assert second.request_id == "mine"


def test_an_update_names_what_was_given_and_nothing_else(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["UpdateTenant"] = UpdateTenantResponse(tenant=RESEARCH)
    farhand("tenant", "update", "research", "--description", "", "--etag", "e6")
    [request] = servers.requests["UpdateTenant"]
    assert request.tenant == Tenant(id="research", etag="e6")
    assert list(request.update_mask.paths) == ["description"]


def test_a_declared_default_can_be_taken_back(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["UpdateNamespace"] = UpdateNamespaceResponse(namespace=Namespace(name="a.b"))
    flags = ("--no-default-worker-group", "--no-default-fallback", "--description", "x")
    assert farhand("namespace", "update", "a.b", "--tenant", "research", *flags).code == 0
    [request] = servers.requests["UpdateNamespace"]
    assert request.namespace == Namespace(tenant="research", name="a.b", description="x")
    assert list(request.update_mask.paths) == ["description", "default_worker_group", "default_fallback"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "update", "research"),
        ("namespace", "update", "a", "--default-worker-group", "gpu", "--no-default-worker-group"),
        ("worker-group", "update", "gpu"),
        ("worker-group", "update", "gpu", "--allow-tenant", "a", "--allow-all-tenants"),
        ("worker-group", "update", "gpu", "--quota", "running=1", "--no-quotas"),
        ("worker-group", "create", "gpu", "--lease", "soon"),
        ("tenant", "create", "x", "--default-fallback", "explode"),
        ("worker", "list", "--state", "asleep"),
    ],
)
def test_wrong_use_is_told_without_asking_a_server(farhand: Farhand, arguments: tuple[str, ...]) -> None:
    result = farhand(*arguments)
    assert result.code == 2
    assert result.err.startswith("farhand: ")
    assert "reached" not in result.err


def test_namespaces_are_those_of_the_chosen_tenant(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListNamespaces"] = ListNamespacesResponse(namespaces=[Namespace(tenant="research", name="a.b")])
    servers.on["DeleteNamespace"] = DeleteNamespaceResponse()
    assert "a.b" in farhand("namespace", "list", "--tenant", "research").out
    assert farhand("namespace", "delete", "a.b", "--tenant", "research").err == "Namespace a.b is deleted.\n"
    assert servers.requests["ListNamespaces"][0].tenant == servers.requests["DeleteNamespace"][0].tenant == "research"


def test_a_group_list_joins_what_is_declared_and_what_runs(farhand: Farhand, servers: ScriptedServers) -> None:
    quotas = [TenantQuota(tenant="*", max_running=2), TenantQuota(tenant="main", max_running=4, max_queued=9)]
    groups = [a_group("", description=""), a_group(allowed_tenants=["main", "research"], paused=True, quotas=quotas)]
    servers.on["ListWorkerGroups"] = ListWorkerGroupsResponse(worker_groups=groups)
    servers.on["ListGroupFigures"] = figures(
        queued_jobs=7, running_jobs=3, oldest_wait=duration(95), tenants=OF_TENANTS
    )
    assert farhand("worker-group", "list").out == (
        "KEY       DESCRIPTION  ALLOWED TENANTS  STATE   WORKERS  SLOTS  QUEUED  RUNNING  OLDEST WAIT  QUOTAS\n"
        "_default  -            all              ACTIVE  -        -      -       -        -            -\n"
        "gpu       Machines     main, research   PAUSED  2        8      7       3        1m35s        "
        "* at most 2 running; main 2/4 running, 7/9 queued\n"
    )


def test_a_group_shows_what_each_tenant_has_of_its_quota(farhand: Farhand, servers: ScriptedServers) -> None:
    quotas = [
        TenantQuota(tenant="*", max_running=2),
        TenantQuota(tenant="free"),
        TenantQuota(tenant="main", max_queued=9),
    ]
    servers.on["GetWorkerGroup"] = GetWorkerGroupResponse(worker_group=a_group(quotas=quotas))
    servers.on["ListGroupFigures"] = figures(tenants=OF_TENANTS)
    out = farhand("worker-group", "get", "gpu").out
    assert [line.strip() for line in out.partition("quotas")[2].partition("state")[0].strip().splitlines()] == [
        "*: at most 2 running each",
        "research: 1/2 running",
        "free: as much as it likes",
        "main: 7/9 queued",
    ]
    document = json.loads(farhand("worker-group", "get", "gpu", "--output", "json").out)
    assert document["quotas"][0] == {"tenant": "*", "max_running": 2}
    assert document["figures"]["tenants"][1]["running_jobs"] == "1"


def test_quotas_are_declared_as_they_were_typed(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["CreateWorkerGroup"] = CreateWorkerGroupResponse(worker_group=a_group())
    servers.on["UpdateWorkerGroup"] = UpdateWorkerGroupResponse(worker_group=a_group())
    lines = ("--quota", "tenant=acme,running=4,queued=100", "--quota", "queued = 0")
    farhand("worker-group", "create", "gpu", *lines)
    farhand("worker-group", "update", "gpu", *lines)
    farhand("worker-group", "update", "gpu", "--no-quotas")
    wanted = [TenantQuota(tenant="acme", max_running=4, max_queued=100), TenantQuota(tenant="*", max_queued=0)]
    changed, cleared = servers.requests["UpdateWorkerGroup"]
    assert list(servers.requests["CreateWorkerGroup"][0].worker_group.quotas) == wanted
    assert (list(changed.worker_group.quotas), list(changed.update_mask.paths)) == (wanted, ["quotas"])
    assert (list(cleared.worker_group.quotas), list(cleared.update_mask.paths)) == ([], ["quotas"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tenant=acme,runing=4", "'runing' is not one of tenant, running, queued. Did you mean running?"),
        ("acme", "'acme' is not one of tenant, running, queued."),
        ("tenant=,running=4", "tenant has no value."),
        ("running", "running has no value."),
        ("running=1,running=2", "running is there twice."),
        ("running=-1", "running must be a number from 0 to 1,000,000,000, not '-1'."),
        ("queued=1000000001", "queued must be a number from 0 to 1,000,000,000, not '1000000001'."),
    ],
)
def test_a_quota_that_is_none_is_wrong_use(farhand: Farhand, line: str, said: str) -> None:
    result = farhand("worker-group", "update", "gpu", "--quota", line)
    assert result.code == 2 and f"--quota '{line}': {said}" in result.err


def test_a_group_list_works_without_the_scheduler(
    farhand: Farhand, servers: ScriptedServers, unused_address: str
) -> None:
    servers.on["ListWorkerGroups"] = ListWorkerGroupsResponse(worker_groups=[a_group()])
    result = farhand("worker-group", "list", "--scheduler", unused_address)
    assert result.code == 0
    assert result.out.splitlines()[1].split() == ["gpu", "Machines", "all", "ACTIVE", *["-"] * 5, "-"]
    assert "So no figures are shown" in result.err
    documents = json.loads(farhand("worker-group", "list", "--scheduler", unused_address, "--output", "json").out)
    assert documents[0]["figures"] is None


def test_figures_of_a_group_that_was_made_anew_are_not_the_old_ones(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetWorkerGroup"] = GetWorkerGroupResponse(worker_group=a_group(uid="new-uid"))
    servers.on["ListGroupFigures"] = figures(queued_jobs=7)
    assert json.loads(farhand("worker-group", "get", "gpu", "--output", "json").out)["figures"] is None


def test_a_group_is_made_as_it_was_described(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["CreateWorkerGroup"] = CreateWorkerGroupResponse(worker_group=a_group())
    flags = ("--description", "d", "--allow-tenant", "a", "--allow-tenant", "b", "--lease", "2m30s")
    assert farhand("worker-group", "create", "gpu", *flags).code == 0
    group = servers.requests["CreateWorkerGroup"][0].worker_group
    assert (group.key, group.description, list(group.allowed_tenants), group.lease.seconds) == (
        "gpu",
        "d",
        ["a", "b"],
        150,
    )


def test_a_group_without_a_lease_leaves_it_to_the_server(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["CreateWorkerGroup"] = CreateWorkerGroupResponse(worker_group=a_group())
    farhand("worker-group", "create", "gpu")
    assert not servers.requests["CreateWorkerGroup"][0].worker_group.HasField("lease")


@pytest.mark.parametrize(
    ("flags", "mask", "paused"),
    [
        (("--paused",), ["paused"], True),
        (("--no-paused",), ["paused"], False),
        (("--allow-all-tenants",), ["allowed_tenants"], False),
        (("--description", "x", "--lease", "1m"), ["description", "lease"], False),
    ],
)
def test_a_group_is_changed_by_what_was_given(
    farhand: Farhand, servers: ScriptedServers, flags: tuple[str, ...], mask: list[str], paused: bool
) -> None:
    servers.on["UpdateWorkerGroup"] = UpdateWorkerGroupResponse(worker_group=a_group())
    assert farhand("worker-group", "update", "_default", *flags).code == 0
    [request] = servers.requests["UpdateWorkerGroup"]
    assert (list(request.update_mask.paths), request.worker_group.paused, request.worker_group.key) == (
        mask,
        paused,
        "",
    )


def test_a_deletion_that_still_goes_on_says_so(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["DeleteWorkerGroup"] = DeleteWorkerGroupResponse()
    assert farhand("worker-group", "delete", "gpu", "--force").err == "Worker group gpu is deleted.\n"
    servers.on["DeleteWorkerGroup"] = DeleteWorkerGroupResponse(worker_group=a_group(state=WORKER_GROUP_STATE_DELETING))
    assert "is being deleted" in farhand("worker-group", "delete", "gpu").err
    assert [request.force for request in servers.requests["DeleteWorkerGroup"]] == [True, False]


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)])
def test_force_asks_first_on_a_terminal(
    farhand: Farhand, servers: ScriptedServers, monkeypatch: pytest.MonkeyPatch, answer: str, deleted: bool
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    servers.on["DeleteWorkerGroup"] = DeleteWorkerGroupResponse()
    result = farhand("worker-group", "delete", "gpu", "--force")
    assert "kill all its jobs? [y/N]" in result.err
    assert (result.code == 0, "DeleteWorkerGroup" in servers.requests) == (deleted, deleted)
    assert farhand("worker-group", "delete", "gpu", "--force", "--yes").code == 0


def test_the_roll_shows_workers_as_reported(farhand: Farhand, servers: ScriptedServers) -> None:
    worker = Worker(
        id="w1",
        worker_group="gpu",
        state=WORKER_STATE_CONNECTED,
        host="h\x1b[2J1",
        version="0.1.0",
        slots=4,
        busy_slots=3,
    )
    servers.on["ListWorkers"] = ListWorkersResponse(workers=[worker])
    result = farhand("worker", "list", "--worker-group", "gpu", "--state", "connected", "--state", "LOST")
    assert result.out.splitlines()[1].split() == ["w1", "gpu", "CONNECTED", "h1", "0.1.0", "3/4", "-"]
    [request] = servers.requests["ListWorkers"]
    assert (request.worker_group, list(request.states)) == ("gpu", [WORKER_STATE_CONNECTED, WORKER_STATE_LOST])


def test_all_workers_means_the_lost_and_stopped_too(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["ListWorkers"] = ListWorkersResponse()
    farhand("worker", "list")
    farhand("worker", "list", "--all")
    assert [len(request.states) for request in servers.requests["ListWorkers"]] == [0, 5]


def test_a_drain_shows_the_worker_draining(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["DrainWorker"] = DrainWorkerResponse(worker=Worker(id="w1", state=WORKER_STATE_DRAINING))
    assert "DRAINING" in farhand("worker", "drain", "w1").out
    servers.on["DrainWorker"] = Unavailable("The database is away.")
    assert farhand("worker", "drain", "w1").code == 1
