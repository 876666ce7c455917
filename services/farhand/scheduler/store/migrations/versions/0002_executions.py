"""Executions of flows, their task runs, and what there is to do about them.

An execution's row is its lock: whoever moves it holds it. What makes a move
necessary (a job's end, a timer, a kill, its creation) appends a row to `step_due`
and touches nothing else, so that no transaction that ends jobs ever waits for one
that moves executions. No index holds a state.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE SEQUENCE scheduler.execution_key;
CREATE SEQUENCE scheduler.task_run_key;

-- The revisions that executions run, as the registry gave them: what runs needs no registry. The digest is
-- part of the name, since a registry that was restored from a backup may give a number twice.
CREATE TABLE scheduler.flow_revision (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    namespace text NOT NULL,
    flow_id text NOT NULL,
    revision integer NOT NULL,
    digest bytea NOT NULL,                -- SHA-256 of the definition
    definition text NOT NULL,             -- kernel.flow: Flow.to_json
    UNIQUE (tenant, namespace, flow_id, revision, digest)
);

CREATE TABLE scheduler.execution (
    key bigint PRIMARY KEY,
    flow_key bigint NOT NULL REFERENCES scheduler.flow_revision,
    tenant text NOT NULL,
    namespace text NOT NULL,
    flow_id text NOT NULL,
    flow_revision integer NOT NULL,
    state text NOT NULL CHECK (state IN ('CREATED', 'RUNNING', 'KILLING', 'RETRYING', 'SUCCESS', 'WARNING',
                                         'FAILED', 'KILLED')),
    inputs text NOT NULL,                 -- JSON, as checked
    labels jsonb NOT NULL,                -- the flow's and its own
    traceparent text,                     -- of its span, which is recorded at its end; null: not traced
    parent_span text,                     -- the traceparent that its span is a child of
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    kill_at timestamptz,                  -- when a kill was asked for, or a task was cancelled
    wake_at timestamptz,                  -- the next timer that has a row in step_due
    message text,
    states text[] NOT NULL,               -- every state,
    state_times timestamptz[] NOT NULL    -- and when it came
) WITH (fillfactor = 70);
CREATE INDEX execution_of_tenant ON scheduler.execution (tenant, key);
CREATE INDEX execution_of_flow ON scheduler.execution (tenant, namespace, flow_id, key);
CREATE INDEX execution_of_revision ON scheduler.execution (flow_key);

-- One attempt of one task. That a step which is done twice makes no second run is the unique key's word.
CREATE TABLE scheduler.task_run (
    key bigint PRIMARY KEY,
    execution_key bigint NOT NULL,
    task_id text NOT NULL,
    iteration text NOT NULL DEFAULT '',
    attempt integer NOT NULL,
    state text NOT NULL CHECK (state IN ('CREATED', 'RUNNING', 'KILLING', 'RETRYING', 'SUCCESS', 'WARNING',
                                         'FAILED', 'KILLED', 'SKIPPED')),
    job_key bigint,                       -- null: flow control, or refused before it had one
    branch text CHECK (branch IN ('then', 'else')),
    reason text,
    message text,
    group_key text,                       -- as resolved when the job was made, and the levels it came from
    group_level text,
    fallback text CHECK (fallback IN ('WAIT', 'FAIL', 'CANCEL')),
    fallback_level text,
    wait_limit interval,                  -- how long its job may wait for a worker; null: for ever
    again_at timestamptz,                 -- when to try again what could not be queued yet
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    UNIQUE (execution_key, task_id, iteration, attempt)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX task_run_of_job ON scheduler.task_run (job_key) WHERE job_key IS NOT NULL;

-- An execution is to be looked at, from that time on. Appended by whoever knows, taken away by the step.
CREATE TABLE scheduler.step_due (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_key bigint NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX step_due_time ON scheduler.step_due (due_at, execution_key);
CREATE INDEX step_due_execution ON scheduler.step_due (execution_key, due_at);

-- Which execution a CreateExecution was answered with, for as long as that is kept (AIP-155).
CREATE TABLE scheduler.execution_request (
    tenant text NOT NULL,
    request_id text NOT NULL,
    body_hash bytea NOT NULL,
    execution_key bigint NOT NULL,
    PRIMARY KEY (tenant, request_id)
);
CREATE INDEX execution_request_of ON scheduler.execution_request (execution_key);
"""


def upgrade() -> None:
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("executions are not thrown away by a migration")
