"""Histories of triggers, written by hand: each tick and each file that is lost or doubled is found, and nothing that is
legal."""

from datetime import UTC, datetime, timedelta

from tests.checker.findings import Finding, Verdict
from tests.checker.tale import Tale, verdicts

NOON = datetime(2026, 7, 15, 12, tzinfo=UTC)
EVERY = 3


def iso(number: int) -> str:
    return (NOON + timedelta(seconds=EVERY * number)).isoformat()


class Fires(Tale):
    """A flow `ticks` whose ticks are numbered from 0, and a flow `files`; each execution is one task."""

    def __init__(self) -> None:
        super().__init__()
        self._fence = 0
        for flow in ("ticks", "files"):
            self.write("flow", tenant="main", flow=flow, tasks=[{"id": "only", "group": "gpu"}])
        self.write("schedule", at=1.0, tenant="main", flow="ticks", first=iso(0), every=EVERY)

    def ran(self, *requests: str) -> "Fires":
        """For each an execution that ran well; nobody was told of it."""
        for request in requests:
            self._fence += 1
            at, id = float(self._fence), f"X{self._fence}"
            task = {"execution": id, "task": "only", "attempt": 1, "job": f"{id}J"}
            self.run(request, self._fence, at + 2, at + 2.1, **task)
            told = [{"fence": self._fence, "worker": "gpu-1"}]
            final = {"job": f"{id}J", "state": "SUCCESS", "fence": self._fence, "assignments": told}
            self.write("final", at=at + 3, **final)
            runs = [{"task": "only", "attempt": 1, "state": "SUCCESS", "job": f"{id}J"}]
            self.write("ended", at=at + 3, execution=id, state="SUCCESS", runs=runs)
        return self

    def ticked(self, *numbers: int) -> "Fires":
        return self.ran(*(f"main/ticks@{iso(number)}" for number in numbers))

    def over(self, last: int) -> "Fires":
        self.write("schedule ended", tenant="main", flow="ticks", last=iso(last))
        return self

    def drop(self, name: str) -> "Fires":
        self.write("drop", at=1.0, request=f"main/files@{name}", tenant="main", flow="files")
        return self

    def found(self, name: str) -> "Fires":
        return self.ran(f"main/files@{name}")

    def fired(self, request: str, execution: str) -> "Fires":
        self.write("fired", at=50.0, request=request, execution=execution)
        return self


def proof(finding: Finding) -> list[str]:
    return [line.text for line in finding.proof]


# ── good histories ──


def test_nothing_is_wrong_where_each_tick_and_each_file_ran_once() -> None:
    story = Fires().ticked(0, 2, 1).over(2).drop("a").drop("b").found("b").found("a")
    assert verdicts(story.fired("main/files@a", "X5")) == set()


def test_a_schedule_that_was_not_ended_has_ticks_up_to_the_last_that_is_known() -> None:
    assert verdicts(Fires().ticked(0, 1)) == set()
    assert verdicts(Fires().ticked(0, 2)) == {Verdict.LOST}


def test_a_tick_whose_task_was_run_again_after_its_worker_was_lost_is_one() -> None:
    story = Fires().ticked(0).over(0)
    start, final = story.lines[-5], story.lines[-3]
    assert (start["what"], final["what"]) == ("start", "final")
    lost = {"fence": 0, "worker": "gpu-1", "assigned": 1, "lost": 2}
    story.lines.append(start | {"fence": 0, "at": 2.0, "spawned": 1.9})
    final["assignments"].append(lost)
    assert verdicts(story) == set()


def test_a_tick_whose_task_never_came_to_run_is_known_by_its_execution() -> None:
    story = Fires().ticked(0).over(1).fired(f"main/ticks@{iso(1)}", "Y")
    runs = [{"task": "only", "attempt": 1, "state": "FAILED", "job": "YJ", "reason": "WORKER_LOST", "lost": 3}]
    story.write("ended", at=9.0, execution="Y", state="FAILED", runs=runs)
    assert verdicts(story) == set()


# ── bad histories ──


def test_a_tick_that_is_lost_is_found_between_its_neighbours() -> None:
    [finding] = Fires().ticked(0, 1, 3).over(3).findings()
    assert finding.verdict is Verdict.LOST and iso(2) in finding.what
    schedule, before, behind, end = proof(finding)
    assert "'schedule'" in schedule and "'schedule ended'" in end
    assert iso(1) in before and "'start'" in before and iso(3) in behind and "'start'" in behind


def test_the_first_and_the_last_tick_count() -> None:
    assert {finding.what for finding in Fires().ticked(1).over(2).findings()} == {
        f"tick main/ticks@{iso(0)} started no execution",
        f"tick main/ticks@{iso(2)} started no execution",
    }


def test_a_tick_that_comes_twice_is_found() -> None:
    [finding] = Fires().ticked(0, 1, 1).over(1).findings()
    assert finding.verdict is Verdict.DUPLICATED and iso(1) in finding.what and "X2, X3" in finding.what
    assert [("'X2'" in line, "'X3'" in line) for line in proof(finding)] == [(True, False), (False, True)]


def test_a_tick_that_never_was_is_found() -> None:
    off = f"main/ticks@{(NOON + timedelta(seconds=1)).isoformat()}"
    assert Verdict.UNEXPECTED in verdicts(Fires().ticked(0, 1).ran(off).over(1))
    assert Verdict.UNEXPECTED in verdicts(Fires().ticked(0, 1, 2).over(1))
    assert Verdict.UNEXPECTED in verdicts(Fires().ticked(-1, 0).over(0))


def test_a_file_that_is_lost_is_found() -> None:
    [finding] = Fires().ticked(0).over(0).drop("a").drop("b").found("a").findings()
    assert finding.verdict is Verdict.LOST and "file main/files@b" in finding.what
    assert ["'drop'" in line for line in proof(finding)] == [True]


def test_a_file_that_fires_twice_is_found() -> None:
    [finding] = Fires().ticked(0).over(0).drop("a").found("a").found("a").findings()
    assert finding.verdict is Verdict.DUPLICATED and "main/files@a" in finding.what
    assert len(finding.proof) == 2


def test_a_file_that_was_never_there_is_found() -> None:
    assert Verdict.UNEXPECTED in verdicts(Fires().ticked(0).over(0).found("a"))


def test_what_a_trigger_started_ends() -> None:
    story = Fires().ticked(0).over(0).drop("a").fired("main/files@a", "Y")
    assert verdicts(story) == {Verdict.LOST}
