"""The tables of the schema `scheduler` that reads name in SQLAlchemy Core expressions.

Their meaning stands in the migrations that make them (`0001_the_mesh.py`,
`0002_executions.py`); here are only names and types. What writes names them in SQL (`queue.sql`, `declared.py`).
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import UserDefinedType


class Letter(UserDefinedType[str]):
    """PostgreSQL's one-byte `"char"`, which the driver hands over as bytes."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name in SQL."""
        return '"char"'

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[bytes | None], str | None]:
        """The driver's bytes to text."""
        return lambda value: None if value is None else value.decode()


_METADATA = MetaData(schema="scheduler")
_TIME = TIMESTAMP(timezone=True)

worker_group = Table(
    "worker_group",
    _METADATA,
    Column("uid", Text),
    Column("key", Text),
    Column("allowed_tenants", ARRAY(Text)),
    Column("lease_ms", BigInteger),
    Column("paused", Boolean),
    Column("deleting", Boolean),
    Column("force_deletion", Boolean),
    Column("gone", Boolean),
    Column("quotas", JSONB),
)

lane = Table(
    "lane",
    _METADATA,
    Column("id", Integer),
    Column("group_uid", Text),
    Column("tenant", Text),
    Column("task_type", Text),
)

job = Table(
    "job",
    _METADATA,
    Column("key", BigInteger),
    Column("lane_id", Integer),
    Column("fallback", Letter),
    Column("max_deliveries", SmallInteger),
    Column("created_at", _TIME),
    Column("namespace", Text),
    Column("traceparent", Text),
    Column("task", LargeBinary),
    Column("secrets_of", BigInteger),
)

queue = Table(
    "queue",
    _METADATA,
    Column("lane_id", Integer),
    Column("key", BigInteger),
    Column("fallback", Letter),
    Column("lost", SmallInteger),
)

session = Table(
    "session",
    _METADATA,
    Column("id", BigInteger),
    Column("worker_id", Text),
    Column("incarnation", LargeBinary),
    Column("group_uid", Text),
    Column("subject", Text),
    Column("tenants", ARRAY(Text)),
    Column("epoch", BigInteger),
    Column("renewal", BigInteger),
    Column("lease_ms", BigInteger),
    Column("state", Text),
    Column("draining", Boolean),
    Column("slots", Integer),
    Column("busy_slots", Integer),
    Column("task_types", ARRAY(Text)),
    Column("host", Text),
    Column("version", Text),
    Column("boot_id", Text),
    Column("replica", Text),
    Column("connected_at", _TIME),
    Column("heartbeat_at", _TIME),
    Column("report", BigInteger),
)

live = Table(
    "live",
    _METADATA,
    Column("key", BigInteger),
    Column("lane_id", Integer),
    Column("fence", BigInteger),
    Column("session_id", BigInteger),
    Column("lost", SmallInteger),
    Column("assigned_at", _TIME),
    Column("started_at", _TIME),
    Column("kill_at", _TIME),
    Column("kill_grace_ms", Integer),
    Column("kill_acked", Boolean),
)

done = Table(
    "done",
    _METADATA,
    Column("key", BigInteger),
    Column("lane_id", Integer),
    Column("state", Text),
    Column("fence", BigInteger),
    Column("session_id", BigInteger),
    Column("lost", SmallInteger),
    Column("assigned_at", _TIME),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("kill_at", _TIME),
    Column("exit_code", Integer),
    Column("reason", Text),
    Column("message", Text),
    Column("run_us", BigInteger),
    Column("outputs", LargeBinary),
    Column("log_end", BigInteger),
)

lost_delivery = Table(
    "lost_delivery",
    _METADATA,
    Column("key", BigInteger),
    Column("fence", BigInteger),
    Column("session_id", BigInteger),
    Column("assigned_at", _TIME),
    Column("lost_at", _TIME),
    Column("reason", Text),
)

log_chunk = Table(
    "log_chunk",
    _METADATA,
    Column("key", BigInteger),
    Column("fence", BigInteger),
    Column("start_offset", BigInteger),
    Column("end_offset", BigInteger),
    Column("records", LargeBinary),
)

