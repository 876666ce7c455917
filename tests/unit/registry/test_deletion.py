"""How a group goes away, pair by pair (registry/core/deletion.py)."""

from dataclasses import replace

import pytest

from farhand.kernel.errors import InUse, NotDeleting, Protected
from farhand.registry.core.deletion import TABLE, Asked, Finished, Refused, check_unused, has_jobs, step
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup

ACTIVE = WorkerGroup(key="gpu", uid="wg_a", revision=7)
DELETING = replace(ACTIVE, state=GroupState.DELETING, deleting_since=7, revision=8)
JOBS = Refusal(queued_jobs=3, running_jobs=1)


def test_every_pair_of_state_and_event_is_in_the_table() -> None:
    assert set(TABLE) == {(state, event) for state in GroupState for event in (Asked, Finished, Refused)}


def test_a_deletion_that_is_asked_for_remembers_the_revision_before_it() -> None:
    assert step(ACTIVE, Asked(force=False)) == replace(ACTIVE, state=GroupState.DELETING, deleting_since=7)


def test_asking_again_joins_and_changes_nothing() -> None:
    assert step(DELETING, Asked(force=False)) == DELETING


def test_force_is_added_to_a_deletion_and_never_taken_back() -> None:
    forced = step(DELETING, Asked(force=True))
    assert forced is not None and forced.force_deletion and forced.deleting_since == 7
    assert step(forced, Asked(force=False)) == forced


def test_a_finished_deletion_removes_the_row() -> None:
    assert step(DELETING, Finished()) is None


def test_a_refused_deletion_makes_the_group_active_again_and_says_why() -> None:
    refused = step(replace(DELETING, force_deletion=True), Refused(JOBS))
    assert refused == replace(ACTIVE, refusal=JOBS, revision=8)
    assert refused is not None
    error = has_jobs(refused)
    assert "3 queued and 1 running" in error.message
    assert error.metadata == {"queued_jobs": "3", "running_jobs": "1"}


def test_a_refusal_that_comes_twice_changes_nothing() -> None:
    refused = replace(ACTIVE, refusal=JOBS)
    assert step(refused, Refused(JOBS)) == refused


def test_an_answer_to_no_question_is_refused() -> None:
    for answer in (Finished(), Refused(JOBS)):
        with pytest.raises(NotDeleting, match="not being deleted"):
            step(ACTIVE, answer)


def test_a_new_deletion_forgets_why_the_last_one_was_refused() -> None:
    asked = step(replace(ACTIVE, refusal=JOBS), Asked(force=False))
    assert asked is not None and asked.refusal is None


def test_the_default_group_can_not_be_deleted() -> None:
    with pytest.raises(Protected):
        step(WorkerGroup(key="", uid="wg_d"), Asked(force=True))


def test_a_group_in_use_lists_who_uses_it() -> None:
    check_unused(ACTIVE, [], [], [])
    with pytest.raises(InUse, match=r"by the tenants main and by the namespaces main/c and by the flows main/c\.hello"):
        check_unused(ACTIVE, ["main"], ["main/c"], ["main/c.hello"])
    with pytest.raises(InUse, match="and 2 more"):
        check_unused(ACTIVE, [f"t{number}" for number in range(12)], [], [])
