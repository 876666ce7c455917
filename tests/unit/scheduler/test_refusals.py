"""A refusal that was remembered is the refusal that it was (P6)."""

import pytest

from farhand.kernel.errors import FarhandError, InvalidArgument, NotFound, PayloadTooLarge, TenantNotAllowed, Violation
from farhand.scheduler.rpc.wire import encode_status, refusal


@pytest.mark.parametrize(
    "error",
    [
        NotFound("There is no worker group 'gpuu'.", metadata={"near": "gpu"}),
        TenantNotAllowed("No.", retry_delay=2.5),
        PayloadTooLarge.of(Violation("spec.task", "is too large")),
        InvalidArgument.of(Violation("spec.tenant", "must not be empty"), Violation("spec.task.type", "is odd")),
    ],
)
def test_a_refusal_comes_back_as_it_was(error: FarhandError) -> None:
    again = refusal(encode_status(error))
    assert type(again) is type(error)
    assert (again.message, again.metadata, list(again.violations), again.retry_delay) == (
        error.message,
        error.metadata,
        list(error.violations),
        error.retry_delay,
    )
