"""Farhand beyond one machine: certificates and tokens of `farhand admin dev-certs`, real processes, and who is refused.

Servers listen on 0.0.0.0 and are dialled as localhost, all over TLS. What a stranger
without the right certificate, token, group or tenant gets is written down here.
"""

import asyncio
import hashlib
import json
import re
import secrets
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from farhand.api.registry.v1 import flow_service_pb2 as flow_api
from farhand.api.registry.v1 import namespace_file_service_pb2 as file_api
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
from farhand.api.registry.v1.namespace_file_pb2 import NamespaceFile
from farhand.api.registry.v1.namespace_file_service_pb2_grpc import NamespaceFileServiceStub
from farhand.api.registry.v1.tenant_pb2 import Tenant
from farhand.api.registry.v1.tenant_service_pb2 import CreateTenantRequest, ListTenantsRequest
from farhand.api.registry.v1.tenant_service_pb2_grpc import TenantServiceStub
from farhand.api.registry.v1.worker_group_pb2 import WorkerGroup
from farhand.api.registry.v1.worker_group_service_pb2 import CreateWorkerGroupRequest
from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceStub
from farhand.api.scheduler.v1 import execution_service_pb2 as execution_api
from farhand.api.scheduler.v1 import job_pb2, job_service_pb2
from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.api.types.v1.log_record_pb2 import LogRecord
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.api.worker.v1.worker_service_pb2 import AppendLogsRequest
from farhand.api.worker.v1.worker_service_pb2_grpc import WorkerServiceStub
from farhand.kernel.job_id import encode
from farhand.runtime.grpc_channel import remote_error
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.scheduler_service import HandWorker
from tests.tasks import SHELL, a_shell_task


class Fortress:
    """A mesh behind TLS and tokens."""

    def __init__(self, mesh: Mesh, certs: Path) -> None:
        self.mesh = mesh
        self.certs = certs
        self.registry = ""
        self.scheduler = ""

    async def start(self) -> "Fortress":
        """Registry and scheduler on all addresses; no worker yet."""
        registry = await self.mesh.add_registry(*self.listening())
        self.registry = dialled(registry)
        dialling = ("--tls-ca", str(self.certs / "ca.crt"), "--token-file", str(self.certs / "service.token"))
        scheduler = await self.mesh.add_scheduler(*self.listening(), *dialling, registry=self.registry)
        self.scheduler = dialled(scheduler)
        return self

    def listening(self) -> tuple[str, ...]:
        """The flags of a server that listens everywhere, as it must."""
        return (
            *("--listen", "0.0.0.0:0"),
            *("--tls-cert", str(self.certs / "server.crt"), "--tls-key", str(self.certs / "server.key")),
            *("--tokens", str(self.certs / "tokens.toml")),
        )

    def add_token(self, name: str, role: str, **more: object) -> None:
        """A token that an operator writes by hand, before the services start."""
        token = secrets.token_urlsafe(32)
        (self.certs / f"{name}.token").write_text(token)
        lines = ["[[token]]", f'name = "{name}"', f'role = "{role}"']
        lines += [f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
        with (self.certs / "tokens.toml").open("a") as file:
            file.write("\n".join(lines) + "\n")

    def token(self, name: str) -> str:
        return (self.certs / f"{name}.token").read_text().strip()

    async def farhand(self, *arguments: str, token: str | None = "admin", ca: Path | None = None) -> Said:
        """A command of somebody who has this token; None: none at all."""
        credentials = {"FARHAND_TLS_CA": str(ca or self.certs / "ca.crt")}
        if token is not None:
            credentials["FARHAND_TOKEN_FILE"] = str(self.certs / f"{token}.token")
        where = {"FARHAND_REGISTRY": self.registry, "FARHAND_SCHEDULER": self.scheduler}
        return await farhand(*arguments, **where, **credentials)

    def channel(self, address: str, token: str) -> grpc.aio.Channel:
        """What a program in any language does: the authority's certificate and a bearer token, and nothing of ours."""
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials((self.certs / "ca.crt").read_bytes()),
            grpc.access_token_call_credentials(self.token(token)),
        )
        return grpc.aio.secure_channel(address, credentials)

    async def declare(self, *, groups: Sequence[str] = (), tenants: Sequence[str] = ()) -> None:
        """Make worker groups and tenants."""
        async with self.channel(self.registry, "admin") as channel:
            for tenant in tenants:
                await TenantServiceStub(channel).CreateTenant(CreateTenantRequest(tenant=Tenant(id=tenant)))
            for group in groups:
                await WorkerGroupServiceStub(channel).CreateWorkerGroup(
                    CreateWorkerGroupRequest(worker_group=WorkerGroup(key=group))
                )

    async def add_worker(self, group: str = "", *, token: str = "worker") -> Process:
        flags = ("--tls-ca", str(self.certs / "ca.crt"), "--token-file", str(self.certs / f"{token}.token"))
        return await self.mesh.add_worker(group, *flags, scheduler=self.scheduler)


