"""Whether the registry would take a plan: asked before any of it is done.

Flows are looked at as if what the plan declares was declared already (ValidateFlow,
`supposed`), so a flow may name a group that the same folder makes.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from farhand.cli.apply_declarations import GROUP, KINDS, NAMESPACE, TENANT, Declaration
from farhand.cli.apply_findings import Findings
from farhand.cli.apply_folder import FlowFile
from farhand.cli.apply_plan import FLOW, Change, Verb
from farhand.cli.session import DEADLINE, Session
from farhand.kernel.names import ancestors

if TYPE_CHECKING:
    from farhand.api.registry.v1.flow_pb2 import FlowProblem
    from farhand.api.registry.v1.flow_service_pb2 import Declarations, ValidateFlowRequest

_LONG = 50  # flows, from which it is said that they are looked at


def check(
    session: Session, tenant: str, plan: Sequence[Change], unnamed: Iterable[FlowFile], findings: Findings
) -> None:
    """Add all that is wrong with declarations, then with flows, that are to be created or changed."""
    from farhand.api.registry.v1.flow_service_pb2 import ValidateFlowRequest
    from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub

    labels = {kind.label for kind in KINDS}
    declared = [change for change in plan if change.kind in labels and change.verb is not Verb.UNCHANGED]
    flows = [change.wanted for change in plan if change.kind == FLOW and change.verb in (Verb.CREATE, Verb.CHANGE)]
    flows += unnamed
    if len(flows) >= _LONG:
        session.printer.done(f"Looking at {len(flows):,} flows …")
    with session.registry() as channel:
        validate = FlowServiceStub(channel).ValidateFlow
        if declared:
            request = ValidateFlowRequest(tenant=tenant)
            places = _suppose(request.supposed, declared)
            _tell(validate(request, timeout=DEADLINE).problems, places, findings)
        for flow in flows:
            request = ValidateFlowRequest(tenant=tenant, source=flow.source)
            if near := [change for change in declared if _concerns(change, request, flow)]:
                _suppose(request.supposed, near)
            problems = validate(request, timeout=DEADLINE).problems
            findings.flow(flow.file, (each for each in problems if not each.path.startswith("supposed.")))
            if not flow.id and not problems:  # our reader of YAML and theirs are not of one mind
                findings.error("it is not clear which flow this is: write its namespace and id plainly", flow.file)


def _suppose(supposed: "Declarations", changes: Iterable[Change]) -> dict[str, Change]:
    """Fill it, and give what stands where, by paths such as "supposed.tenants[0]"."""
    from farhand.api.registry.v1.worker_group_pb2 import WORKER_GROUP_STATE_DELETING

    places = {}
    for change in changes:
        kind = next(kind for kind in KINDS if kind.label == change.kind)
        if change.wanted is not None:
            message = change.wanted.message
        elif kind is NAMESPACE:
            message = NAMESPACE.message(tenant=change.there.tenant, name=change.there.name)
        elif kind is GROUP:
            message = GROUP.message(key=change.there.key, state=WORKER_GROUP_STATE_DELETING)
        else:
            continue
        field = getattr(supposed, f"{kind.noun}s")
        places[f"supposed.{kind.noun}s[{len(field)}]"] = change
        field.append(message)
    supposed.SetInParent()
    return places


def _concerns(change: Change, request: "ValidateFlowRequest", flow: FlowFile) -> bool:
    """Whether a flow could look otherwise for it."""
    if change.kind == NAMESPACE.label:
        return change.tenant == request.tenant and (not flow.id or change.name in ancestors(flow.namespace))
    return change.kind == GROUP.label or (change.kind == TENANT.label and change.name == request.tenant)


def _tell(problems: "Iterable[FlowProblem]", places: dict[str, Change], findings: Findings) -> None:
    for problem in problems:
        match = re.match(r"(supposed\.\w+\[\d+\])\.?(.*)", problem.path)
        change = places.get(match[1]) if match else None
        path = match[2] if match else problem.path
        line, file = 0, Path()
        if change is not None and isinstance(change.wanted, Declaration):
            file, line = change.wanted.file, change.wanted.line_of(re.split(r"[.\[]", path)[0])
        findings.error(problem.message, file if line else "", line, path=path)
