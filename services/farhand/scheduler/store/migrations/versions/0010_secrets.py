"""The values of SECRET inputs, sealed (runtime/sealing.py), and which jobs are given them.

No other column of any table holds one: an execution's `inputs` and a job's `task` have
a mask in its place, and the value goes from here into the frame to the worker.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE scheduler.secret_input (
    execution_key bigint NOT NULL,
    name text NOT NULL,                   -- the input's id
    key_id text NOT NULL,                 -- of the key under which it is sealed, as in `sealed` itself
    sealed bytea NOT NULL,
    PRIMARY KEY (execution_key, name)
);

-- The key under which all replicas seal: that of the first secret, until rotate-key names another. Its row is
-- shared by whoever seals, so that nothing is sealed under the old key once another is named.
CREATE TABLE scheduler.sealing_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key_id text NOT NULL
);

-- The execution of whose secrets the task names some; null: of none.
ALTER TABLE scheduler.job ADD COLUMN secrets_of bigint;
"""


def upgrade() -> None:
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("secrets are not thrown away by a migration")
