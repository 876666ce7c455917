"""Flows bound how many of their executions run at a time, and executions come from triggers and other executions.

A flow has a row in `flow_limit` from the first execution of a revision of it that
says `concurrency`, and for ever: the row is the lock under which places are given and
waited for. From then on every execution of the flow has a row in `place` as long as it
has not ended. How many places are taken is counted in those rows whenever it matters.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE scheduler.execution
    ADD COLUMN trigger text,              -- JSON: what `trigger` is in expressions; null: nothing
    ADD COLUMN restart_of bigint,         -- the execution whose failure this one makes good,
    ADD COLUMN replay_of bigint,          -- or that it repeats; it may be forgotten by now
    ADD COLUMN forgotten boolean NOT NULL DEFAULT false  -- it is going, and some of its task runs may have gone
;
CREATE INDEX execution_restart_of ON scheduler.execution (restart_of) WHERE restart_of IS NOT NULL;
CREATE INDEX execution_replay_of ON scheduler.execution (replay_of) WHERE replay_of IS NOT NULL;
-- A task run that was taken over as it had ended: the execution that ran it, and the job that did its work there,
-- whose outputs, files and logs are this run's. Its own job_key is null: here nothing ran.
ALTER TABLE scheduler.task_run ADD COLUMN taken_from bigint, ADD COLUMN taken_job_key bigint;
CREATE INDEX task_run_taken_job ON scheduler.task_run (taken_job_key) WHERE taken_job_key IS NOT NULL;

CREATE TABLE scheduler.flow_limit (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    namespace text NOT NULL,
    flow_id text NOT NULL,
    revision integer NOT NULL,            -- the newest that is known, whose word the rest is
    most integer,                         -- executions at a time; null: any number
    behavior text NOT NULL CHECK (behavior IN ('QUEUE', 'CANCEL', 'FAIL')),
    UNIQUE (tenant, namespace, flow_id)
);

-- Written under the lock of the flow's row; so the ids are in the order in which the executions came.
CREATE TABLE scheduler.place (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    limit_key bigint NOT NULL REFERENCES scheduler.flow_limit,
    execution_key bigint NOT NULL UNIQUE,
    waits boolean NOT NULL                -- for its place; else it has it
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX place_of_flow ON scheduler.place (limit_key, waits, id);
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it, and knows of no limits."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("migrations expand; there is no way back")
