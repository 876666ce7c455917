"""Histories written by hand: each kind of wrong is found, and nothing that is legal."""

from pathlib import Path

import pytest

from tests.checker.findings import Verdict, report
from tests.checker.reading import Unreadable, read
from tests.checker.tale import Tale, verdicts
from tests.checker.verdicts import check

# ── good histories ──


def test_nothing_is_wrong_with_jobs_that_run_in_order() -> None:
    assert verdicts(Tale().whole(1, "a", 1).whole(2, "b", 2).whole(3, "c", 3)) == set()


def test_a_lost_run_that_came_again_under_a_higher_fence_is_legal() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2).alive("a", 1, 3.0)
    tale.run("a", 4, 6.0, 7.0, worker="gpu-2").final(7.1, "a", 4, lost=[(1, 1.1, 5.0)])
    assert verdicts(tale) == set()


def test_a_run_that_ended_while_its_worker_was_cut_off_may_come_again() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 2.0).run("a", 4, 6.0, 7.0).final(7.1, "a", 4, lost=[(1, 1.1, 5.0)])
    assert verdicts(tale) == set()


def test_a_submit_that_was_repeated_under_its_id_is_one_job() -> None:
    tale = Tale().submit(1, "a").submit(2, "a").submitted(2.1, "a").submitted(2.2, "a")
    tale.run("a", 1, 1.5, 1.9).final(3, "a", 1).final(4, "a", 1)
    assert verdicts(tale) == set()


def test_a_submit_that_nobody_answered_may_run_or_not() -> None:
    assert verdicts(Tale().submit(1, "a").submit(1, "b").run("a", 1, 1.5, 1.9)) == set()


def test_a_queued_job_may_be_killed() -> None:
    tale = Tale().taken(1, "a").killed(1.5, 1.6, "a", "KILLED").final(2, "a", 0, "KILLED")
    assert verdicts(tale.whole(3, "b", 1)) == set()


def test_a_running_job_may_be_killed() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2).alive("a", 1, 2.2).killed(2, 2.1, "a", "KILLING")
    assert verdicts(tale.final(2.5, "a", 1, "KILLED")) == set()


def test_a_start_may_be_written_after_a_kill_that_found_its_process_made() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 2.15, spawned=2.0).killed(2.05, 2.1, "a", "KILLING")
    assert verdicts(tale.final(2.5, "a", 1, "KILLED")) == set()


def test_a_worker_that_was_cut_off_may_start_what_was_to_be_killed() -> None:
    tale = Tale().taken(1, "a").killed(2, 4.0, "a", "KILLING").run("a", 1, 4.5, 5.0).final(6, "a", 1, "KILLED")
    assert verdicts(tale) == set()


def test_a_kill_of_what_has_ended_changes_nothing() -> None:
    assert verdicts(Tale().whole(1, "a", 1).killed(3, 3.1, "a", "SUCCESS")) == set()


def test_a_kill_that_nobody_answered_may_have_come_or_not() -> None:
    tale = Tale().whole(1, "a", 1).write("kill", at=1.1, job="A")
    tale.taken(1, "b").write("kill", at=1.1, job="B").final(2, "b", 0, "KILLED")
    assert verdicts(tale) == set()


def test_a_job_that_was_to_fail_may_fail() -> None:
    tale = Tale().taken(1, "a", expects=["FAILED"]).run("a", 1, 1.2, 1.3).final(2, "a", 1, "FAILED")
    assert verdicts(tale) == set()


def test_jobs_submitted_at_the_same_time_have_no_order() -> None:
    tale = Tale().submit(1, "a").submit(1.005, "b").submitted(1.01, "a").submitted(1.02, "b")
    tale.run("b", 1, 1.5, 1.6).run("a", 2, 2.5, 2.6).final(2, "b", 1).final(3, "a", 2)
    assert verdicts(tale) == set()


def test_jobs_that_were_assigned_together_have_no_order() -> None:
    tale = Tale().taken(1, "a").taken(2, "b").run("b", 1, 3, 3.2).run("a", 2, 3, 3.2)
    assert verdicts(tale.final(4, "a", 2, assigned=2.9).final(4, "b", 1, assigned=2.9)) == set()


