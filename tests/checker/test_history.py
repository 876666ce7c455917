"""The checker finds each kind of wrong, proves it by lines, and lets every legal oddity pass."""

import json
from pathlib import Path

from tests.checker.history import History, Line, judge, read


def submitted(job: str, at: float, *, group: str = "g", request: str = "") -> list[Line]:
    """A submit that begins at a time and is acknowledged one second later."""
    request = request or f"request of {job}"
    return [
        {"kind": "submitting", "request": request, "t": at},
        {"kind": "acknowledged", "request": request, "job": job, "group": group, "t": at + 1},
    ]


def run(job: str, fence: int, start: float, end: float | None, *, group: str = "g") -> list[Line]:
    """A run, with its end or without."""
    line = {"job": job, "fence": fence, "worker": "w", "group": group}
    lines = [{"kind": "start", **line, "t": start}]
    return lines if end is None else [*lines, {"kind": "end", **line, "t": end}]


def ended(job: str, state: str = "SUCCESS", lost: int = 0, given_back: list[str] | None = None) -> list[Line]:
    back = ["LEASE_EXPIRED"] * lost if given_back is None else given_back
    return [{"kind": "ended", "job": job, "state": state, "lost": lost, "given_back": back}]


def kill(job: str, at: float) -> list[Line]:
    return [{"kind": "kill acknowledged", "job": job, "t": at}]


def verdicts(*parts: list[Line]) -> list[str]:
    findings = judge(History.of(line for part in parts for line in part))
    assert all(finding.proof for finding in findings)
    return [finding.verdict.partition(":")[0].partition(",")[0] for finding in findings]


def test_a_plain_history_is_right() -> None:
    parts = [submitted("a", 0), submitted("b", 2), run("a", 1, 3, 4), run("b", 2, 3, 5), ended("a"), ended("b")]
    assert verdicts(*parts) == []


def test_a_run_that_was_lost_and_ran_again_is_right() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, None), run("a", 5, 9, 10), ended("a", lost=1)) == []


def test_an_acknowledgement_that_came_twice_is_right() -> None:
    assert verdicts(submitted("a", 0), submitted("a", 0.5), run("a", 1, 2, 3), ended("a")) == []


def test_a_killed_job_may_never_have_run() -> None:
    assert verdicts(submitted("a", 0), kill("a", 2), ended("a", "KILLED")) == []


def test_a_kill_of_a_job_that_had_ended_changes_nothing() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3), kill("a", 4), ended("a")) == []


def test_two_submits_at_once_have_no_order() -> None:
    parts = [submitted("a", 0), submitted("b", 0.5), run("a", 9, 3, 4), run("b", 2, 3, 4), ended("a"), ended("b")]
    assert verdicts(*parts) == []


def test_a_job_that_never_ended_is_lost() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3)) == ["lost"]


def test_a_success_without_a_run_is_lost() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, None), ended("a")) == ["lost"]


def test_one_request_with_two_jobs_is_duplicated() -> None:
    parts = [submitted("a", 0, request="r"), submitted("b", 2, request="r"), run("a", 1, 3, 4), run("b", 2, 3, 4)]
    assert verdicts(*parts, ended("a"), ended("b")) == ["duplicated"]


def test_one_assignment_that_ran_twice_is_duplicated() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3), run("a", 1, 4, 5), ended("a", lost=1)) == ["duplicated"]


def test_a_second_run_that_no_lost_delivery_explains_is_duplicated() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3), run("a", 2, 4, 5), ended("a")) == ["duplicated"]


def test_two_runs_at_once_overlap() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 6), run("a", 2, 4, 5), ended("a", lost=1)) == ["overlapping"]


def test_a_fence_that_falls_is_found() -> None:
    assert verdicts(submitted("a", 0), run("a", 7, 2, None), run("a", 3, 4, 5), ended("a", lost=1)) == ["fence"]


def test_overtaking_is_out_of_order() -> None:
    parts = [submitted("a", 0), submitted("b", 2), run("a", 9, 3, 4), run("b", 2, 3, 4), ended("a"), ended("b")]
    assert verdicts(*parts) == ["out of order"]


def test_a_job_that_was_handed_back_unstarted_may_seem_to_be_overtaken() -> None:
    parts = [submitted("a", 0), submitted("b", 2), run("a", 9, 3, 4), run("b", 2, 3, 4)]
    assert verdicts(*parts, ended("a", given_back=["NOT_RECEIVED"]), ended("b")) == []


def test_overtaking_in_another_group_is_right() -> None:
    parts = [submitted("a", 0), submitted("b", 2, group="h"), run("a", 9, 3, 4), run("b", 2, 3, 4, group="h")]
    assert verdicts(*parts, ended("a"), ended("b")) == []


def test_a_run_in_another_group_is_wrong() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3, group="h"), ended("a")) == ["wrong group"]


def test_a_result_after_a_kill_is_found() -> None:
    assert verdicts(submitted("a", 0), kill("a", 2), run("a", 1, 3, 4), ended("a")) == ["killed"]


def test_a_second_start_after_a_kill_is_found() -> None:
    parts = [submitted("a", 0), run("a", 1, 2, None), kill("a", 3), run("a", 2, 5, None), ended("a", "KILLED", lost=1)]
    assert verdicts(*parts) == ["killed"]


def test_a_run_that_nobody_submitted_is_unexpected() -> None:
    assert verdicts(submitted("a", 0), run("a", 1, 2, 3), ended("a"), run("x", 2, 4, 5)) == ["unexpected"]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    lines = [*submitted("a", 0), *run("a", 1, 2, 3), *ended("a")]
    (tmp_path / "client.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "sta')
    assert judge(History.of(read(tmp_path))) == []
