"""The command's code is ours."""

import pytest

from farhand.api.scheduler.v1 import job_pb2
from farhand.api.scheduler.v1.job_pb2 import Job
from farhand.api.types.v1.outcome_pb2 import Outcome
from farhand.cli.exit_code import exit_code


@pytest.mark.parametrize(
    ("state", "own", "expected"),
    [
        (job_pb2.JOB_STATE_SUCCESS, 0, 0),
        (job_pb2.JOB_STATE_SUCCESS, None, 0),
        (job_pb2.JOB_STATE_WARNING, 3, 3),
        (job_pb2.JOB_STATE_WARNING, None, 0),
        (job_pb2.JOB_STATE_FAILED, 1, 1),
        (job_pb2.JOB_STATE_FAILED, 42, 42),
        (job_pb2.JOB_STATE_FAILED, 255, 255),
        (job_pb2.JOB_STATE_FAILED, 256, 1),
        (job_pb2.JOB_STATE_FAILED, -9, 137),
        (job_pb2.JOB_STATE_FAILED, 0, 1),
        (job_pb2.JOB_STATE_FAILED, None, 1),
        (job_pb2.JOB_STATE_KILLED, -15, 143),
        (job_pb2.JOB_STATE_KILLED, 0, 1),
        (job_pb2.JOB_STATE_KILLED, None, 1),
    ],
)
def test_the_exit_code_is_the_commands_and_never_0_for_a_failure(
    state: "job_pb2.JobState.ValueType", own: int | None, expected: int
) -> None:
    assert exit_code(Job(state=state, outcome=Outcome(exit_code=own))) == expected


def test_a_job_without_an_outcome_failed() -> None:
    assert exit_code(Job(state=job_pb2.JOB_STATE_FAILED)) == 1
