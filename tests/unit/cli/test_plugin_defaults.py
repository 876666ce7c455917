"""`--plugin-defaults FILE` of tenants and namespaces, and how they are shown."""

import json
from pathlib import Path

import pytest

from farhand.api.registry.v1.namespace_pb2 import Namespace
from farhand.api.registry.v1.namespace_service_pb2 import CreateNamespaceResponse, UpdateNamespaceResponse
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantResponse, GetTenantResponse, UpdateTenantResponse
from farhand.api.types.v1.plugin_default_pb2 import PluginDefault
from tests.unit.cli.conftest import Farhand
from tests.unit.cli.scripted_servers import ScriptedServers

FILE = """\
- type: io.kestra.plugin.scripts
  values: {workerGroup: {key: gpu}}
- {type: a.b, forced: true, values: {x: 1}}
"""


def given() -> list[PluginDefault]:
    scripts, other = PluginDefault(type="io.kestra.plugin.scripts"), PluginDefault(type="a.b", forced=True)
    scripts.values.update({"workerGroup": {"key": "gpu"}})
    other.values.update({"x": 1})
    return [scripts, other]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "defaults.yaml"
    path.write_text(FILE)
    return path


def test_a_file_of_defaults_is_sent_and_an_empty_one_takes_them_back(
    farhand: Farhand, servers: ScriptedServers, file: Path
) -> None:
    servers.on["CreateTenant"] = CreateTenantResponse(tenant=Tenant(id="x"))
    servers.on["UpdateTenant"] = UpdateTenantResponse(tenant=Tenant(id="x"))
    servers.on["CreateNamespace"] = CreateNamespaceResponse(namespace=Namespace(name="a"))
    servers.on["UpdateNamespace"] = UpdateNamespaceResponse(namespace=Namespace(name="a"))
    for noun, name, field in (("tenant", "x", "tenant"), ("namespace", "a", "namespace")):
        for verb in ("create", "update"):
            assert farhand(noun, verb, name, "--plugin-defaults", str(file)).code == 0
            (request,) = servers.requests[f"{verb.title()}{noun.title()}"]
            assert list(getattr(request, field).plugin_defaults) == given()
    file.write_text("[]")
    assert farhand("tenant", "update", "x", "--plugin-defaults", str(file)).code == 0
    first, second = servers.requests["UpdateTenant"]
    assert list(first.update_mask.paths) == list(second.update_mask.paths) == ["plugin_defaults"]
    assert list(second.tenant.plugin_defaults) == []
    assert farhand("tenant", "update", "x", "--description", "d").code == 0
    assert list(servers.requests["UpdateTenant"][2].update_mask.paths) == ["description"]


def test_they_are_shown_one_in_a_row(farhand: Farhand, servers: ScriptedServers) -> None:
    servers.on["GetTenant"] = GetTenantResponse(tenant=Tenant(id="x", plugin_defaults=given()))
    shown = farhand("tenant", "get", "x").out.splitlines()
    assert [line for line in shown if "workerGroup" in line or "a.b" in line] == [
        'plugin defaults       io.kestra.plugin.scripts: {"workerGroup": {"key": "gpu"}}',
        '                      a.b (forced): {"x": 1}',
    ]
    document = json.loads(farhand("tenant", "get", "x", "--output", "json").out)
    assert document["plugin_defaults"][1] == {"type": "a.b", "forced": True, "values": {"x": 1.0}}
    servers.on["GetTenant"] = GetTenantResponse(tenant=Tenant(id="x"))
    assert "plugin defaults       -" in farhand("tenant", "get", "x").out.splitlines()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("type: a", "must hold a list of plugin defaults"),
        ("- a", "item 1 must be a map"),
        ("- {type: a}\n- {type: b, value: {}}", "item 2 has no field 'value'. Did you mean values?"),
        ("- {type: a, values: [x]}", "item 1 is no plugin default"),
        ("- {type: 5}", "item 1 is no plugin default"),
        ("- &a [*a]", "aliases are not taken"),
        ("[", "is neither YAML nor JSON"),
    ],
)
def test_a_file_that_holds_none_is_wrong_use(farhand: Farhand, file: Path, text: str, told: str) -> None:
    file.write_text(text)
    result = farhand("tenant", "create", "x", "--plugin-defaults", str(file))
    assert (result.code, told in result.err, "reached" in result.err) == (2, True, False), result.err


def test_a_file_that_is_not_there_is_wrong_use(farhand: Farhand, tmp_path: Path) -> None:
    result = farhand("tenant", "create", "x", "--plugin-defaults", str(tmp_path / "none"))
    assert result.code == 2 and "can't be read" in result.err
