"""Other people's text on a user's terminal."""

import pytest

from farhand.cli.render import columns
from farhand.cli.terminal import log_line, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ordinary ä 漢字 🙂", "ordinary ä 漢字 🙂"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x9b31mc1", "c1"),
        ("\x1bPdevice\x1b\\x", "x"),
        ("open \x1b]0;never closed", "open "),
        ("a\u202egnp.exe", "agnp.exe"),
        ("zero\u200bwidth\u2066x\u2069", "zerowidthx"),
        ("two\nlines\ttab\r\n", "two lines tab "),
        ("nul\x00bell\x07back\x08", "nulbellback"),
        ("lone \udcff surrogate", "lone  surrogate"),
        ("\x1b", ""),
    ],
)
def test_nothing_in_a_text_can_steer_the_terminal(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[m\ttab", "\x1b[1;31mred\x1b[m\ttab"),
        ("10%\r20%", "10%\r20%"),
        ("\x1b[2Jcleared", "cleared"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;ZXZpbA==\x07clipboard", "clipboard"),
        ("\x07\x08\x9b5nasked", "asked"),
        ("عربي ‎", "عربي ‎"),
    ],
)
def test_a_log_line_keeps_its_colours_and_loses_its_power(text: str, shown: str) -> None:
    assert log_line(text) == shown


def test_columns_are_aligned_and_never_wrapped() -> None:
    long = "x" * 300
    assert columns([("KEY", "DESCRIPTION"), ("gpu", long), ("a\x1b[2Jb", "")]) == [
        "KEY  DESCRIPTION",
        f"gpu  {long}",
        "ab",
    ]
