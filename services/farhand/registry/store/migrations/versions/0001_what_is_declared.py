"""What is declared, the log of its changes, the ids of past requests, and the roll of workers.

All that is declared changes under one lock, the row of `revision`: whoever changes
something locks it first, so changes are in one order, references can be checked
before they are made, and the log has no gap. The constraints here guard the same
rules a second time.

Names compare by their bytes (COLLATE "C"), so an order does not depend on the
database's locale, and a page token means the same everywhere.
"""

import base64
import secrets

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
-- The one lock of everything declared, and the number of the newest change.
CREATE TABLE registry.revision (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);

-- The default group has the empty key. A uid is never used again.
CREATE TABLE registry.worker_group (
    uid text COLLATE "C" PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE,
    description text NOT NULL,
    allowed_tenants text[] NOT NULL,
    lease interval NOT NULL,
    paused boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'DELETING')),
    force_deletion boolean NOT NULL,
    deleting_since bigint,                 -- the revision before its deletion was asked for
    refused_queued_jobs bigint,            -- why its last deletion was refused
    refused_running_jobs bigint,
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    CHECK (key <> '' OR state = 'ACTIVE'),
    CHECK ((state = 'DELETING') = (deleting_since IS NOT NULL)),
    CHECK (state = 'DELETING' OR NOT force_deletion),
    CHECK ((refused_queued_jobs IS NULL) = (refused_running_jobs IS NULL))
);

CREATE TABLE registry.tenant (
    id text COLLATE "C" PRIMARY KEY,
    description text NOT NULL,
    default_worker_group text COLLATE "C" REFERENCES registry.worker_group (key),
    default_fallback text CHECK (default_fallback IN ('WAIT', 'FAIL', 'CANCEL')),
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE registry.namespace (
    tenant text COLLATE "C" NOT NULL REFERENCES registry.tenant (id),
    name text COLLATE "C" NOT NULL,
    description text NOT NULL,
    default_worker_group text COLLATE "C" REFERENCES registry.worker_group (key),
    default_fallback text CHECK (default_fallback IN ('WAIT', 'FAIL', 'CANCEL')),
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, name)
);

-- One row per revision, the newest 10,000: the resource as it became, or as it last was.
CREATE TABLE registry.change (
    revision bigint PRIMARY KEY,
    kind text NOT NULL,
    removed boolean NOT NULL,
    resource jsonb NOT NULL
);

-- Answers to creates that came with a request_id; kept for 24 hours.
CREATE TABLE registry.request (
    kind text NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    answer jsonb NOT NULL,
    create_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, request_id)
);
CREATE INDEX request_age ON registry.request (create_time);

-- The roll. It has no revisions: it is reported, not declared. Its group may be gone.
CREATE TABLE registry.worker (
    id text COLLATE "C" PRIMARY KEY,
    worker_group text COLLATE "C" NOT NULL,
    worker_group_uid text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED', 'LOST', 'STOPPED')),
    host text NOT NULL,
    version text NOT NULL,
    slots integer NOT NULL,
    busy_slots integer NOT NULL,
    task_types text[] NOT NULL,
    tenants text[] NOT NULL,
    start_time timestamptz,
    heartbeat_time timestamptz,
    subject text NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL
);
CREATE INDEX worker_of_group ON registry.worker (worker_group, id);
"""

# The seeds have revisions 1 and 2 and no rows in the log: a watcher that begins gets a snapshot.
SEEDS = """
INSERT INTO registry.revision (revision) VALUES (2);
INSERT INTO registry.worker_group
    (uid, key, description, allowed_tenants, lease, paused, state, force_deletion, revision)
    VALUES ('{uid}', '', 'The default worker group', '{{}}', '60 s', false, 'ACTIVE', false, 1);
INSERT INTO registry.tenant (id, description, revision) VALUES ('main', 'The default tenant', 2);
"""


def upgrade() -> None:
    """Create everything; the default group gets a uid of its own in every installation."""
    uid = "wg_" + base64.b32encode(secrets.token_bytes(10)).decode().lower()
    for statement in (TABLES + SEEDS.format(uid=uid)).split(";\n"):
        if statement.strip():
            op.execute(statement)
