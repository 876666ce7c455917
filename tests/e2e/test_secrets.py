"""Secrets, with real processes: where one goes, and that it stands nowhere else; keys that change while all runs."""

import base64
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest
from google.protobuf.message import Message

from farhand.api.registry.v1 import flow_service_pb2
from farhand.api.registry.v1.flow_service_pb2_grpc import FlowServiceStub
from farhand.api.scheduler.v1 import execution_pb2, execution_service_pb2, job_service_pb2
from farhand.api.scheduler.v1.execution_service_pb2_grpc import ExecutionServiceStub
from farhand.api.scheduler.v1.job_service_pb2_grpc import JobServiceStub
from farhand.runtime.grpc_channel import make_channel
from farhand.runtime.sealing import Keyring
from farhand.runtime.settings import DialSettings
from farhand.runtime.wire import plain
from farhand.scheduler.loops.secret_inputs import SecretInputs
from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh, Process
from tests.fixtures.otlp import OtlpReceiver

NEEDLE = "n33dle/of+Farhand=ü-7261"
CERTIFICATE = "-----BEGIN NEEDLE-----\nbXVsdGlsaW5lLW5lZWRsZS0x\nbXVsdGlsaW5lLW5lZWRsZS0y\n-----END NEEDLE-----"
SECONDS = 60.0

FLOW = """
id: deploy
namespace: company.team
inputs:
  - {id: token, type: SECRET}
  - {id: certificate, type: SECRET}
  - {id: maybe, type: SECRET, required: false}
  - {id: who, type: STRING, defaults: ada}
tasks:
  - id: shell
    type: io.kestra.plugin.scripts.shell.Commands
    env: {TOKEN: "{{ inputs.token }}", CERTIFICATE: "{{ inputs.certificate }}"}
    commands:
      - printf 'the token is '; printf '%.9s' "$TOKEN"; printf '%s\\n' "${TOKEN#?????????}"
      - printf '%s' "user:$TOKEN" | base64
      - echo "$CERTIFICATE" >&2
      - echo "::{\\"outputs\\":{\\"given\\":\\"$TOKEN\\"}}::"
      - printf '%s' "$TOKEN" > token.txt; sha256sum token.txt
  - id: python
    type: io.kestra.plugin.scripts.python.Script
    script: |
      token = "{{ inputs.token }}"
      print(ascii(token), repr(token))
      raise RuntimeError(token)
    allowFailure: true
  - id: call
    type: io.kestra.plugin.core.http.Request
    uri: "http://127.0.0.1:PORT/?token={{ inputs.token }}"
    headers: {x-token: "{{ inputs.certificate | json }}"}
    method: POST
    body: "{{ inputs.token }}"
    options: {allowFailed: true}
  - id: derived
    type: io.kestra.plugin.core.log.Log
    message: "{{ inputs.token | upper }}, {{ inputs.token | length }}"
  - {id: all, type: io.kestra.plugin.core.debug.Return, format: "{{ inputs | json }}"}
  - {id: fails, type: io.kestra.plugin.core.execution.Fail, errorMessage: "no: {{ inputs.token }}", allowFailure: true}
  - {id: bad, type: io.kestra.plugin.core.flow.Sleep, duration: "{{ inputs.token }}", allowFailure: true}
  - {id: raises, type: io.kestra.plugin.core.log.Log, message: "{{ inputs.token + 5 }}", allowFailure: true}
  - id: innocent
    type: io.kestra.plugin.core.log.Log
    message: "hello {{ inputs.who }} and {{ inputs.maybe ?? 'nobody' }}"
"""


def forms(secret: str) -> list[bytes]:
    """What would betray it, wherever it stood."""
    parts = [secret, *secret.splitlines()]
    texts = parts + [json.dumps(part)[1:-1] for part in parts] + [part.upper() for part in parts]
    raw = {text.encode() for text in texts} | {base64.b64encode(secret.encode())}
    return sorted(raw | {form.hex().encode() for form in raw})


BETRAYING = [*forms(NEEDLE), *forms(CERTIFICATE), base64.b64encode(f"user:{NEEDLE}".encode())[8:-4]]


