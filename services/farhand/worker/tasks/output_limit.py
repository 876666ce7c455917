"""How large the outputs of one run may be, whatever its type: a larger value is a file's business."""

import json

from farhand.worker.tasks.base import Outcome, failed

OUTPUT_LIMIT = 256 * 1024  # bytes of JSON: all outputs of one run
_AROUND = 1024  # bytes beside the values: names, braces


def too_large(size: int, outcome: Outcome) -> Outcome:
    """The outcome of a run whose outputs are that large: a failure with its exit code, and no outputs but that."""
    return failed(
        "OUTPUT_TOO_LARGE",
        f"the outputs are {size} bytes; {OUTPUT_LIMIT} are allowed: write large data to a file",
        exit_code=outcome.exit_code,
        outputs={} if outcome.exit_code is None else {"exitCode": outcome.exit_code},
    )


def check_size(outcome: Outcome) -> Outcome | None:
    """The failure that too large outputs are; None where there is room for them, or where they are no JSON at all."""
    try:
        text = json.dumps(outcome.outputs, ensure_ascii=False) if outcome.outputs else ""
        size = len(text.encode("utf-8", "replace"))
    except (TypeError, ValueError, RecursionError):
        return None  # whoever sends them says what is wrong
    return too_large(size, outcome) if size > OUTPUT_LIMIT + _AROUND else None