def test_another_group_has_another_order() -> None:
    tale = Tale().taken(1, "a").taken(2, "b", group="cpu").run("b", 1, 3, 3.2, worker="cpu-1", group="cpu")
    assert verdicts(tale.final(4, "b", 1).run("a", 2, 5, 5.1).final(6, "a", 2)) == set()


def test_who_is_lost_with_its_worker_may_be_passed_until_its_lease_is_over() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.5).whole(2, "b", 2)
    assert verdicts(tale.run("a", 3, 9, 9.5).final(10, "a", 3, assigned=8.9, lost=[(1, 1.4, 8.0)])) == set()


def test_an_assignment_that_never_started_is_one_too() -> None:
    tale = Tale().taken(1, "a").whole(2, "b", 2).run("a", 3, 5, 5.5).final(6, "a", 3, lost=[(1, 1.4, 2.5)])
    assert verdicts(tale) == set()


def test_who_may_not_run_it_may_pass_it() -> None:
    tale = Tale().write("worker", worker="gpu-1", group="gpu", tenants=["main"])
    tale.taken(1, "a", tenant="acme").whole(2, "b", 1)
    assert verdicts(tale.run("a", 2, 5, 5.5, tenant="acme", worker="gpu-2").final(6, "a", 2)) == set()


def test_a_tenant_that_keeps_to_its_quota_may_be_passed_by_others() -> None:
    tale = Tale().write("quota", group="gpu", tenant="acme", max_running=1)
    tale.taken(1, "a", tenant="acme").taken(2, "b", tenant="acme").taken(3, "c")
    tale.run("a", 1, 1.5, 4, tenant="acme").run("c", 2, 3.5, 3.8).run("b", 3, 4.2, 4.5, tenant="acme", worker="gpu-2")
    assert verdicts(tale.final(5, "a", 1).final(5, "b", 3).final(5, "c", 2)) == set()


def test_a_run_that_was_lost_makes_room() -> None:
    tale = Tale().write("quota", group="gpu", tenant="main", max_running=1)
    tale.taken(1, "a").run("a", 1, 1.5).alive("a", 1, 3).run("a", 2, 8, 9, worker="gpu-2")
    assert verdicts(tale.final(10, "a", 2, assigned=7.9, lost=[(1, 1.4, 7.5)])) == set()


def test_a_kill_may_meet_a_job_that_had_been_lost_before() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.5).killed(6, 8.1, "a", "KILLING").run("a", 2, 8.5)
    assert verdicts(tale.final(12, "a", 2, "KILLED", lost=[(1, 1.1, 5)])) == set()


# ── bad ones ──


def test_an_acknowledged_job_that_nobody_saw_end_is_lost() -> None:
    assert verdicts(Tale().taken(1, "a").run("a", 1, 1.2, 1.6)) == {Verdict.LOST}


def test_a_job_that_ended_well_and_was_never_run_is_lost() -> None:
    assert verdicts(Tale().taken(1, "a").final(2, "a", 1)) == {Verdict.LOST}


def test_a_job_that_ended_well_under_a_fence_whose_run_was_killed_is_lost() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 1.6).run("a", 2, 3).final(4, "a", 2, lost=[(1, 1.1, 2)])
    assert verdicts(tale) == {Verdict.LOST}


def test_one_request_with_two_ids_is_duplicated() -> None:
    tale = Tale().whole(1, "a", 1).submitted(2, "a", "OTHER").run("a", 2, 2.2, 2.3, job="OTHER").final(3, "other", 2)
    assert verdicts(tale) == {Verdict.DUPLICATED}


def test_one_request_that_runs_under_two_ids_is_duplicated_though_one_alone_was_acknowledged() -> None:
    assert verdicts(Tale().whole(1, "a", 1).run("a", 2, 2.2, 2.3, job="OTHER")) == {Verdict.DUPLICATED}


def test_one_id_for_two_requests_is_duplicated() -> None:
    assert verdicts(Tale().whole(1, "a", 1).submit(2, "b").submitted(2.1, "b", "A")) == {Verdict.DUPLICATED}


