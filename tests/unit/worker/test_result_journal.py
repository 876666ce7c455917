"""Results outlive the process that made them, however it ends."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farhand.api.worker.v1 import session_pb2
from farhand.worker import results
from farhand.worker.results import ResultJournal


def a_result(number: int, message: str = "") -> session_pb2.Result:
    result = session_pb2.Result(job_id=f"job-{number}", fence=number)
    result.outcome.message = message
    return result


def key(number: int) -> tuple[str, int]:
    return (f"job-{number}", number)


def test_the_next_process_finds_what_is_unsettled(tmp_path: Path) -> None:
    journal = ResultJournal(tmp_path / "journal")
    journal.record([a_result(1), a_result(2, "why"), a_result(3)])
    journal.settle([key(1), key(3)])
    again = ResultJournal(tmp_path / "journal")
    assert again.unsettled == [key(2)]
    assert again.get(key(2)) == a_result(2, "why")


def test_a_folder_without_a_journal_has_no_results(tmp_path: Path) -> None:
    assert ResultJournal(tmp_path / "journal").unsettled == []


@pytest.mark.parametrize("torn", range(1, 30))
def test_a_torn_tail_costs_the_last_result_alone_and_the_journal_goes_on(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "journal"
    ResultJournal(path).record([a_result(1), a_result(2)])
    path.write_bytes(path.read_bytes()[:-torn])
    journal = ResultJournal(path)
    survivors = journal.unsettled
    assert survivors[:1] == [key(1)] or torn > 20
    journal.record([a_result(9)])
    assert ResultJournal(path).unsettled == [*survivors, key(9)]


@given(st.integers(0, 200), st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_byte_never_makes_a_result_that_was_not_there(tmp_path: Path, position: int, value: int) -> None:
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    made = [a_result(number, "x" * number) for number in range(1, 6)]
    ResultJournal(path).record(made)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data)
    journal = ResultJournal(path)
    assert [journal.get(found) for found in journal.unsettled] == made[: len(journal.unsettled)]


def test_the_file_does_not_grow_with_what_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "COMPACT_AT", 20_000)
    journal = ResultJournal(tmp_path / "journal")
    journal.record([a_result(0, "stays")])
    for number in range(1, 1000):
        journal.record([a_result(number, "x" * 100)])
        journal.settle([key(number)])
    assert (tmp_path / "journal").stat().st_size < 25_000
    assert ResultJournal(tmp_path / "journal").unsettled == [key(0)]


def test_an_empty_journal_is_an_empty_file(tmp_path: Path) -> None:
    journal = ResultJournal(tmp_path / "journal")
    journal.record([a_result(number, "x" * 1000) for number in range(1, 100)])
    journal.settle([key(number) for number in range(1, 100)])
    assert (tmp_path / "journal").stat().st_size == 0


def test_a_disk_that_takes_nothing_costs_no_result_while_the_process_lives(tmp_path: Path) -> None:
    journal = ResultJournal(tmp_path / "journal")
    journal._file.close()  # every write fails from now on
    assert journal.record([a_result(1)]) is False
    assert journal.get(key(1)) == a_result(1)


def test_a_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    writes: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, position: int) -> int:
        writes.append(len(data))
        return real(descriptor, data, position)

    monkeypatch.setattr(os, "pwrite", pwrite)
    journal = ResultJournal(tmp_path / "journal")
    writes.clear()
    journal.record([a_result(number) for number in range(500)])
    assert len(writes) == 1
