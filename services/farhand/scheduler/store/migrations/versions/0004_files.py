"""Which jobs have files in the file store, so that those of forgotten jobs can be deleted there."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
-- A row comes before a job's first file does. `forgotten`: the job is no more, its files may still be there.
CREATE TABLE scheduler.job_with_files (
    key bigint PRIMARY KEY,
    tenant text NOT NULL,
    forgotten boolean NOT NULL DEFAULT false
);
CREATE INDEX job_with_files_forgotten ON scheduler.job_with_files (key) WHERE forgotten;
"""


def upgrade() -> None:
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)


def downgrade() -> None:
    raise RuntimeError("migrations expand; there is no way back")
