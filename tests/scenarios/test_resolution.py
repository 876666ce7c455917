"""Runs resolution.txt: the levels of each case go in, group, fallback and where they came from come out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from farhand.kernel.flow import (
    Flow,
    KnownTypes,
    PluginDefault,
    Source,
    Task,
    around,
    effective,
    levels,
    of_flow,
    read_flow,
    wait_timeout,
)
from farhand.kernel.names import group_label
from farhand.kernel.resolution import Fallback, resolve

TYPE = "io.kestra.plugin.scripts.shell.Commands"
NAMESPACE = "company.team"
_LEVEL = re.compile(
    r"(?:(?P<forced>forced )?defaults of )?(?P<who>task|flow|tenant|namespace (?P<name>[\w.]+))(?: for (?P<type>\S+))?"
)


@dataclass
class Declared:
    """A namespace or tenant."""

    default_worker_group: str | None = None
    default_fallback: Fallback | None = None
    plugin_defaults: list[PluginDefault] = field(default_factory=list)


@dataclass
class Case:
    """One case of the file."""

    title: str
    says: list[tuple[str, Mapping[str, Any]]]
    outcome: list[str]


def cases() -> list[Case]:
    found = []
    text = Path(__file__).with_name("resolution.txt").read_text()
    for block in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        title, *rest = block.strip().splitlines()
        rows = [line.split("|", 1) for line in rest if "|" in line]
        says = [(level.strip(), yaml.safe_load(said)) for level, said in rows]
        found.append(Case(title, says, [" ".join(line.split()) for line in rest if line.strip() and "|" not in line]))
    return found


CASES = cases()


def outcome_of(case: Case) -> tuple[list[str], Mapping[str, Any]]:
    """What the code says, in the words of the file; and the task's worker group after merging."""
    task: dict[str, Any] = {"id": "a", "type": TYPE, "commands": ["true"]}
    flow: dict[str, Any] = {"id": "f", "namespace": NAMESPACE, "tasks": [task], "pluginDefaults": []}
    declared: dict[str, Declared] = {"tenant": Declared()}
    for level, said in case.says:
        match = _LEVEL.fullmatch(level)
        assert match, f"no level: {level}"
        who = match["name"] or match["who"]
        if match["type"]:
            default = {"type": match["type"], "forced": bool(match["forced"]), "values": {"workerGroup": said}}
            if who == "flow":
                flow["pluginDefaults"].append(default)
            else:
                declared.setdefault(who, Declared()).plugin_defaults.append(PluginDefault.model_validate(default))
        elif who in ("task", "flow"):
            (task if who == "task" else flow)["workerGroup"] = said
        else:
            place = declared.setdefault(who, Declared())
            place.default_worker_group = said.get("key")
            place.default_fallback = Fallback(said["fallback"]) if "fallback" in said else None
    outer = around("main", declared["tenant"], NAMESPACE, declared.get)
    reading = read_flow(Source.of(yaml.safe_dump(flow)), KnownTypes(), outer)
    assert isinstance(reading.flow, Flow), reading.problems
    declarations = [of_flow(reading.flow), *outer]
    owner = reading.flow.tasks[0]
    assert isinstance(owner, Task)
    resolved = resolve(levels(owner, declarations))
    lines = [
        f"key {group_label(resolved.key)} from {resolved.key_level}",
        f"fallback {resolved.fallback} from {resolved.fallback_level}",
    ]
    if waits := wait_timeout(owner, declarations):
        lines.append(f"timeout {waits[0]} from {waits[1]}")
    return lines, effective(owner.written(), declarations).get("workerGroup") or {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_task_gets_what_the_transcript_says(case: Case) -> None:
    lines, merged = outcome_of(case)
    assert lines == case.outcome
    # Merging plugin defaults into the task comes to the same as walking over the levels.
    for line in lines:
        name, value, _, level = line.split(" ", 3) if "{{" not in line else ("", "", "", "")
        if level == "task" or "plugin defaults" in level:
            assert group_label(merged[name]) == value


def test_the_transcript_was_read() -> None:
    assert len(CASES) > 20 and all(len(case.outcome) in (2, 3) for case in CASES)
