"""From bytes to lines."""

from hypothesis import given
from hypothesis import strategies as st

from farhand.worker.log_lines import LINE_LIMIT, LineSplitter, text_of


def split(*chunks: bytes) -> list[bytes]:
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + splitter.finish()


def test_a_line_may_come_in_pieces() -> None:
    assert split(b"a", b"b\nc", b"d\n") == [b"ab", b"cd"]


def test_what_stands_after_the_last_line_feed_is_a_line_too() -> None:
    assert split(b"a\nb") == [b"a", b"b"]


def test_empty_lines_are_lines() -> None:
    assert split(b"\n\n") == [b"", b""]


@given(st.lists(st.binary(max_size=30)))
def test_the_pieces_do_not_matter(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert split(*chunks) == (whole.removesuffix(b"\n").split(b"\n") if whole else [])


def test_a_line_without_end_takes_no_more_memory_than_its_limit() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        splitter.feed(b"x" * 65536)
    assert len(splitter._rest) == LINE_LIMIT + 1
    (line,) = splitter.feed(b"\n")
    assert text_of(line) == "x" * LINE_LIMIT + " … [cut: the line has more than 64 KiB]"


def test_a_line_at_the_limit_is_whole() -> None:
    (line,) = split(b"x" * LINE_LIMIT)
    assert text_of(line) == "x" * LINE_LIMIT


def test_a_cut_does_not_break_a_character() -> None:
    (line,) = split("ä".encode() * LINE_LIMIT)
    assert "\ufffd" not in text_of(line)
    (line,) = split(b"x" + "ä".encode() * LINE_LIMIT)
    assert "\ufffd" not in text_of(line)


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert text_of(b"a\xffb\x00c") == "a\ufffdb\ufffdc"
    assert len(text_of(b"\x80" * (LINE_LIMIT + 1))) > LINE_LIMIT
