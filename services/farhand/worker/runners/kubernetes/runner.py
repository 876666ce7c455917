"""What the worker knows of the runner: its name, and what a task may say to it. Loads no library."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.worker.runners import Command, Program
from farhand.worker.runners.hosted import HostedRunner
from farhand.worker.runners.kubernetes.manifest import pull_policy
from farhand.worker.tasks import properties as check

TYPE = "io.kestra.plugin.ee.kubernetes.runner.Kubernetes"

_KNOWN = frozenset(
    {
        "type",
        "config",
        "namespace",
        "pullPolicy",
        "resources",
        "serviceAccountName",
        "nodeSelector",
        "labels",
        "fileSidecar",
        "waitUntilRunning",
    }
)
_CONFIG = frozenset({"masterUrl", "oauthToken", "caCertData", "clientCertData", "clientKeyData", "trustCerts"})
_QUANTITY = re.compile(r"(\d+(\.\d*)?|\.\d+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d+)?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class KubernetesRunner(HostedRunner):
    """Runs a command as a Job of a cluster (client.py)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment` is the worker's own; KUBECONFIG may be in it."""
        super().__init__(TYPE, "farhand.worker.runners.kubernetes.client:KubernetesClient", environment)

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """All that is wrong."""
        violations = check.unknown_properties(self.type, properties, _KNOWN)
        if not image:
            violations.append(Violation("/containerImage", "is required: a Job's command runs in an image"))
        if importlib.util.find_spec("kubernetes") is None:
            violations.append(
                Violation("type", "this worker lacks the library for it: pip install 'farhand[kubernetes]' there")
            )
        violations += _check_config(properties.get("config"))
        namespace = properties.get("namespace")
        if namespace is not None and not (isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace)):
            violations.append(Violation("namespace", f"{shown(str(namespace))} is no name of a namespace"))
        policy = properties.get("pullPolicy")
        if policy is not None and pull_policy(policy) is None:
            violations.append(
                Violation("pullPolicy", f"must be ALWAYS, IF_NOT_PRESENT or NEVER, not {shown(str(policy))}")
            )
        violations += _check_resources(properties.get("resources"))
        violations += check.string("serviceAccountName", properties.get("serviceAccountName"))
        violations += _check_labels("nodeSelector", properties.get("nodeSelector"))
        violations += _check_labels("labels", properties.get("labels"))
        violations += _check_sidecar(properties.get("fileSidecar"))
        return violations + check.duration("waitUntilRunning", properties.get("waitUntilRunning"))

    def program(self, command: Command, properties: Mapping[str, Any]) -> Program:
        """See TaskRunner.program. What the library writes to files, keys among it, goes when the run does."""
        program = super().program(command, properties)
        return replace(program, env={**program.env, "TMPDIR": str(command.private)})


def _map(path: str, value: Any, known: frozenset[str] | None = None) -> tuple[list[Violation], Mapping[str, Any]]:
    """A map, and what of it is unknown."""
    value = check.structured(value)
    if value is None:
        return [], {}
    if not isinstance(value, dict):
        return [Violation(path, f"must be a map, not {kind(value)}")], {}
    unknown = [name for name in value if known is not None and name not in known]
    words = ", ".join(sorted(known or ()))
    return [Violation(f"{path}.{name}", f"is not known; known are {words}") for name in unknown], value


def _check_config(value: Any) -> list[Violation]:
    violations, own = _map("config", value, _CONFIG)
    for name in _CONFIG - {"trustCerts"}:
        violations += check.string(f"config.{name}", own.get(name), required=name == "masterUrl" and value is not None)
    url = own.get("masterUrl")
    if isinstance(url, str) and not url.startswith(("https://", "http://")):
        violations.append(Violation("config.masterUrl", f"{shown(url)} is no address; write https://HOST:PORT"))
    return violations + check.boolean("config.trustCerts", own.get("trustCerts"))


def _check_resources(value: Any) -> list[Violation]:
    violations, own = _map("resources", value, frozenset({"request", "limit"}))
    for name in ("request", "limit"):
        wrong, amounts = _map(f"resources.{name}", own.get(name))
        violations += wrong
        for what, amount in amounts.items():
            if not isinstance(amount, str | int | float) or not _QUANTITY.fullmatch(str(amount)):
                violations.append(
                    Violation(
                        f"resources.{name}.{what}",
                        f"{shown(str(amount))} is no quantity; write 500m or 2 for cpu, 256Mi or 1Gi for memory",
                    )
                )
    return violations


def _check_labels(path: str, value: Any) -> list[Violation]:
    violations, own = _map(path, value)
    for name, text in own.items():
        if not _LABEL_NAME.fullmatch(name):
            violations.append(Violation(path, f"{shown(name)} can't be the name of a label"))
        elif not isinstance(text, str | int | float) or not _LABEL_VALUE.fullmatch(check.variable(text)):
            violations.append(
                Violation(f"{path}.{name}", "must be at most 63 letters, digits, '-', '_' and '.', not at its ends")
            )
    return violations


def _check_sidecar(value: Any) -> list[Violation]:
    violations, own = _map("fileSidecar", value, frozenset({"image"}))
    return violations + check.string("fileSidecar.image", own.get("image"))
