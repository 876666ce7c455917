"""Worker groups, plugin defaults and task types, as far as only the registry knows them."""

import asyncio
from dataclasses import replace

import grpc
import sqlalchemy as sql

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_pb2 import FLOW_PROBLEM_SEVERITY_WARNING, FlowProblem
from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceRequest, GetNamespaceRequest
from farhand.api.registry.v1.roll_service_pb2 import ReportWorkersRequest, WorkerReport
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest, GetTenantRequest, UpdateTenantRequest
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import (
    DeleteWorkerGroupRequest,
    GetWorkerGroupRequest,
    ResolveWorkerGroupDeletionRequest,
    UpdateWorkerGroupRequest,
)
from farhand.api.registry.v1.worker_pb2 import WORKER_STATE_LOST
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL, FALLBACK_FAIL, FALLBACK_WAIT
from farhand.registry.core.flow import FlowRevision
from farhand.registry.core.plugin_defaults import MOST_BYTES
from farhand.registry.core.worker_group import GroupState
from farhand.registry.store import changes, flows, tenants, worker_groups
from tests.rpc.refusal import refused
from tests.rpc.registry.flow_calls import (
    LOG,
    a_default,
    create,
    errors,
    explain,
    make_group,
    make_namespace,
    on_group,
    set_namespace_defaults,
    set_tenant_defaults,
    source,
    update,
    validate,
)
from tests.rpc.registry.registry_house import INSTALLED, House, paths


async def delete_group(house: House, key: str) -> None:
    await house.groups().DeleteWorkerGroup(DeleteWorkerGroupRequest(key=key))


async def allow(house: House, key: str, *tenants: str) -> None:
    request = UpdateWorkerGroupRequest(worker_group=WorkerGroup(key=key, allowed_tenants=tenants))
    request.update_mask.paths.append("allowed_tenants")
    await house.groups().UpdateWorkerGroup(request)


async def message(house: House, text: str) -> str:
    (problem,) = await validate(house, text)
    return problem.message


async def test_a_literal_key_that_is_unknown_or_forbidden_is_a_problem_at_its_line_with_near_matches(
    house: House,
) -> None:
    await make_group(house, "gpu-1")
    await make_group(house, "gpu-2", "rival")
    await make_group(house, "gpu-3", "acme", "rival")
    unknown = "there is no worker group 'gpu-9'. Did you mean 'gpu-3' or 'gpu-1'?"
    assert await message(house, on_group("gpu-9")) == unknown
    forbidden = "the worker group 'gpu-2' does not allow the tenant 'acme'. Did you mean 'gpu-3' or 'gpu-1'?"
    assert await message(house, on_group("gpu-2")) == forbidden
    assert errors(await validate(house, on_group("gpu 1"))) == [(8, "tasks[0].workerGroup.key")]
    for good in ("gpu-1", "gpu-3", "", "_default", "{{ inputs.place }}"):
        text = on_group(good) if not good.startswith("{{") else _with_input(good)
        assert await validate(house, text) == [], good
    assert await validate(house, on_group("gpu-2"), "rival") == []


def _with_input(key: str) -> str:
    return on_group(key) + "inputs:\n  - id: place\n    type: STRING\n"


async def test_every_place_that_names_a_group_is_looked_at(house: House) -> None:
    text = f"""\
id: hello
namespace: company.team
workerGroup: {{key: one}}
pluginDefaults:
  - type: {LOG}
    values: {{workerGroup: {{key: two}}}}
tasks:
  - id: t
    type: {LOG}
    message: hi
    workerGroup: {{key: three}}
errors:
  - id: e
    type: {LOG}
    message: oh
    workerGroup: {{key: four}}
triggers:
  - id: s
    type: io.kestra.plugin.core.trigger.Schedule
    cron: "* * * * *"
    workerGroup: {{key: five}}
"""
    assert errors(await validate(house, text)) == [
        (3, "workerGroup.key"),
        (6, "pluginDefaults[0].values.workerGroup.key"),
        (11, "tasks[0].workerGroup.key"),
        (16, "errors[0].workerGroup.key"),
        (21, "triggers[0].workerGroup.key"),
    ]
    for key in ("one", "two", "three", "four", "five"):
        await make_group(house, key)
    await create(house, text)
    for key in ("one", "two", "three", "four", "five"):
        error = await refused(delete_group(house, key))
        assert error.reason == "IN_USE" and "the flows acme/company.team/hello" in error.message
    await update(house, source())
    for key in ("one", "two", "three", "four", "five"):
        assert (await house.groups().DeleteWorkerGroup(DeleteWorkerGroupRequest(key=key))).HasField("worker_group")


