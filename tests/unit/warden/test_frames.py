"""Frames between worker and warden survive any cut of the stream, and a torn one is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.worker.warden import frames

MESSAGES = st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False), max_size=3))


@given(MESSAGES, st.integers(1, 50))
def test_messages_arrive_whole_however_the_stream_is_cut(messages: list[dict[str, object]], piece: int) -> None:
    stream = b"".join(map(frames.encode, messages))
    decoder = frames.Decoder()
    received = [message for at in range(0, len(stream), piece) for message in decoder.feed(stream[at : at + piece])]
    assert received == messages


def test_bytes_that_are_not_utf_8_pass_as_surrogates() -> None:
    (message,) = frames.Decoder().feed(frames.encode({"argv": [b"\xff".decode("utf-8", "surrogateescape")]}))
    assert message["argv"][0].encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize("stream", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x03{]}"])
def test_a_torn_stream_is_an_error(stream: bytes) -> None:
    with pytest.raises(frames.TornStream):
        frames.Decoder().feed(stream)
