"""What of the worker's own environment its jobs may see: their processes, and expressions as `envs`.

They see what the machine's owner set, because that is how jobs are told where
their tools are. What configures the worker itself is kept from them: among that
are the worker's credentials.
"""

from collections.abc import Mapping

_OURS = (
    "FARHAND_",  # settings, the token among them; a task's own FARHAND_… variables come with its command
    "OTEL_",  # may hold the collector's key; TRACEPARENT comes with the command
    "NOTIFY_SOCKET",  # from here on: a service manager speaks to the worker, not to its jobs
    "WATCHDOG_",
    "LISTEN_",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
)


def for_jobs(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of a worker's environment (os.environ) that its jobs see."""
    return {name: value for name, value in environment.items() if not name.startswith(_OURS)}