async def test_only_newest_revisions_of_flows_that_are_there_keep_a_group(house: House) -> None:
    await make_group(house, "gpu")
    await create(house, on_group("gpu"))
    await create(house, on_group("gpu"), tenant="rival")
    error = await refused(delete_group(house, "gpu"))
    assert "by the flows acme/company.team/hello, rival/company.team/hello." in error.message
    assert error.metadata["flows"] == "2"
    await update(house, source())
    await house.flows().DeleteFlow(api.DeleteFlowRequest(tenant="rival", namespace="company.team", id="hello"))
    await delete_group(house, "gpu")  # marked, and left to the scheduler
    error = await refused(update(house, on_group("gpu")))
    assert "the worker group 'gpu' is being deleted" in error.message
    group = (await house.groups().GetWorkerGroup(GetWorkerGroupRequest(key="gpu"))).worker_group
    resolve = ResolveWorkerGroupDeletionRequest(uid=group.uid)
    await house.groups("service").ResolveWorkerGroupDeletion(resolve)
    assert "there is no worker group 'gpu'" in (await refused(update(house, on_group("gpu")))).message


async def test_a_save_that_was_examined_before_a_group_went_is_examined_again(house: House) -> None:
    await make_group(house, "gpu")
    await make_group(house, "tpu")
    await create(house, source("other"))
    for key, call in (
        ("gpu", create(house, on_group("gpu"))),
        ("tpu", update(house, on_group("tpu", flow_id="other"))),
    ):
        async with house.transactions.changing() as connection:
            await changes.lock(connection)
            saving = asyncio.ensure_future(call)
            await someone_waits(house)  # examined, and all was well
            group = await worker_groups.get(connection, key)
            assert group is not None
            await worker_groups.update(connection, replace(group, state=GroupState.DELETING, deleting_since=1), 9)
        error = await refused(saving)
        assert error.reason == "FLOW_INVALID" and paths(error) == ["tasks[0].workerGroup.key"]


async def test_a_deletion_that_waits_for_a_save_finds_the_flow(house: House) -> None:
    await make_group(house, "gpu")
    async with house.transactions.changing() as connection:
        await changes.lock(connection)
        deleting = asyncio.ensure_future(delete_group(house, "gpu"))
        await someone_waits(house)
        await flows.save(connection, FlowRevision("acme", "a", "b", "source", "{}"), {"gpu"})
    error = await refused(deleting)
    assert error.reason == "IN_USE" and "acme/a/b" in error.message


async def test_a_deletion_of_the_tenant_and_a_save_at_once_do_not_pass_each_other(house: House) -> None:
    async with house.transactions.changing() as connection:
        await changes.lock(connection)
        saving = asyncio.ensure_future(create(house, source()))
        await someone_waits(house)
        await tenants.delete(connection, "acme")
    assert (await refused(saving)).code is grpc.StatusCode.NOT_FOUND


