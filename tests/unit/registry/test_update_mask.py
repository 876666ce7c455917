"""Which fields an update changes (AIP-134)."""

from farhand.registry.core.update_mask import fields_to_change

KNOWN = {"id", "etag", "description", "paused", "lease"}
CHANGEABLE = ("description", "paused", "lease")


def fields(*paths: str, given: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    chosen, violations = fields_to_change(paths, given, CHANGEABLE, KNOWN)
    assert violations == []
    return chosen


def complaints(*paths: str) -> list[tuple[str, str]]:
    return [(v.path, v.description) for v in fields_to_change(paths, set(), CHANGEABLE, KNOWN)[1]]


def test_an_empty_mask_takes_every_changeable_field_that_is_set() -> None:
    assert fields(given={"id", "etag", "lease", "description"}) == ["description", "lease"]


def test_a_mask_takes_its_fields_whether_set_or_not() -> None:
    assert fields("lease", "paused", "lease", given={"description"}) == ["paused", "lease"]


def test_a_star_takes_every_changeable_field() -> None:
    assert fields("*") == list(CHANGEABLE)


def test_immutable_and_unknown_fields_are_refused_and_named_all_at_once() -> None:
    (first_path, first), (second_path, second) = complaints("id", "lease.seconds", "paused")
    assert first_path == second_path == "update_mask"
    assert "'id' can't be changed" in first
    assert "'lease.seconds' is no field" in second


def test_a_star_beside_a_field_is_refused() -> None:
    assert len(complaints("*", "paused")) == 1


def test_an_endless_mask_is_refused_with_few_words() -> None:
    assert len(complaints(*(f"x{number}" for number in range(100_000)))) <= 101
