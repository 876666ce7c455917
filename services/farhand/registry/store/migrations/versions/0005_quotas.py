"""Worker groups have quotas: what each tenant may have there at once."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expands only: a replica of the release before leaves the column as it is."""
    # [{tenant, max_running, max_queued}]; null: no bound.
    op.execute("ALTER TABLE registry.worker_group ADD COLUMN quotas jsonb NOT NULL DEFAULT '[]'")
