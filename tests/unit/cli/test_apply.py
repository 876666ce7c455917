"""farhand apply: what a folder comes to, in which order, and what stops it."""

import json
from pathlib import Path
from typing import Any

import pytest

from farhand.api.registry.v1.flow_pb2 import FLOW_PROBLEM_SEVERITY_ERROR, FlowProblem
from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING, TenantQuota, WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import DeleteWorkerGroupResponse
from farhand.kernel.errors import HasJobs, PermissionDenied
from farhand.runtime.wire import duration
from tests.unit.cli.conftest import Farhand, Result
from tests.unit.cli.pretend_registry import PretendRegistry
from tests.unit.cli.scripted_servers import ScriptedServers

FLOW = "id: nightly\nnamespace: company.team\ntasks: []\n"


@pytest.fixture
def registry(servers: ScriptedServers) -> PretendRegistry:
    return PretendRegistry(servers)


class Tree:
    """A folder and the command on it."""

    def __init__(self, root: Path, farhand: Farhand) -> None:
        self.root = root
        self.farhand = farhand

    def write(self, **files: str) -> "Tree":
        """By paths."""
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)
        return self

    def apply(self, *flags: str) -> Result:
        return self.farhand("apply", "-f", str(self.root), *flags)

    def plan(self, *flags: str) -> dict[str, Any]:
        """What would be done, by kind and name."""
        result = self.apply("--dry-run", "--output", "json", *flags)
        assert result.code == 0, result.err
        return {f"{each['kind']} {each['name']}": each for each in json.loads(result.out)}

    def actions(self, *flags: str) -> dict[str, str]:
        return {name: each["action"] for name, each in self.plan(*flags).items()}


@pytest.fixture
def tree(tmp_path: Path, farhand: Farhand) -> Tree:
    root = tmp_path / "folder"
    root.mkdir()
    return Tree(root, farhand)


def everything(tree: Tree) -> None:
    tree.write(
        **{
            "tenants/research.yaml": "{id: research, default_worker_group: gpu}",
            "worker-groups/gpu.yaml": "{key: gpu, allowedTenants: [research], lease: 90s, quotas: [{maxRunning: 2}]}",
            "namespaces/team.yaml": "{name: company.team, default_worker_group: gpu, default_fallback: Cancel}",
            "flows/deep/nightly.yml": FLOW,
            "files/company.team/a/b.txt": "hello",
        }
    )


def test_all_kinds_are_made_in_an_order_in_which_what_is_named_is_there(registry: PretendRegistry, tree: Tree) -> None:
    everything(tree)
    result = tree.apply()
    assert result.code == 0, result.err
    assert registry.log == [
        "create tenant research",
        "create worker_group gpu",
        "update tenant research: default_worker_group",
        "create namespace main/company.team",
        "put file company.team/a/b.txt",
        "save flow company.team/nightly",
    ]
    assert result.err.splitlines() == [
        "5 to create, 0 unchanged.",
        "created worker group gpu",
        "created tenant research",
        "created namespace company.team",
        "uploaded file company.team/a/b.txt",
        "created flow company.team/nightly",
        "All is applied.",
    ]
    assert registry.things["worker_group"]["gpu"].lease.seconds == 90
    (creation,) = registry.servers.requests["CreateTenant"]
    assert not creation.tenant.HasField("default_worker_group"), "the group was not there yet"


def test_applied_again_all_is_unchanged_and_nothing_is_sent(registry: PretendRegistry, tree: Tree) -> None:
    everything(tree)
    tree.apply()
    registry.log.clear()
    result = tree.apply("--prune")
    assert (result.code, result.out, result.err) == (0, "", "All is unchanged: 5 in the folder.\n")
    assert registry.log == []
    assert set(tree.actions("--prune").values()) == {"unchanged"}


