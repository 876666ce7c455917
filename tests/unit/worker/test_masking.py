"""Secrets are masked in what a run says, in every form that they commonly take, and nothing else is."""

import ast
import base64
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.api.types.v1 import log_record_pb2
from farhand.kernel.expressions import render_deep
from farhand.worker.log_lines import LINE_LIMIT, LineSplitter
from farhand.worker.masking import NOTHING, Mask
from farhand.worker.run_log import LONGEST_SYSTEM_LINE, RunLog
from farhand.worker.tasks.base import Outcome, OutcomeState

SECRET = 'pa"ss/w+örd\\7'
PEM = "-----BEGIN KEY-----\nAAAABBBBCCCC\n  xy\nDDDDEEEEFFFF\n-----END KEY-----\n"
OUT = log_record_pb2.LOG_STREAM_STDOUT


def of(*secrets: str) -> Mask:
    return Mask({f"secret{number}": secret for number, secret in enumerate(secrets)})


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        repr(SECRET)[1:-1],
        ascii(SECRET)[1:-1],
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_every_common_form_is_masked(form: str) -> None:
    assert of(SECRET).text(f"<{form}> and <{form}>") == "<***> and <***>"


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", "!", "!!", " and more"])
def test_base64_is_masked_wherever_in_it_a_secret_stands(before: str, after: str) -> None:
    secret = "correct horse battery staple"
    encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    left = of(secret).text(encoded)
    assert "***" in left
    for start in range(len(encoded) - 8):
        piece = encoded[start : start + 8]
        if piece in left:  # what is left of it says nothing of the secret but half a letter at each end
            at = left.index(piece)
            assert at == 0 or at > left.index("***")
    assert len(left) <= len(encoded) - (len(secret) * 8 // 6 - 2) + 3


def test_long_base64_is_masked_in_each_of_its_lines() -> None:
    secret = "".join(chr(33 + number * 7 % 90) for number in range(200))
    lines = base64.encodebytes(secret.encode()).decode().splitlines()
    assert {of(secret).text(line).rstrip("=") for line in lines} == {"***"}


def test_a_secret_of_several_lines_is_masked_line_by_line_and_as_a_whole() -> None:
    mask = of(PEM)
    assert [mask.text(line) for line in PEM.splitlines()] == ["***", "***", "  xy", "***", "***"]
    assert mask.text(f"<{PEM.strip()}>") == "<***>"
    assert mask.text(json.dumps({"key": PEM})) == '{"key": "***"}'


def test_secrets_that_overlap_leave_nothing_of_each_other() -> None:
    mask = of("abcd1234", "1234efgh", "abcd1234efgh")
    assert mask.text("xabcd1234efghx abcd1234 1234efgh") == "x***x *** ***"
    assert of("aaaa").text("aaaaaaa b") == "*** b"


def test_a_secret_in_a_secret_is_no_obstacle() -> None:
    assert of("password", "my password is long").text("my password is long, password") == "***, ***"


def test_what_is_cut_shows_no_beginning_of_a_secret() -> None:
    mask = of("0123456789abcdef")
    assert mask.text("the value '0123456…' is wrong") == "the value '***…' is wrong"
    assert mask.text("it ends in 01234567", cut=True) == "it ends in ***"
    assert mask.text("it ends in 01234567") == "it ends in 01234567"
    assert mask.text("012…", cut=True) == "012…", "as short as what is never masked"


def test_outputs_are_masked_in_names_numbers_and_all_depths() -> None:
    mask = of("12345678", SECRET)
    outputs = {"a": [{SECRET: f"x{SECRET}"}], "pin": 12345678, "half": 1234, "yes": True, "none": None, "f": 12345678.0}
    assert mask.deep(outputs) == {
        "a": [{"***": "x***"}],
        "pin": "***",
        "half": 1234,
        "yes": True,
        "none": None,
        "f": "***",
    }


def test_an_outcome_is_masked_whole() -> None:
    outcome = Outcome(OutcomeState.FAILED, 3, {"value": SECRET}, SECRET, f"it said {SECRET}")
    masked = of(SECRET).outcome(outcome)
    assert masked == Outcome(OutcomeState.FAILED, 3, {"value": "***"}, "***", "it said ***")
    assert NOTHING.outcome(outcome) is outcome


def test_a_traceback_is_masked() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        told = of(SECRET).traceback(error)
    assert "ValueError: ***" in told and SECRET not in told


@pytest.mark.parametrize(
    ("template", "made", "left"),
    [
        ("{{ inputs.token | upper }}", "SESAME OPEN", "***"),
        ("{{ inputs.token | replace('e', '3') }}", "s3sam3 op3n", "***"),
        ("{{ inputs.token | slice(0, 6) }}", "sesame", "***"),
        ("{{ inputs.token | length }}", "11", "11"),
        ("{{ inputs.token == 'x' }}", "false", "false"),
        ("{{ inputs.token ~ ' and ' ~ inputs.who }}", "sesame open and ada", "*** and ada"),
        ("{{ inputs.who | upper }}", "ADA LOVELACE", "ADA LOVELACE"),
        ("{{ labels.token | upper }}", "LABEL", "LABEL"),
    ],
)
def test_what_an_expression_makes_of_a_secret_is_a_secret(template: str, made: str, left: str) -> None:
    who = "ada" if "~" in template else "ada lovelace"
    scope = {"inputs": {"token": "sesame open", "who": who}, "labels": {"token": "label"}}
    mask = Mask({"token": "sesame open"})
    assert render_deep({"a": [template]}, scope, seen=mask.rendered) == {"a": [made]}
    assert mask.text(made) == left


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("{{ vars.auth }}", "Bearer sesame open"),
        ("{{ vars.loud }}", "SESAME OPEN"),
        ("{{ vars.deep | replace('E', '3') }}", "<S3SAM3 OP3N>"),
    ],
)
def test_variables_that_name_a_secret_hide_nothing(template: str, made: str) -> None:
    variables = {
        "auth": "Bearer {{ inputs.token }}",
        "loud": "{{ inputs.token | upper }}",
        "deep": "<{{ vars.loud }}>",
        "region": "eu-west",
    }
    scope = {"inputs": {"token": "sesame open"}, "vars": variables}
    mask = Mask({"token": "sesame open"}, variables)
    assert render_deep([template, "{{ vars.region }}"], scope, seen=mask.rendered) == [made, "eu-west"]
    left = mask.text(f"{made}, eu-west")
    assert "***" in left and left.endswith("eu-west")
    assert not any(word in left.lower() for word in ("sesame", "s3sam3", "open", "op3n"))


