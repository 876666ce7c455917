"""The tables of the schema `registry`, for SQLAlchemy Core expressions.

Their meaning and their constraints stand in the migrations that make them; here are
names and types. A test compares the two.
"""

from sqlalchemy import BigInteger, Boolean, Column, Integer, Interval, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

METADATA = MetaData(schema="registry")
_NAME = Text(collation="C")
_TIME = TIMESTAMP(timezone=True)

revision = Table(
    "revision",
    METADATA,
    Column("only_row", Boolean, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

worker_group = Table(
    "worker_group",
    METADATA,
    Column("uid", _NAME, primary_key=True),
    Column("key", _NAME, nullable=False),
    Column("description", Text, nullable=False),
    Column("allowed_tenants", ARRAY(Text), nullable=False),
    Column("lease", Interval, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("force_deletion", Boolean, nullable=False),
    Column("deleting_since", BigInteger),
    Column("refused_queued_jobs", BigInteger),
    Column("refused_running_jobs", BigInteger),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("update_time", _TIME, nullable=False),
    Column("quotas", JSONB, nullable=False),
)

tenant = Table(
    "tenant",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("description", Text, nullable=False),
    Column("default_worker_group", _NAME),
    Column("default_fallback", Text),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("update_time", _TIME, nullable=False),
    Column("plugin_defaults", JSONB, nullable=False),
)

namespace = Table(
    "namespace",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("name", _NAME, primary_key=True),
    Column("description", Text, nullable=False),
    Column("default_worker_group", _NAME),
    Column("default_fallback", Text),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("update_time", _TIME, nullable=False),
    Column("plugin_defaults", JSONB, nullable=False),
)

flow = Table(
    "flow",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("namespace", _NAME, primary_key=True),
    Column("id", _NAME, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("triggered", Boolean, nullable=False),
)

flow_revision = Table(
    "flow_revision",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("namespace", _NAME, primary_key=True),
    Column("id", _NAME, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("source", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("labels", JSONB, nullable=False),
    Column("saved_by", Text, nullable=False),
    Column("save_time", _TIME, nullable=False),
)

flow_group = Table(
    "flow_group",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("namespace", _NAME, primary_key=True),
    Column("id", _NAME, primary_key=True),
    Column("worker_group", _NAME, primary_key=True),
)

change = Table(
    "change",
    METADATA,
    Column("revision", BigInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("resource", JSONB, nullable=False),
)

request = Table(
    "request",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("request_id", _NAME, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("answer", JSONB, nullable=False),
    Column("create_time", _TIME, nullable=False),
)

worker = Table(
    "worker",
    METADATA,
    Column("id", _NAME, primary_key=True),
    Column("worker_group", _NAME, nullable=False),
    Column("worker_group_uid", _NAME, nullable=False),
    Column("state", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("busy_slots", Integer, nullable=False),
    Column("task_types", ARRAY(Text), nullable=False),
    Column("tenants", ARRAY(Text), nullable=False),
    Column("start_time", _TIME),
    Column("heartbeat_time", _TIME),
    Column("subject", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)

file_content = Table(
    "file_content",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
)

file_piece = Table(
    "file_piece",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

namespace_file = Table(
    "namespace_file",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("namespace", _NAME, primary_key=True),
    Column("path", _NAME, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("update_time", _TIME, nullable=False),
)

past_namespace_file = Table(
    "past_namespace_file",
    METADATA,
    Column("tenant", _NAME, primary_key=True),
    Column("namespace", _NAME, primary_key=True),
    Column("path", _NAME, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("update_time", _TIME, nullable=False),
    Column("past_since", _TIME, nullable=False),
)