def dialled(process: Process) -> str:
    """The name by which the certificate knows it."""
    return f"localhost:{process.address.rpartition(':')[2]}"


@pytest.fixture
async def fortress(mesh: Mesh, tmp_path: Path) -> Fortress:
    """With certificates as `farhand admin dev-certs` makes them; not started."""
    made = await farhand("admin", "dev-certs", tmp_path / "certs")
    assert made.exit_code == 0, made.err
    return Fortress(mesh, tmp_path / "certs")


async def test_a_job_runs_over_tls_and_its_environment_holds_no_secret(fortress: Fortress) -> None:
    await fortress.start()
    # One worker has its token in a file, the other in its environment, where jobs could look.
    await fortress.add_worker()
    await fortress.declare(groups=["gpu"])
    await fortress.mesh.add_worker(
        "gpu",
        scheduler=fortress.scheduler,
        FARHAND_TLS_CA=str(fortress.certs / "ca.crt"),
        FARHAND_TOKEN=fortress.token("worker-gpu"),
        OTEL_EXPORTER_OTLP_HEADERS="api-key=collector-secret",
        TOOLS="/opt/tools",
    )
    all_tokens = [fortress.token(path.stem) for path in fortress.certs.glob("*.token")]
    assert len(all_tokens) == 5
    for group in ("_default", "gpu"):
        # The environment of the command and of whatever it can see of its parents.
        look = "env; cat /proc/self/environ | tr '\\0' '\\n'; tr '\\0' '\\n' < /proc/$PPID/environ; echo; echo looked"
        ran = await fortress.farhand("run", "--worker-group", group, "--", "sh", "-c", look, token="client")
        assert ran.exit_code == 0, ran.all
        assert ran.out.endswith("looked\n") and "FARHAND_JOB_ID=" in ran.out
        assert ("TOOLS=/opt/tools" in ran.out) == (group == "gpu")  # the machine's own variables come along
        assert not any(token in ran.all for token in all_tokens), "a job can read a token"
        assert "collector-secret" not in ran.all
    # Nor do the services write one down.
    for process in fortress.mesh.processes:
        assert not any(token in process.log.read_text() for token in all_tokens), process.name


async def test_the_files_of_dev_certs_are_for_their_owner_alone_and_never_overwritten(fortress: Fortress) -> None:
    files = {path.name: path for path in fortress.certs.iterdir()}
    assert {"ca.crt", "ca.key", "server.crt", "server.key", "tokens.toml", "worker-gpu.token"} <= set(files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files.values())
    before = {name: path.read_bytes() for name, path in files.items()}
    again = await farhand("admin", "dev-certs", fortress.certs)
    assert again.exit_code == 1
    assert "already has" in again.err and "Traceback" not in again.err
    assert {name: path.read_bytes() for name, path in files.items()} == before
    # The token file holds no token, only hashes.
    assert not any(before[name].strip() in before["tokens.toml"] for name in before if name.endswith(".token"))