async def someone_waits(house: House) -> None:
    """Until another connection waits for a lock of this database."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    count = 0
    while not count:
        async with house.transactions.reading() as connection:
            count = (await connection.execute(sql.text(waiting))).scalar_one()


async def test_a_group_that_is_narrowed_keeps_its_flows_and_validate_warns(house: House) -> None:
    await make_group(house, "gpu")
    first = await create(house, on_group("gpu"))
    await allow(house, "gpu", "rival")
    (problem,) = await validate(house, on_group("gpu"))
    assert problem == FlowProblem(
        line=8,
        column=12,
        path="tasks[0].workerGroup.key",
        message="the worker group 'gpu' does not allow the tenant 'acme'.",
        severity=FLOW_PROBLEM_SEVERITY_WARNING,
    )
    assert await update(house, on_group("gpu")) == first
    by_name = api.ExplainFlowRequest(tenant="acme", name=api.FlowName(namespace="company.team", id="hello"))
    explained = await house.flows().ExplainFlow(by_name)
    assert (explained.tasks[0].worker_group, list(explained.problems)) == ("gpu", [problem])
    # What is not saved yet may not name it.
    other = on_group("gpu", message="ho")
    assert errors(await validate(house, other)) == [(8, "tasks[0].workerGroup.key")]
    assert (await refused(update(house, other))).reason == "FLOW_INVALID"
    assert (await refused(explain(house, other))).reason == "FLOW_INVALID"
    # Nor may what was saved once and is the newest no more.
    await update(house, source())
    assert errors(await validate(house, on_group("gpu"))) == [(8, "tasks[0].workerGroup.key")]
    by_name.name.revision = 1
    assert list((await house.flows().ExplainFlow(by_name)).problems) == [problem]


async def test_what_a_task_inherits_counts_and_what_comes_of_it_is_told(house: House) -> None:
    missing = source().replace("    message: hi\n", "")
    assert errors(await validate(house, missing)) == [(4, "tasks[0].message")]
    await set_tenant_defaults(house, a_default(LOG, message="from above"))
    assert await validate(house, missing) == []
    await create(house, missing)
    await make_namespace(house, "company", a_default("io.kestra", forced=True, message=5, level="INFO"))
    (problem,) = await validate(house, source("other"))
    assert "plugin defaults of namespace 'company'" in problem.message and problem.path == "tasks[0]"
    (problem,) = await validate(house, missing)
    assert problem.severity == FLOW_PROBLEM_SEVERITY_WARNING
    assert await validate(house, source("other", "elsewhere")) == []


async def test_what_was_forgiven_the_newest_revision_is_not_forgiven_once_there_is_a_newer_one(house: House) -> None:
    missing = source().replace("    message: hi\n", "")
    await set_tenant_defaults(house, a_default(LOG, message="from above"))
    await create(house, missing)
    await set_tenant_defaults(house)
    async with house.transactions.changing() as connection:
        await changes.lock(connection)
        saving = asyncio.ensure_future(update(house, missing))
        await someone_waits(house)  # it is the newest still, and would be no change
        await flows.save(connection, FlowRevision("acme", "company.team", "hello", "other", "{}"), ())
    error = await refused(saving)
    assert error.reason == "FLOW_INVALID" and paths(error) == ["tasks[0].message"]


async def test_explain_names_the_level_of_everything(house: House) -> None:
    for key in ("gpu", "tpu", "arm"):
        await make_group(house, key)
    text = f"""\
id: hello
namespace: company.team
tasks:
  - {{id: a, type: {LOG}, message: hi}}
  - id: p
    type: io.kestra.plugin.core.flow.Parallel
    tasks:
      - {{id: b, type: {LOG}, message: hi, workerGroup: {{key: tpu, timeout: PT5M}}}}
      - {{id: c, type: io.kestra.plugin.core.debug.Return, format: x, workerGroup: {{fallback: FAIL}}}}
errors:
  - {{id: d, type: io.kestra.plugin.core.debug.Return, format: x, workerGroup: {{key: ""}}}}
pluginDefaults:
  - {{type: io.kestra.plugin.core.debug, values: {{workerGroup: {{key: arm}}}}}}
