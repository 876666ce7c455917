"""Flows with their revisions, and plugin defaults of tenants and namespaces.

Flows are declared like the rest, but nobody watches them: a save takes the lock of
`revision` and leaves the number as it is.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE registry.tenant ADD COLUMN plugin_defaults jsonb NOT NULL DEFAULT '[]';
ALTER TABLE registry.namespace ADD COLUMN plugin_defaults jsonb NOT NULL DEFAULT '[]';

-- A flow's place among revisions. The row stays when the flow is deleted, and when its tenant is: a
-- number is never given twice, since executions elsewhere know a revision by it.
CREATE TABLE registry.flow (
    tenant text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),   -- the newest
    deleted boolean NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, namespace, id)
);

-- A row never changes; it goes with its tenant.
CREATE TABLE registry.flow_revision (
    tenant text COLLATE "C" NOT NULL REFERENCES registry.tenant (id),
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),
    source text NOT NULL,                             -- the YAML
    definition text NOT NULL,                         -- the same as canonical JSON
    description text NOT NULL,
    labels jsonb NOT NULL,
    saved_by text NOT NULL,
    save_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, namespace, id, revision),
    FOREIGN KEY (tenant, namespace, id) REFERENCES registry.flow
);

-- The worker groups that newest revisions of flows name, deleted flows apart.
CREATE TABLE registry.flow_group (
    tenant text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    worker_group text COLLATE "C" NOT NULL REFERENCES registry.worker_group (key),
    PRIMARY KEY (tenant, namespace, id, worker_group),
    FOREIGN KEY (tenant, namespace, id) REFERENCES registry.flow
);
CREATE INDEX flow_of_group ON registry.flow_group (worker_group);
"""


def upgrade() -> None:
    """Expands only: a replica of the release before runs beside it."""
    for statement in filter(None, (part.strip() for part in TABLES.split(";\n"))):
        op.execute(statement)
