"""Loops: a ForEach knows its values and which of its rounds are over, whose task runs no step reads again.

A loop of thousands of rounds so costs each step what its open rounds cost. How many
task runs there are beside those that are read stands on the execution, which bounds them.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE scheduler.task_run
    DROP CONSTRAINT task_run_branch_check,    -- a Switch has branches of any name: cases.NAME
    ADD COLUMN rounds integer,                -- of a ForEach; null: not known yet
    ADD COLUMN rounds_over bytea,             -- of a ForEach: bit n of the number, lowest byte first: round n is over
    ADD COLUMN loop_values text[],            -- of a ForEach: the JSON of each value
    ADD COLUMN round_over boolean NOT NULL DEFAULT false  -- it belongs to a round that is over
;
CREATE INDEX task_run_open ON scheduler.task_run (execution_key) WHERE NOT round_over;
ALTER TABLE scheduler.execution
    ADD COLUMN runs_over integer NOT NULL DEFAULT 0  -- how many of its task runs are of such rounds
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it, and can move no execution that has loops."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("migrations expand; there is no way back")