def test_two_ends_are_duplicated() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 1.6).run("a", 2, 3, 3.5)
    assert verdicts(tale.final(2, "a", 1).final(4, "a", 2)) >= {Verdict.DUPLICATED}


def test_an_end_that_a_kill_was_told_and_another_is_duplicated() -> None:
    assert verdicts(Tale().whole(1, "a", 1).killed(2, 2.1, "a", "KILLED")) == {Verdict.DUPLICATED}


def test_a_start_behind_the_end_is_duplicated() -> None:
    tale = Tale().whole(1, "a", 5).run("a", 3, 4, 5)
    assert verdicts(tale) >= {Verdict.DUPLICATED, Verdict.FENCE_DID_NOT_GROW, Verdict.UNEXPECTED}


def test_two_starts_under_one_fence_are_duplicated() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2).run("a", 1, 1.5, 1.6).final(2, "a", 1)
    assert verdicts(tale) == {Verdict.DUPLICATED}


@pytest.mark.parametrize("sign", ["alive", "end"])
def test_a_sign_of_life_after_the_next_start_is_an_overlap(sign: str) -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 6.01 if sign == "end" else None)
    if sign == "alive":
        tale.alive("a", 1, 6.01)
    tale.run("a", 2, 6.0, 7.0, worker="gpu-2").final(8, "a", 2, lost=[(1, 1.1, 5.9)])
    [finding] = tale.findings()
    assert finding.verdict is Verdict.OVERLAPPING
    assert [line.place for line in finding.proof] == ["tale:6", "tale:8", "tale:7"]  # start, start, sign of life


def test_a_later_job_that_was_assigned_first_is_out_of_order() -> None:
    tale = Tale().taken(1, "a").taken(2, "b").run("b", 1, 3, 3.2).run("a", 2, 4, 4.2)
    assert verdicts(tale.final(3.5, "b", 1).final(4.5, "a", 2)) == {Verdict.OUT_OF_ORDER}


def test_a_job_that_waited_until_it_was_killed_while_a_later_one_ran_was_overtaken() -> None:
    tale = Tale().taken(1, "a").whole(2, "b", 1).killed(5, 5.1, "a", "KILLED").final(6, "a", 0, "KILLED")
    assert verdicts(tale) == {Verdict.OUT_OF_ORDER}


def test_a_lost_job_that_did_not_return_to_its_old_place_is_out_of_order() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2).whole(12, "b", 2).run("a", 3, 15, 16)
    assert verdicts(tale.final(17, "a", 3, lost=[(1, 1.1, 4.0)]), margin=5) == {Verdict.OUT_OF_ORDER}


@pytest.mark.parametrize("sign", ["alive", "end"])
def test_more_at_once_than_a_quota_allows_are_too_many(sign: str) -> None:
    tale = Tale().write("quota", group="gpu", tenant="main", max_running=1)
    tale.taken(1, "a").taken(2, "b").run("a", 1, 1.5, 3.1 if sign == "end" else None)
    if sign == "alive":
        tale.alive("a", 1, 3.1)
    tale.run("b", 2, 3, 4, worker="gpu-2").run("a", 3, 5, 6).final(7, "b", 2)
    tale.final(7, "a", 1) if sign == "end" else tale.final(7, "a", 3, assigned=4.9, lost=[(1, 1.4, 4.8)])
    assert Verdict.TOO_MANY in verdicts(tale)


def test_a_quota_excuses_nobody_of_its_own_tenant() -> None:
    tale = Tale().write("quota", group="gpu", tenant="main", max_running=1)
    tale.taken(1, "a").taken(2, "b").run("b", 1, 3, 3.2).run("a", 2, 4, 4.2)
    assert verdicts(tale.final(3.5, "b", 1).final(4.5, "a", 2)) == {Verdict.OUT_OF_ORDER}


def test_a_worker_of_another_group_is_the_wrong_one() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 1.6, worker="cpu-1", group="cpu").final(2, "a", 1)
    assert verdicts(tale) == {Verdict.WRONG_GROUP}


def test_another_tenant_is_the_wrong_one() -> None:
    tale = Tale().taken(1, "a", tenant="acme").run("a", 1, 1.2, 1.6, tenant="main").final(2, "a", 1)
    assert verdicts(tale) == {Verdict.WRONG_TENANT}


