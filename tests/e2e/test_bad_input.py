"""What is wrong with a request is said, by real services, with a code and a reason; and nothing stumbles over it."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo

from farhand.api.registry.v1 import (
    namespace_service_pb2,
    roll_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    watch_service_pb2,
    worker_group_service_pb2,
)
from farhand.api.scheduler.v1 import group_service_pb2, job_pb2, job_service_pb2, worker_control_service_pb2
from farhand.api.types.v1.task_pb2 import Task
from farhand.api.worker.v1 import worker_service_pb2
from farhand.runtime.grpc_channel import RemoteError, remote_error
from tests.fixtures.command_line import farhand
from tests.fixtures.mesh import Mesh
from tests.tasks import NOOP, SHELL

BATCH = "/farhand.api.scheduler.v1.JobService/BatchSubmitJobs"
OF_REGISTRY = [
    namespace_service_pb2,
    roll_service_pb2,
    tenant_service_pb2,
    watch_service_pb2,
    worker_group_service_pb2,
]
OF_SCHEDULER = [group_service_pb2, job_service_pb2, worker_control_service_pb2, worker_service_pb2]


@pytest.fixture
async def servers(mesh: Mesh) -> AsyncIterator[Mesh]:
    """A registry and a scheduler with groups _default, gpu, gpu-big and private; at the end they must not have
    stumbled."""
    await mesh.add_registry()
    await mesh.add_scheduler()
    await mesh.tenants.CreateTenant(tenant_service_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(id="other")))
    await mesh.set_group("gpu")
    await mesh.set_group("gpu-big")
    await mesh.set_group("private", allowed_tenants=["other"])
    yield mesh
    for process in mesh.processes:
        assert process.running, f"{process.name} fell over"
        assert "Traceback" not in process.log.read_text(), process.tail()


def spec(type: str = SHELL, *, group: str | None = None, **properties: Any) -> job_pb2.JobSpec:
    task = Task(type=type)
    task.properties.update(properties)
    return job_pb2.JobSpec(task=task, worker_group=group)


async def refused(call: Any) -> RemoteError:
    """What a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return remote_error(error.value)


async def refused_submit(mesh: Mesh, spec: job_pb2.JobSpec, request_id: str = "") -> RemoteError:
    return await refused(mesh.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec, request_id=request_id)))


async def test_an_unknown_group_is_not_found_with_near_matches(servers: Mesh) -> None:
    error = await refused_submit(servers, spec(group="gpuu", commands=["true"]))
    assert (error.code.name, error.reason) == ("NOT_FOUND", "NOT_FOUND")
    assert "gpu" in error.metadata["near"] and "'gpuu'" in error.message
    said = await farhand(
        "run", "--worker-group", "gpu_big", "--", "true", FARHAND_SCHEDULER=servers.schedulers[0].address
    )
    assert said.exit_code == 1 and "gpu-big" in said.err and len(said.err.splitlines()) <= 3


async def test_a_tenant_that_the_group_does_not_allow_and_one_that_is_not_there_are_refused(servers: Mesh) -> None:
    error = await refused_submit(servers, spec(group="private", commands=["true"]))
    assert (error.code.name, error.reason) == ("PERMISSION_DENIED", "TENANT_NOT_ALLOWED")
    assert "private" in error.message and "main" in error.message
    wanted = spec(group="private", commands=["true"])
    for tenant, near in (("mian", {"near": "main"}), ("othr", {})):  # who asks is told of nobody else's
        wanted.tenant = tenant
        error = await refused_submit(servers, wanted)
        assert (error.code.name, error.metadata) == ("NOT_FOUND", near) and tenant in error.message


async def test_a_payload_over_its_limit_is_refused_with_both_sizes_and_one_at_the_limit_is_not(servers: Mesh) -> None:
    limit = 256 << 10
    fits = spec(commands=["x" * 262_000])
    fits.task.properties.update({"commands": ["x" * (262_000 + limit - fits.task.ByteSize())]})
    assert fits.task.ByteSize() == limit
    await servers.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=fits))
    fits.task.type += "s"
    error = await refused_submit(servers, fits)
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE")
    assert "262,144" in str(error.violations) and "262,145" in str(error.violations)
    assert [violation.path for violation in error.violations] == ["spec.task"]


