// What a client in another language must be able to do, each as a test of its own against real services with a
// worker of the default group and one of the group gpu.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { ExecutionState } from "../gen/farhand/api/scheduler/v1/execution_pb.js";
import { JobState } from "../gen/farhand/api/scheduler/v1/job_pb.js";
import { LogStream } from "../gen/farhand/api/types/v1/log_record_pb.js";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { executions, figures, flows, groups, jobs, shell } from "./client.js";

/** The error of a call that must fail. */
async function errorOf(call: Promise<unknown>): Promise<ConnectError> {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new assert.AssertionError({ message: "the call was expected to fail" });
}

test("a job is submitted, waited for, and its outcome read", async () => {
  const { job } = await jobs.submitJob({ spec: { workerGroup: "gpu", task: shell("exit 3") } });
  assert.ok(job);
  const { job: ended } = await jobs.waitJob({ id: job.id, timeout: { seconds: 60n } });
  assert.equal(ended?.state, JobState.FAILED);
  assert.equal(ended?.outcome?.exitCode, 3);
  assert.equal(ended?.outcome?.reason, "NONZERO_EXIT");
  assert.equal(ended?.workerGroup, "gpu");
});

test("the same request id gives the same job, and is refused with another body", async () => {
  const requestId = randomUUID();
  const spec = { task: shell("true") };
  const first = await jobs.submitJob({ spec, requestId });
  const again = await jobs.submitJob({ spec, requestId });
  assert.equal(again.job?.id, first.job?.id);
  const error = await errorOf(jobs.submitJob({ spec: { task: shell("false") }, requestId }));
  assert.equal(error.code, Code.AlreadyExists);
  assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "REQUEST_ID_REUSED");
});

test("a log is followed to its last line", async () => {
  const { job } = await jobs.submitJob({
    spec: { task: shell("for i in 1 2 3; do echo line $i; done", "echo 'to stderr — ünïcode' >&2") },
  });
  assert.ok(job);
  const lines: [LogStream, string][] = [];
  let last: JobState | undefined;
  for await (const answer of jobs.tailLogs({ id: job.id, follow: true })) {
    lines.push(...answer.records.map((record): [LogStream, string] => [record.stream, record.text]));
    last = answer.job?.state ?? last;
  }
  const of = (stream: LogStream) => lines.filter(([from]) => from === stream).map(([, text]) => text);
  assert.deepEqual(of(LogStream.STDOUT), ["line 1", "line 2", "line 3"]);
  assert.deepEqual(of(LogStream.STDERR), ["to stderr — ünïcode"]);
  assert.equal(last, JobState.SUCCESS);
});

test("a job is watched through its states and killed while it runs", async () => {
  const { job } = await jobs.submitJob({ spec: { task: shell("sleep 300") } });
  assert.ok(job);
  const seen: JobState[] = [];
  for await (const answer of jobs.watchJobs({ ids: [job.id] })) {
    for (const state of answer.jobs.map((change) => change.state)) {
      seen.push(state);
      if (state === JobState.RUNNING) {
        await jobs.killJob({ id: job.id, grace: { seconds: 1n } });
      }
    }
  }
  assert.ok(seen.includes(JobState.RUNNING));
  assert.equal(seen.at(-1), JobState.KILLED);
});

test("an unknown group is refused with its near matches", async () => {
  const error = await errorOf(jobs.submitJob({ spec: { workerGroup: "gpuu", task: shell("true") } }));
  assert.equal(error.code, Code.NotFound);
  assert.match(error.rawMessage, /Did you mean 'gpu'\?/);
  const [info] = error.findDetails(ErrorInfoSchema);
  assert.equal(info?.reason, "NOT_FOUND");
  assert.equal(info?.domain, "farhand");
  assert.equal(info?.metadata["near"], "gpu");
});

test("a wrong field is named by its path", async () => {
  const error = await errorOf(jobs.submitJob({ spec: { task: { type: "no spaces please" } } }));
  assert.equal(error.code, Code.InvalidArgument);
  const [bad] = error.findDetails(BadRequestSchema);
  assert.deepEqual(
    bad?.fieldViolations.map((violation) => violation.field),
    ["spec.task.type"],
  );
});

test("a bad row of a batch is refused alone", async () => {
  const { results } = await jobs.batchSubmitJobs({
    specs: [{ task: shell("true") }, { workerGroup: "nowhere", task: shell("true") }, { task: shell("true") }],
    requestId: randomUUID(),
  });
  assert.deepEqual(
    results.map((row) => row.result.case),
    ["jobId", "error", "jobId"],
  );
  const refused = results[1]?.result;
  assert.ok(refused?.case === "error");
  assert.equal(refused.value.code, Code.NotFound);
});

test("a worker group is created, listed with its figures, and deleted", async () => {
  const key = `node-${randomUUID().slice(0, 8)}`;
  const { workerGroup } = await groups.createWorkerGroup({ workerGroup: { key, description: "made by Node" } });
  assert.ok(workerGroup?.uid);
  const { workerGroups } = await groups.listWorkerGroups({});
  assert.ok(workerGroups.some((group) => group.key === key));
  const { figures: mine } = await figures.getGroupFigures({ workerGroup: key });
  assert.equal(mine?.activeWorkers, 0);
  assert.equal(mine?.queuedJobs, 0n);
  const { workerGroup: left } = await groups.deleteWorkerGroup({ key, etag: workerGroup.etag });
  assert.equal(left, undefined);
  const error = await errorOf(groups.getWorkerGroup({ key }));
  assert.equal(error.code, Code.NotFound);
});

test("a flow is validated, saved, run with inputs, and followed through its tasks and logs", async () => {
  const source = (key: string) => `
id: from-node
namespace: company.team
inputs: [{id: name, type: STRING}]
tasks:
  - id: greet
    type: io.kestra.plugin.scripts.shell.Commands
    commands: ['echo "hello {{ inputs.name }}"', 'echo "::{\\"outputs\\":{\\"n\\":7}}::"']
    workerGroup: {key: ${key}}
  - id: tell
    type: io.kestra.plugin.core.debug.Return
    format: "{{ outputs.greet.vars.n }}"
`;
  const { problems } = await flows.validateFlow({ source: source("gpuu") });
  assert.equal(problems[0]?.path, "tasks[0].workerGroup.key");
  assert.match(problems[0]?.message ?? "", /Did you mean/i);
  const refused = await errorOf(flows.createFlow({ source: source("gpuu") }));
  assert.equal(refused.findDetails(ErrorInfoSchema)[0]?.reason, "FLOW_INVALID");
  const { flow } = await flows.createFlow({ source: source("gpu"), requestId: randomUUID() });
  assert.equal(flow?.revision, 1);

  const { execution } = await executions.createExecution({
    namespace: "company.team",
    flowId: "from-node",
    inputs: { name: "Ada" },
    requestId: randomUUID(),
  });
  assert.ok(execution);
  let state: ExecutionState | undefined;
  for await (const answer of executions.watchExecution({ id: execution.id })) {
    state = answer.execution?.state;
  }
  assert.equal(state, ExecutionState.SUCCESS);
  const { execution: ended } = await executions.getExecution({ id: execution.id });
  assert.deepEqual(
    ended?.taskRuns.map((run) => [run.taskId, run.workerGroup, run.outputs?.["value"]]),
    [
      ["greet", "gpu", undefined],
      ["tell", "", "7"],
    ],
  );
  const lines: string[] = [];
  for await (const answer of executions.tailExecutionLogs({ id: execution.id, follow: true })) {
    lines.push(...answer.records.map((record) => record.text));
  }
  assert.deepEqual(lines, ["hello Ada"]);
});
