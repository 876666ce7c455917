"""The log of one run on this machine's disk."""

import resource
from pathlib import Path

import pytest

from farhand.api.types.v1 import log_record_pb2
from farhand.worker.run_log import RunLog, file_name, key_of

OUT = log_record_pb2.LOG_STREAM_STDOUT
KEY = ("job-1", 3)


def a_log(folder: Path, limit: int = 1_000_000) -> RunLog:
    return RunLog(KEY, folder / file_name(KEY), limit, lambda log: None)


def texts(log: RunLog) -> list[str]:
    return [record.text for record in log.read(1 << 20)]


def test_what_is_written_is_read_from_the_acknowledged_offset_on(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a", b"b", b"c"])
    log.stored(2)
    assert (log.end, log.acked, texts(log)) == (3, 2, ["c"])
    log.output(OUT, [b"d"])
    assert texts(log) == ["c", "d"]


def test_a_log_is_done_when_it_is_closed_and_all_of_it_is_stored(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a"])
    log.stored(1)
    assert not log.done
    log.close()
    assert log.done


def test_an_acknowledgement_beyond_the_end_or_behind_the_last_means_nothing(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a", b"b"])
    log.stored(5)
    assert log.acked == 0
    log.stored(2)
    log.stored(1)
    assert log.acked == 2


def test_rewinding_sends_it_all_again(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a", b"b"])
    log.stored(2)
    log.rewind()
    assert texts(log) == ["a", "b"]


def test_a_chunk_holds_whole_records(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"x" * 1000] * 10)
    assert len(log.read(5_000)) == 4
    log.stored(9)
    assert len(log.read(5_000)) == 1


def test_the_next_process_finds_what_was_written_as_far_as_it_is_whole(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a", b"b", b"c"])
    path = tmp_path / file_name(KEY)
    path.write_bytes(path.read_bytes()[:-3])
    left = RunLog.left_behind(KEY, path, lambda log: None)
    assert (left.end, left.closed, texts(left)) == (2, True, ["a", "b"])


def test_no_file_is_made_for_a_run_that_says_nothing(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.close()
    assert log.done and list(tmp_path.iterdir()) == []


def test_after_the_limit_only_our_own_lines_come_in_and_not_without_end(tmp_path: Path) -> None:
    log = a_log(tmp_path, limit=1_000)
    log.output(OUT, [b"x" * 100] * 50)
    assert log.full
    end = log.end
    log.output(OUT, [b"more"])
    assert log.end == end
    for _ in range(1_000):
        log.system("why")
    assert end < log.end <= end + 100


def test_empty_lines_count_too(tmp_path: Path) -> None:
    log = a_log(tmp_path, limit=1_000)
    log.output(OUT, [b""] * 100_000)
    assert log.end < 200


def test_a_refused_log_keeps_nothing_more(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.output(OUT, [b"a"])
    log.refuse()
    log.output(OUT, [b"b"])
    log.system("c")
    assert log.end == 1 and not log.unsent


def test_a_disk_that_takes_nothing_costs_lines_and_never_the_job(tmp_path: Path) -> None:
    log = RunLog(KEY, tmp_path / "no-such-folder" / "x.log", 1_000, lambda log: None)
    log.output(OUT, [b"a"])
    log.close()
    assert log.end == 0 and log.done


def test_a_log_of_many_megabytes_costs_no_memory(tmp_path: Path) -> None:
    log = a_log(tmp_path, limit=1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        log.output(OUT, [b"x" * 60_000] * 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB, of 54 MB


@pytest.mark.parametrize("key", [("job-1", 3), ("../../etc/passwd", 1), ("a-b-c", 12), ("..", 1)])
def test_the_name_of_the_file_tells_the_run_and_stays_in_its_folder(key: tuple[str, int]) -> None:
    name = file_name(key)
    assert "/" not in name
    assert key_of(name) == key


@pytest.mark.parametrize("name", ["x", "x.log", "a-b.log", "a-1.txt"])
def test_what_is_no_log_file_is_none(name: str) -> None:
    assert key_of(name) is None
