"""Evaluations of polling triggers: what one left for the next, and the executions that they started."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE scheduler.trigger
    ADD COLUMN remembered text,           -- JSON: the state that the last evaluation left which counted
    ADD COLUMN job_stale boolean NOT NULL DEFAULT false,  -- it was defined otherwise since job_key was queued
    ADD COLUMN last_job_key bigint        -- the last evaluation that ended; it may be forgotten by now
;
-- How an execution of it ended, if that is why it is to be looked at.
ALTER TABLE scheduler.trigger_due ADD COLUMN ended text;

-- The index is the last word on that no evaluation starts two executions. An evaluation's files are the execution's.
ALTER TABLE scheduler.execution ADD COLUMN evaluation_job_key bigint;
CREATE UNIQUE INDEX execution_of_evaluation ON scheduler.execution (evaluation_job_key)
    WHERE evaluation_job_key IS NOT NULL;

-- Evaluations of triggers that are no more: they are to be ended.
CREATE TABLE scheduler.orphaned_evaluation (
    job_key bigint PRIMARY KEY
);
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it, and evaluates nothing."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("migrations expand; there is no way back")