def test_a_plan_names_the_fields_that_change_and_sends_those_alone_with_the_etag(
    registry: PretendRegistry, tree: Tree
) -> None:
    registry.add(Tenant(id="research", description="old", default_worker_group=""), Tenant(id="lab"))
    registry.add(WorkerGroup(key="gpu", description="Machines", allowed_tenants=["lab", "main"], lease=duration(120)))
    tree.write(
        **{
            "tenants/all.yaml": "{id: research, description: new}\n---\n{id: main}\n",
            "worker-groups/gpu.yaml": "{key: gpu, description: Machines, allowed_tenants: [main, lab], lease: 1m}",
        }
    )
    table = tree.apply("--dry-run")
    assert "description: old -> new; default_worker_group: _default -> -" in table.out
    assert "lease: 2m -> 1m" in table.out
    assert "2 to change, 1 unchanged.\n" in table.err
    assert tree.plan()["tenant research"]["changes"] == [
        {"field": "description", "old": "old", "new": "new"},
        {"field": "default_worker_group", "old": "", "new": None},
    ]
    tree.apply()
    assert registry.log == [
        "update worker_group gpu: lease",
        "update tenant research: description, default_worker_group",
    ]
    assert set(tree.actions().values()) == {"unchanged"}


def test_a_default_group_that_is_declared_and_none_are_two_things(registry: PretendRegistry, tree: Tree) -> None:
    tree.write(**{"tenants/main.yaml": "{id: main, default_worker_group: _default}"})
    assert tree.actions() == {"tenant main": "change"}
    tree.apply()
    assert tree.actions() == {"tenant main": "unchanged"}
    tree.write(**{"tenants/main.yaml": "{id: main}"})
    assert tree.actions() == {"tenant main": "change"}


def test_quotas_are_compared_whatever_their_order_and_shown(registry: PretendRegistry, tree: Tree) -> None:
    quotas = [TenantQuota(tenant="*", max_running=2), TenantQuota(tenant="main", max_queued=0)]
    registry.add(WorkerGroup(key="gpu", lease=duration(60), quotas=quotas))
    lines = "[{tenant: main, max_queued: 0}, {tenant: '', maxRunning: 2}]"
    tree.write(**{"worker-groups/gpu.yaml": f"{{key: gpu, quotas: {lines}}}"})
    assert tree.actions() == {"worker_group gpu": "unchanged"}
    tree.write(**{"worker-groups/gpu.yaml": "{key: gpu, quotas: [{tenant: main, max_queued: 5}]}"})
    assert "quotas: * 2 running; main 0 queued -> main 5 queued" in tree.apply("--dry-run").out
    tree.apply()
    assert registry.log == ["update worker_group gpu: quotas"]


