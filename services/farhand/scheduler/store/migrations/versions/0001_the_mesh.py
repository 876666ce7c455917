"""The queue, its assignments and their ends; sessions; logs; the copy of the registry.

Jobs are append only: a row in `job` at submit, one in `done` at the end. What
changes lives in two small tables that a job passes through, `queue` while it
waits and `live` while a worker has it. So no index holds a state (performance.md,
"Layouts"), and history comes for free.

Everything about one (worker group, tenant, task type) is a *lane*. A queue row is
(lane, key), so that a claim reads the heads of the lanes that its workers may run
and never steps over jobs that they may not.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
-- The queue's order. CACHE 1: a submit that began after another's answer gets a higher key (P5).
CREATE SEQUENCE scheduler.job_key CACHE 1;
-- Fences and session epochs only grow, over all jobs and workers.
CREATE SEQUENCE scheduler.fence;
CREATE SEQUENCE scheduler.epoch;

-- The copy of the registry, applied strictly in revision order.
CREATE TABLE scheduler.copy_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO scheduler.copy_state (revision) VALUES (0);

CREATE TABLE scheduler.tenant (
    id text PRIMARY KEY,
    default_worker_group text,
    default_fallback text CHECK (default_fallback IN ('WAIT', 'FAIL', 'CANCEL'))
);

CREATE TABLE scheduler.namespace (
    tenant text NOT NULL,
    name text NOT NULL,
    default_worker_group text,
    default_fallback text CHECK (default_fallback IN ('WAIT', 'FAIL', 'CANCEL')),
    PRIMARY KEY (tenant, name)
);

-- Its row is the group's lock: claims take it FOR NO KEY UPDATE, so two replicas never overtake each
-- other; an enqueue takes it FOR KEY SHARE, which lets claims pass; a change of availability, of the
-- allowed tenants or of its life takes it FOR UPDATE, which lets nothing pass (P5, P10, P11).
CREATE TABLE scheduler.worker_group (
    uid text PRIMARY KEY,
    key text NOT NULL,
    allowed_tenants text[] NOT NULL,
    lease_ms bigint NOT NULL,
    paused boolean NOT NULL,
    deleting boolean NOT NULL,
    force_deletion boolean NOT NULL,
    gone boolean NOT NULL DEFAULT false   -- kept for the history of its jobs
);
CREATE UNIQUE INDEX worker_group_key ON scheduler.worker_group (key) WHERE NOT gone;

CREATE TABLE scheduler.lane (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_uid text NOT NULL REFERENCES scheduler.worker_group,
    tenant text NOT NULL,
    task_type text NOT NULL,
    UNIQUE (group_uid, tenant, task_type)
);

CREATE TABLE scheduler.job (
    key bigint PRIMARY KEY,
    lane_id integer NOT NULL,
    fallback "char" NOT NULL CHECK (fallback IN ('W', 'F', 'C')),
    max_deliveries smallint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    namespace text,
    traceparent text,
    task bytea NOT NULL                   -- farhand.api.types.v1.Task, serialized
);
CREATE INDEX job_of_lane ON scheduler.job (lane_id, key);

-- A job that waits. A lost assignment brings it back under its old key (P5).
CREATE TABLE scheduler.queue (
    lane_id integer NOT NULL,
    key bigint NOT NULL,
    fallback "char" NOT NULL,
    lost smallint NOT NULL,               -- deliveries that were lost so far
    PRIMARY KEY (lane_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX queue_that_may_not_wait ON scheduler.queue (lane_id) WHERE fallback <> 'W';

-- One incarnation of a worker: its stream's epoch and its lease.
CREATE TABLE scheduler.session (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker_id text NOT NULL,
    incarnation bytea NOT NULL,
    group_uid text NOT NULL REFERENCES scheduler.worker_group,
    subject text NOT NULL,
    tenants text[],                       -- that the credential admits; null: every tenant
    epoch bigint NOT NULL,                -- raised by each Connect
    renewal bigint NOT NULL,              -- raised by each heartbeat: the lease is this counter moving
    lease_ms bigint NOT NULL,             -- the longest lease that the worker may be counting with
    state text NOT NULL CHECK (state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED', 'LOST', 'STOPPED')),
    draining boolean NOT NULL,            -- belongs to the incarnation, also over a reconnect
    slots integer NOT NULL,
    busy_slots integer NOT NULL,
    task_types text[] NOT NULL,
    host text NOT NULL,
    version text NOT NULL,
    boot_id text NOT NULL,
    replica text NOT NULL,                -- the scheduler that holds, or held, its stream
    connected_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    report bigint NOT NULL,               -- raised by every change: the order of the roll's reports
    UNIQUE (worker_id, incarnation)
) WITH (fillfactor = 50);
CREATE INDEX session_that_lives ON scheduler.session (group_uid)
    WHERE state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED');

-- To whom a worker's id belongs. Its row serializes the Connects of one worker.
CREATE TABLE scheduler.worker (
    id text PRIMARY KEY,
    subject text NOT NULL
);

-- A job that a worker has. The primary key is P1: one live assignment.
CREATE TABLE scheduler.live (
    key bigint PRIMARY KEY,
    lane_id integer NOT NULL,
    fence bigint NOT NULL,
    session_id bigint NOT NULL,
    lost smallint NOT NULL,
    assigned_at timestamptz NOT NULL,
    started_at timestamptz,
    kill_at timestamptz,
    kill_grace_ms integer,
    kill_acked boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX live_of_session ON scheduler.live (session_id);

-- How a job ended. The primary key is P3: one terminal result, and nothing updates this table.
CREATE TABLE scheduler.done (
    key bigint PRIMARY KEY,
    lane_id integer NOT NULL,
    state text NOT NULL CHECK (state IN ('SUCCESS', 'WARNING', 'FAILED', 'KILLED')),
    fence bigint NOT NULL,                -- 0: it never was assigned, or its last assignment was lost
    session_id bigint,
    lost smallint NOT NULL,
    assigned_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz NOT NULL,
    kill_at timestamptz,
    exit_code integer,
    reason text,
    message text,
    run_us bigint,
    outputs bytea,                        -- google.protobuf.Struct, serialized
    log_end bigint                        -- how many log records its assignment wrote
);

-- Assignments that brought no result.
CREATE TABLE scheduler.lost_delivery (
    key bigint NOT NULL,
    fence bigint NOT NULL,
    session_id bigint NOT NULL,
    assigned_at timestamptz NOT NULL,
    lost_at timestamptz NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (key, fence)
);

-- Answers to be given again (P6, AIP-155).
CREATE TABLE scheduler.request (
    tenant text NOT NULL,
    request_id text NOT NULL,
    body_hash bytea NOT NULL,
    keys bigint[] NOT NULL,               -- by row of the request; 0: that row was refused
    refusals text NOT NULL,               -- google.rpc.Status of the refused rows, in order: base64, comma-joined
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, request_id)
);

-- Log records of one assignment, a row per batch. Fence 0: written by the scheduler.
CREATE TABLE scheduler.log_chunk (
    key bigint NOT NULL,
    fence bigint NOT NULL,
    start_offset bigint NOT NULL,
    end_offset bigint NOT NULL,
    records bytea NOT NULL,               -- farhand.api.worker.v1.AppendLogsRequest with records alone, serialized
    PRIMARY KEY (key, fence, start_offset)
);

-- Exact counts, in one row per lane and writer so that no two loops meet on a row.
CREATE TABLE scheduler.tally (
    lane_id integer NOT NULL,
    writer text NOT NULL,
    queued bigint NOT NULL,
    live bigint NOT NULL,
    ended bigint NOT NULL,
    PRIMARY KEY (lane_id, writer)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
"""


def upgrade() -> None:
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("the first migration has nothing before it")
