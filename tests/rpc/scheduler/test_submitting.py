"""SubmitJob and BatchSubmitJobs, over a real port."""

import pytest

from farhand.api.scheduler.v1.job_pb2 import JOB_STATE_CREATED, JobSpec
from farhand.api.scheduler.v1.job_service_pb2 import (
    BatchSubmitJobsRequest,
    BatchSubmitJobsResponse,
    SubmitJobRequest,
)
from farhand.api.types.v1.fallback_pb2 import FALLBACK_CANCEL
from farhand.api.types.v1.task_pb2 import Task
from farhand.kernel.job_id import decode
from farhand.runtime.grpc_channel import RemoteError, status_error
from farhand.runtime.security import Identity, Role
from farhand.scheduler.core.declared import Group
from farhand.scheduler.core.submission import JobRow
from tests.fixtures.scheduler_rows import Rows
from tests.rpc.refusal import refused
from tests.rpc.scheduler.job_house import House, open_house

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def a_spec(command: str = "echo hi", **fields: object) -> JobSpec:
    spec = JobSpec(task=Task(type="a.Task"), **fields)  # type: ignore[arg-type]
    spec.task.properties.update({"commands": [command]})
    return spec


def refusals(response: BatchSubmitJobsResponse) -> dict[int, RemoteError]:
    return {
        index: status_error(result.error) for index, result in enumerate(response.results) if result.HasField("error")
    }


async def test_a_submit_answers_the_job_as_it_was_resolved(rows: Rows, house: House) -> None:
    await rows.group("gpu")
    house.registry.add(Group("u-gpu", "gpu"))
    spec = a_spec(worker_group="gpu", fallback=FALLBACK_CANCEL, namespace="a.b", max_deliveries=7)
    job = (await house.jobs().SubmitJob(SubmitJobRequest(spec=spec))).job
    spec.tenant = "main"
    assert job.spec == spec
    assert (job.state, job.worker_group, job.worker_group_uid) == (JOB_STATE_CREATED, "gpu", "u-gpu")
    assert (job.task_type, job.tenant, job.fence, job.worker) == ("a.Task", "main", 0, "")
    assert job.HasField("create_time") and not job.HasField("assign_time") and not job.HasField("outcome")
    assert decode(job.id)


async def test_the_same_request_id_gives_the_same_job(house: House) -> None:
    jobs = house.jobs()
    first, second = [await jobs.SubmitJob(SubmitJobRequest(spec=a_spec(), request_id="r1")) for _ in range(2)]
    assert first.job.id == second.job.id
    other = await refused(jobs.SubmitJob(SubmitJobRequest(spec=a_spec("other"), request_id="r1")))
    assert other.reason == "REQUEST_ID_REUSED"


async def test_the_order_of_a_map_is_no_other_body(house: House) -> None:
    for names in ("abcdefgh", "hgfedcba"):
        spec = a_spec()
        spec.task.properties.update({"env": {name: name for name in names}})
        await house.jobs().SubmitJob(SubmitJobRequest(spec=spec, request_id="r1"))
    first, second = house.queue.submissions
    assert first.body_hash == second.body_hash and len(first.body_hash) == 32


async def test_what_is_wrong_with_a_submit_is_named(house: House) -> None:
    jobs = house.jobs()
    error = await refused(jobs.SubmitJob(SubmitJobRequest(spec=JobSpec(tenant="NO"))))
    assert (error.reason, [v.path for v in error.violations]) == (
        "INVALID_ARGUMENT",
        ["spec.tenant", "spec.task.type"],
    )
    error = await refused(jobs.SubmitJob(SubmitJobRequest(spec=a_spec(), request_id="x" * 101)))
    assert error.violations[0].path == "request_id"
    error = await refused(jobs.SubmitJob(SubmitJobRequest(spec=a_spec("x" * 300_000))))
    assert error.reason == "PAYLOAD_TOO_LARGE" and "262,144" in error.message
    error = await refused(jobs.SubmitJob(SubmitJobRequest(spec=a_spec(worker_group="gpuu"))))
    assert error.reason == "NOT_FOUND"


