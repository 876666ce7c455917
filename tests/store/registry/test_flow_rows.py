"""Flows: rows in, rows out; and plugin defaults of tenants and namespaces."""

from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy.exc import IntegrityError

from farhand.kernel.flow import PluginDefault
from farhand.registry.core.change import Change, Put
from farhand.registry.core.flow import FlowCreation, FlowRevision
from farhand.registry.core.namespace import Namespace
from farhand.registry.core.tenant import Tenant
from farhand.registry.core.worker_group import WorkerGroup
from farhand.registry.store import changes, flows, namespaces, requests, tenants, worker_groups
from farhand.registry.store.transactions import Transactions


def a_flow(namespace: str = "a.b", flow_id: str = "f", tenant: str = "main", **given: str) -> FlowRevision:
    return FlowRevision(tenant, namespace, flow_id, **({"source": "s", "definition": "{}"} | given))  # type: ignore[arg-type]


async def save(transactions: Transactions, flow: FlowRevision, *groups: str) -> FlowRevision:
    async with transactions.changing() as connection:
        return await flows.save(connection, flow, groups)


async def test_a_revision_is_stored_and_found_by_its_number_and_by_its_source(transactions: Transactions) -> None:
    first = await save(transactions, replace(a_flow(description="d", saved_by="me"), labels={"k": "ä", "l": ""}))
    assert isinstance(first.create_time, datetime) and first.update_time == first.create_time
    assert first == replace(
        a_flow(description="d", saved_by="me"),
        labels={"k": "ä", "l": ""},
        revision=1,
        create_time=first.create_time,
        update_time=first.create_time,
    )
    second = await save(transactions, a_flow(source="t"))
    assert (second.revision, second.create_time) == (2, first.create_time)
    async with transactions.reading() as connection:
        assert await flows.newest(connection, "main", "a.b", "f") == second
        assert await flows.get(connection, "main", "a.b", "f", 1) == first
        assert await flows.get(connection, "main", "a.b", "f", 3) is None
        assert await flows.unchanged(connection, "main", "a.b", "f", "t") == second
        assert await flows.unchanged(connection, "main", "a.b", "f", "s") is None
        assert await flows.names_like(connection, "main", "A/x") == ["a.b/f"]
        assert await flows.of_tenant(connection, "main") == ["a.b/f"]


async def test_a_deleted_flow_is_on_no_list_and_blocks_nothing(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        await worker_groups.insert(connection, WorkerGroup("gpu", "wg_1"), 3)
    await save(transactions, a_flow(), "gpu")
    await save(transactions, a_flow("a.b", "g"), "gpu")
    async with transactions.changing() as connection:
        assert await flows.naming_group(connection, "gpu") == ["main/a.b/f", "main/a.b/g"]
        await flows.delete(connection, "main", "a.b", "f")
        assert await flows.newest(connection, "main", "a.b", "f") is None
        assert await flows.unchanged(connection, "main", "a.b", "f", "s") is None
        kept = await flows.get(connection, "main", "a.b", "f", 1)
        assert kept is not None and kept.deleted
        assert [flow.id for flow in await flows.page(connection, "main", "", None, 10)] == ["g"]
        assert [flow.revision for flow in await flows.revisions(connection, "main", "a.b", "f", None, 10)] == [1]
        assert await flows.of_tenant(connection, "main") == ["a.b/g"]
        assert await flows.names_like(connection, "main", "a") == ["a.b/g"]
        assert await flows.naming_group(connection, "gpu") == ["main/a.b/g"]
    assert (await save(transactions, a_flow())).revision == 2
    async with transactions.changing() as connection:
        assert await flows.naming_group(connection, "gpu") == ["main/a.b/g"]  # the new one names none


async def test_numbers_outlive_the_tenant_and_its_revisions_do_not(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        await tenants.insert(connection, Tenant("acme"), 3)
    await save(transactions, a_flow(tenant="acme"))
    with pytest.raises(IntegrityError):  # the database guards what check_removal asks for
        async with transactions.changing() as connection:
            await tenants.delete(connection, "acme")
    async with transactions.changing() as connection:
        await flows.delete(connection, "acme", "a.b", "f")
        await flows.forget_tenant(connection, "acme")
        await tenants.delete(connection, "acme")
        await tenants.insert(connection, Tenant("acme"), 4)
        assert await flows.get(connection, "acme", "a.b", "f", 1) is None
    assert (await save(transactions, a_flow(tenant="acme"))).revision == 2


async def test_a_group_that_a_flow_names_can_not_be_removed_whatever_was_checked(transactions: Transactions) -> None:
    async with transactions.changing() as connection:
        await worker_groups.insert(connection, WorkerGroup("gpu", "wg_1"), 3)
    await save(transactions, a_flow(), "gpu")
    with pytest.raises(IntegrityError):
        async with transactions.changing() as connection:
            await worker_groups.delete(connection, "wg_1")
    with pytest.raises(IntegrityError):
        await save(transactions, a_flow(), "gone")


async def test_the_answer_of_a_create_is_the_name_of_a_revision(transactions: Transactions) -> None:
    asked = FlowCreation("main", "source")
    made = FlowCreation("main", "", "a.b", "f", 1)
    async with transactions.changing() as connection:
        await requests.remember(connection, "r", asked, made)
        assert await requests.answered(connection, "r", asked) == made


async def test_who_names_a_group_in_plugin_defaults_is_found(transactions: Transactions) -> None:
    def naming(key: str) -> tuple[PluginDefault, ...]:
        values = {"workerGroup": {"key": key, "fallback": "FAIL"}, "x": 1}
        plain = {"type": "b", "values": {"key": "gpu"}}
        return tuple(map(PluginDefault.model_validate, (plain, {"type": "a", "values": values})))

    async with transactions.changing() as connection:
        made = await tenants.insert(connection, Tenant("acme", plugin_defaults=naming("gpu")), 3)
        assert made.plugin_defaults == naming("gpu")
        await tenants.insert(connection, Tenant("other", plugin_defaults=naming("gpu2")), 4)
        await namespaces.insert(connection, Namespace("acme", "a", plugin_defaults=naming("gpu")), 5)
        await namespaces.insert(connection, Namespace("acme", "b", plugin_defaults=naming("{{ gpu }}")), 6)
        assert await tenants.naming_group(connection, "gpu") == ["acme"]
        assert await namespaces.naming_group(connection, "gpu") == ["acme/a"]
        assert set(await namespaces.among(connection, "acme", ["a", "a.b", "b"])) == {"a", "b"}
        await changes.record(connection, Change(3, Put(made)))
    async with transactions.reading() as connection:
        (change,) = await changes.after(connection, 2, 10) or ()
        assert change.step.resource == made
