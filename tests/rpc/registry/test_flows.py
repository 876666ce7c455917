"""FlowService over a real port: revisions, names, lists, tenancy. What a source may say is tests/unit/kernel's."""

import json

import grpc
import jsonschema
import pytest
import yaml
from google.rpc import status_pb2

from farhand.api.registry.v1 import flow_service_pb2 as api
from farhand.api.registry.v1.flow_pb2 import FlowProblem, FlowProblems
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest, DeleteTenantRequest
from tests.rpc.refusal import refused
from tests.rpc.registry.flow_calls import create, delete, get, source, update, validate
from tests.rpc.registry.registry_house import House, paths


async def listed(house: House, caller: str = "admin", **given: object) -> list[str]:
    request = api.ListFlowsRequest(**{"tenant": "acme", **given})  # type: ignore[arg-type]
    return [f"{flow.namespace}.{flow.id}" for flow in (await house.flows(caller).ListFlows(request)).flows]


async def revisions(house: House, flow_id: str = "hello", **given: object) -> api.ListFlowRevisionsResponse:
    request = {"tenant": "acme", "namespace": "company.team", "id": flow_id, **given}
    return await house.flows().ListFlowRevisions(api.ListFlowRevisionsRequest(**request))  # type: ignore[arg-type]


async def test_a_flow_is_saved_as_it_was_written_beside_what_it_means(house: House) -> None:
    text = "# ours\n" + source(more="description: Says hi\nlabels: {team: a, size: 3}\n")
    made = await create(house, text, caller="acme")
    assert (made.tenant, made.namespace, made.id, made.revision) == ("acme", "company.team", "hello", 1)
    assert made.source == text and json.loads(made.definition)["tasks"][0]["message"] == "hi"
    assert (made.description, dict(made.labels), made.saved_by) == ("Says hi", {"team": "a", "size": "3"}, "acme")
    assert made.HasField("create_time") and made.update_time == made.create_time
    assert await get(house) == made == await get(house, revision=1)


async def test_each_save_is_a_revision_that_never_changes_and_the_same_source_is_none(house: House) -> None:
    first = await create(house, source())
    second = await update(house, source(message="ho"), first.etag, caller="acme")
    assert (second.revision, second.create_time, second.saved_by) == (2, first.create_time, "acme")
    assert second.etag != first.etag and second.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
    assert await update(house, source(message="ho")) == second
    assert await update(house, source(message="ho"), second.etag) == second
    assert await get(house, revision=1) == first and await get(house) == second
    error = await refused(update(house, source(message="he"), first.etag))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert "flow 'company.team/hello' in the tenant 'acme' has changed" in error.message


async def test_the_same_create_request_is_answered_the_same_whatever_came_of_the_flow(house: House) -> None:
    first = await create(house, source(), request_id="r")
    await update(house, source(message="ho"))
    assert await create(house, source(), request_id="r") == first
    await delete(house)
    again = await create(house, source(), request_id="r")
    assert (again.revision, again.source) == (1, first.source) and again.etag != first.etag
    assert (await refused(create(house, source(message="ho"), request_id="r"))).reason == "REQUEST_ID_REUSED"
    assert (await refused(create(house, source(), tenant="main", request_id="r"))).reason == "REQUEST_ID_REUSED"
    assert paths(await refused(create(house, source(), request_id="x" * 101))) == ["request_id"]


async def test_a_flow_that_is_there_is_not_created_and_one_that_is_not_there_is_not_updated(house: House) -> None:
    await create(house, source())
    error = await refused(create(house, source(message="ho")))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")
    error = await refused(update(house, source("helo")))
    assert (error.code, error.metadata["near"]) == (grpc.StatusCode.NOT_FOUND, "company.team/hello")
    assert (await create(house, source(), tenant="rival")).revision == 1
    assert (await create(house, source(namespace="company"))).revision == 1


async def test_a_deleted_flow_keeps_its_revisions_and_comes_back_with_the_next_number(house: House) -> None:
    first = await create(house, source())
    assert (await refused(delete(house, etag="r9"))).reason == "ETAG_MISMATCH"
    await delete(house, etag=first.etag)
    assert await listed(house) == []
    for gone in (get(house), delete(house), update(house, source())):
        error = await refused(gone)
        assert (error.code, error.metadata) == (grpc.StatusCode.NOT_FOUND, {})
    kept = await get(house, revision=1)
    assert (kept.source, kept.etag == first.etag) == (first.source, False)
    assert [flow.revision for flow in (await revisions(house)).flows] == [1]
    second = await create(house, source())
    assert (second.revision, second.create_time) == (2, first.create_time)
    assert await listed(house) == ["company.team.hello"]
    assert await get(house, revision=1) == first


async def test_a_revision_that_is_not_there_names_the_newest(house: House) -> None:
    await create(house, source())
    error = await refused(get(house, revision=7))
    assert error.code is grpc.StatusCode.NOT_FOUND and error.message.startswith("There is no revision '7'.")
    assert "is 1" in error.message
    assert paths(await refused(get(house, revision=-1))) == ["revision"]
    assert paths(await refused(get(house, "", namespace=""))) == ["namespace", "id"]
    assert paths(await refused(get(house, "a\0b"))) == ["id"]
    assert (await refused(get(house, "hell"))).metadata == {"near": "company.team/hello"}


