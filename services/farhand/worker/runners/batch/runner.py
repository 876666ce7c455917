"""What the worker knows of the runner: its name, and what a task may say to it. Loads no library."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.worker.runners.hosted import HostedRunner
from farhand.worker.tasks import properties as check

TYPE = "io.kestra.plugin.ee.aws.runner.Batch"

_TEXTS = (
    "region",
    "endpointOverride",
    "accessKeyId",
    "secretKeyId",
    "sessionToken",
    "computeEnvironmentArn",
    "jobQueueArn",
    "jobDefinitionArn",
    "executionRoleArn",
    "taskRoleArn",
    "bucket",
)
_DURATIONS = ("waitUntilCompletion", "completionCheckInterval")
_KNOWN = frozenset({"type", "resources", "sidecarResources", *_TEXTS, *_DURATIONS})


class BatchRunner(HostedRunner):
    """Runs a command as a job of AWS Batch (client.py)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is the worker's own; AWS's variables may be in it."""
        super().__init__(TYPE, "farhand.worker.runners.batch.client:BatchClient", environment)

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """All that is wrong."""
        violations = check.unknown_properties(self.type, properties, _KNOWN)
        if not image and not properties.get("jobDefinitionArn"):
            violations.append(Violation("/containerImage", "is required: the command runs in an image"))
        if importlib.util.find_spec("boto3") is None:
            violations.append(
                Violation("type", "this worker lacks the library for it: pip install 'farhand[aws]' there")
            )
        for name in _TEXTS:
            violations += check.string(name, properties.get(name))
        if not properties.get("jobQueueArn") and not properties.get("computeEnvironmentArn"):
            violations.append(Violation("jobQueueArn", "is required, or computeEnvironmentArn"))
        if bool(properties.get("accessKeyId")) != bool(properties.get("secretKeyId")):
            violations.append(Violation("accessKeyId", "and secretKeyId belong together"))
        for name in _DURATIONS:
            violations += check.duration(name, properties.get(name))
        violations += _check_resources("resources.request", (properties.get("resources") or {}), "request")
        return violations + _check_resources(
            "sidecarResources.request", properties.get("sidecarResources") or {}, "request"
        )


def _check_resources(path: str, value: Any, name: str) -> list[Violation]:
    own = value.get(name) if isinstance(value, dict) else value
    if own is None:
        return []
    if not isinstance(own, dict):
        return [Violation(path, f"must be a map of cpu and memory, not {kind(own)}")]
    violations = [
        Violation(f"{path}.{each}", "is not known; known are cpu, memory") for each in own.keys() - {"cpu", "memory"}
    ]
    for each, what in (("cpu", "a number of vCPUs such as 0.5"), ("memory", "a whole number of MiB such as 2048")):
        amount = own.get(each)
        if amount is None:
            continue
        try:
            good = float(amount) > 0 and (each == "cpu" or float(amount).is_integer())
        except (TypeError, ValueError):
            good = False
        if not good:
            violations.append(Violation(f"{path}.{each}", f"must be {what}, not {shown(str(amount))}"))
    return violations