@pytest.mark.parametrize("service", ["registry", "scheduler"])
async def test_beyond_loopback_a_service_without_tls_and_tokens_does_not_start(
    service: str, fortress: Fortress
) -> None:
    everything = {
        "--tls-cert": str(fortress.certs / "server.crt"),
        "--tls-key": str(fortress.certs / "server.key"),
        "--tokens": str(fortress.certs / "tokens.toml"),
    }
    cases = [{}, {"--tokens": everything["--tokens"]}, {k: v for k, v in everything.items() if k != "--tokens"}]

    async def refused(flags: dict[str, str]) -> None:
        given = [part for flag in flags.items() for part in flag]
        said = await farhand(
            "server", service, "--listen", "0.0.0.0:0", *given, FARHAND_DATABASE_URL="postgresql://nobody@127.0.0.1:1/x"
        )
        assert said.exit_code == 1
        [line] = said.err.splitlines()
        assert "can be reached from other machines" in line and "farhand admin dev-certs" in line
        for flag in everything:
            assert (f"{flag}" in line.split("tokens: ")[1]) == (flag not in flags), line

    await asyncio.gather(*(refused(flags) for flags in cases))


async def test_strangers_are_refused_in_one_line_that_says_why(fortress: Fortress, tmp_path: Path) -> None:
    (fortress.certs / "wrong.token").write_text(secrets.token_urlsafe(32))
    await fortress.start()
    others = await farhand("admin", "dev-certs", tmp_path / "others")
    assert others.exit_code == 0

    async def refused(words: str, *command: str, token: str | None, ca: Path | None = None) -> None:
        said = await fortress.farhand(*command, token=token, ca=ca)
        assert said.exit_code == 1 and not said.out, said.all
        assert len(said.err.splitlines()) <= 3 and "Traceback" not in said.err
        assert words in said.err, said.err

    await asyncio.gather(
        refused("not known to this server", "job", "list", token="wrong"),
        refused("not known to this server", "worker-group", "list", token="wrong"),
        refused("asks for a token", "job", "list", token=None),
        refused("certificate", "job", "list", token="admin", ca=tmp_path / "others" / "ca.crt"),
        refused("not open to role worker", "run", "--", "true", token="worker"),  # it runs jobs and submits none
        refused("not open to role client", "tenant", "create", "mine", token="client"),
        refused("not open to role service", "job", "list", token="service"),
    )
    plain = await farhand("job", "list", FARHAND_SCHEDULER=fortress.scheduler)  # no authority named: no TLS
    assert plain.exit_code == 1 and len(plain.err.splitlines()) <= 3 and "Traceback" not in plain.err


async def test_a_worker_is_refused_for_another_group_with_a_wrong_token_and_by_a_stranger_authority(
    fortress: Fortress, tmp_path: Path
) -> None:
    (fortress.certs / "wrong.token").write_text(secrets.token_urlsafe(32))
    await fortress.start()
    await fortress.declare(groups=["gpu"])

    async def refused(*words: str, group: str = "gpu", token: str) -> None:
        flags = ("--tls-ca", str(fortress.certs / "ca.crt"), "--token-file", str(fortress.certs / f"{token}.token"))
        data = tmp_path / f"{group}-{token}"
        said = await farhand(
            *("server", "worker", "--worker-group", group, "--scheduler", fortress.scheduler, "--data", data, *flags),
        )
        assert said.exit_code == 1, said.all
        lines = [line for line in said.err.splitlines() if line.startswith("farhand worker:")]
        assert len(lines) == 1 and all(word in lines[0] for word in words), said.err
        assert "Traceback" not in said.err

    await asyncio.gather(
        refused("is for worker group _default, not for gpu", "another token", token="worker"),
        refused("is for worker group gpu, not for _default", group="_default", token="worker-gpu"),
        refused("not known", token="wrong"),
        refused("role client", token="client"),
    )
    # A server of another authority might become the right one: the worker waits, says why, and tells it nothing.
    others = await farhand("admin", "dev-certs", tmp_path / "others")
    assert others.exit_code == 0
    lost = fortress.mesh.process(
        "worker-lost",
        [
            *("farhand.worker", "--scheduler", fortress.scheduler, "--data", str(tmp_path / "lost")),
            *("--tls-ca", str(tmp_path / "others" / "ca.crt"), "--token-file", str(fortress.certs / "worker.token")),
        ],
        {},
    )
    await lost.launch()
    async with asyncio.timeout(90):
        while "waiting for the scheduler" not in lost.tail():
            await asyncio.sleep(0.05)
    assert re.search(r"waiting for the scheduler.*certificate", lost.tail(), re.IGNORECASE), lost.tail()
    lost.terminate()
    assert await lost.ended() == 0


