"""The copy of the registry holds the quotas of worker groups; and what locks a tenant's place in a queue."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
-- [{tenant, max_running, max_queued}]; null: no bound.
ALTER TABLE scheduler.worker_group ADD COLUMN quotas jsonb NOT NULL DEFAULT '[]';

-- Where a quota bounds what a tenant may have waiting in a group, its row is the lock of who enqueues there
-- for that tenant. It is made by the first who does, and holds nothing else: the counts are the tally's.
CREATE TABLE scheduler.place_in_queue (
    group_uid text NOT NULL REFERENCES scheduler.worker_group,
    tenant text NOT NULL,
    PRIMARY KEY (group_uid, tenant)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
"""


def upgrade() -> None:
    """Expands only: a replica of the release before leaves the column as it is, and looks at no quota."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)
