"""Outputs as a worker sends them: what could not be read again never gets into a frame."""

from typing import Any

import pytest

from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.nesting import MOST_LEVELS
from farhand.worker import frames
from farhand.worker.tasks.base import Outcome, OutcomeState
from farhand.worker.tasks.output_lines import OutputLines

WRAPS = [lambda inner: [inner], lambda inner: {"a": inner}]


def nested(wrap: Any, levels: int) -> dict[str, Any]:
    """Outputs of so many levels in all."""
    value: Any = "x"
    for _ in range(levels - 1):
        value = wrap(value)
    return {"a": value}


@pytest.mark.parametrize("wrap", WRAPS, ids=["lists", "maps"])
def test_outputs_are_readable_in_a_frame_or_refused(wrap: Any) -> None:
    result = frames.result(("job", 1), Outcome(OutcomeState.SUCCESS, outputs=nested(wrap, MOST_LEVELS)))
    frame = pb.ConnectRequest(result=pb.Results(results=[result]))
    assert pb.ConnectRequest.FromString(frame.SerializeToString()) == frame
    for levels in range(MOST_LEVELS + 1, 110):
        with pytest.raises(ValueError, match="nested deeper"):
            frames.result(("job", 1), Outcome(OutcomeState.SUCCESS, outputs=nested(wrap, levels)))


def test_a_line_with_outputs_that_are_too_deep_is_a_warning() -> None:
    warnings: list[str] = []
    lines = OutputLines(warnings.append)
    assert lines.take('::{"outputs":' + '{"a":' * 40 + "1" + "}" * 40 + "}::")
    assert lines.vars == {} and "levels deep" in warnings[0]