def test_paused_stays_as_it_is_unless_it_is_said(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(WorkerGroup(key="gpu", paused=True, lease=duration(60)), WorkerGroup(paused=True, lease=duration(60)))
    tree.write(**{"worker-groups/a.yaml": "key: gpu\n---\n{key: _default, paused: false}"})
    assert tree.actions() == {"worker_group gpu": "unchanged", "worker_group _default": "change"}


def test_what_get_printed_is_a_document(registry: PretendRegistry, tree: Tree, farhand: Farhand) -> None:
    registry.add(WorkerGroup(key="gpu", allowed_tenants=["main"], lease=duration(90), uid="u1"))
    registry.add(Namespace(tenant="main", name="company", default_fallback=2))  # type: ignore[arg-type]
    (group,) = [each for each in json.loads(_listing(farhand, "worker-group")) if each["key"]]
    (namespace,) = json.loads(_listing(farhand, "namespace"))
    tree.write(**{"worker-groups/a.yaml": json.dumps(group), "namespaces/b.yaml": json.dumps(namespace)})
    assert set(tree.actions().values()) == {"unchanged"}


def _listing(farhand: Farhand, noun: str) -> str:
    return farhand(noun, "list", "--output", "json").out


def test_changes_of_flows_and_files_are_found_by_their_content(registry: PretendRegistry, tree: Tree) -> None:
    registry.add_flow(FLOW)
    registry.add_file("company.team", "a.txt", b"old")
    registry.add_file("company.team", "b.txt", b"same")
    tree.write(
        **{
            "flows/nightly.yaml": f"{FLOW}description: new\n",
            "files/company.team/a.txt": "new",
            "files/company.team/b.txt": "same",
        }
    )
    assert tree.actions() == {
        "flow company.team/nightly": "change",
        "file company.team/a.txt": "change",
        "file company.team/b.txt": "unchanged",
    }
    assert "revision 1 -> 2: +1 -0 lines" in tree.apply("--dry-run").out
    tree.apply()
    assert registry.log == ["put file company.team/a.txt", "save flow company.team/nightly"]


def test_prune_deletes_what_the_folder_has_not_and_says_so_before(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(Tenant(id="old", default_worker_group="gone"), Tenant(id="other"))
    registry.add(WorkerGroup(key="gone", allowed_tenants=["old"], lease=duration(60)))
    registry.add(Namespace(tenant="main", name="gone"), Namespace(tenant="other", name="stays"))
    registry.add_flow(FLOW)
    registry.add_flow(FLOW, "other")
    registry.add_file("company", "a.txt", b"")  # of a namespace above the flow's, which nobody declared
    tree.write(**{"tenants/t.yaml": "{id: other}", "worker-groups/g.yaml": "{key: new}"})
    assert "delete" not in tree.actions().values()
    assert tree.actions("--prune") == {
        "tenant other": "unchanged",
        "tenant old": "delete",
        "worker_group new": "create",
        "worker_group gone": "delete",
        "namespace gone": "delete",
        "flow company.team/nightly": "delete",
        "file company/a.txt": "delete",
    }
    result = tree.apply("--prune")
    assert result.code == 0, result.err
    assert registry.log == [
        "create worker_group new",
        "delete flow company.team/nightly",
        "delete file company/a.txt",
        "delete namespace main/gone",
        "update tenant old: default_worker_group, plugin_defaults",
        "delete worker_group gone",
        "delete tenant old",
    ]


def test_prune_leaves_groups_and_tenants_alone_where_the_folder_has_none(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(Tenant(id="old"), WorkerGroup(key="gpu"))
    tree.write(**{"flows/nightly.yaml": FLOW})
    assert tree.actions("--prune") == {"flow company.team/nightly": "create"}


def test_a_tenant_that_could_not_be_deleted_is_told_before_anything_is_done(
    registry: PretendRegistry, tree: Tree
) -> None:
    registry.add(Tenant(id="old"), Namespace(tenant="old", name="a"))
    registry.add(WorkerGroup(key="gpu", allowed_tenants=["old"]))
    registry.add_flow(FLOW, "old")
    tree.write(**{"tenants/t.yaml": "{id: fresh}"})
    result = tree.apply("--prune")
    assert (result.code, registry.log) == (1, [])
    assert "error: the tenant 'old' can't be deleted while it has namespaces and flows." in result.err
    assert "error: the tenant 'old' can't be deleted while groups allow it or have a quota for it: gpu" in result.err


def test_flows_are_looked_at_as_if_the_plan_was_declared(registry: PretendRegistry, tree: Tree) -> None:
    everything(tree)
    registry.add(WorkerGroup(key="gone", lease=duration(60)), Namespace(tenant="main", name="company"))
    tree.write(**{"namespaces/other.yaml": "name: elsewhere"})
    tree.apply("--prune")
    declarations, flow = registry.servers.requests["ValidateFlow"]
    assert (declarations.source, flow.source) == ("", FLOW)
    assert [tenant.id for tenant in declarations.supposed.tenants] == ["research"]
    assert {group.key: group.state for group in flow.supposed.worker_groups} == {
        "gpu": 0,
        "gone": WORKER_GROUP_STATE_DELETING,
    }
    assert [space.name for space in flow.supposed.namespaces] == ["company.team", "company"]
    assert not flow.supposed.tenants


def test_a_client_that_changes_no_declaration_supposes_nothing(registry: PretendRegistry, tree: Tree) -> None:
    tree.write(**{"tenants/main.yaml": "id: main", "flows/nightly.yaml": FLOW})
    assert tree.apply().code == 0
    (request,) = registry.servers.requests["ValidateFlow"]
    assert not request.HasField("supposed")


def test_all_that_is_wrong_with_all_files_is_told_at_once_and_nothing_is_done(
    registry: PretendRegistry, tree: Tree
) -> None:
    def problems(request: Any) -> list[FlowProblem]:
        if request.source:
            wrong = FlowProblem(
                line=3, column=8, path="tasks", message="is empty", severity=FLOW_PROBLEM_SEVERITY_ERROR
            )
            return [FlowProblem(path="supposed.tenants[0].id", message="once is enough"), wrong]
        return [FlowProblem(path="supposed.tenants[0].plugin_defaults[0].type", message="is no type")]

    registry.problems = problems
    tree.write(
        **{
            "tenants/a.yaml": "id: fresh\nplugin_defaults:\n  - type: a b\n",
            "tenants/b.yaml": "- id: x\n",
            "worker-groups/a.yaml": "key: gpu\nallowed_tenant: [a]\nlease: soon\npaused: 7\n---\nkey: ok\n",
            "worker-groups/b.yaml": "key: ok\n",
            "worker-groups/c.yaml": "key: [\n",
            "worker-groups/d.yaml": "key: a\nkey: b\n",
            "worker-groups/e.yaml": "a: &x [1]\nb: *x\n",
            "namespaces/a.yaml": "default_fallback: explode\nname: a\n---\ndescription: unnamed\n",
            "namespaces/b.yaml": "name: b\nplugin_defaults: [{type: t, valus: {}}]\n",
            "flows/a.yaml": FLOW,
            "flows/b.yaml": FLOW,
            "flows/c.yaml": "id: [",
            "files/loose.txt": "",
            "files/a..b/x": "",
        }
    )
    result = tree.apply()
    assert (result.code, registry.log) == (1, [])
    told = result.err.replace(f"{tree.root}/", "").splitlines()
    for line in (
        "tenants/a.yaml:2: error: is no type (plugin_defaults[0].type)",
        "tenants/b.yaml:1: error: this must be a tenant: a mapping with `id` in it",
        "worker-groups/a.yaml:2: error: the worker group has no field 'allowed_tenant'. Did you mean allowed_tenants?",
        "worker-groups/a.yaml:3: error: lease: 'soon' is not a duration; write 90s, 2m30s, 1h or ISO-8601 such as "
        "PT1M30S",
        "worker-groups/b.yaml:1: error: the worker group 'ok' is in worker-groups/a.yaml:6 already",
        "worker-groups/d.yaml:2:1: error: the key 'key' comes twice",
        "worker-groups/e.yaml:2:4: error: aliases are not taken",
        "namespaces/a.yaml:1: error: default_fallback: 'explode' is not one of wait, fail, cancel.",
        "namespaces/a.yaml:4: error: this namespace has no `name`, which names it",
        "namespaces/b.yaml:2: error: plugin_defaults[0] has no field 'valus'. Did you mean values?",
        "flows/a.yaml:3:8: error: is empty (tasks)",
        "flows/b.yaml: error: the flow 'company.team/nightly' is in flows/a.yaml already",
        "flows/c.yaml:3:8: error: is empty (tasks)",
        "files/loose.txt: error: this file is of no namespace: put it into files/NAMESPACE/",
    ):
        assert line in told, line
    assert any(line.startswith("worker-groups/a.yaml:4: error: paused: ") for line in told)
    assert any(line.startswith("worker-groups/c.yaml:2:1: error: ") for line in told)
    assert any(line.startswith("files/a..b: error: a folder of files is named after its namespace") for line in told)
    assert told[-1].startswith("farhand: Nothing was applied: there are 18 errors.")
    assert not [line for line in told if "once is enough" in line]


def test_a_folder_that_is_none_or_holds_nothing_is_wrong_use(registry: PretendRegistry, tree: Tree) -> None:
    result = tree.apply()
    assert (result.code, "has nothing to apply" in result.err) == (2, True)
    result = tree.farhand("apply", "-f", str(tree.root / "none"))
    assert (result.code, "There is no folder" in result.err) == (2, True)


def test_a_mistyped_folder_is_told_and_stops_a_prune(registry: PretendRegistry, tree: Tree) -> None:
    tree.write(**{"flow/nightly.yaml": FLOW, "tenants/main.yaml": "id: main", "docs/x.yaml": "x"})
    result = tree.apply()
    assert (result.code, "warning: this folder is not looked at. Did you mean flows?" in result.err) == (0, True)
    assert "docs" not in result.err
    result = tree.apply("--prune")
    assert (result.code, "error: this folder is not looked at. Did you mean flows?" in result.err) == (1, True)


def test_a_tenant_that_neither_is_there_nor_will_be_is_refused(registry: PretendRegistry, tree: Tree) -> None:
    tree.write(**{"flows/nightly.yaml": FLOW})
    result = tree.apply("--tenant", "nobody")
    assert (result.code, registry.log) == (1, [])
    assert "no tenant 'nobody'" in result.err
    tree.write(**{"tenants/t.yaml": "id: nobody"})
    assert tree.apply("--tenant", "nobody").code == 0
    assert registry.log == ["create tenant nobody", "save flow company.team/nightly"]


def test_it_stops_at_a_refusal_says_how_far_it_came_and_goes_on_from_there(
    registry: PretendRegistry, tree: Tree
) -> None:
    everything(tree)
    saving = registry.servers.on["CreateNamespace"]
    registry.servers.on["CreateNamespace"] = PermissionDenied("Only an admin may.")
    result = tree.apply()
    assert result.code == 1
    assert "farhand: Stopped at the namespace company.team: Only an admin may.\n" in result.err
    assert "Made before that: 2 of 5 changes. Run the same again" in result.err
    registry.servers.on["CreateNamespace"] = saving
    registry.log.clear()
    assert tree.apply().code == 0
    assert registry.log == [
        "create namespace main/company.team",
        "put file company.team/a/b.txt",
        "save flow company.team/nightly",
    ]


def test_what_changed_since_the_plan_is_left_alone(
    registry: PretendRegistry, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(Tenant(id="research"))
    tree.write(**{"tenants/t.yaml": "{id: research, description: mine}"})
    answer(monkeypatch, "y\n", lambda: registry.add(Tenant(id="research", description="theirs")))
    result = tree.apply()
    assert (result.code, registry.log) == (1, [])
    assert "Somebody changed something since the plan was made." in result.err
    assert registry.things["tenant"]["research"].description == "theirs"


def test_a_group_with_jobs_stays_and_that_is_told(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(WorkerGroup(key="gone", lease=duration(60)))
    tree.write(**{"worker-groups/g.yaml": "key: gpu"})
    registry.servers.on["DeleteWorkerGroup"] = HasJobs("It has 3 jobs.")
    result = tree.apply("--prune")
    assert (result.code, "Stopped at the worker group gone: It has 3 jobs." in result.err) == (1, True)
    going = WorkerGroup(key="gone", state=WORKER_GROUP_STATE_DELETING)
    registry.servers.on["DeleteWorkerGroup"] = DeleteWorkerGroupResponse(worker_group=going)
    result = tree.apply("--prune")
    assert (result.code, "no scheduler has said yet" in result.err) == (1, True)


def test_a_group_that_is_still_being_deleted_is_not_changed(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(WorkerGroup(key="gpu", state=WORKER_GROUP_STATE_DELETING))
    tree.write(**{"worker-groups/g.yaml": "key: gpu"})
    result = tree.apply()
    assert (result.code, registry.log) == (1, [])
    assert "g.yaml:1: error: the worker group 'gpu' is still being deleted" in result.err


def answer(monkeypatch: pytest.MonkeyPatch, text: str, meanwhile: Any = None) -> None:
    """A terminal on which this is typed."""

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            if meanwhile is not None:
                meanwhile()
            return text

    monkeypatch.setattr("sys.stdin", Terminal())


@pytest.mark.parametrize(
    ("typed", "flags", "applied"),
    [("y\n", (), True), ("\n", (), False), ("n\n", ("--yes",), True), ("y\n", ("--dry-run",), False)],
)
def test_a_terminal_is_asked_after_the_plan(
    registry: PretendRegistry,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    flags: tuple[str, ...],
    applied: bool,
) -> None:
    answer(monkeypatch, typed)
    tree.write(**{"flows/nightly.yaml": FLOW})
    result = tree.apply(*flags)
    assert bool(registry.log) == applied
    assert ("Apply this? [y/N]" in result.err) == (not flags)
    assert "create" in result.out and "company.team/nightly" in result.out
    assert ("Nothing was applied." in result.err) == (typed == "\n")


def test_a_namespace_may_be_of_another_tenant_and_is_shown_with_it(registry: PretendRegistry, tree: Tree) -> None:
    registry.add(Tenant(id="research"), Namespace(tenant="research", name="gone"))
    tree.write(**{"namespaces/n.yaml": "name: a\n---\n{name: a, tenant: research}\n"})
    result = tree.apply("--prune")
    assert registry.log == [
        "create namespace main/a",
        "create namespace research/a",
        "delete namespace research/gone",
    ], result.err
    assert "TENANT" in result.out


@pytest.mark.parametrize(("id", "known"), [("on", True), ("'1'", True), ("nightly", False)])
def test_a_flow_s_names_are_read_as_they_are_written(
    registry: PretendRegistry, tree: Tree, id: str, known: bool
) -> None:
    registry.add_flow("id: on\nnamespace: a\n")
    registry.add_flow("id: '1'\nnamespace: a\n")
    tree.write(**{"flows/f.yaml": f"id: {id}\nnamespace: a\n"})
    (action,) = tree.actions().values()
    assert action == ("unchanged" if known else "create")
