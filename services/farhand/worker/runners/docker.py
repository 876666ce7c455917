"""The runner `io.kestra.plugin.scripts.runner.docker.Docker`: a container on the worker's machine, by Docker or Podman.

    containerImage: python:3.12-slim
    taskRunner:
      type: io.kestra.plugin.scripts.runner.docker.Docker
      pullPolicy: IF_NOT_PRESENT
      memory: {memory: 512MB}
      cpu: {cpus: 0.5}
      networkMode: none
      entryPoint: [/usr/bin/env]
      user: "1000:1000"
      volumes: ["/data:/data:ro"]

This is the worker's side: it checks, names the container, and says how it is taken
back. docker_client.py does the rest in a process of its own. A container belongs to
Docker and not to our processes, so its end is assured by the undo: the keeper of the
run deletes it by force once the client is gone, however that ended.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from farhand.kernel.errors import Violation
from farhand.kernel.kinds import kind
from farhand.kernel.sizes import LEAST_MEMORY, parse_size
from farhand.worker.process_control import Undo
from farhand.worker.runners import Command
from farhand.worker.runners.hosted import HostedRunner
from farhand.worker.tasks import properties as check

TYPE = "io.kestra.plugin.scripts.runner.docker.Docker"
_CLIENT = "farhand.worker.runners.docker_client:DockerClient"

KNOWN = frozenset(
    {"type", "image", "pullPolicy", "memory", "cpu", "networkMode", "entryPoint", "user", "volumes", "privileged"}
)
LONGEST_UNDO = 8.0  # seconds; a worker that starts waits a little longer for the keepers of an earlier one


class PullPolicy(StrEnum):
    """When an image is fetched from its registry."""

    ALWAYS = "ALWAYS"
    IF_NOT_PRESENT = "IF_NOT_PRESENT"
    NEVER = "NEVER"


class DockerRunner(HostedRunner):
    """Runs each command in a container of its own."""

    def __init__(self, environment: Mapping[str, str], *, socket: str, patience: float, allow_volumes: bool) -> None:
        """`socket` is the path of the Docker API's; `patience` how many seconds it may take to answer."""
        super().__init__(TYPE, _CLIENT, environment, {"socket": socket, "patience": patience})
        self._socket = socket
        self._patience = patience
        self._allow_volumes = allow_volumes

    def validate(self, properties: Mapping[str, Any], image: str) -> Sequence[Violation]:
        """See TaskRunner.validate."""
        violations = check.unknown_properties(TYPE, properties, KNOWN)
        for name in ("image", "networkMode", "user"):
            violations += check.string(name, properties.get(name))
        if not (image or properties.get("image")):
            violations.append(Violation("/containerImage", "is required: it names the image of the container"))
        violations += check.one_of("pullPolicy", properties.get("pullPolicy"), PullPolicy)
        violations += _inside("memory", properties.get("memory"), "memory", _memory)
        violations += _inside("cpu", properties.get("cpu"), "cpus", _cpus)
        violations += check.strings("entryPoint", properties.get("entryPoint"))
        if check.structured(properties.get("entryPoint")) == []:
            violations.append(Violation("entryPoint", "must not be empty"))
        violations += check.strings("volumes", properties.get("volumes"))
        if check.structured(properties.get("volumes")) and not self._allow_volumes:
            violations.append(
                Violation("volumes", "are not allowed on this worker (its --docker-allow-volumes is off)")
            )
        violations += check.boolean("privileged", properties.get("privileged"))
        if check.truth(properties.get("privileged"), False):
            violations.append(
                Violation("privileged", "must be false: a privileged container is root on the worker's machine")
            )
        return violations

    def plan(self, command: Command) -> tuple[Mapping[str, Any], Undo]:
        """The container's name, and its deletion."""
        # Job ids of two installations may be alike; the private folder is this run's alone on this machine.
        name = f"farhand-{command.run_id}-{hashlib.sha256(str(command.private).encode()).hexdigest()[:8]}"
        name = "".join(each if each.isalnum() and each.isascii() else "-" for each in name)
        begun = str(command.private / "begun")
        return {"container": name, "begun": begun}, Undo(
            what=f"the container {name}",
            socket=self._socket,
            method="DELETE",
            target=f"/containers/{quote(name)}?force=true&v=true",
            begun=begun,
            seconds=min(self._patience, LONGEST_UNDO),
        )


def _inside(path: str, value: Any, name: str, wrong: Any) -> list[Violation]:
    """A map with one property, which is required."""
    value = check.structured(value)
    if value is None:
        return []
    if not isinstance(value, dict):
        return [Violation(path, f"must be a map with {name}, not {kind(value)}")]
    violations = [
        Violation(f"{path}.{each.path}", each.description) for each in check.unknown_properties(path, value, {name})
    ]
    why = wrong(value[name]) if value.get(name) is not None else "is required"
    return [*violations, Violation(f"{path}.{name}", why)] if why else violations


def _memory(value: Any) -> str:
    try:
        size = parse_size(str(value))
    except ValueError as error:
        return str(error)[:200]
    return "" if size >= LEAST_MEMORY else "is too little: a container needs at least 6MB"


def _cpus(value: Any) -> str:
    try:
        cpus = float(value)
    except (ValueError, TypeError):
        return "must be a number of cores such as 0.5"
    return "" if 0.01 <= cpus <= 10_000 else "must be at least 0.01 cores, and at most 10000"
