"""The JSON Schema says of a flow what read_flow says, as far as an editor can know."""

from typing import Any

import jsonschema
import pytest
import yaml

from farhand.kernel.flow import KnownTypes, Source, json_schema, read_flow
from tests.architecture.repository import ROOT
from tests.unit.kernel.flow.test_model import EVERYTHING

KNOWN = KnownTypes(frozenset({"org.example.Greet"}))
SCHEMA = json_schema(KNOWN)
EXAMPLES = [file.read_text() for file in sorted(ROOT.joinpath("tests/fixtures/flows").glob("*.yaml"))]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def a_flow(**task: Any) -> dict[str, Any]:
    return {"id": "a", "namespace": "b", "tasks": [{"id": "x", **task}]}


def test_it_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


LOOPS = """
id: a
namespace: b
inputs:
  - {id: list, type: ARRAY, itemType: INT}
  - {id: on, type: SELECT, values: [cpu, 4]}
variables: {list: "{{ inputs.list }}"}
tasks:
  - id: each
    type: io.kestra.plugin.core.flow.ForEach
    values: "{{ vars.list }}"
    concurrencyLimit: 0
    tasks:
      - id: choose
        type: io.kestra.plugin.core.flow.Switch
        value: "{{ inputs.on }}"
        cases: {cpu: [{id: x, type: farhand.core.Noop}], 4: [{id: y, type: farhand.core.Noop}]}
        defaults: [{id: s, type: io.kestra.plugin.core.flow.Sequential, tasks: [{id: z, type: farhand.core.Noop}]}]
  - id: fixed
    type: io.kestra.plugin.core.flow.ForEach
    values: [1, {a: 2}]
    tasks: [{id: w, type: farhand.core.Noop}]
"""


@pytest.mark.parametrize("text", [*EXAMPLES, EVERYTHING, LOOPS])
def test_it_takes_what_is_a_flow(text: str) -> None:
    source = Source.of(text)
    assert read_flow(source, KNOWN).flow is not None
    assert list(VALIDATOR.iter_errors(source.data)) == []


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"id": "a b", "namespace": "b", "tasks": [{"id": "x", "type": "farhand.core.Noop"}]},
        {"id": "a", "namespace": "b", "tasks": []},
        {**a_flow(type="farhand.core.Noop"), "lables": {}},
        a_flow(type="no.such.Type"),
        a_flow(type="farhand.core.Noop", paylod=1),
        a_flow(type="farhand.core.Noop", timeout="soon"),
        a_flow(type="farhand.core.Noop", timeout=90),
        a_flow(type="farhand.core.Noop", workerGroup={"key": 5}),
        a_flow(type="farhand.core.Noop", workerGroup={"fallback": "fail"}),
        a_flow(type="io.kestra.plugin.core.flow.Parallel", tasks=[{"id": "y", "type": "farhand.core.Nop"}]),
        a_flow(type="io.kestra.plugin.core.flow.Parallel", tasks=[], workerGroup={"key": "gpu"}),
        a_flow(type="io.kestra.plugin.core.flow.Sequential", tasks=[]),
        a_flow(type="io.kestra.plugin.core.flow.Switch", value="x", cases={"a": [{"id": "y"}]}),
        a_flow(type="io.kestra.plugin.core.flow.ForEach", values=5, tasks=[{"id": "y", "type": "farhand.core.Noop"}]),
        {**a_flow(type="farhand.core.Noop"), "inputs": [{"id": "i", "type": "ARRAY", "itemType": "SELECT"}]},
        a_flow(type="io.kestra.plugin.scripts.shell.Commands", commands="ls"),
        a_flow(type="io.kestra.plugin.scripts.shell.Commands", commands=["ls"], taskRunner={"type": "Docker"}),
        a_flow(type="io.kestra.plugin.core.flow.Sleep", duration=5),
    ],
)
def test_it_refuses_what_is_none(data: dict[str, Any]) -> None:
    assert list(VALIDATOR.iter_errors(data))
    assert read_flow(Source.of(yaml.safe_dump(data)), KNOWN).flow is None


def test_it_takes_templates_where_other_types_belong() -> None:
    data = a_flow(type="io.kestra.plugin.core.flow.Sleep", duration="{{ inputs.x }}")
    assert list(VALIDATOR.iter_errors(data)) == []


def test_it_names_the_types_of_workers_and_leaves_their_properties_free() -> None:
    assert list(VALIDATOR.iter_errors(a_flow(type="org.example.Greet", whatever=[1]))) == []


def test_every_property_is_described() -> None:
    def undescribed(value: Any, path: str) -> list[str]:
        found = []
        if isinstance(value, dict):
            for name, item in value.get("properties", {}).items():
                if isinstance(item, dict) and not {"description", "$ref", "const", "enum"} & item.keys():
                    found.append(f"{path}.{name}")
            for name, item in value.items():
                found += undescribed(item, f"{path}.{name}")
        return found

    parts = {name: part for name, part in SCHEMA["$defs"].items() if name not in ("Inherited", "AnyTask")}
    assert undescribed({**SCHEMA, "$defs": parts}, "") == []