async def test_a_worker_can_not_pass_for_another_nor_write_into_its_log(fortress: Fortress) -> None:
    await fortress.start()
    await fortress.declare(groups=["gpu"])
    async with (
        fortress.channel(fortress.scheduler, "client") as client,
        fortress.channel(fortress.scheduler, "worker") as owner,
        fortress.channel(fortress.scheduler, "worker-gpu") as other,
    ):
        hello = pb.Hello(protocol_version=1, worker_id="w", incarnation=b"0" * 16, slots=1, task_types=[SHELL])
        worker = await HandWorker(WorkerServiceStub(owner), hello).connect()
        await JobServiceStub(client).SubmitJob(
            job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=a_shell_task("true")))
        )
        await worker.credit(1)
        [held] = await worker.assignments()

        async def append(channel: grpc.aio.Channel) -> bool:
            """Whether a line for the job's log is refused."""
            line = AppendLogsRequest(job_id=held.job_id, fence=held.fence, records=[LogRecord(text="mine")])
            [ack] = (await WorkerServiceStub(channel).AppendLogs(iter([line]))).acks
            return ack.refused

        assert await append(other) and not await append(owner)
        hello.worker_group = "gpu"
        hello.incarnation = b"1" * 16
        with pytest.raises(grpc.aio.AioRpcError, match="belongs to another credential") as refused:
            await HandWorker(WorkerServiceStub(other), hello).connect()
        assert remote_error(refused.value).reason == "WORKER_ID_TAKEN"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await append(client)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await worker.result(held) == "RECORDED"


async def test_another_tenants_client_sees_and_touches_nothing(fortress: Fortress) -> None:
    fortress.add_token("theirs", "client", tenants=["other"])
    await fortress.start()
    await fortress.declare(tenants=["other", "third"])
    task = a_shell_task("echo secret")
    async with (
        fortress.channel(fortress.scheduler, "client") as ours,
        fortress.channel(fortress.scheduler, "theirs") as theirs,
        fortress.channel(fortress.registry, "theirs") as theirs_of_registry,
    ):
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=task))
        job = (await JobServiceStub(ours).SubmitJob(request)).job.id
        jobs = JobServiceStub(theirs)

        async def answer(method: str, job: str) -> str:
            """What a call about a job is refused with."""
            field = {"ids": [job]} if method == "WatchJobs" else {"id": job}
            call = getattr(jobs, method)(getattr(job_service_pb2, f"{method}Request")(**field))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                if method in ("WatchJobs", "TailLogs"):
                    await anext(aiter(call))
                else:
                    await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND, f"{method}: {refused.value}"
            return remote_error(refused.value).message

        for method in ("GetJob", "WaitJob", "WatchJobs", "KillJob", "ExplainJob", "TailLogs"):
            words = await answer(method, job)
            assert "secret" not in words
            never_was = encode(2**40)
            assert words.replace(job, never_was) == await answer(method, never_was)  # the same words for both
        for tenant, code in (("main", "PERMISSION_DENIED"), ("", "PERMISSION_DENIED"), ("third", "PERMISSION_DENIED")):
            with pytest.raises(grpc.aio.AioRpcError, match="is not for tenant") as refused:
                await jobs.ListJobs(job_service_pb2.ListJobsRequest(tenant=tenant))
            assert refused.value.code().name == code
            request.spec.tenant = tenant
            with pytest.raises(grpc.aio.AioRpcError, match="is not for tenant"):
                await jobs.SubmitJob(request)
        assert not (await jobs.ListJobs(job_service_pb2.ListJobsRequest(tenant="other"))).jobs
        tenants = (await TenantServiceStub(theirs_of_registry).ListTenants(ListTenantsRequest())).tenants
        assert [tenant.id for tenant in tenants] == ["other"]
        # Its own it has, and ours is as it was.
        request.spec.tenant = "other"
        assert (await jobs.SubmitJob(request)).job.tenant == "other"
        unharmed = (await JobServiceStub(ours).GetJob(job_service_pb2.GetJobRequest(id=job))).job
        assert unharmed.state == job_pb2.JOB_STATE_CREATED and not unharmed.HasField("kill_time")
    said = await fortress.farhand("job", "get", job, token="theirs")
    assert said.exit_code == 1 and f"There is no job '{job}'" in said.err and "secret" not in said.all