tally = Table(
    "tally",
    _METADATA,
    Column("lane_id", Integer),
    Column("writer", Text),
    Column("queued", BigInteger),
    Column("live", BigInteger),
    Column("ended", BigInteger),
)

flow_revision = Table(
    "flow_revision",
    _METADATA,
    Column("key", BigInteger),
    Column("tenant", Text),
    Column("namespace", Text),
    Column("flow_id", Text),
    Column("revision", Integer),
    Column("digest", LargeBinary),
    Column("definition", Text),
)

execution = Table(
    "execution",
    _METADATA,
    Column("key", BigInteger),
    Column("flow_key", BigInteger),
    Column("tenant", Text),
    Column("namespace", Text),
    Column("flow_id", Text),
    Column("flow_revision", Integer),
    Column("state", Text),
    Column("inputs", Text),
    Column("labels", JSONB),
    Column("trigger", Text),
    Column("restart_of", BigInteger),
    Column("replay_of", BigInteger),
    Column("forgotten", Boolean),
    Column("traceparent", Text),
    Column("parent_span", Text),
    Column("trigger_key", BigInteger),
    Column("tick_at", _TIME),
    Column("backfill", Integer),
    Column("evaluation_job_key", BigInteger),
    Column("created_at", _TIME),
    Column("ended_at", _TIME),
    Column("kill_at", _TIME),
    Column("wake_at", _TIME),
    Column("message", Text),
    Column("states", ARRAY(Text)),
    Column("runs_over", Integer),
    Column("state_times", ARRAY(_TIME)),
)

trigger = Table(
    "trigger",
    _METADATA,
    Column("key", BigInteger),
    Column("tenant", Text),
    Column("namespace", Text),
    Column("flow_id", Text),
    Column("trigger_id", Text),
    Column("type", Text),
    Column("flow_key", BigInteger),
    Column("plan", Text),
    Column("disabled_by", Text),
    Column("next_at", _TIME),
    Column("last_at", _TIME),
    Column("asked_at", _TIME),
    Column("job_key", BigInteger),
    Column("execution_key", BigInteger),
    Column("result", Text),
    Column("result_at", _TIME),
    Column("message", Text),
    Column("backfill", Integer),
    Column("backfill_start", _TIME),
    Column("backfill_end", _TIME),
    Column("backfill_next", _TIME),
    Column("backfill_at", _TIME),
    Column("backfill_state", Text),
    Column("backfill_fired", Integer),
    Column("backfill_inputs", Text),
    Column("backfill_labels", Text),
    Column("remembered", Text),
    Column("job_stale", Boolean),
    Column("last_job_key", BigInteger),
)

task_run = Table(
    "task_run",
    _METADATA,
    Column("key", BigInteger),
    Column("execution_key", BigInteger),
    Column("task_id", Text),
    Column("iteration", Text),
    Column("attempt", Integer),
    Column("state", Text),
    Column("job_key", BigInteger),
    Column("branch", Text),
    Column("reason", Text),
    Column("message", Text),
    Column("group_key", Text),
    Column("group_level", Text),
    Column("fallback", Text),
    Column("fallback_level", Text),
    Column("wait_limit", Interval),
    Column("again_at", _TIME),
    Column("created_at", _TIME),
    Column("started_at", _TIME),
    Column("ended_at", _TIME),
    Column("rounds", Integer),
    Column("rounds_over", LargeBinary),
    Column("loop_values", ARRAY(Text)),
    Column("round_over", Boolean),
    Column("taken_from", BigInteger),
    Column("taken_job_key", BigInteger),
)

flow_limit = Table(
    "flow_limit",
    _METADATA,
    Column("key", BigInteger),
    Column("tenant", Text),
    Column("namespace", Text),
    Column("flow_id", Text),
    Column("revision", Integer),
    Column("most", Integer),
    Column("behavior", Text),
)

place = Table(
    "place",
    _METADATA,
    Column("id", BigInteger),
    Column("limit_key", BigInteger),
    Column("execution_key", BigInteger),
    Column("waits", Boolean),
)
