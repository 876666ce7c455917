"""The kernel's rules for files: paths, addresses, patterns."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.kernel.file_paths import check_path
from farhand.kernel.file_uri import FileUri, parse_uri
from farhand.kernel.globs import check_pattern, is_literal, matches
from farhand.kernel.job_id import encode

PATHS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("path", ["a", "a/b.csv", ".hidden", "..a/b..", "größe 1%.txt", "a\\b", "x" * 255, "-rf"])
def test_a_plain_relative_path_is_a_path(path: str) -> None:
    assert check_path("path", path) == []


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a/..", "leads out"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("./a", "empty part"),
        ("a\nb", "control"),
        ("a\0b", "control"),
        ("\ud800", "Unicode"),
        ("ü" * 128, "255 bytes"),
        ("a/" * 250 + "b", "500"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_in_words(path: str, word: str) -> None:
    [violation] = check_path("file.path", path)
    assert violation.path == "file.path" and word in violation.description


@given(PATHS.filter(lambda path: not check_path("", path)), st.integers(1, 2**63 - 1), st.integers(1, 2**60 - 1))
def test_an_address_is_read_as_it_was_written(path: str, fence: int, key: int) -> None:
    uri = FileUri("main", encode(key), encode(key), fence, path)
    assert parse_uri(str(uri)) == uri
    assert str(uri).isascii()


JOB = encode(7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/x",
        "farhand:///",
        f"farhand:///main/{JOB}/{JOB}/1",
        f"farhand:///main/{JOB}/{JOB}/1/",
        f"farhand:///main/{JOB}/{JOB}/0/x",
        f"farhand:///main/{JOB}/{JOB}/-1/x",
        f"farhand:///main/{JOB}/{JOB}/{2**63}/x",
        f"farhand:///main/{JOB}/{JOB}/{'9' * 4000}/x",
        f"farhand:///main/{JOB}/{JOB}/1/..%2F..%2Fx",
        f"farhand:///main/{JOB}/{JOB}/1/%2e%2e/x",
        f"farhand:///main/{JOB}/{JOB}/1/%ff",
        f"farhand:///MAIN/{JOB}/{JOB}/1/x",
        f"farhand:///../{JOB}/{JOB}/1/x",
        f"farhand:///main/../{JOB}/1/x",
        f"farhand:///main/{JOB}/nojob/1/x",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_uri(text)


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        ("*.csv", ["a.csv", ".csv"], ["a.csvx", "d/a.csv", "acsv"]),
        ("**/*.csv", ["a.csv", "d/a.csv", "d/e/a.csv"], ["a.txt", "a.csv/b"]),
        ("**", ["a", "a/b/c"], []),
        ("plots/**", ["plots/a", "plots/a/b"], ["plots", "plotsx/a", "x/plots/a"]),
        ("plots/", ["plots/a", "plots/a/b"], ["plots"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a", "b", "a/bb", "a/x/b/c"]),
        ("**/a/**", ["a/b", "x/a/b", "a/a"], ["a", "b/a"]),
        ("run-?.log", ["run-1.log", "run-ü.log"], ["run-.log", "run-12.log", "run-/.log"]),
        ("[ab]*", ["a", "bc"], ["c", "ca", ""]),
        ("[!a-c]x", ["dx", "!x"], ["ax", "bx", "x"]),
        ("[]]x", ["]x"], ["x", "[x"]),
        ("[a", ["[a"], ["a"]),
        ("a*b*c", ["abc", "axbxbc", "abbc"], ["ab", "acb"]),
        ("./a.txt", ["a.txt"], ["./a.txt"]),
        ("a.b+c(d)", ["a.b+c(d)"], ["axb+c(d)"]),
    ],
)
def test_a_pattern_means_paths(pattern: str, meant: list[str], others: list[str]) -> None:
    assert [path for path in meant if not matches(pattern, path)] == []
    assert [path for path in others if matches(pattern, path)] == []


@given(st.text("ab*?", min_size=1, max_size=8), st.text("ab", min_size=1, max_size=8))
def test_within_one_part_a_pattern_is_a_shells(pattern: str, name: str) -> None:
    if pattern != "**":
        assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)


def test_a_pattern_that_is_made_to_take_long_does_not() -> None:
    # As a regular expression this would take longer than the machine lasts.
    assert not matches("*a" * 120 + "b", "a" * 250)
    assert not matches("**/" * 160 + "x", "/".join("a" * 250))


def test_a_pattern_stays_in_its_folder() -> None:
    for pattern in ("/etc/*", "../*", "a/../../b", "", "x" * 501):
        assert check_pattern("outputFiles[0]", pattern)
    assert check_pattern("outputFiles[0]", "a..b/*") == []


def test_a_literal_pattern_has_no_signs() -> None:
    assert is_literal("a/b.csv")
    assert not any(map(is_literal, ["*", "a?", "[a]", "a/"]))
