"""The flows that clients run, as the checker reads them (tests/checker/flow_tree.py), and the source of each.

Between them they have what a flow may have: sequences whose outputs are passed on,
Parallel, If, retry, allowFailure, errors, concurrency, and the fallbacks FAIL and CANCEL.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from farhand.kernel.flow.tasks import IF, PARALLEL
from tests.chaos.program import PROGRAM
from tests.tasks import SHELL

NAMESPACE = "company"
FAILING = 3  # an exit code
Raw = dict[str, Any]


def flows(first: str, second: str) -> dict[str, Raw]:
    """By id, for a tenant that may use these two groups."""

    def task(id: str, group: str = first, *got: str, **more: Any) -> Raw:
        return {"id": id, "group": group, "got": list(got)} | more

    def parallel(id: str, *tasks: Raw, **more: Any) -> Raw:
        return {"id": id, "kind": "parallel", "branches": {"tasks": list(tasks)}} | more

    return {
        "chain": {"tasks": [task("a"), task("b", second, "a"), task("c", first, "a", "b")]},
        "fan": {
            "tasks": [
                parallel("all", task("left"), task("middle", second), task("right")),
                task("join", second, "left", "middle", "right"),
            ]
        },
        "narrow": {
            "tasks": [
                parallel("some", *(task(f"n{number}", second) for number in range(1, 5)), concurrent=2),
                task("join", first, "n1", "n4"),
            ]
        },
        "fork": {
            "tasks": [
                task("look"),
                {
                    "id": "choose",
                    "kind": "if",
                    "branches": {
                        "then": [task("t1", second, "look"), task("t2", first, "t1")],
                        "else": [parallel("both", task("e1"), task("e2", second, "look"))],
                    },
                },
                task("after", first, "look"),
            ]
        },
        "trouble": {
            "tasks": [
                task("start"),
                parallel("mixed", task("bad", codes=[FAILING]), task("good", second, "start")),
                task("never"),
            ],
            "errors": [task("alarm", second, "start"), task("tidy", first, "alarm")],
        },
        "stubborn": {
            "tasks": [
                task("flaky", codes=[FAILING, 0], attempts=3),
                task("shaky", second, "flaky", codes=[FAILING], allow=True),
                task("last", first, "flaky"),
            ]
        },
        "hopeless": {
            "tasks": [task("a"), task("tried", second, "a", codes=[FAILING], attempts=2), task("never")],
            "errors": [task("alarm")],
        },
        "picky": {
            "tasks": [
                parallel("most", task("sure"), task("maybe", second, fallback="FAIL"), allow=True),
                task("last", first, "sure"),
            ]
        },
        "touchy": {
            "tasks": [
                parallel("all", task("calm"), task("touchy", second, fallback="CANCEL")),
                task("last", first, "calm", "touchy"),
            ],
            "errors": [task("alarm")],
        },
        "lonely": {"tasks": [task("only"), task("then", second, "only")], "most": 2},
    }


def source(id: str, tree: Raw, **more: Any) -> str:
    """As it is saved: JSON, which YAML can read. more: of the flow, its triggers for one."""
    inputs = [{"id": "request", "type": "STRING"}, {"id": "seconds", "type": "FLOAT"}, {"id": "go", "type": "BOOLEAN"}]
    flow: Raw = {"id": id, "namespace": NAMESPACE, "inputs": inputs} | more
    if "most" in tree:
        flow["concurrency"] = {"limit": tree["most"]}
    return json.dumps(flow | {name: [_task(raw) for raw in tree[name]] for name in ("tasks", "errors") if name in tree})


def _task(raw: Mapping[str, Any]) -> Raw:
    made: Raw = {"id": raw["id"]} | ({"allowFailure": True} if raw.get("allow") else {})
    match raw.get("kind"):
        case "parallel":
            tasks = [_task(child) for child in raw["branches"]["tasks"]]
            return made | {"type": PARALLEL, "concurrent": raw.get("concurrent", 0), "tasks": tasks}
        case "if":
            branches = {name: [_task(child) for child in tasks] for name, tasks in raw["branches"].items()}
            return made | {"type": IF, "condition": "{{ inputs.go }}"} | branches
    if raw.get("attempts", 1) > 1:
        made["retry"] = {"type": "constant", "interval": "PT0.2S", "maxAttempts": raw["attempts"]}
    codes = ",".join(map(str, raw.get("codes", [0])))
    command = [
        "exec " + shlex.join([sys.executable, "-I", "-S", PROGRAM]),
        "{{ inputs.request }} {{ inputs.seconds }}",
        f"{codes} {{{{ execution.id }}}} {raw['id']} {{{{ taskrun.attemptsCount }}}}",
        *(f"{task}={{{{ outputs.{task}.vars.fence }}}}" for task in raw["got"]),
    ]
    group = {"key": raw["group"], "fallback": raw.get("fallback", "WAIT")}
    return made | {"type": SHELL, "workerGroup": group, "commands": [" ".join(command)]}
