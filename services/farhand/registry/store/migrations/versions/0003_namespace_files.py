"""Files of namespaces.

A content is known by its SHA-256 and stored once, in pieces, whoever has it. A row
of `namespace_file` says which content a path has now, one of `past_namespace_file`
which it had until lately: a job that was told of a file may still fetch it when
somebody has replaced it meanwhile.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE registry.file_content (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32)
);

-- Pieces of 1 MiB, the last one shorter, from number 0 on; an empty content has none.
CREATE TABLE registry.file_piece (
    digest bytea NOT NULL REFERENCES registry.file_content ON DELETE CASCADE,
    number integer NOT NULL CHECK (number >= 0),
    content bytea NOT NULL CHECK (octet_length(content) > 0),
    PRIMARY KEY (digest, number)
);
-- What is uploaded is compressed already, or does not matter.
ALTER TABLE registry.file_piece ALTER COLUMN content SET STORAGE EXTERNAL;

-- Its namespace need not exist.
CREATE TABLE registry.namespace_file (
    tenant text COLLATE "C" NOT NULL REFERENCES registry.tenant (id),
    namespace text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    digest bytea NOT NULL REFERENCES registry.file_content,
    size bigint NOT NULL CHECK (size >= 0),
    create_time timestamptz NOT NULL DEFAULT now(),
    update_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, namespace, path)
);
CREATE INDEX namespace_file_content ON registry.namespace_file (digest);

-- What was replaced or deleted, remembered for 24 hours.
CREATE TABLE registry.past_namespace_file (
    tenant text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    path text COLLATE "C" NOT NULL,
    digest bytea NOT NULL REFERENCES registry.file_content,
    size bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    past_since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, namespace, path, digest)
);
CREATE INDEX past_namespace_file_age ON registry.past_namespace_file (past_since);
CREATE INDEX past_namespace_file_content ON registry.past_namespace_file (digest);
"""


def upgrade() -> None:
    """Create the tables."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