async def test_a_batch_is_answered_row_by_row(house: House) -> None:
    specs = [a_spec(f"echo {number}") for number in range(500)]
    specs[3] = a_spec(worker_group="nope")
    specs[4] = JobSpec()
    specs[5] = a_spec("nul\0")
    specs[6] = a_spec("x" * 300_000)
    response = await house.jobs().BatchSubmitJobs(BatchSubmitJobsRequest(specs=specs))

    assert {index: error.reason for index, error in refusals(response).items()} == {
        3: "NOT_FOUND",
        4: "INVALID_ARGUMENT",
        5: "INVALID_ARGUMENT",
        6: "PAYLOAD_TOO_LARGE",
    }
    assert refusals(response)[4].violations[0].path == "specs[4].task.type"
    ids = [result.job_id for result in response.results if result.job_id]
    assert len(set(ids)) == 496
    keys = [decode(job_id) or 0 for job_id in ids]
    assert keys == sorted(keys)


async def test_a_row_that_is_not_utf8_is_refused_alone(house: House) -> None:
    request = BatchSubmitJobsRequest(specs=[a_spec("good"), a_spec("BROKEN"), a_spec("good")])
    raw = request.SerializeToString().replace(b"BROKEN", b"BR\xffKEN")
    call = house.dial().unary_unary(
        "/farhand.api.scheduler.v1.JobService/BatchSubmitJobs",
        request_serializer=lambda raw: raw,
        response_deserializer=BatchSubmitJobsResponse.FromString,
    )
    response = await call(raw)
    assert {index: error.reason for index, error in refusals(response).items()} == {1: "MALFORMED_REQUEST"}
    assert [bool(result.job_id) for result in response.results] == [True, False, True]


async def test_a_batch_repeated_gives_the_same_answers(house: House) -> None:
    request = BatchSubmitJobsRequest(specs=[a_spec(), JobSpec(), a_spec()], request_id="r1")
    first = await house.jobs().BatchSubmitJobs(request)
    assert first == await house.jobs().BatchSubmitJobs(request)
    assert refusals(first).keys() == {1}


async def test_a_batch_has_a_largest_size_and_may_be_empty(house: House) -> None:
    jobs = house.jobs()
    error = await refused(jobs.BatchSubmitJobs(BatchSubmitJobsRequest(specs=[JobSpec()] * 1001)))
    assert error.violations[0].path == "specs" and "1,000" in error.message
    assert len((await jobs.BatchSubmitJobs(BatchSubmitJobsRequest())).results) == 0
    nothing_good = await jobs.BatchSubmitJobs(BatchSubmitJobsRequest(specs=[JobSpec()] * 2))
    assert refusals(nothing_good).keys() == {0, 1}
    assert not house.queue.submissions


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (TRACE, TRACE),
        (TRACE.replace("-01", "-00"), None),
        ("00-nonsense", None),
        (None, None),
    ],
)
async def test_a_sampled_trace_goes_with_the_job(house: House, sent: str | None, kept: str | None) -> None:
    metadata = () if sent is None else (("traceparent", sent),)
    await house.jobs().SubmitJob(SubmitJobRequest(spec=a_spec()), metadata=metadata)
    await house.jobs().BatchSubmitJobs(BatchSubmitJobsRequest(specs=[a_spec()]), metadata=metadata)
    rows = [row for submission in house.queue.submissions for row in submission.rows]
    assert [row.traceparent for row in rows if isinstance(row, JobRow)] == [kept, kept]


async def test_a_client_submits_for_its_tenants_alone(rows: Rows) -> None:
    await rows.group("")
    callers = {"t1": Identity("ci", Role.CLIENT, tenants=frozenset({"acme"})), "t2": Identity("w", Role.WORKER)}
    async with open_house(rows, callers=callers) as house:
        assert (await house.jobs("t1").SubmitJob(SubmitJobRequest(spec=a_spec(tenant="acme")))).job.tenant == "acme"
        error = await refused(house.jobs("t1").SubmitJob(SubmitJobRequest(spec=a_spec())))
        assert error.reason == "PERMISSION_DENIED" and "acme" in error.message
        batch = BatchSubmitJobsRequest(specs=[a_spec(), a_spec(tenant="acme")])
        response = await house.jobs("t1").BatchSubmitJobs(batch)
        assert {index: error.reason for index, error in refusals(response).items()} == {0: "PERMISSION_DENIED"}
        assert house.queue.submissions[-1].tenant == "acme"
        error = await refused(house.jobs("t2").SubmitJob(SubmitJobRequest(spec=a_spec())))
        assert error.reason == "PERMISSION_DENIED"
