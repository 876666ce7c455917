"""Why a job is where it is: the facts, gathered for the rule in `core.explain`."""

from farhand.api.scheduler.v1.job_service_pb2 import ExplainJobResponse, WaitReason
from farhand.runtime.security import Identity
from farhand.runtime.wire import duration
from farhand.scheduler.core.explain import explain
from farhand.scheduler.core.job import JobState
from farhand.scheduler.rpc.visible_jobs import VisibleJobs
from farhand.scheduler.rpc.wire import figures_message, job_message
from farhand.scheduler.store.figures import read_active_workers, read_figures, read_position
from farhand.scheduler.store.reading import Reading


class Explanations:
    """Explains jobs to callers."""

    def __init__(self, jobs: VisibleJobs, reading: Reading) -> None:
        self._jobs = jobs
        self._reading = reading

    async def explain(self, job_id: str, caller: Identity) -> ExplainJobResponse:
        """The answer. Raises NotFound, Unavailable."""
        job = await self._jobs.find(job_id, caller)
        waits = job.state is JobState.CREATED
        async with self._reading.connection() as connection:
            (figures,) = await read_figures(connection, [job.group_uid])
            workers = await read_active_workers(connection, job.group_uid) if waits else []
            position = await read_position(connection, job.group_uid, job.key) if waits else 0
            before = 0
            if waits and figures.of_tenant(job.tenant) is not None:
                before = await read_position(connection, job.group_uid, job.key, tenant=job.tenant) - 1
        why = explain(job, figures, workers, position, before)
        return ExplainJobResponse(
            job=job_message(job),
            reason=WaitReason.Value(f"WAIT_REASON_{why.reason}"),
            message=why.message,
            position=position,
            head_wait=duration(figures.oldest_wait),
            figures=figures_message(figures, caller),
        )
