"""The exit code of `farhand run`: the command's own, by the shell's convention for signals.

A job that has none (no worker, lost with its worker, killed in the queue) ends with 1.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farhand.api.scheduler.v1.job_pb2 import Job

SUCCESS = 0
FAILED = 1


def exit_code(job: "Job") -> int:
    """0 to 255 for a job that has ended. Only a job in SUCCESS or WARNING may give 0."""
    from farhand.api.scheduler.v1 import job_pb2

    outcome = job.outcome
    own = of_command(outcome.exit_code) if job.HasField("outcome") and outcome.HasField("exit_code") else None
    if job.state in (job_pb2.JOB_STATE_SUCCESS, job_pb2.JOB_STATE_WARNING):
        return own or SUCCESS
    return own or FAILED


def of_command(code: int) -> int:
    """A command's code as a shell shows it: a signal, which is negative here, is 128 + its number."""
    return 128 - code if -128 < code < 0 else code & 0xFF or (FAILED if code else SUCCESS)
