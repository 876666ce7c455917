"""Submits: from the rows of a call to the queue, and back to an answer for each row."""

import hashlib

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.trace import Tracer

from farhand.api.scheduler.v1.job_service_pb2 import (
    BatchSubmitJobsRequest,
    BatchSubmitJobsResponse,
    SubmitJobRequest,
)
from farhand.kernel.errors import FarhandError, InvalidArgument, MalformedRequest, Violation
from farhand.kernel.job_id import encode
from farhand.runtime.grpc_errors import status_of
from farhand.runtime.raw_batch import RawBatch
from farhand.runtime.security import Identity
from farhand.runtime.telemetry import parent_context, sampled, traceparent
from farhand.scheduler.core.submission import Answer, JobRow, Submission
from farhand.scheduler.rpc.ports import Submissions
from farhand.scheduler.rpc.validation import SpecCheck, check_request_id
from farhand.scheduler.rpc.wire import encode_status, refusal

MOST_ROWS = 1000


class Submits:
    """Takes one job or many. `payload_limit`: bytes of a serialized task."""

    def __init__(self, submissions: Submissions, tracer: Tracer, *, payload_limit: int = 256 << 10) -> None:
        self._submissions = submissions
        self._tracer = tracer
        self._payload_limit = payload_limit

    async def one(self, request: SubmitJobRequest, caller: Identity, parent: str) -> tuple[int, JobRow]:
        """The key of the job and its row. Raises what the row is refused for."""
        check_request_id(request.request_id)
        with self._tracer.start_as_current_span("submit", context=parent_context(parent)) as span:
            row = self._check(caller, traceparent(span)).row(request.spec, "spec")
            body_hash = _hash(b"SubmitJob", request) if request.request_id else b""
            (answer,) = await self._submissions.submit(Submission((row,), row.tenant, request.request_id, body_hash))
        if isinstance(answer, FarhandError):
            raise answer
        if isinstance(answer, bytes):
            raise refusal(answer)
        return answer, row

    async def many(
        self, batch: RawBatch[BatchSubmitJobsRequest], caller: Identity, parent: str
    ) -> BatchSubmitJobsResponse:
        """What became of each row. Raises what the whole call is refused for."""
        request = batch.request
        check_request_id(request.request_id)
        if len(request.specs) > MOST_ROWS:
            raise InvalidArgument.of(
                Violation("specs", f"holds {len(request.specs):,} rows; at most {MOST_ROWS:,} are allowed in one call")
            )
        with self._tracer.start_as_current_span("submit", context=parent_context(parent)) as span:
            span.set_attribute("farhand.jobs", len(request.specs))
            rows = self._rows(batch, self._check(caller, traceparent(span)))
            tenant = next((row.tenant for row in rows if isinstance(row, JobRow)), None)
            if tenant is None:  # nothing for the queue
                return _response(tuple(row for row in rows if isinstance(row, bytes)))
            body_hash = _hash(b"BatchSubmitJobs", request, *batch.malformed) if request.request_id else b""
            return _response(await self._submissions.submit(Submission(rows, tenant, request.request_id, body_hash)))

    def _check(self, caller: Identity, parent: str) -> SpecCheck:
        return SpecCheck(caller, self._payload_limit, parent if sampled(parent) else None)

    def _rows(self, batch: RawBatch[BatchSubmitJobsRequest], check: SpecCheck) -> tuple[JobRow | bytes, ...]:
        rows: list[JobRow | bytes] = []
        for index, spec in enumerate(batch.request.specs):
            try:
                if batch.malformed and index in batch.malformed:
                    raise _malformed(index, batch.malformed[index])
                rows.append(check.row(spec, f"specs[{index}]"))
            except FarhandError as error:
                rows.append(encode_status(error))
        return tuple(rows)


def _response(answer: Answer) -> BatchSubmitJobsResponse:
    response = BatchSubmitJobsResponse()
    add = response.results.add
    for entry in answer:
        if isinstance(entry, int):
            add(job_id=encode(entry))
        elif isinstance(entry, bytes):
            add(error=Status.FromString(entry))
        else:
            add(error=status_of(entry))
    return response


def _malformed(index: int, reason: str) -> MalformedRequest:
    return MalformedRequest(
        f"specs[{index}] is not a valid message; a string that is not UTF-8 is one cause. The parser says: {reason}.",
        violations=(Violation(f"specs[{index}]", "is not a valid JobSpec"),),
    )


def _hash(method: bytes, request: Message, *malformed: int) -> bytes:
    """What was asked for, by its bytes in the one order that protobuf calls deterministic."""
    digest = hashlib.sha256(method)
    digest.update(repr(malformed).encode())
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()