"""

    async def told() -> list[tuple[str, str, str, object, str, str, str]]:
        return [
            (
                task.task_id,
                task.worker_group,
                task.worker_group_level,
                task.fallback,
                task.fallback_level,
                task.timeout,
                task.timeout_level,
            )
            for task in (await explain(house, text)).tasks
        ]

    default = ("default", FALLBACK_WAIT, "default", "", "")
    assert await told() == [
        ("a", "_default", *default),
        ("p", "", "", 0, "", "", ""),
        ("b", "tpu", "task", FALLBACK_WAIT, "default", "PT5M", "task"),
        ("c", "arm", "plugin defaults of the flow", FALLBACK_FAIL, "task", "", ""),
        ("d", "_default", "task", FALLBACK_WAIT, "default", "", ""),
    ]
    await make_namespace(house, "company", group="gpu")
    forced = a_default("io.kestra.plugin.core.debug", forced=True, workerGroup={"fallback": "CANCEL"})
    await set_tenant_defaults(house, forced)
    assert await told() == [
        ("a", "gpu", "namespace 'company'", FALLBACK_WAIT, "default", "", ""),
        ("p", "", "", 0, "", "", ""),
        ("b", "tpu", "task", FALLBACK_WAIT, "default", "PT5M", "task"),
        (
            "c",
            "arm",
            "plugin defaults of the flow",
            FALLBACK_CANCEL,
            "forced plugin defaults of tenant 'acme'",
            "",
            "",
        ),
        ("d", "_default", "task", FALLBACK_CANCEL, "forced plugin defaults of tenant 'acme'", "", ""),
    ]


async def test_task_types_are_known_from_packages_beside_the_registry_and_from_workers_of_the_tenant(
    house: House,
) -> None:
    def of_type(name: str) -> str:
        return f"id: hello\nnamespace: a\ntasks:\n  - {{id: t, type: {name}, anything: 1}}\n"

    assert await validate(house, of_type(INSTALLED)) == []
    assert errors(await validate(house, of_type("org.example.Told"))) == [(4, "tasks[0].type")]
    group = (await house.groups().GetWorkerGroup(GetWorkerGroupRequest(key=""))).worker_group
    reports = ReportWorkersRequest()
    for worker_id, name, admitted in (("ours", "org.example.Told", ["acme"]), ("theirs", "org.rival.Own", ["rival"])):
        report = WorkerReport(epoch=1, sequence=1)
        report.worker.id, report.worker.state = worker_id, WORKER_STATE_LOST
        report.worker.worker_group_uid = group.uid
        report.worker.task_types.append(name)
        report.worker.tenants.extend(admitted)
        reports.reports.append(report)
    await house.roll("service").ReportWorkers(reports)
    assert await validate(house, of_type("org.example.Told")) == []
    assert errors(await validate(house, of_type("org.rival.Own"))) == [(4, "tasks[0].type")]
    (problem,) = await validate(house, of_type("org.rival.Owns"))
    assert "org.rival.Own'" not in problem.message  # what others run is nobody's business
    assert await validate(house, of_type("org.rival.Own"), "rival") == []


async def test_plugin_defaults_are_kept_as_they_were_given_and_changed_by_the_mask(house: House) -> None:
    given = [
        a_default(LOG, message="hi", workerGroup={"key": "", "fallback": "FAIL"}),
        a_default("io.kestra", forced=True, retry={"type": "constant", "interval": "PT1S", "maxAttempts": 3}, x=[1.5]),
    ]
    await make_namespace(house, "a", *given)
    request = GetNamespaceRequest(tenant="acme", name="a")
    first = (await house.namespaces().GetNamespace(request)).namespace
    assert list(first.plugin_defaults) == given
    assert await set_namespace_defaults(house, "a", *given) == first
    assert list((await set_tenant_defaults(house, given[1])).plugin_defaults) == given[1:]
    changed = await set_namespace_defaults(house, "a", given[1], given[0])
    assert list(changed.plugin_defaults) == given[::-1] and changed.etag != first.etag
    assert list((await set_namespace_defaults(house, "a")).plugin_defaults) == []
    tenant = Tenant(id="acme", description="only this")
    await house.tenants().UpdateTenant(UpdateTenantRequest(tenant=tenant))
    kept = (await house.tenants().GetTenant(GetTenantRequest(id="acme"))).tenant
    assert list(kept.plugin_defaults) == given[1:]


async def test_the_same_create_with_plugin_defaults_is_the_same_request(house: House) -> None:
    def request(*defaults: object) -> CreateNamespaceRequest:
        namespace = Namespace(tenant="acme", name="a", plugin_defaults=defaults)  # type: ignore[arg-type]
        return CreateNamespaceRequest(namespace=namespace, request_id="r")

    first = await house.namespaces().CreateNamespace(request(a_default(LOG, message="hi")))
    assert await house.namespaces().CreateNamespace(request(a_default(LOG, message="hi"))) == first
    error = await refused(house.namespaces().CreateNamespace(request(a_default(LOG, message="ho"))))
    assert error.reason == "REQUEST_ID_REUSED"


async def test_what_is_wrong_with_plugin_defaults_is_said_at_its_path(house: House) -> None:
    deep: object = "x"
    for _ in range(30):
        deep = {"a": deep}
    path = "tenant.plugin_defaults"
    for defaults, wrong in (
        ([a_default("a b")], [f"{path}[0].type"]),
        ([a_default("a", id="x")], [f"{path}[0].values"]),
        (
            [a_default("a"), a_default("a", timeout="soon", retry={"type": "never"})],
            [
                f"{path}[1].values.timeout",
                f"{path}[1].values.retry.type",
                f"{path}[1].values.retry.interval",
            ],
        ),
        ([a_default("a", workerGroup={"key": "g u"})], [f"{path}[0].values.workerGroup.key"]),
        ([a_default("a", x="a\0b", y={"b\0": 1})], [f"{path}[0].values.x", f"{path}[0].values.y.b␀"]),
        ([a_default("a", x=[float("inf")])], [f"{path}[0].values.x[0]"]),
        ([a_default("a", x=deep)], [f"{path}[0].values"]),
        ([a_default("a")] * 101, [path]),
        ([a_default("a", x="x" * MOST_BYTES)], [path]),
        ([a_default("a", x=["x"] * 500_000)], [path]),
    ):
        assert sorted(paths(await refused(set_tenant_defaults(house, *defaults)))) == sorted(wrong)
    room = MOST_BYTES - len('[{"type":"a","values":{"x":""}}]')
    await set_tenant_defaults(house, a_default("a", x="x" * room))
    # What is wrong with a field that the mask does not name does not matter.
    request = UpdateTenantRequest(tenant=Tenant(id="acme", plugin_defaults=[a_default("a b")]))
    request.update_mask.paths.append("description")
    await house.tenants().UpdateTenant(request)


async def test_a_group_in_plugin_defaults_is_checked_and_kept_like_a_default_group(house: House) -> None:
    await make_group(house, "theirs", "rival")
    await make_group(house, "gpu", "acme", "main")
    naming = a_default(LOG, workerGroup={"key": "theirs"})
    error = await refused(set_tenant_defaults(house, a_default(LOG), naming))
    assert paths(error) == ["tenant.plugin_defaults[1].values.workerGroup.key"]
    assert paths(await refused(make_namespace(house, "a", naming))) == [
        "namespace.plugin_defaults[0].values.workerGroup.key"
    ]
    made = Tenant(id="new", plugin_defaults=[naming])
    assert paths(await refused(house.tenants().CreateTenant(CreateTenantRequest(tenant=made)))) == [
        "tenant.plugin_defaults[0].values.workerGroup.key"
    ]
    error = await refused(set_tenant_defaults(house, a_default(LOG, workerGroup={"key": "gpuu"})))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "gpu")
    for free in ("", "_default", "{{ inputs.place }}"):
        await set_tenant_defaults(house, a_default(LOG, workerGroup={"key": free}))
    naming = a_default(LOG, workerGroup={"key": "gpu"})
    await set_tenant_defaults(house, naming)
    await make_namespace(house, "a", naming)
    error = await refused(delete_group(house, "gpu"))
    assert error.reason == "IN_USE" and "by the tenants acme and by the namespaces acme/a" in error.message
    # Narrowed, it stays where it is named; other changes go on.
    await allow(house, "gpu", "main")
    await set_tenant_defaults(house, naming, a_default("a.b"))
    await set_tenant_defaults(house)
    await set_namespace_defaults(house, "a")
    await delete_group(house, "gpu")
    error = await refused(set_tenant_defaults(house, naming))
    assert error.reason == "GROUP_DELETING"


async def test_explain_tells_of_triggers_by_the_same_order_of_levels(house: House) -> None:
    await make_group(house, "edge")
    text = (
        source()
        + """\
triggers:
  - {id: own, type: io.kestra.plugin.core.http.Trigger, uri: x, workerGroup: {key: edge}}
  - {id: inherits, type: io.kestra.plugin.core.http.Trigger, uri: x}
  - {id: clock, type: io.kestra.plugin.core.trigger.Schedule, cron: "@daily"}
pluginDefaults:
  - {type: io.kestra.plugin.core.http, values: {workerGroup: {fallback: CANCEL, timeout: PT1M}}}
"""
    )
    own, inherits, clock = (await explain(house, text)).triggers
    assert (own.worker_group, own.worker_group_level) == ("edge", "trigger")
    assert (own.fallback, own.fallback_level) == (FALLBACK_CANCEL, "plugin defaults of the flow")
    assert (own.timeout, own.timeout_level) == ("PT1M", "plugin defaults of the flow")
    assert (inherits.worker_group, inherits.worker_group_level) == ("_default", "default")
    assert (clock.trigger_id, clock.worker_group) == ("clock", "")