async def test_one_bad_row_in_five_hundred_is_refused_alone_whatever_is_wrong_with_it(servers: Mesh) -> None:
    await servers.add_worker("", slots=50)
    good = spec(NOOP).SerializeToString()
    absurd = spec(NOOP)
    absurd.fallback = 99  # type: ignore[assignment]
    bad = {
        3: (b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "MALFORMED_REQUEST"),  # a tenant that is not UTF-8
        77: (b"\x2a\x7f\x01", "INVALID_ARGUMENT", "MALFORMED_REQUEST"),  # a length that leads out of the row
        150: (spec(commands=["a\0b"]).SerializeToString(), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        222: (spec(commands=["x" * 300_000]).SerializeToString(), "INVALID_ARGUMENT", "PAYLOAD_TOO_LARGE"),
        300: (spec(group="nowhere").SerializeToString(), "NOT_FOUND", "NOT_FOUND"),
        301: (spec(group="private").SerializeToString(), "PERMISSION_DENIED", "TENANT_NOT_ALLOWED"),
        302: (absurd.SerializeToString(), "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        499: (b"", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),  # no task at all
    }
    rows = [bad[index][0] if index in bad else good for index in range(500)]
    raw = b"".join(b"\x0a" + varint(len(row)) + row for row in rows)
    send: Any = servers.channel(servers.schedulers[0]).unary_unary(BATCH)
    response = job_service_pb2.BatchSubmitJobsResponse.FromString(await send(raw))
    assert len(response.results) == 500
    for index, result in enumerate(response.results):
        assert result.HasField("error") == (index in bad), f"row {index}: {result}"
        if index in bad:
            info = ErrorInfo()
            assert result.error.details[0].Unpack(info)
            assert (grpc_name(result.error.code), info.reason) == bad[index][1:], f"row {index}: {result.error}"
            assert f"specs[{index}]" in str(result.error) or grpc_name(result.error.code) != "INVALID_ARGUMENT"
    ids = [result.job_id for result in response.results if result.job_id]
    ended: dict[str, int] = {}
    async for update in servers.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(ids=ids), timeout=90):
        ended |= {job.id: job.state for job in update.jobs if job.HasField("end_time")}
    assert set(ended.values()) == {job_pb2.JOB_STATE_SUCCESS} and len(ended) == 492


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def grpc_name(code: int) -> str:
    return next(status.name for status in grpc.StatusCode if status.value[0] == code)


async def test_names_ids_and_durations_have_their_bounds(servers: Mesh) -> None:
    async def wrong(path: str, wanted: job_pb2.JobSpec, request_id: str = "") -> None:
        error = await refused_submit(servers, wanted, request_id)
        assert error.code.name == "INVALID_ARGUMENT", error
        assert path in [violation.path for violation in error.violations], error
        assert len(error.message) < 1100

    await wrong("spec.task.type", spec("t" * 201))
    await wrong("spec.task.type", spec(""))
    await wrong("spec.task.type", spec("a b"))
    await wrong("spec.worker_group", spec(NOOP, group="g" * 101))
    await wrong("spec.worker_group", spec(NOOP, group="g/../h"))
    await wrong("request_id", spec(NOOP), "r" * 101)
    await wrong("request_id", spec(NOOP), "r" * 5_000_000)
    await wrong("request_id", spec(NOOP), "a\0b")
    for deliveries in (-1, 101, 2**31 - 1):
        several = spec(NOOP)
        several.max_deliveries = deliveries
        await wrong("spec.max_deliveries", several)
    for timeout in (Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=2**63 - 1), Duration(nanos=2**31 - 1)):
        timed = spec(NOOP)
        timed.task.timeout.CopyFrom(timeout)
        await wrong("spec.task.timeout", timed)
    # The longest names are fine, and a type that nobody knows waits and says so.
    accepted = await servers.jobs.SubmitJob(
        job_service_pb2.SubmitJobRequest(spec=spec("t" * 200), request_id="r" * 100)
    )
    await servers.add_worker("")
    told = await servers.jobs.ExplainJob(job_service_pb2.ExplainJobRequest(id=accepted.job.id))
    assert told.reason == job_service_pb2.WAIT_REASON_NO_WORKER_FOR_TYPE and "t" * 200 in told.message
    said = await farhand("job", "list", FARHAND_SCHEDULER=servers.schedulers[0].address)
    assert said.exit_code == 0 and accepted.job.id in said.out


async def test_page_tokens_and_positions_of_elsewhere_are_refused(servers: Mesh) -> None:
    jobs = [(await servers.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec(NOOP)))).job.id for _ in range(3)]
    of_jobs = (await servers.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=1))).next_page_token
    of_groups = (
        await servers.groups.ListWorkerGroups(worker_group_service_pb2.ListWorkerGroupsRequest(page_size=1))
    ).next_page_token
    assert of_jobs and of_groups
    tail = servers.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=jobs[0]))
    position = [answer async for answer in tail][-1].position
    for token in (of_groups, position, of_jobs[:-2], of_jobs + "AAAA", "nonsense", "ß", "x" * 100_000, "\0"):
        error = await refused(servers.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_token=token)))
        assert error.code.name == "INVALID_ARGUMENT" and "page_token" in str(error.violations), token[:50]
    other_filter = job_service_pb2.ListJobsRequest(page_token=of_jobs, tenant="other")
    assert (await refused(servers.jobs.ListJobs(other_filter))).code.name == "INVALID_ARGUMENT"
    for token in (of_jobs, "nonsense", "\0", "x" * 100_000):
        groups = worker_group_service_pb2.ListWorkerGroupsRequest(page_token=token)
        assert (await refused(servers.groups.ListWorkerGroups(groups))).code.name == "INVALID_ARGUMENT"
        tails = servers.jobs.TailLogs(job_service_pb2.TailLogsRequest(id=jobs[0], position=token))
        assert (await refused(anext(aiter(tails)))).code.name == "INVALID_ARGUMENT"
    for states in ([99], [-1], [2**31 - 1]):
        unknown = job_service_pb2.ListJobsRequest(states=states)  # type: ignore[arg-type]
        assert (await refused(servers.jobs.ListJobs(unknown))).code.name == "INVALID_ARGUMENT"


