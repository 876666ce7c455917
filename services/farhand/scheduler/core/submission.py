"""What a submit hands to the queue, and what the queue answers.

The rows were validated one by one before they come here, so that a batch which
rides in one transaction with others holds no row that its own client could have
been told about. What is left for the queue to find out needs the copy of the
registry: whether the tenant, the namespace's defaults and the group are there.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from farhand.kernel.errors import FarhandError
from farhand.kernel.resolution import Fallback
from farhand.scheduler.core.declared import Declared, Placement, place


class JobRow(NamedTuple):
    """A job to be put into its group's queue."""

    tenant: str
    namespace: str | None  # None: it inherits from its tenant alone
    group_key: str | None  # "": the default group; None: inherited
    fallback: Fallback | None  # None: inherited
    task_type: str
    task: bytes  # farhand.api.types.v1.Task, serialized
    max_deliveries: int  # 1 to 100
    traceparent: str | None  # W3C; None: the job is not traced

    def place(self, declared: Declared) -> Placement:
        """Where it goes. Raises what `declared.place` does."""
        return place(
            declared,
            tenant=self.tenant,
            namespace=self.namespace,
            group_key=self.group_key,
            fallback=self.fallback,
        )


# A serialized google.rpc.Status: a row that was refused before it came to the queue. It rides along, so that a
# repeated request_id gives the same answers (P6).
RefusedRow = bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """The rows of one call. An empty request_id asks for no memory of it."""

    rows: tuple[JobRow | RefusedRow, ...]
    tenant: str  # within which the request_id is unique
    request_id: str
    body_hash: bytes  # SHA-256 of what was asked for; b"" without a request_id


# One for each row, in their order: the job's key; the stored Status of a refusal; or the error that refused it now.
Answer = tuple[int | bytes | FarhandError, ...]


class Fresh(int):
    """The key of a job that this very call made and that waits in its queue; with what a read would tell of it, so
    that nobody need read it back."""

    group_uid: str
    group_key: str
    fallback: Fallback
    created_at: datetime
