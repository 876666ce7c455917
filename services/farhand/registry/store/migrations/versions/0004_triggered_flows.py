"""Which flows have triggers, and schedulers hear of it.

Flows that were saved with triggers before begin to fire: each is told like one that is
saved now.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = """
-- Whether the newest revision has triggers; of a deleted flow: false.
ALTER TABLE registry.flow ADD COLUMN triggered boolean NOT NULL DEFAULT false;
UPDATE registry.flow f SET triggered = true FROM registry.flow_revision r
WHERE (r.tenant, r.namespace, r.id, r.revision) = (f.tenant, f.namespace, f.id, f.revision) AND NOT f.deleted
  AND jsonb_array_length(coalesce(r.definition::jsonb -> 'triggers', '[]')) > 0;
INSERT INTO registry.change (revision, kind, removed, resource)
SELECT (SELECT revision FROM registry.revision) + row_number() OVER (ORDER BY tenant, namespace, id),
       'TRIGGERED_FLOW', false,
       jsonb_build_object('tenant', tenant, 'namespace', namespace, 'id', id, 'flow_revision', revision)
FROM registry.flow WHERE triggered;
UPDATE registry.revision SET revision = greatest(revision, (SELECT max(revision) FROM registry.change));
CREATE INDEX flow_triggered ON registry.flow (tenant, namespace, id) WHERE triggered;
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it."""
    for statement in filter(None, (part.strip() for part in STATEMENTS.split(";\n"))):
        op.execute(statement)