def test_a_worker_that_does_not_admit_the_tenant_is_the_wrong_one() -> None:
    tale = Tale().write("worker", worker="gpu-1", group="gpu", tenants=["acme"])
    assert verdicts(tale.whole(1, "a", 1)) == {Verdict.WRONG_TENANT}


def test_a_start_after_a_queued_job_was_killed_is_found() -> None:
    tale = Tale().taken(1, "a").killed(1.5, 1.6, "a", "KILLED").run("a", 1, 2, 3).final(4, "a", 1, "KILLED")
    assert verdicts(tale) == {Verdict.STARTED_AFTER_KILL}


def test_a_start_after_a_worker_confirmed_a_kill_is_found() -> None:
    tale = Tale().taken(1, "a").killed(1.5, 1.6, "a", "KILLING").run("a", 1, 2, 3).final(4, "a", 1, "KILLED")
    assert verdicts(tale) == {Verdict.STARTED_AFTER_KILL}


def test_an_end_that_is_not_killed_after_an_acknowledged_kill_is_unexpected() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 5).killed(1.5, 4, "a", "KILLING").final(6, "a", 1)
    assert verdicts(tale) == {Verdict.UNEXPECTED}


def test_a_second_assignment_after_an_unconfirmed_kill_is_found() -> None:
    tale = Tale().taken(1, "a").killed(1.5, 4, "a", "KILLING").run("a", 1, 5).run("a", 2, 9)
    assert verdicts(tale.final(12, "a", 2, "KILLED", lost=[(1, 1.1, 8)])) == {Verdict.STARTED_AFTER_KILL}


def test_a_fence_that_does_not_grow_is_found() -> None:
    tale = Tale().taken(1, "a").run("a", 7, 1.2).run("a", 5, 3, 4).final(5, "a", 5, lost=[(7, 1.1, 2)])
    assert verdicts(tale) == {Verdict.FENCE_DID_NOT_GROW}


def test_a_run_that_nobody_asked_for_is_unexpected() -> None:
    assert verdicts(Tale().run("a", 1, 1.2, 1.6)) == {Verdict.UNEXPECTED}


def test_a_run_under_a_fence_that_the_job_never_had_is_unexpected() -> None:
    tale = Tale().whole(1, "a", 5).run("a", 3, 1.1, 1.15)
    assert verdicts(tale) == {Verdict.UNEXPECTED}


def test_a_failure_that_was_not_meant_is_unexpected() -> None:
    assert verdicts(Tale().taken(1, "a").run("a", 1, 1.2).final(2, "a", 1, "FAILED")) == {Verdict.UNEXPECTED}


def test_a_kill_that_nobody_asked_for_is_unexpected() -> None:
    assert verdicts(Tale().taken(1, "a").run("a", 1, 1.2).final(2, "a", 1, "KILLED")) == {Verdict.UNEXPECTED}


def test_a_worker_that_nobody_set_up_is_unexpected() -> None:
    tale = Tale().taken(1, "a").run("a", 1, 1.2, 1.3, worker="stranger").final(2, "a", 1)
    assert verdicts(tale) == {Verdict.UNEXPECTED}


# ── reading ──


def test_files_of_a_folder_are_read_and_a_finding_shows_its_lines(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "one.jsonl").write_text(
        '{"what":"submit","at":1,"request":"a","group":"gpu","tenant":"main"}\n'
        '{"what":"submitted","at":2,"request":"a","job":"A"}\n'
    )
    shown = report(check(read(tmp_path)))
    assert shown == (
        "LOST: job A was acknowledged and nobody saw it end\n"
        '    clients/one.jsonl:2  {"what":"submitted","at":2,"request":"a","job":"A"}'
    )


@pytest.mark.parametrize("line", ["{", '{"what":"dance","at":1}', '{"what":"submitted","at":1}', "[]"])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "one.jsonl").write_text(f'{{"what":"kill","at":1,"job":"A"}}\n{line}\n')
    with pytest.raises(Unreadable, match=r"one\.jsonl:2"):
        read(tmp_path)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"what":"kill","at":1,"job":"A"}\n{"what":"sta')
    assert len(read(tmp_path)) == 1
