"""Histories written by hand, for the checker's own tests."""

from collections.abc import Sequence
from typing import Any

from tests.checker.events import Line, parse
from tests.checker.findings import Finding, Verdict
from tests.checker.verdicts import check

GPU = {"gpu-1": "gpu", "gpu-2": "gpu", "cpu-1": "cpu"}


class Tale:
    """A history under construction. Times are seconds; a job has the id of its request, with a capital."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        for worker, group in GPU.items():
            self.write("worker", worker=worker, group=group)

    def write(self, what: str, **fields: Any) -> "Tale":
        self.lines.append({"what": what, **fields})
        return self

    def submit(self, at: float, request: str, *, group: str = "gpu", tenant: str = "main", **more: Any) -> "Tale":
        return self.write("submit", at=at, request=request, group=group, tenant=tenant, **more)

    def submitted(self, at: float, request: str, job: str = "") -> "Tale":
        return self.write("submitted", at=at, request=request, job=job or request.upper())

    def taken(self, at: float, request: str, **more: Any) -> "Tale":
        """Submitted at once."""
        return self.submit(at, request, **more).submitted(at + 0.01, request)

    def run(self, request: str, fence: int, start: float, end: float | None = None, **more: Any) -> "Tale":
        """end: None is a program that was killed."""
        fields = {"request": request, "job": request.upper(), "fence": fence, "worker": "gpu-1", "group": "gpu"}
        fields |= {"tenant": "main", "spawned": start - 0.02} | more
        self.write("start", at=start, **fields)
        return self if end is None else self.write("end", at=end, **fields)

    def alive(self, request: str, fence: int, at: float) -> "Tale":
        place = {"worker": "gpu-1", "group": "gpu", "tenant": "main"}
        return self.write("alive", at=at, request=request, job=request.upper(), fence=fence, **place)

    def final(
        self, at: float, request: str, fence: int, state: str = "SUCCESS", *, assigned: float | None = None, **more: Any
    ) -> "Tale":
        """lost: [(fence, assigned, lost)] in seconds."""
        lost: Sequence[tuple[int, float, float]] = more.pop("lost", ())
        told = [_assignment(number, begun, over) for number, begun, over in lost]
        if fence:
            told.append(_assignment(fence, assigned if assigned is not None else at - 0.5, None))
        return self.write("final", at=at, job=request.upper(), state=state, fence=fence, assignments=told, **more)

    def killed(self, began: float, at: float, request: str, state: str) -> "Tale":
        self.write("kill", at=began, job=request.upper())
        return self.write("killed", at=at, began=began, job=request.upper(), state=state)

    def whole(self, at: float, request: str, fence: int, **more: Any) -> "Tale":
        """A job that is taken, runs and ends within a second."""
        return self.taken(at, request, **more).run(request, fence, at + 0.2, at + 0.6).final(at + 0.9, request, fence)

    def findings(self, margin: float = 5.0) -> list[Finding]:
        events = [parse(Line(f"tale:{number}", str(raw)), raw) for number, raw in enumerate(self.lines, 1)]
        return check(events, margin=margin)


def _assignment(fence: int, assigned: float, lost: float | None) -> dict[str, Any]:
    over = None if lost is None else round(lost * 1e6)
    return {"fence": fence, "worker": "gpu-1", "assigned": round(assigned * 1e6), "lost": over, "reason": ""}


def verdicts(tale: Tale, **more: Any) -> set[Verdict]:
    """What is wrong; each finding is proven by lines of the tale."""
    findings = tale.findings(**more)
    for finding in findings:
        assert finding.proof, finding
        assert all(line.place.startswith("tale:") for line in finding.proof), finding
    return {finding.verdict for finding in findings}