def clean(where: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    for form in BETRAYING:
        at = data.find(form)
        assert at < 0, f"{where} holds a secret as {form!r}: {data[max(0, at - 100) : at + 100]!r}"


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, and remembers it."""

    heard: "list[str]" = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        Echo.heard += [self.path, self.headers["x-token"], body]
        answer = f"{body}\n{self.path}\n{self.headers['x-token']}".encode()
        self.send_response(403, "no")
        self.send_header("x-echo", self.headers["x-token"])
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that echoes."""
    Echo.heard.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
async def standalone(tmp_path: Path, fresh_database: str, otlp: OtlpReceiver) -> AsyncIterator[Process]:
    """A standalone that has started, its spans going to a receiver."""
    command = [sys.executable, "-m", "farhand.cli", "server", "standalone", "--data", str(tmp_path / "data")]
    command += [
        "--registry-port",
        "0",
        "--scheduler-port",
        "0",
        "--log-level",
        "debug",
        "--database-url",
        fresh_database,
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARHAND_")}
    environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint, "FARHAND_TRACE_RATIO": "1"}
    process = await Process("standalone", command, environment, tmp_path / "standalone.log").start()
    yield process
    if process.running:
        process.kill()
        await process.ended()


async def dump(url: str) -> dict[str, str]:
    """Every row of every table of both schemas."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_schema IN ('registry', 'scheduler')"
        )
        found = {}
        for schema, table in tables:
            rows = await connection.fetch(f"SELECT t::text FROM {schema}.{table} t")
            found[f"{schema}.{table}"] = "\n".join(row[0] for row in rows)
        return found
    finally:
        await connection.close()


async def test_a_secret_reaches_the_tasks_that_name_it_and_stands_nowhere_else(
    standalone: Process, fresh_database: str, otlp: OtlpReceiver, echo: int, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert (data / "secrets.key").stat().st_mode & 0o777 == 0o600
    addresses = {"FARHAND_REGISTRY": standalone.facts["registry"], "FARHAND_SCHEDULER": standalone.facts["scheduler"]}
    said: list[Said] = []

    async def cli(*words: str, **environment: str) -> Said:
        said.append(await farhand(*words, **(addresses | environment)))
        return said[-1]

    (tmp_path / "deploy.yaml").write_text(FLOW.replace("PORT", str(echo)))
    (tmp_path / "certificate.pem").write_text(CERTIFICATE + "\n")
    assert (await cli("flow", "create", str(tmp_path / "deploy.yaml"))).exit_code == 0, said[-1].all
    given = ["--input-env", "token=DEPLOY_TOKEN", "--input", f"certificate=@{tmp_path / 'certificate.pem'}"]
    create = ["execution", "create", "company.team/deploy", *given, "--request-id", "once"]
    followed = await cli(*create, "--follow", DEPLOY_TOKEN=NEEDLE)
    assert followed.exit_code == 0, followed.all
    assert "shell | the token is ***\n" in followed.all
    assert followed.all.count("hello ada and nobody") == 1

    async with (
        make_channel(standalone.facts["scheduler"], DialSettings()) as scheduler,
        make_channel(standalone.facts["registry"], DialSettings()) as registry,
    ):
        executions, jobs = ExecutionServiceStub(scheduler), JobServiceStub(scheduler)
        listed = await executions.ListExecutions(execution_service_pb2.ListExecutionsRequest())
        id = listed.executions[0].id
        execution = (await executions.GetExecution(execution_service_pb2.GetExecutionRequest(id=id))).execution
        answers: list[Message] = [listed, execution]
        outputs = {run.task_id: plain(run.outputs) for run in execution.task_runs}
        messages = {run.task_id: run.message for run in execution.task_runs}
        assert execution.inputs["token"] == execution.inputs["certificate"] == "***"
        assert execution.inputs["maybe"] is None
        assert outputs["shell"]["vars"]["given"] == "***"
        assert outputs["call"]["code"] == 403
        assert outputs["call"]["headers"]["x-echo"][0] == '"***"'
        assert json.loads(str(outputs["all"]["value"]))["who"] == "ada"
        assert messages["fails"] == "no: ***"
        assert "***" in messages["bad"]
        assert [Echo.heard[1], Echo.heard[2]] == [json.dumps(CERTIFICATE), NEEDLE]
        answers += [
            answer async for answer in executions.WatchExecution(execution_service_pb2.WatchExecutionRequest(id=id))
        ]
        answers += [
            answer
            async for answer in executions.TailExecutionLogs(execution_service_pb2.TailExecutionLogsRequest(id=id))
        ]
        with_mask = 0
        for run in execution.task_runs:
            job = (await jobs.GetJob(job_service_pb2.GetJobRequest(id=run.job_id))).job
            answers += [job, await jobs.ExplainJob(job_service_pb2.ExplainJobRequest(id=run.job_id))]
            named = plain(job.spec.task.context).get("inputs", {})
            with_mask += "***" in named.values()
            if run.task_id == "innocent":
                assert sorted(named) == ["maybe", "who"]
        assert with_mask == len(execution.task_runs) - 1
        request = flow_service_pb2.GetFlowRequest(namespace="company.team", id="deploy")
        answers.append(await FlowServiceStub(registry).GetFlow(request))
    for words in (["get", id], ["get", id, "--output", "json"], ["list"], ["logs", id]):
        await cli("execution", *words)
    for run in execution.task_runs[:3]:
        await cli("job", "get", run.job_id, "--output", "yaml")
    again = await cli(*create, DEPLOY_TOKEN=NEEDLE)
    assert again.out.strip() == id
    other = await cli(*create, DEPLOY_TOKEN="another needle")
    assert "was used before for another request" in other.err

    spans = await otlp.arrive(lambda spans: sum(span.name == "run" for span in spans) >= len(execution.task_runs))
    # While it runs, and after it has stopped: what it writes on its way out, too.
    for stopped in (False, True):
        if stopped:
            standalone.send(signal.SIGINT)
            assert await standalone.ended() == 0
        for table, rows in (await dump(fresh_database)).items():
            clean(f"the table {table}", rows)
        for path in [*data.rglob("*"), standalone.log]:
            if path.is_file():
                clean(str(path), path.read_bytes())
    clean("a span", "\n".join(map(str, spans)))
    for answer in answers:
        clean(f"an answer, {type(answer).__name__}", answer.SerializeToString())
        clean(f"an answer, {type(answer).__name__}", str(answer))
    for each in said:
        clean("the command line", each.all)


def a_key(letter: str) -> str:
    return base64.b64encode(letter.encode() * 32).decode()


WAITS = """
id: waits
namespace: company.team
inputs: [{id: token, type: SECRET}]
tasks:
  - id: only
    type: io.kestra.plugin.scripts.shell.Commands
    env: {TOKEN: "{{ inputs.token }}"}
    commands: ['test "$TOKEN" = "n33dle one"']
"""


async def test_keys_change_while_schedulers_run_also_when_the_rotation_is_killed(mesh: Mesh) -> None:
    """1: a secret waits, and a thousand more lie there. 2: both keys. 3: the rotation dies, and goes on. 4: the old
    key is taken away, and the task gets its secret."""
    file = mesh.folder / "secrets.key"
    file.write_text(a_key("o") + "\n")
    file.chmod(0o600)
    await mesh.add_registry()
    scheduler = await mesh.add_scheduler("--secrets-key-file", str(file))
    await mesh.flows.CreateFlow(flow_service_pb2.CreateFlowRequest(source=WAITS))
    request = execution_service_pb2.CreateExecutionRequest(namespace="company.team", flow_id="waits")
    request.inputs.update({"token": "n33dle one"})
    waiting = (await mesh.executions.CreateExecution(request)).execution
    connection = await asyncpg.connect(mesh.database_url)
    try:
        secrets = {f"input{number}": f"secret {number}" for number in range(1200)}
        key = await connection.fetchval("SELECT max(key) FROM scheduler.execution")
        async with connection.transaction():
            await SecretInputs(Keyring([b"o" * 32])).seal(connection, "main", key, secrets)

        file.write_text(f"{a_key('n')}\n{a_key('o')}\n")
        scheduler.terminate()
        await scheduler.restart()

        async def rotate(keys: str, **environment: str) -> Said:
            command = ("admin", "rotate-key", "--secrets-key-file")
            path = mesh.folder / f"{keys}.key"
            path.write_text("".join(a_key(letter) + "\n" for letter in keys))
            return await farhand(*command, path, FARHAND_DATABASE_URL=mesh.database_url, **environment)

        refused = await rotate("n")
        assert refused.exit_code == 1 and "1,201 under the key" in refused.err and "Traceback" not in refused.err
        nothing = await farhand("admin", "rotate-key", FARHAND_DATABASE_URL=mesh.database_url)
        assert nothing.exit_code == 1 and "--secrets-key-file FILE" in nothing.err
        killed = await rotate("no", FARHAND_CRASH_POINT="secrets sealed anew:2")
        assert killed.exit_code == -signal.SIGKILL
        assert killed.out == "500 of 1,201 secrets are encrypted anew\n"
        request.inputs.update({"token": "made meanwhile"})
        await mesh.executions.CreateExecution(request)
        finished = await rotate("no")
        assert finished.exit_code == 0, finished.all
        assert "701 of 701 secrets are encrypted anew\n1,202 secrets are encrypted under the key" in finished.out
        again = await rotate("no")
        assert again.exit_code == 0 and "anew" not in again.out
    finally:
        await connection.close()

    file.write_text(a_key("n") + "\n")
    scheduler.terminate()
    await scheduler.restart()
    await mesh.add_worker()
    watch = mesh.executions.WatchExecution(execution_service_pb2.WatchExecutionRequest(id=waiting.id))
    states = [answer.execution.state async for answer in watch]
    assert states[-1] == execution_pb2.EXECUTION_STATE_SUCCESS
