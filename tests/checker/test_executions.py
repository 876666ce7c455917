"""Histories of executions, written by hand: each kind of wrong is found, and nothing that is legal."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.checker.findings import Verdict
from tests.checker.tale import Tale, verdicts

Raw = dict[str, Any]


def leaf(id: str, **more: Any) -> Raw:
    return {"id": id, "group": "gpu"} | more


def both(*tasks: Raw, **more: Any) -> Raw:
    return {"id": "both", "kind": "parallel", "branches": {"tasks": list(tasks)}} | more


CHAIN = {"tasks": [leaf("a"), leaf("b", got=["a"])]}
FORK = {"tasks": [{"id": "if", "kind": "if", "branches": {"then": [leaf("t")], "else": [leaf("e")]}}, leaf("last")]}
TROUBLE = {"tasks": [leaf("bad", codes=[3]), leaf("never")], "errors": [leaf("alarm")]}
STUBBORN = {"tasks": [leaf("flaky", codes=[3, 0], attempts=2)]}
SHAKY = {"tasks": [leaf("shaky", codes=[3], allow=True), leaf("last")]}
SIDES = {"tasks": [both(leaf("l"), leaf("r")), leaf("last")]}
PICKY = {"tasks": [both(leaf("l"), leaf("r", fallback="CANCEL")), leaf("last")]}


class Story(Tale):
    """An execution `X` of one flow under construction; the job of attempt 1 of task `a` is `a1`."""

    def __init__(self, flow: Mapping[str, Any], branch: str = "then") -> None:
        super().__init__()
        self._fence = 0
        self.write("flow", tenant="main", flow="f", **flow)
        self.write("create", at=1.0, request="x", tenant="main", flow="f", branch=branch)
        self.write("created", at=1.1, request="x", execution="X")

    def task(
        self, id: str, start: float, end: float | None = None, *, attempt: int = 1, state: str = "SUCCESS", **more: Any
    ) -> "Story":
        """Its job runs and ends with its program, in this state; without an end nobody saw one."""
        self._fence += 1
        job = more.pop("job", f"{id}{attempt}")
        fields = {"execution": "X", "task": id, "attempt": attempt, "job": job} | more
        self.run("x", self._fence, start, end, **fields)
        if end is not None:
            self.told(job, end + 0.01, self._fence, state)
        return self

    def told(self, job: str, at: float, fence: int, state: str = "SUCCESS", **more: Any) -> "Story":
        """A client sees how a job ended."""
        told = more.pop("lost", [])
        own = [] if fence in {each["fence"] for each in told} or not fence else [{"fence": fence, "worker": "gpu-1"}]
        self.write("final", at=at, job=job, state=state, fence=fence, assignments=[*told, *own])
        return self

    def ended(self, at: float, state: str, *runs: str) -> "Story":
        """runs: "TASK STATE", "TASK/ATTEMPT STATE"; flow control is that which is called both or if."""
        told = []
        for run in runs:
            name, _, its_state = run.partition(" ")
            task, _, attempt = name.partition("/")
            job = "" if task in ("both", "if") else f"{task}{attempt or 1}"
            told.append({"task": task, "attempt": int(attempt or 1), "state": its_state, "job": job})
        self.write("ended", at=at, execution="X", state=state, runs=told)
        return self

    def kill(self, began: float, at: float, state: str) -> "Story":
        self.write("kill execution", at=began, execution="X")
        self.write("execution killed", at=at, began=began, execution="X", state=state)
        return self


def chain() -> Story:
    return Story(CHAIN).task("a", 2, 3).task("b", 4, 5, got={"a": "1"})


# ── good histories ──


def test_nothing_is_wrong_with_an_execution_that_ran_as_its_flow_says() -> None:
    assert verdicts(chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == set()


def test_a_task_whose_worker_was_lost_runs_again() -> None:
    story = Story(CHAIN).task("a", 2).task("a", 7, 8)
    story.lines[-1]["assignments"].append({"fence": 1, "worker": "gpu-1", "assigned": 1, "lost": 5})
    story.task("b", 9, 10, got={"a": "2"})
    assert verdicts(story.ended(11, "SUCCESS", "a SUCCESS", "b SUCCESS")) == set()


def test_a_task_whose_worker_was_lost_three_times_fails() -> None:
    story = Story({"tasks": [leaf("a")]}).task("a", 2).task("a", 7).task("a", 12)
    lost = [{"fence": fence, "worker": "gpu-1", "assigned": fence, "lost": fence + 1} for fence in (1, 2, 3)]
    story.told("a1", 17, 3, "FAILED", lost=lost).ended(18, "FAILED", "a FAILED")
    assert verdicts(story) == {Verdict.WRONG_END, Verdict.UNEXPECTED} - {Verdict.WRONG_END}
    story.lines[-1]["runs"][0] |= {"reason": "WORKER_LOST", "lost": 3}
    assert verdicts(story) == set()


def test_an_attempt_that_failed_is_tried_again() -> None:
    story = Story(STUBBORN).task("flaky", 2, 3, state="FAILED").task("flaky", 4, 5, attempt=2)
    assert verdicts(story.ended(6, "SUCCESS", "flaky FAILED", "flaky/2 SUCCESS")) == set()


def test_a_failure_that_is_allowed_is_a_warning() -> None:
    story = Story(SHAKY).task("shaky", 2, 3, state="FAILED").task("last", 4, 5)
    assert verdicts(story.ended(6, "WARNING", "shaky WARNING", "last SUCCESS")) == set()


def test_errors_run_after_a_failure() -> None:
    story = Story(TROUBLE).task("bad", 2, 3, state="FAILED").task("alarm", 4, 5)
    assert verdicts(story.ended(6, "FAILED", "bad FAILED", "alarm SUCCESS")) == set()


def test_what_is_parallel_may_overlap() -> None:
    story = Story(SIDES).task("l", 2, 4).task("r", 2, 5).task("last", 6, 7)
    assert verdicts(story.ended(8, "SUCCESS", "both SUCCESS", "l SUCCESS", "r SUCCESS", "last SUCCESS")) == set()


def test_an_if_takes_one_branch() -> None:
    story = Story(FORK, "else").task("e", 2, 3).task("last", 4, 5)
    assert verdicts(story.ended(6, "SUCCESS", "if SUCCESS", "e SUCCESS", "last SUCCESS")) == set()


def test_a_fallback_that_cancels_kills_all() -> None:
    story = Story(PICKY).task("l", 2, 3, state="KILLED").told("r1", 2, 0, "KILLED")
    assert verdicts(story.ended(4, "KILLED", "both KILLED", "l KILLED", "r KILLED")) == set()


def test_an_execution_may_be_killed() -> None:
    story = Story(CHAIN).task("a", 2, state="KILLED").kill(2.5, 2.6, "KILLING").told("a1", 3, 1, "KILLED")
    assert verdicts(story.ended(4, "KILLED", "a KILLED")) == set()


def test_a_worker_that_was_cut_off_may_start_a_task_of_what_was_killed() -> None:
    story = Story(CHAIN).kill(1.5, 4, "KILLING").task("a", 4.5, 5, state="KILLED")
    assert verdicts(story.ended(6, "KILLED", "a KILLED")) == set()


def test_a_kill_of_an_execution_that_has_ended_changes_nothing() -> None:
    story = chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS").kill(7, 7.1, "SUCCESS")
    assert verdicts(story) == set()


def test_a_kill_between_two_tasks_may_leave_no_task_run_killed() -> None:
    story = Story(CHAIN).task("a", 2, 3).kill(3.1, 3.2, "KILLED").ended(4, "KILLED", "a SUCCESS")
    assert verdicts(story) == set()


def test_a_creation_that_nobody_answered_may_run_or_not() -> None:
    story = Story(CHAIN)
    story.lines.pop()
    assert verdicts(story) == set()
    assert verdicts(story.task("a", 2, 3)) == set()


# ── bad histories ──


def test_an_execution_that_never_ended_is_lost() -> None:
    assert verdicts(chain()) == {Verdict.LOST}


def test_a_request_that_is_two_executions_is_found() -> None:
    story = chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS").write("created", at=2, request="x", execution="Y")
    story.write("ended", at=3, execution="Y", state="KILLED", runs=[]).write("kill execution", at=2, execution="Y")
    assert verdicts(story) == {Verdict.DUPLICATED}


def test_an_execution_that_nobody_asked_for_is_unexpected() -> None:
    story = chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")
    assert verdicts(story.write("ended", at=7, execution="Z", state="SUCCESS", runs=[])) == {Verdict.UNEXPECTED}


def test_a_task_that_has_two_jobs_is_duplicated() -> None:
    story = chain().task("a", 2.1, 2.9, job="other").ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")
    assert Verdict.DUPLICATED in verdicts(story)


def test_a_task_that_was_started_twice_under_one_fence_is_duplicated() -> None:
    story = chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")
    story.run("x", 1, 2.2, 2.8, execution="X", task="a", attempt=1, job="a1")
    assert verdicts(story) == {Verdict.DUPLICATED}


def test_a_task_that_was_started_again_without_a_lost_delivery_is_unexpected() -> None:
    story = Story(CHAIN).task("a", 2).task("a", 2.5, 3).task("b", 4, 5, got={"a": "2"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.UNEXPECTED}


def test_a_second_attempt_of_what_did_not_fail_is_a_wrong_end() -> None:
    story = Story({"tasks": [leaf("a", attempts=2)]}).task("a", 2, 3).task("a", 4, 5, attempt=2)
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "a/2 SUCCESS")) == {Verdict.WRONG_END}


def test_an_attempt_that_started_before_the_one_before_it_was_over_is_too_early() -> None:
    story = Story(STUBBORN).task("flaky", 2, 3, state="FAILED").task("flaky", 2.9, 5, attempt=2)
    assert verdicts(story.ended(6, "SUCCESS", "flaky FAILED", "flaky/2 SUCCESS")) == {Verdict.TOO_EARLY}


def test_a_task_that_ran_before_its_predecessor_ended_is_too_early() -> None:
    story = Story(CHAIN).task("a", 2, 3).task("b", 2.5, 5, got={"a": "1"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.TOO_EARLY}


def test_a_task_that_did_not_wait_for_all_that_is_parallel_is_too_early() -> None:
    story = Story(SIDES).task("l", 2, 3).task("r", 2, 6).task("last", 4, 7)
    ended = story.ended(8, "SUCCESS", "both SUCCESS", "l SUCCESS", "r SUCCESS", "last SUCCESS")
    assert verdicts(ended) == {Verdict.TOO_EARLY}


def test_an_error_task_that_ran_while_others_did_is_too_early() -> None:
    flow = {"tasks": [both(leaf("l", codes=[3]), leaf("r"))], "errors": [leaf("alarm")]}
    story = Story(flow).task("l", 2, 3, state="FAILED").task("r", 2, 6).task("alarm", 4, 5)
    assert verdicts(story.ended(8, "FAILED", "both FAILED", "l FAILED", "r SUCCESS", "alarm SUCCESS")) == {
        Verdict.TOO_EARLY
    }


def test_a_task_that_ran_after_a_failure_is_a_wrong_end() -> None:
    story = Story(TROUBLE).task("bad", 2, 3, state="FAILED").task("never", 4, 5).task("alarm", 6, 7)
    assert verdicts(story.ended(8, "FAILED", "bad FAILED", "never SUCCESS", "alarm SUCCESS")) == {Verdict.WRONG_END}


def test_a_task_that_is_no_task_run_of_its_execution_is_unexpected() -> None:
    story = Story(TROUBLE).task("bad", 2, 3, state="FAILED").task("never", 4, 5).task("alarm", 6, 7)
    assert verdicts(story.ended(8, "FAILED", "bad FAILED", "alarm SUCCESS")) == {Verdict.UNEXPECTED}


def test_a_branch_that_was_not_to_be_taken_is_a_wrong_end() -> None:
    story = Story(FORK).task("e", 2, 3).task("last", 4, 5)
    assert verdicts(story.ended(6, "SUCCESS", "if SUCCESS", "e SUCCESS", "last SUCCESS")) == {Verdict.WRONG_END}


def test_a_start_after_an_execution_was_killed_is_found() -> None:
    story = Story(CHAIN).task("a", 2, 3).kill(3.1, 3.2, "KILLED").task("b", 4, 5, got={"a": "1"}, state="KILLED")
    assert verdicts(story.ended(6, "KILLED", "a SUCCESS", "b KILLED")) == {Verdict.STARTED_AFTER_KILL}


def test_a_second_start_after_an_unconfirmed_kill_is_found() -> None:
    story = Story(CHAIN).kill(1.5, 4, "KILLING").task("a", 4.5).task("a", 9, 10, state="KILLED")
    story.lines[-1]["assignments"].append({"fence": 1, "worker": "gpu-1", "assigned": 1, "lost": 5})
    assert verdicts(story.ended(11, "KILLED", "a KILLED")) == {Verdict.STARTED_AFTER_KILL}


def test_an_end_that_is_not_killed_after_an_acknowledged_kill_is_wrong() -> None:
    story = chain().kill(4.5, 4.6, "KILLING").ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")
    assert verdicts(story) == {Verdict.WRONG_END}


def test_a_kill_that_nobody_asked_for_is_wrong() -> None:
    story = Story(CHAIN).task("a", 2, 3).ended(4, "KILLED", "a SUCCESS")
    assert verdicts(story) == {Verdict.WRONG_END}


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        ("FAILED", ("a SUCCESS", "b SUCCESS")),
        ("WARNING", ("a SUCCESS", "b SUCCESS")),
        ("SUCCESS", ("a SUCCESS",)),
        ("SUCCESS", ("a SUCCESS", "b RUNNING")),
        ("SUCCESS", ("a SUCCESS", "b FAILED")),
        ("WARNING", ("a SUCCESS", "b WARNING")),
    ],
)
def test_an_end_that_does_not_follow_from_the_tasks_is_wrong(state: str, runs: tuple[str, ...]) -> None:
    assert Verdict.WRONG_END in verdicts(chain().ended(6, state, *runs))


def test_flow_control_that_ended_otherwise_than_what_is_in_it_is_wrong() -> None:
    story = Story(SIDES).task("l", 2, 4).task("r", 2, 5).task("last", 6, 7)
    ended = story.ended(8, "WARNING", "both WARNING", "l SUCCESS", "r SUCCESS", "last SUCCESS")
    assert verdicts(ended) == {Verdict.WRONG_END}


def test_a_task_that_gave_up_with_attempts_left_is_wrong() -> None:
    story = Story(STUBBORN).task("flaky", 2, 3, state="FAILED").ended(4, "FAILED", "flaky FAILED")
    assert verdicts(story) == {Verdict.WRONG_END}


def test_a_failure_that_no_flow_wished_is_unexpected() -> None:
    story = Story(CHAIN).task("a", 2, 3, state="FAILED").ended(4, "FAILED", "a FAILED")
    assert verdicts(story) == {Verdict.UNEXPECTED}


def test_a_task_that_succeeded_and_never_ran_to_its_end_is_lost() -> None:
    story = Story(CHAIN).task("a", 2).told("a1", 3, 1).task("b", 4, 5, got={"a": "1"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.LOST}


def test_an_end_that_changes_is_duplicated() -> None:
    story = chain().ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS").ended(7, "SUCCESS", "a SUCCESS")
    assert verdicts(story) == {Verdict.DUPLICATED}


def test_a_task_that_starts_after_its_execution_ended_is_duplicated() -> None:
    story = Story(CHAIN).task("a", 2, 3).ended(3.5, "SUCCESS", "a SUCCESS", "b SUCCESS")
    assert verdicts(story.task("b", 4, 5, got={"a": "1"})) == {Verdict.DUPLICATED}


def test_an_output_of_a_run_that_was_not_recorded_is_found() -> None:
    story = Story(CHAIN).task("a", 2, 3).task("b", 4, 5, got={"a": "7"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.WRONG_OUTPUT}


def test_a_task_in_another_group_is_in_the_wrong_one() -> None:
    story = Story(CHAIN).task("a", 2, 3, worker="cpu-1", group="cpu").task("b", 4, 5, got={"a": "1"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.WRONG_GROUP}


def test_a_task_that_ran_for_another_tenant_is_the_wrong_ones() -> None:
    story = Story(CHAIN).task("a", 2, 3, tenant="acme").task("b", 4, 5, got={"a": "1"})
    assert verdicts(story.ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")) == {Verdict.WRONG_TENANT}


def test_a_task_that_overtakes_a_job_is_out_of_order() -> None:
    story = Story(CHAIN)
    story.taken(0.5, "early").run("early", 2, 3, 3.5).final(4, "early", 2)
    story.task("a", 2, 2.5).ended(6, "SUCCESS", "a SUCCESS", "b SUCCESS")
    assert Verdict.OUT_OF_ORDER in verdicts(story)


@pytest.mark.parametrize(("most", "wrong"), [(1, {Verdict.TOO_MANY_EXECUTIONS}), (2, set())])
def test_executions_of_a_flow_that_allows_fewer_at_a_time_are_found(most: int, wrong: set[Verdict]) -> None:
    story = Story(CHAIN | {"most": most}).task("a", 2, 3).task("b", 6, 7, got={"a": "1"})
    story.ended(8.0, "SUCCESS", "a SUCCESS", "b SUCCESS")
    story.write("create", at=1.0, request="y", tenant="main", flow="f", branch="then")
    story.write("created", at=1.1, request="y", execution="Y")
    for task, start, fence, got in (("a", 4, 8, {}), ("b", 9, 9, {"a": "8"})):
        story.run("y", fence, start, start + 1, execution="Y", task=task, attempt=1, job=f"{task}Y", got=got)
        story.told(f"{task}Y", start + 1.01, fence)
    runs = [{"task": task, "attempt": 1, "state": "SUCCESS", "job": f"{task}Y"} for task in "ab"]
    story.write("ended", at=11.0, execution="Y", state="SUCCESS", runs=runs)
    assert verdicts(story) == wrong


class Restarts(Story):
    """TROUBLE failed as X, with `good` beside `bad`; it is restarted as Y."""

    def __init__(self) -> None:
        flow = {"tasks": [both(leaf("bad", codes=[3]), leaf("good")), leaf("never")], "errors": [leaf("alarm")]}
        super().__init__(flow)
        self.task("bad", 2, 3, state="FAILED").task("good", 2, 3).task("alarm", 4, 5)
        self.ended(6.0, "FAILED", "both FAILED", "bad FAILED", "good SUCCESS", "alarm SUCCESS")
        self.write("restart", at=7.0, request="r", execution="X")
        self.again()

    def again(self, id: str = "Y") -> "Restarts":
        self.write("restarted", at=7.1, request="r", of="X", execution=id)
        return self

    def ran(self, *tasks: str) -> "Restarts":
        for task in tasks:
            state = "FAILED" if task == "bad" else "SUCCESS"
            at = 10 if task == "alarm" else 8
            self.task(task, at, at + 1, state=state, job=f"{task}Y", execution="Y")
        return self

    def told_of(self, **runs: str) -> "Restarts":
        """By task: "STATE JOB", or "STATE JOB TAKEN"."""
        told = []
        for task, says in runs.items():
            state, job, *taken = says.split()
            fields = {"state": state, "job": "" if job == "-" else job, "taken": "".join(taken)}
            told.append({"task": task, "attempt": 1} | fields)
        self.write("ended", at=12.0, execution="Y", state="FAILED", runs=told)
        return self


RAN = {"both": "FAILED -", "bad": "FAILED badY", "alarm": "SUCCESS alarmY"}


def test_a_restart_that_took_over_what_ended_well_is_right() -> None:
    story = Restarts().again().ran("bad", "alarm").told_of(**RAN, good="SUCCESS good1 X")
    assert verdicts(story) == set()


def test_what_a_restart_does_wrong_is_found() -> None:
    ran = Restarts().ran("bad", "good", "alarm")
    assert verdicts(ran.told_of(**RAN, good="SUCCESS goodY")) == {Verdict.DUPLICATED}
    other = Restarts().ran("bad", "alarm").told_of(**RAN, good="WARNING good1 X")
    assert Verdict.WRONG_END in verdicts(other)
    left = Restarts().ran("bad", "alarm").told_of(**RAN)
    assert Verdict.DUPLICATED in verdicts(left)
    twice = Restarts().again("Z").ran("bad", "alarm").told_of(**RAN, good="SUCCESS good1 X")
    assert verdicts(twice) == {Verdict.DUPLICATED, Verdict.LOST}
    secret = Restarts().ran("bad", "good", "alarm").told_of(**RAN, good="SUCCESS good1 X")
    assert Verdict.DUPLICATED in verdicts(secret)
