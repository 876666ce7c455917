"""The errors that reach users.

Each class owns its canonical status (the name of a gRPC status code), its reason
(stable, UPPER_SNAKE_CASE, `google.rpc.ErrorInfo.reason` with domain "farhand")
and whether trying the same again can help. The message is written for the
person who reads it: what is wrong, and what to do. `protos/README.md` lists the
reasons; tests/architecture compares that table with this module.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

DOMAIN = "farhand"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that is wrong: its path in the request (`spec.task.type`) and what is wrong with it."""

    path: str
    description: str


@dataclass(eq=False)
class FarhandError(Exception):
    """Root of the tree. Raise a subclass."""

    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: Sequence[Violation] = ()
    retry_delay: float | None = None  # seconds, sent as google.rpc.RetryInfo
    details: Sequence[Any] = ()  # further messages for google.rpc.Status.details, small ones

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.message


class InvalidArgument(FarhandError):
    """The request breaks a stated rule; violations name the fields."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"

    @classmethod
    def of(cls, *violations: Violation) -> "InvalidArgument":
        """One error for all that is wrong with a request."""
        return cls("; ".join(f"{v.path}: {v.description}" for v in violations), violations=violations)


class MalformedRequest(FarhandError):
    """The bytes are not a message of the expected type, e.g. a string that is not UTF-8."""

    status = "INVALID_ARGUMENT"
    reason = "MALFORMED_REQUEST"


class PayloadTooLarge(InvalidArgument):
    """A task is larger than the server's limit; the message names both sizes."""

    reason = "PAYLOAD_TOO_LARGE"


class FlowInvalid(InvalidArgument):
    """A flow's source can't be saved; FlowProblems and the violations say why, and where."""

    reason = "FLOW_INVALID"


class FileTooLarge(InvalidArgument):
    """A file is larger than the server's limit; the message names it."""

    reason = "FILE_TOO_LARGE"


class FutureRevision(FarhandError):
    """A watcher asks for a revision that the registry has not reached; it starts again from 0."""

    status = "INVALID_ARGUMENT"
    reason = "FUTURE_REVISION"


class LogGap(FarhandError):
    """Log records start beyond what is stored; the worker sends from the stored offset."""

    status = "INVALID_ARGUMENT"
    reason = "LOG_GAP"


class NotFound(FarhandError):
    """There is no such thing; `metadata["near"]` holds near matches, joined by ", "."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class ResourceExists(FarhandError):
    """The id is taken."""

    status = "ALREADY_EXISTS"
    reason = "RESOURCE_EXISTS"


class RequestIdReused(FarhandError):
    """The request_id was used with another body (AIP-155)."""

    status = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"


class EtagMismatch(FarhandError):
    """Somebody else changed the resource first; read it again (AIP-154)."""

    status = "ABORTED"
    reason = "ETAG_MISMATCH"


class InUse(FarhandError):
    """Other resources name this one; the message lists them."""

    status = "FAILED_PRECONDITION"
    reason = "IN_USE"


class HasJobs(FarhandError):
    """The worker group still has jobs."""

    status = "FAILED_PRECONDITION"
    reason = "HAS_JOBS"


class Protected(FarhandError):
    """The resource always exists, or the property of it never changes."""

    status = "FAILED_PRECONDITION"
    reason = "PROTECTED"


class SecretsNeedKey(FarhandError):
    """A flow is given secrets, and the scheduler lacks the key to encrypt them with."""

    status = "FAILED_PRECONDITION"
    reason = "SECRETS_NEED_KEY"


class NotDeleting(FarhandError):
    """An answer about the deletion of a group that is not being deleted."""

    status = "FAILED_PRECONDITION"
    reason = "NOT_DELETING"


class GroupDeleting(FarhandError):
    """The worker group is being deleted and takes no jobs."""

    status = "FAILED_PRECONDITION"
    reason = "GROUP_DELETING"


class NotEnded(FarhandError):
    """The execution has not ended, so nothing can go on from it or repeat it."""

    status = "FAILED_PRECONDITION"
    reason = "NOT_ENDED"


class NothingFailed(FarhandError):
    """The execution did not fail, so there is no failure from which a restart could go on."""

    status = "FAILED_PRECONDITION"
    reason = "NOTHING_FAILED"


class NotReplayable(FarhandError):
    """Something that stands before the task from which a replay is to begin did not end well; the message names it."""

    status = "FAILED_PRECONDITION"
    reason = "NOT_REPLAYABLE"


class TriggerDisabled(FarhandError):
    """The trigger is disabled, and does nothing."""

    status = "FAILED_PRECONDITION"
    reason = "TRIGGER_DISABLED"


class BackfillRunning(FarhandError):
    """The trigger has a backfill that is not over."""

    status = "FAILED_PRECONDITION"
    reason = "BACKFILL_RUNNING"


class StaleFence(FarhandError):
    """A worker moves a file for a job that is not assigned to it under that fence (P4)."""

    status = "FAILED_PRECONDITION"
    reason = "STALE_FENCE"


class WorkerNotConnected(FarhandError):
    """The worker is LOST or STOPPED."""

    status = "FAILED_PRECONDITION"
    reason = "WORKER_NOT_CONNECTED"


class VersionUnsupported(FarhandError):
    """The worker speaks a protocol that this scheduler does not; the message names the version to install."""

    status = "FAILED_PRECONDITION"
    reason = "VERSION_UNSUPPORTED"


class Unauthenticated(FarhandError):
    """No credential, or one that is not known here."""

    status = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(FarhandError):
    """The credential does not allow this call."""

    status = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class TenantNotAllowed(FarhandError):
    """The worker group does not allow the tenant."""

    status = "PERMISSION_DENIED"
    reason = "TENANT_NOT_ALLOWED"


class GroupNotAllowed(FarhandError):
    """The worker's credential is for another worker group."""

    status = "PERMISSION_DENIED"
    reason = "GROUP_NOT_ALLOWED"


class WorkerIdTaken(FarhandError):
    """The worker's id belongs to another credential."""

    status = "PERMISSION_DENIED"
    reason = "WORKER_ID_TAKEN"


class QuotaExceeded(FarhandError):
    """The tenant has as many jobs waiting in the worker group as its quota allows; the message and the metadata
    (worker_group, tenant, limit, queued) have the figures."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"
    retryable = True


class Unavailable(FarhandError):
    """A part that is needed (database, registry) can't be reached now."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"
    retryable = True


class Overloaded(FarhandError):
    """More comes at once than this server takes, workers that dial or large flows; it says when to try again."""

    status = "UNAVAILABLE"
    reason = "OVERLOADED"
    retryable = True


class ShuttingDown(FarhandError):
    """This server stops; another, or this one again, will answer."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"
    retryable = True


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside of (nested) ExceptionGroups, in their order; the error itself where it is no group."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error
