"""The copy of the registry holds plugin defaults of tenants and namespaces too."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it, and leaves the column as it is."""
    for table in ("tenant", "namespace"):
        op.execute(f"ALTER TABLE scheduler.{table} ADD COLUMN plugin_defaults jsonb NOT NULL DEFAULT '[]'")
