"""The kernel's small rules: job ids, durations, names, hints, and which group a job gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.kernel.durations import format_duration, parse_duration
from farhand.kernel.job_id import decode, encode
from farhand.kernel.names import (
    ancestors,
    check_group_key,
    check_namespace,
    check_task_type,
    check_tenant,
    check_text,
    check_worker_id,
    near_matches,
    not_found,
    shown,
)
from farhand.kernel.resolution import Fallback, Level, Resolved, resolve

KEYS = st.integers(1, 2**60 - 1)


@given(KEYS)
def test_a_job_id_names_one_key(key: int) -> None:
    job_id = encode(key)
    assert len(job_id) == 13 and decode(job_id) == key == decode(job_id.upper())


@given(KEYS, st.integers(1, 12), st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz"))
def test_one_mistyped_character_is_noticed(key: int, place: int, typed: str) -> None:
    job_id = encode(key)
    mistyped = job_id[:place] + typed + job_id[place + 1 :]
    if typed != job_id[place] and {typed, job_id[place]} != {"0", "z"}:  # the one pair that modulo 31 can't tell apart
        assert decode(mistyped) is None


@pytest.mark.parametrize("text", ["", "abc", "u" * 13, "4krvqkebz99y_", "4krvqkebz99y６", "-krvqkebz99y5", "0" * 13])
def test_what_can_not_be_a_job_id_is_none(text: str) -> None:
    assert decode(text) is None


def test_o_i_and_l_are_read_as_the_digits_that_they_look_like() -> None:
    key = next(key for key in range(1, 1000) if "0" in encode(key)[1:] and "1" in encode(key)[1:])
    job_id = encode(key)
    assert decode(job_id.replace("0", "O").replace("1", "l")) == key


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m30s", 150), ("1h", 3600), ("500ms", 0.5), ("PT1M30S", 90), ("P1D", 86400), ("PT0S", 0), ("5", 5)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "fast", "-5s", "5 s", "1h30"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 2m30s, 1h"):
        parse_duration(text)


@given(st.floats(0.001, 1e7))
def test_a_written_duration_is_read_back_about_the_same(seconds: float) -> None:
    again = parse_duration(format_duration(seconds))
    assert again == pytest.approx(seconds, rel=0.06, abs=0.0006)


def test_names_are_held_to_their_rules() -> None:
    assert check_group_key("key", "gpu-1_A") == check_tenant("id", "main") == check_worker_id("id", "box.1") == []
    assert check_namespace("name", "company.team") == check_task_type("type", "io.kestra.Log") == []
    for wrong in ("", "-gpu", "g pu", "gpu!", "x" * 101, "gpu\n"):
        assert check_group_key("worker_group.key", wrong)[0].path == "worker_group.key"
    assert check_namespace("name", "company..team") and check_tenant("id", "Main") and check_text("d", "a\0")


def test_near_matches_look_like_what_was_typed() -> None:
    assert near_matches("gpuu", ["gpu", "windows", "GPU2"])[0] == "gpu"
    assert near_matches("zzz", ["gpu"]) == []
    error = not_found("worker group", "gpuu", ["gpu"])
    assert error.message == "There is no worker group 'gpuu'. Did you mean 'gpu'?" and error.metadata == {"near": "gpu"}


def test_a_users_value_is_shown_without_what_could_harm_a_terminal() -> None:
    assert "\x1b" not in shown("\x1b[31mred") and len(shown("x" * 500)) < 70


def test_a_namespace_inherits_from_its_nearest_ancestor() -> None:
    assert ancestors("a.b.c") == ["a.b.c", "a.b", "a"]


def test_key_and_fallback_resolve_apart() -> None:
    levels = [Level("task", key="gpu"), Level("flow", fallback=Fallback.FAIL), Level("tenant", "cpu", Fallback.CANCEL)]
    assert resolve(levels) == Resolved("gpu", "task", Fallback.FAIL, "flow")


def test_an_empty_key_is_the_default_group_and_declares() -> None:
    assert resolve([Level("task", key=""), Level("tenant", key="gpu")]).key_level == "task"
    assert resolve([]) == Resolved("", "default", Fallback.WAIT, "default")


@given(st.lists(st.builds(Level, st.text(), st.none() | st.text(), st.none() | st.sampled_from(Fallback))))
def test_resolution_is_the_first_that_declares(levels: list[Level]) -> None:
    keys = [level.key for level in levels if level.key is not None]
    fallbacks = [level.fallback for level in levels if level.fallback is not None]
    found = resolve(levels)
    assert found.key == (keys[0] if keys else "")
    assert found.fallback == (fallbacks[0] if fallbacks else Fallback.WAIT)
