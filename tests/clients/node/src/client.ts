// Where the services are, and clients of them. FARHAND_SCHEDULER and FARHAND_REGISTRY are HOST:PORT on loopback;
// elsewhere it would be https:// and an authorization header.

import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { FlowService } from "../gen/farhand/api/registry/v1/flow_service_pb.js";
import { WorkerGroupService } from "../gen/farhand/api/registry/v1/worker_group_service_pb.js";
import { ExecutionService } from "../gen/farhand/api/scheduler/v1/execution_service_pb.js";
import { GroupService } from "../gen/farhand/api/scheduler/v1/group_service_pb.js";
import { JobService } from "../gen/farhand/api/scheduler/v1/job_service_pb.js";

function address(variable: string): string {
  const value = process.env[variable];
  if (!value) {
    throw new Error(`${variable} is not set`);
  }
  return `http://${value}`;
}

const scheduler = createGrpcTransport({ baseUrl: address("FARHAND_SCHEDULER") });
const registry = createGrpcTransport({ baseUrl: address("FARHAND_REGISTRY") });

export const jobs = createClient(JobService, scheduler);
export const figures = createClient(GroupService, scheduler);
export const executions = createClient(ExecutionService, scheduler);
export const flows = createClient(FlowService, registry);
export const groups = createClient(WorkerGroupService, registry);

/** A task that runs these lines by the shell. */
export function shell(...commands: string[]) {
  return { type: "io.kestra.plugin.scripts.shell.Commands", properties: { commands } };
}