async def test_lists_are_pages_in_order_without_sources_of_a_namespace_and_those_below(house: House) -> None:
    names = ["a.x", "a.b.x", "a.b.y", "a-b.x", "a.bc.x", "a_b.x"]
    for name in names:
        namespace, _, flow_id = name.rpartition(".")
        await create(house, source(flow_id, namespace))
    assert await listed(house) == ["a.x", "a-b.x", "a.b.x", "a.b.y", "a.bc.x", "a_b.x"]
    assert await listed(house, namespace="a.b") == ["a.b.x", "a.b.y"]
    assert await listed(house, namespace="a") == ["a.x", "a.b.x", "a.b.y", "a.bc.x"]
    seen, token = [], ""
    while True:
        request = api.ListFlowsRequest(tenant="acme", namespace="a", page_size=1, page_token=token)
        page = await house.flows().ListFlows(request)
        (flow,) = page.flows
        assert (flow.source, flow.definition, flow.revision) == ("", "", 1)
        seen.append(f"{flow.namespace}.{flow.id}")
        if not (token := page.next_page_token):
            break
    assert seen == ["a.x", "a.b.x", "a.b.y", "a.bc.x"]
    assert paths(await refused(listed(house, page_token="AAAA"))) == ["page_token"]
    assert paths(await refused(listed(house, namespace="a..b"))) == ["namespace"]
    assert paths(await refused(listed(house, page_size=-1))) == ["page_size"]


async def test_revisions_are_listed_newest_first(house: House) -> None:
    await create(house, source())
    for number in range(4):
        await update(house, source(message=f"m{number}"))
    first = await revisions(house, page_size=3)
    assert [flow.revision for flow in first.flows] == [5, 4, 3] and first.flows[0].source == ""
    rest = await revisions(house, page_size=3, page_token=first.next_page_token)
    assert ([flow.revision for flow in rest.flows], rest.next_page_token) == ([2, 1], "")
    other = await refused(revisions(house, "other", page_token=first.next_page_token))
    assert paths(other) == ["page_token"]
    assert (await refused(revisions(house, "hallo"))).metadata == {"near": "company.team/hello"}


async def test_a_client_keeps_flows_of_its_own_tenants_and_finds_no_others(house: House) -> None:
    await create(house, source(), caller="acme")
    for call in (
        create(house, source("x"), caller="rival"),
        update(house, source(), caller="rival"),
        validate(house, source(), caller="rival"),
        listed(house, "rival"),
        house.flows("rival").GetFlow(api.GetFlowRequest(tenant="acme", namespace="company.team", id="hello")),
        house.flows("rival").DeleteFlow(api.DeleteFlowRequest(tenant="acme", namespace="company.team", id="hello")),
        house.flows("rival").ExplainFlow(api.ExplainFlowRequest(tenant="acme", source=source())),
        create(house, source(), tenant="acm"),
    ):
        error = await refused(call)
        assert (error.code, "'acm" in error.message) == (grpc.StatusCode.NOT_FOUND, True)
    assert (await house.flows("service").GetFlow(_hello())).flow.id == "hello"
    for role in ("service", "worker"):
        assert (await refused(create(house, source("x"), caller=role))).code is grpc.StatusCode.PERMISSION_DENIED


def _hello() -> api.GetFlowRequest:
    return api.GetFlowRequest(tenant="acme", namespace="company.team", id="hello")


async def test_a_refused_save_names_all_that_is_wrong_twice_for_programs_and_for_people(house: House) -> None:
    text = source(namespace="a..b", more="    workerGroup: {key: gpuu}\nbogus: 1\n")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await create(house, text)
    error = await refused(create(house, text))
    assert error.reason == "FLOW_INVALID"
    assert paths(error) == ["namespace", "tasks[0].workerGroup.key", "bogus"]
    assert error.violations[1].description.startswith("line 7, column 24: there is no worker group 'gpuu'")
    assert "3 things are wrong" in error.message
    assert [each.path for each in _problems(raised.value)] == paths(error)
    assert [(each.line, each.path) for each in await validate(house, text)] == [
        (2, "namespace"),
        (7, "tasks[0].workerGroup.key"),
        (8, "bogus"),
    ]


async def test_more_than_fits_into_an_error_is_cut_and_validate_tells_all(house: House) -> None:
    lines = "".join(f"unknown_property_{number}: 1\n" for number in range(80))
    error = await refused(create(house, source(more=lines)))
    assert error.reason == "FLOW_INVALID" and "80 things are wrong" in error.message
    assert 3 < len(error.violations) < 80 and "more" in error.violations[-1].description
    assert len(await validate(house, source(more=lines))) == 80


def _problems(error: grpc.aio.AioRpcError) -> list[FlowProblem]:
    raw = next(value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    found = FlowProblems()
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Unpack(found):
            return list(found.problems)
    raise AssertionError("no FlowProblems")


async def test_a_tenant_with_flows_stays_and_one_made_again_goes_on_with_other_numbers(house: House) -> None:
    await create(house, source())
    error = await refused(house.tenants().DeleteTenant(DeleteTenantRequest(id="acme")))
    assert error.reason == "IN_USE" and "its flows company.team/hello" in error.message
    await delete(house)
    await house.tenants().DeleteTenant(DeleteTenantRequest(id="acme"))
    await house.tenants().CreateTenant(CreateTenantRequest(tenant=Tenant(id="acme")))
    # Nothing of the old tenant can be read, and no number means two sources.
    assert (await refused(get(house, revision=1))).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(revisions(house))).code is grpc.StatusCode.NOT_FOUND
    assert (await create(house, source())).revision == 2


async def test_the_schema_is_one_that_a_saved_flow_satisfies(house: House) -> None:
    schema = json.loads((await house.flows("acme").GetFlowSchema(api.GetFlowSchemaRequest())).schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(source()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"id": "x"}, schema)
