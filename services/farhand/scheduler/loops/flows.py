"""The flows that executions run, parsed and planned once, and kept while they are used.

A revision never changes, so its flow is kept by key. Its plan holds what tasks
inherit from namespaces and tenant, so it is made anew when those are declared
otherwise; that some other part of the copy moved does not matter.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from farhand.kernel.flow import Flow
from farhand.kernel.names import ancestors
from farhand.scheduler.core.declared import Declared
from farhand.scheduler.core.preparation import FlowPlan, plan_flow

KEPT = 256  # flows; one of a thousand tasks takes some MiB


@dataclass(slots=True)
class _Kept:
    flow: Flow
    tenant: str
    around: tuple[object, ...]  # what the plan was made with
    plan: FlowPlan


class Flows:
    """The plans of one process, by the key of the flow's revision."""

    def __init__(self, kept: int = KEPT) -> None:
        self._most = kept
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def missing(self, keys: Iterable[int]) -> list[int]:
        """Those whose definitions have to be read."""
        return sorted(set(keys) - self._kept.keys())

    def put(self, definitions: Mapping[int, tuple[str, str]], declared: Declared) -> dict[int, Exception]:
        """Keep flows, given as key → (tenant, definition). Answers what is wrong with those that can't be kept."""
        wrong: dict[int, Exception] = {}
        for key, (tenant, definition) in definitions.items():
            try:
                flow = Flow.from_json(definition)
                self._kept[key] = _Kept(
                    flow, tenant, _around(flow, tenant, declared), plan_flow(flow, tenant, declared)
                )
            except Exception as error:
                wrong[key] = error
        return wrong

    def plan(self, key: int, declared: Declared) -> FlowPlan:
        """The plan of a flow that was put here. Raises KeyError where it was not, or was dropped since."""
        kept = self._kept[key]
        self._kept.move_to_end(key)
        around = _around(kept.flow, kept.tenant, declared)
        if around != kept.around:
            kept.plan = plan_flow(kept.flow, kept.tenant, declared)
            kept.around = around
        return kept.plan

    def trim(self) -> None:
        """Drop those that were used longest ago, beyond what is kept. Not while a step counts on them."""
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _around(flow: Flow, tenant: str, declared: Declared) -> tuple[object, ...]:
    return (
        declared.tenants.get(tenant),
        *(declared.namespaces.get((tenant, name)) for name in ancestors(flow.namespace)),
    )
