"""Which streams a replica sends on."""

import pytest

from farhand.scheduler.core.balance import HEARD_WITHIN, Balance, Word, age_limit, still_heard


def test_a_replica_alone_keeps_its_streams() -> None:
    assert Balance().surplus(1000, {}) == 0


def test_a_replica_that_joins_is_given_streams_until_all_are_near_the_average() -> None:
    counts = {"a": 500, "b": 500, "c": 0}
    rules = {name: Balance() for name in counts}
    rounds = 0
    while moves := {
        name: surplus
        for name, rule in rules.items()
        if (surplus := rule.surplus(counts[name], {other: n for other, n in counts.items() if other != name}))
    }:
        rounds += 1
        assert all(surplus <= 25 for surplus in moves.values())
        for name, surplus in moves.items():
            counts[name] -= surplus
            counts["c"] += surplus
    assert rounds < 12
    assert all(abs(count - 1000 / 3) < 15 for count in counts.values()), counts


@pytest.mark.parametrize(("mine", "others"), [(4, [2, 2]), (110, [100, 100]), (120, [100, 100]), (3, [0, 3]), (1, [0])])
def test_a_little_more_than_the_average_moves_nobody(mine: int, others: list[int]) -> None:
    assert Balance().surplus(mine, {str(n): count for n, count in enumerate(others)}) == 0


def test_who_has_less_sends_none_on() -> None:
    assert Balance().surplus(10, {"b": 500}) == 0


def test_once_begun_it_goes_on_until_near_the_average() -> None:
    balance = Balance()
    assert balance.surplus(200, {"b": 100})
    assert balance.surplus(110, {"b": 100})  # would not have begun here
    assert balance.surplus(100, {"b": 100}) == 0
    assert balance.surplus(110, {"b": 100}) == 0


def test_who_sheds_in_vain_tries_ever_less_often() -> None:
    balance = Balance()
    tries = [number for number in range(40) if balance.surplus(100, {"b": 0})]
    assert tries == [0, 1, 3, 6, 11, 20, 37]
    while not balance.surplus(99, {"b": 1}):
        pass
    assert balance.surplus(94, {"b": 6})  # it helped: the next comes at once


def test_a_stream_gets_as_old_as_is_said_give_or_take_a_quarter() -> None:
    assert age_limit(3600.0, 0.0) == 2700.0
    assert age_limit(3600.0, 0.5) == 3600.0
    assert age_limit(3600.0, 0.999) < 4500.0


def test_a_replica_that_falls_silent_is_forgotten() -> None:
    words = {"b": Word(5, at=100.0), "c": Word(7, at=100.0 + HEARD_WITHIN)}
    assert still_heard(words, 100.0 + HEARD_WITHIN + 1) == {"c": 7}
