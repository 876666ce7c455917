"""Jobs as a caller may see them: another tenant's job is not there."""

from collections.abc import Sequence

from farhand.kernel.job_id import encode
from farhand.runtime.security import Identity
from farhand.scheduler.core.record import JobRecord
from farhand.scheduler.rpc.fields import job_key, no_job
from farhand.scheduler.rpc.ports import JobReads


class VisibleJobs:
    """Finds jobs for callers."""

    def __init__(self, reads: JobReads) -> None:
        self._reads = reads

    async def find(self, job_id: str, caller: Identity, *, full: bool = False) -> JobRecord:
        """The job. Raises NotFound, Unavailable."""
        (record,) = await self.find_all([job_id], caller, full=full)
        return record

    async def find_all(self, job_ids: Sequence[str], caller: Identity, *, full: bool = False) -> list[JobRecord]:
        """The jobs, in this order. Raises NotFound for the first that is not there, Unavailable."""
        keys = [job_key(job_id) for job_id in job_ids]
        found = await self._reads.read(keys, full=full)
        records: list[JobRecord] = []
        for job_id, key in zip(job_ids, keys, strict=True):
            record = found.get(key)
            if record is None or not caller.admits_tenant(record.tenant):
                raise no_job(job_id)
            records.append(record)
        return records

    async def again(self, key: int, *, full: bool = False) -> JobRecord:
        """A job that was found before, as it is now. Raises NotFound where it was cleared away meanwhile."""
        record = (await self._reads.read([key], full=full)).get(key)
        if record is None:
            raise no_job(encode(key))
        return record

    async def again_all(self, keys: Sequence[int]) -> list[JobRecord]:
        """Those of the jobs, found before, that are still there."""
        return list((await self._reads.read(keys)).values())