async def jobs_of(channel: grpc.aio.Channel, execution: str) -> list[str]:
    """The jobs of an execution, once its first one is queued."""
    async for answer in ExecutionServiceStub(channel).WatchExecution(execution_api.WatchExecutionRequest(id=execution)):
        if jobs := [run.job_id for run in answer.execution.task_runs if run.job_id]:
            return jobs
    raise AssertionError("it ended without a job")


async def test_another_tenants_flows_files_and_executions_are_not_there(fortress: Fortress) -> None:
    """Every call about flows, namespace files, executions and output files, with names that exist in another tenant
    and with names that nearly do."""
    fortress.add_token("theirs", "client", tenants=["other"])
    await fortress.start()
    await fortress.declare(tenants=["other"])
    hidden = WorkerGroup(key="hidden", allowed_tenants=["main"])
    tasks = "tasks:\n  - {id: t, type: io.kestra.plugin.core.debug.Return, format: x%s}\n"
    source = "id: treasure\nnamespace: vault.gold\n" + tasks % ""
    content = b"what nobody else may read"
    async with (
        fortress.channel(fortress.registry, "admin") as ours,
        fortress.channel(fortress.scheduler, "admin") as ours_of_scheduler,
        fortress.channel(fortress.registry, "theirs") as registry,
        fortress.channel(fortress.scheduler, "theirs") as scheduler,
    ):
        await WorkerGroupServiceStub(ours).CreateWorkerGroup(CreateWorkerGroupRequest(worker_group=hidden))
        await FlowServiceStub(ours).CreateFlow(flow_api.CreateFlowRequest(source=source))
        file = NamespaceFile(namespace="vault.gold", path="map.txt")
        put = [file_api.PutNamespaceFileRequest(file=file), file_api.PutNamespaceFileRequest(chunk=content)]
        digest = (await NamespaceFileServiceStub(ours).PutNamespaceFile(iter(put))).file.digest
        create = execution_api.CreateExecutionRequest(namespace="vault.gold", flow_id="treasure")
        made = (await ExecutionServiceStub(ours_of_scheduler).CreateExecution(create)).execution.id
        flows, files = FlowServiceStub(registry), NamespaceFileServiceStub(registry)
        executions = ExecutionServiceStub(scheduler)

        async def told(call: Any) -> str:
            """What a call is refused with."""
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await (anext(aiter(call)) if hasattr(call, "__aiter__") else call)
            assert refused.value.code().name in ("NOT_FOUND", "PERMISSION_DENIED"), refused.value
            error = remote_error(refused.value)
            return f"{error.message} {dict(error.metadata)}"

        def calls(tenant: str, flow: str, path: str) -> Iterator[Any]:
            """Every call that names a tenant, a flow or a file."""
            named: dict[str, Any] = {"tenant": tenant, "namespace": "vault.gold"}
            theirs = NamespaceFile(**named, path=path)
            yield flows.GetFlow(flow_api.GetFlowRequest(**named, id=flow))
            yield flows.GetFlow(flow_api.GetFlowRequest(**named, id=flow, revision=1))
            yield flows.ListFlowRevisions(flow_api.ListFlowRevisionsRequest(**named, id=flow))
            yield flows.DeleteFlow(flow_api.DeleteFlowRequest(**named, id=flow))
            name = flow_api.FlowName(namespace="vault.gold", id=flow)
            yield flows.ExplainFlow(flow_api.ExplainFlowRequest(tenant=tenant, name=name))
            changed = source.replace("treasure", flow).replace("x}", "y}")
            yield flows.UpdateFlow(flow_api.UpdateFlowRequest(tenant=tenant, source=changed))
            yield files.ReadNamespaceFile(file_api.ReadNamespaceFileRequest(**named, path=path))
            yield files.ReadNamespaceFile(file_api.ReadNamespaceFileRequest(**named, path=path, digest=digest))
            yield files.DeleteNamespaceFile(file_api.DeleteNamespaceFileRequest(**named, path=path))
            yield executions.CreateExecution(execution_api.CreateExecutionRequest(**named, flow_id=flow))
            if tenant != "other":
                yield flows.ListFlows(flow_api.ListFlowsRequest(tenant=tenant))
                yield flows.ValidateFlow(flow_api.ValidateFlowRequest(tenant=tenant, source=source))
                yield flows.CreateFlow(flow_api.CreateFlowRequest(tenant=tenant, source=source))
                yield flows.ExplainFlow(flow_api.ExplainFlowRequest(tenant=tenant, source=source))
                yield files.ListNamespaceFiles(file_api.ListNamespaceFilesRequest(**named, inherited=True))
                yield files.PutNamespaceFile(iter([file_api.PutNamespaceFileRequest(file=theirs)]))
                yield executions.ListExecutions(execution_api.ListExecutionsRequest(tenant=tenant))

        for tenant in ("main", "", "other", "nobodys"):
            for flow, path in (("treasure", "map.txt"), ("treasur", "map.tx")):
                for call in calls(tenant, flow, path):
                    words = await told(call)
                    leaks = ("treasure", "map.txt") if flow == "treasur" else ()
                    assert not [leak for leak in (*leaks, "nobody else") if leak in words], words

        never_was = "x" + encode(2**40)
        for id in (made, never_was):
            for call in (
                executions.GetExecution(execution_api.GetExecutionRequest(id=id)),
                executions.KillExecution(execution_api.KillExecutionRequest(id=id)),
                executions.WatchExecution(execution_api.WatchExecutionRequest(id=id)),
                executions.TailExecutionLogs(execution_api.TailExecutionLogsRequest(id=id)),
                executions.TailExecutionLogs(execution_api.TailExecutionLogsRequest(id=id, task_id="tt", follow=True)),
            ):
                words = await told(call)
                assert words.replace(id, "ID").startswith("There is no execution 'ID'"), words
        [job] = await jobs_of(ours_of_scheduler, made)
        for uri in (f"farhand:///main/{job}/{job}/1/map.txt", f"farhand:///other/{job}/{job}/1/map.txt"):
            await told(executions.ReadFile(execution_api.ReadFileRequest(uri=uri)))

        # What it may list is empty, and a group that it may not use is no hint, not even for its flows.
        assert not (await flows.ListFlows(flow_api.ListFlowsRequest(tenant="other"))).flows
        listing = file_api.ListNamespaceFilesRequest(tenant="other", namespace="vault.gold", inherited=True)
        assert not (await files.ListNamespaceFiles(listing)).files
        assert not (await executions.ListExecutions(execution_api.ListExecutionsRequest(tenant="other"))).executions
        for key in ("hiddn", "hidden"):
            text = source.replace("format: x", f"format: x, workerGroup: {{key: {key}}}")
            answer = await flows.ValidateFlow(flow_api.ValidateFlowRequest(tenant="other", source=text))
            [problem] = [problem.message for problem in answer.problems]
            assert "main" not in problem and (key == "hidden" or "hidden" not in problem), problem
        unharmed = await ExecutionServiceStub(ours_of_scheduler).GetExecution(
            execution_api.GetExecutionRequest(id=made)
        )
        assert not unharmed.execution.HasField("kill_time")


async def test_a_generated_client_speaks_tls_with_nothing_but_grpc(fortress: Fortress) -> None:
    await fortress.start()
    await fortress.add_worker()
    async with fortress.channel(fortress.scheduler, "client") as channel:
        jobs = JobServiceStub(channel)
        request = job_service_pb2.SubmitJobRequest(spec=job_pb2.JobSpec(task=a_shell_task("echo hello")))
        job = (await jobs.SubmitJob(request)).job
        ended = (await jobs.WaitJob(job_service_pb2.WaitJobRequest(id=job.id))).job
        assert ended.state == job_pb2.JOB_STATE_SUCCESS
    async with fortress.channel(fortress.registry, "client") as channel:
        tenants = (await TenantServiceStub(channel).ListTenants(ListTenantsRequest())).tenants
        assert [tenant.id for tenant in tenants] == ["main"]
    # The certificate is for the names it was made for, and TLS is current.
    host, _, port = fortress.scheduler.partition(":")
    context = ssl.create_default_context(cafile=str(fortress.certs / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        assert writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
    finally:
        writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(host, int(port), ssl=context, server_hostname="elsewhere.example.com")
