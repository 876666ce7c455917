"""Triggers: which flows have some, what each of them is about to do, and the executions that they started.

`triggered_flow` is a part of the copy of the registry: references, no more. A loop asks
for the flow behind one that is to be looked at, and makes the rows of its triggers
what the flow says. What a trigger is about to do stands in its row, which is its lock;
that it is to be looked at in `trigger_due`, to which whoever knows appends and waits
for nobody, as with `step_due`.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE scheduler.triggered_flow (
    tenant text NOT NULL,
    namespace text NOT NULL,
    flow_id text NOT NULL,
    revision integer NOT NULL,            -- the newest, as the registry told it
    look_at timestamptz DEFAULT now(),    -- its triggers are to be made what that revision says; null: they are.
                                          -- Whoever does it moves this on first, so that nobody else does it too
    PRIMARY KEY (tenant, namespace, flow_id)
) WITH (fillfactor = 80);
CREATE INDEX triggered_flow_look ON scheduler.triggered_flow (look_at) WHERE look_at IS NOT NULL;

CREATE TABLE scheduler.trigger (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    namespace text NOT NULL,
    flow_id text NOT NULL,
    trigger_id text NOT NULL,
    type text NOT NULL,
    flow_key bigint NOT NULL REFERENCES scheduler.flow_revision,
    plan text NOT NULL,                   -- JSON: the trigger as its flow has it, with all that it inherits
    disabled_by text CHECK (disabled_by IN ('FLOW', 'OPERATOR', 'STOP_AFTER')),  -- null: it is enabled
    next_at timestamptz,                  -- its next tick or evaluation; null: none
    last_at timestamptz,                  -- the tick that fired last, or when the last evaluation began
    asked_at timestamptz,                 -- an operator asked for an evaluation, which is still to come
    job_key bigint,                       -- its one evaluation; null: none waits or runs
    execution_key bigint,                 -- that it started last; it may be forgotten by now
    result text CHECK (result IN ('FIRED', 'NOTHING', 'SKIPPED', 'FAILED')),     -- of the last look that did something
    result_at timestamptz,
    message text,                         -- the same for a person to read
    backfill integer NOT NULL DEFAULT 0,  -- how many were asked for; the newest is:
    backfill_start timestamptz,           -- from this tick on
    backfill_end timestamptz,             -- up to before this one
    backfill_next timestamptz,            -- its next tick; null: there is none left
    backfill_at timestamptz,              -- when its next few ticks may be started
    backfill_state text CHECK (backfill_state IN ('RUNNING', 'PAUSED', 'DONE', 'CANCELLED')),
    backfill_fired integer NOT NULL DEFAULT 0,
    backfill_inputs text,                 -- JSON: they win over the trigger's
    backfill_labels text,                 -- JSON
    UNIQUE (tenant, namespace, flow_id, trigger_id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX trigger_of_job ON scheduler.trigger (job_key) WHERE job_key IS NOT NULL;
CREATE INDEX trigger_of_revision ON scheduler.trigger (flow_key);

-- A trigger is to be looked at, from that time on.
CREATE TABLE scheduler.trigger_due (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    trigger_key bigint NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX trigger_due_time ON scheduler.trigger_due (due_at, trigger_key);
CREATE INDEX trigger_due_trigger ON scheduler.trigger_due (trigger_key);

-- Which trigger started an execution, and for which tick: of the calendar (0), or of which of its backfills. The
-- index is the last word on that no tick fires twice.
ALTER TABLE scheduler.execution
    ADD COLUMN trigger_key bigint,
    ADD COLUMN tick_at timestamptz,
    ADD COLUMN backfill integer
;
CREATE UNIQUE INDEX execution_of_tick ON scheduler.execution (trigger_key, backfill, tick_at)
    WHERE trigger_key IS NOT NULL;
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it, and fires nothing."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("triggers are not thrown away by a migration")
