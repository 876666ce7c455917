"""How appends become chunks: end to end, joined, cut, and each with its own answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.api.types.v1.log_record_pb2 import LogRecord
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.kernel.errors import LogGap
from farhand.scheduler.core.log import CUT, Append, Known, LogLimits, Plan, Stored, drop_first, plan_appends


def chunk(*lines: str) -> bytes:
    return AppendLogsRequest(records=[LogRecord(text=line) for line in lines]).SerializeToString()


def lines(records: bytes) -> list[str]:
    return [record.text for record in AppendLogsRequest.FromString(records).records]


LIMITS = LogLimits(log_bytes=1000, cut_line=chunk("cut here"), chunk_bytes=500)


def an_append(offset: int, *text: str, key: int = 1, fence: int = 5, subject: str = "w") -> Append:
    return Append(key, fence, offset, chunk(*text), len(text), subject)


def plan(*appends: Append, end: int = 0, size: int = 0, wanted: bool = True) -> Plan:
    known = {(a.key, a.fence, a.subject): Known(wanted, end) for a in appends}
    return plan_appends(appends, known, {(1, 5): size}, LIMITS)


@given(st.lists(st.text(max_size=300), max_size=20), st.data())
def test_dropping_the_first_records_leaves_the_others(text: list[str], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(text)))
    assert lines(drop_first(chunk(*text), count)) == text[count:]


def test_dropping_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not hold 3 records"):
        drop_first(chunk("a", "b"), 3)


def test_appends_of_one_log_ride_in_one_chunk() -> None:
    made = plan(an_append(2, "c"), an_append(3, "d", "e"), end=2)
    (stored,) = made.chunks
    assert (stored.start, stored.end, lines(stored.records)) == (2, 5, ["c", "d", "e"])
    assert made.riding == {0: (1, 5), 1: (1, 5)}
    assert not made.answers


def test_what_is_stored_already_is_skipped_also_in_part() -> None:
    made = plan(an_append(0, "a", "b"), an_append(1, "b", "c"), an_append(1, "b", "c", "d"), end=2)
    assert made.answers == {0: Stored(2)}
    (stored,) = made.chunks
    assert (stored.start, stored.end, lines(stored.records)) == (2, 4, ["c", "d"])
    assert made.riding.keys() == {1, 2}


def test_a_gap_is_an_error_of_that_append_alone() -> None:
    made = plan(an_append(0, "a"), an_append(2, "c"))
    gap = made.answers[1]
    assert isinstance(gap, LogGap)
    assert gap.metadata["offset"] == "0"
    assert [lines(stored.records) for stored in made.chunks] == [["a"]]


def test_a_stale_fence_stores_nothing() -> None:
    made = plan(an_append(0, "a"), wanted=False)
    assert made.answers == {0: Stored(0, refused=True)}
    assert not made.chunks


def test_one_round_stores_one_chunk_of_bounded_size_per_log() -> None:
    made = plan(an_append(0, "x" * 300), an_append(1, "y" * 300), an_append(2, "z"))
    (stored,) = made.chunks
    assert stored.end == 1
    assert made.riding.keys() == {0}
    assert not made.answers  # the others wait for the next round, in their order


def test_a_log_over_its_limit_is_cut_once_with_a_mark() -> None:
    made = plan(an_append(9, "a" * 50), an_append(10, "b" * 50), an_append(11, "c"), end=9, size=900)
    (stored,) = made.chunks
    assert (stored.start, stored.end) == (9, CUT)
    assert lines(stored.records) == ["a" * 50, "cut here"]
    assert made.riding.keys() == {0, 1, 2}


def test_a_log_that_was_cut_takes_everything_and_keeps_nothing() -> None:
    made = plan(an_append(500, "more"), end=CUT)
    assert made.answers == {0: Stored(501)}
    assert not made.chunks


def test_the_logs_of_a_round_are_sorted_against_deadlock() -> None:
    made = plan(*(an_append(0, "a", key=key) for key in (3, 1, 2)))
    assert [stored.key for stored in made.chunks] == [1, 2, 3]