def test_without_secrets_nothing_is_touched() -> None:
    assert NOTHING.text("*** …", cut=True) == "*** …"
    value = {"a": [1]}
    assert NOTHING.deep(value) is value
    NOTHING.rendered(frozenset({("inputs", "a")}), "text")
    assert NOTHING.text("text") == "text"


SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4, max_size=40).filter(
    lambda text: len(text.strip()) >= 4 and "***" not in text and "*" not in text
)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.data())
def test_no_secret_is_left_whatever_stands_around_it(secrets: list[str], data: st.DataObject) -> None:
    pieces = st.one_of(st.text(max_size=8), st.sampled_from([secret.strip() for secret in secrets]))
    text = "".join(data.draw(st.lists(pieces, max_size=12)))
    masked = of(*secrets).text(text)
    for secret in secrets:
        assert secret.strip() not in masked
    assert len(masked) <= len(text)


@given(SECRETS.filter(lambda secret: "\n" not in secret), st.lists(st.integers(1, 9), max_size=20))
def test_reads_that_split_a_secret_hide_nothing(secret: str, sizes: list[int]) -> None:
    content, splitter, lines = f"before {secret} after\n".encode(), LineSplitter(), []
    for size in [*sizes, len(content)]:
        lines += splitter.feed(content[:size])
        content = content[size:]
    assert [of(secret).text(line.decode()) for line in lines] == ["before *** after"]


def a_log(folder: Path, mask: Mask) -> RunLog:
    return RunLog(("job", 1), folder / "log", 1 << 30, lambda log: None, mask)


def test_no_secret_comes_into_a_log_s_file(tmp_path: Path) -> None:
    log = a_log(tmp_path, of("0123456789abcdef"))
    long = b"x" * (LINE_LIMIT - 10) + b"0123456789abcdef" + b"y" * 50
    log.output(OUT, [b"a 0123456789abcdef b", long[: LINE_LIMIT + 1]])
    log.system("first 0123456789abcdef\nsecond 0123456789abcdef")
    log.system("z" * (LONGEST_SYSTEM_LINE - 8) + "0123456789abcdef")
    texts = [record.text for record in log.read(1 << 20)]
    assert texts[0] == "a *** b"
    assert texts[1].endswith("x*** … [cut: the line has more than 64 KiB]")
    assert texts[2:4] == ["first ***", "second ***"]
    assert texts[4].endswith("z***")
    assert b"01234" not in (tmp_path / "log").read_bytes()


def test_python_s_notation_is_what_it_is() -> None:
    assert ast.literal_eval(f"'{ascii(SECRET)[1:-1]}'") == SECRET, "or the forms above test nothing"