# ── every method of every service ──


def methods(modules: list[Any]) -> Iterator[MethodDescriptor]:
    for module in modules:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


STRINGS = ["", "\0", "x" * 70_000, "'; DROP TABLE job; --", "../../etc/passwd", "\u202e\ud7ff\U0010ffff", "%s{0}", "-1"]
NUMBERS = [-1, 0, 1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)]


def nasty(descriptor: Descriptor | None, number: int, depth: int = 0) -> Message:
    """A message of this type in which every field has a value of the nasty kind with this number."""
    assert descriptor is not None
    message = GetMessageClass(descriptor)()
    if descriptor.full_name.startswith("google.protobuf.") and depth > 4:
        return message
    for place, field in enumerate(descriptor.fields):
        choice = field.containing_oneof
        if choice is not None and choice.fields[number % len(choice.fields)] is not field:
            continue
        value = _value(field, number + place, depth)
        if value is None:
            continue
        if field.is_repeated:
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue
            getattr(message, field.name).extend([value] * (1 + number % 3))
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
    return message


def _value(field: FieldDescriptor, number: int, depth: int) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return STRINGS[number % len(STRINGS)]
        case FieldDescriptor.TYPE_BYTES:
            return STRINGS[number % len(STRINGS)].encode("utf-8", "replace")
        case FieldDescriptor.TYPE_BOOL:
            return bool(number % 2)
        case FieldDescriptor.TYPE_ENUM:
            return [99, -1, 1, 2][number % 4]
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return [float("nan"), float("inf"), -0.0, 1e308][number % 4]
        case FieldDescriptor.TYPE_MESSAGE:
            return nasty(field.message_type, number, depth + 1) if depth < 6 else None
        case FieldDescriptor.TYPE_INT32 | FieldDescriptor.TYPE_SINT32 | FieldDescriptor.TYPE_SFIXED32:
            return max(-(2**31), min(NUMBERS[number % len(NUMBERS)], 2**31 - 1))
        case FieldDescriptor.TYPE_UINT32 | FieldDescriptor.TYPE_UINT64:
            return abs(NUMBERS[number % len(NUMBERS)]) % 2**32
    return NUMBERS[number % len(NUMBERS)]


async def code_of(channel: grpc.aio.Channel, method: MethodDescriptor, raw: bytes) -> str:
    """What a method answers to these bytes as its only request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary"}.get(
        (method.client_streaming, method.server_streaming), "stream_stream"
    )
    request = iter([raw]) if method.client_streaming else raw
    call = getattr(channel, kind)(path)(request, timeout=1.5)
    try:
        if method.server_streaming:
            await anext(aiter(call), None)
            call.cancel()
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("service", ["registry", "scheduler"])
async def test_no_method_answers_unknown_or_internal_to_anything(service: str, servers: Mesh) -> None:
    process = (servers.registries if service == "registry" else servers.schedulers)[0]
    channel = servers.channel(process)
    every = list(methods(OF_REGISTRY if service == "registry" else OF_SCHEDULER))
    assert len(every) > 12
    for method in every:
        assert await code_of(channel, method, b"\xff\xff\xff") == "INVALID_ARGUMENT", method.full_name
        if any(field.type == FieldDescriptor.TYPE_STRING for field in method.input_type.fields):
            [field] = [f for f in method.input_type.fields if f.type == FieldDescriptor.TYPE_STRING][:1]
            not_utf8 = bytes([field.number << 3 | 2, 2, 0xC3, 0x28])
            assert await code_of(channel, method, not_utf8) == "INVALID_ARGUMENT", method.full_name
        for number in range(len(STRINGS) * 2):
            message = nasty(method.input_type, number)
            code = await code_of(channel, method, message.SerializeToString())
            assert code not in ("UNKNOWN", "INTERNAL", "UNIMPLEMENTED"), f"{method.full_name}: {code} to {message}"
    assert not re.search(r"error id|\"level\": \"error\"", process.log.read_text()), process.tail()
    # And it still does its work.
    answer = await servers.jobs.SubmitJob(job_service_pb2.SubmitJobRequest(spec=spec(NOOP)))
    assert answer.job.state == job_pb2.JOB_STATE_CREATED
