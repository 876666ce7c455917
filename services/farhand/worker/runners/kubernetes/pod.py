"""What a pod's state means for the run, and what to do about it. Pure.

A pod is the API's own JSON, as a dict. It is looked at again at each change, so this
needs no memory: what a pod says of itself decides.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farhand.worker.runners.kubernetes.manifest import IN, MAIN, OUT

_HOPELESS = {
    "InvalidImageName": "the image's name is not one",
    "ErrImageNeverPull": "the image is not on the node, and pullPolicy is NEVER",
    "CreateContainerConfigError": "the container can't be configured",
    "CreateContainerError": "the container can't be made",
    "RunContainerError": "the container can't be started",
}
_NOT_PULLED = ("ErrImagePull", "ImagePullBackOff")
# What registries say when asking again helps nobody; everything else may pass.
_NO_SUCH_IMAGE = re.compile(
    r"not found|no such|does not exist|manifest unknown|denied|unauthorized|forbidden|authentication required|"
    r"invalid reference|no match for platform|no matching manifest",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The command has not started. `why`: what it waits for, for people; `grave`: it may wait in vain."""

    why: str
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Arriving:
    """The init container waits for the input files."""


@dataclass(frozen=True, slots=True)
class Running:
    """The command runs."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The command ended. `reason` and `why` are empty where the exit code says all; see CommandEnd."""

    exit_code: int
    reason: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The command never ran and never will."""

    why: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The pod is lost, and what became of the command is not known, or it was ended by the cluster."""

    why: str


State = Waiting | Arriving | Running | Ended | Hopeless | Gone


def state_of(pod: Mapping[str, Any], *, limits: Mapping[str, Any] | None = None) -> State:
    """Where the command stands. `limits`: the task's `resources.limit`, for the message about memory."""
    status = pod.get("status") or {}
    main = _container(status.get("containerStatuses"), MAIN)
    if (ended := _terminated(main)) is not None:
        return _ended(pod, ended, limits or {})
    if status.get("phase") in ("Failed", "Succeeded") or status.get("reason") == "Evicted":
        return _failed(pod)
    for status_of in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(status_of) or ():
            if (why := _hopeless(container)) is not None:
                return Hopeless(why)
    if "running" in (main.get("state") or {}):
        return Running()
    arrival = _container(status.get("initContainerStatuses"), IN)
    if "running" in (arrival.get("state") or {}):
        return Arriving()
    return _waiting(status)


def out_runs(pod: Mapping[str, Any]) -> bool:
    """The container that holds the output files is there to be asked."""
    statuses = (pod.get("status") or {}).get("containerStatuses")
    return "running" in (_container(statuses, OUT).get("state") or {})


def arrived(pod: Mapping[str, Any]) -> bool:
    """The input files are there: the init container has ended well."""
    ended = _terminated(_container((pod.get("status") or {}).get("initContainerStatuses"), IN))
    return ended is not None and ended.get("exitCode") == 0


def _container(statuses: Sequence[Mapping[str, Any]] | None, name: str) -> Mapping[str, Any]:
    return next((each for each in statuses or () if each.get("name") == name), {})


def _terminated(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return (container.get("state") or {}).get("terminated")


def _ended(pod: Mapping[str, Any], ended: Mapping[str, Any], limits: Mapping[str, Any]) -> State:
    code = int(ended.get("exitCode") or 0)
    reason = ended.get("reason") or ""
    if reason == "OOMKilled":
        limit = limits.get("memory")
        bound = f"its limit of {limit}" if limit else "the memory of its node"
        return Ended(
            code,
            "OUT_OF_MEMORY",
            f"the command was killed because it used more than {bound}: raise resources.limit.memory, or use less",
        )
    if reason == "ContainerStatusUnknown":
        return Gone(f"what became of the command is not known: {_message(pod, ended.get('message'))}")
    if reason in ("StartError", "ContainerCannotRun"):
        return Hopeless(
            f"the command can't be run in its image: {ended.get('message') or reason}; look whether the image has "
            "the interpreter that the task uses"
        )
    if (why := _disruption(pod)) is not None:
        return Ended(code, "RUNNER_FAILED", why)
    return Ended(code)


def _failed(pod: Mapping[str, Any]) -> State:
    """The pod is over, and the command's container has no end of its own."""
    arrival = _terminated(_container((pod.get("status") or {}).get("initContainerStatuses"), IN))
    if arrival is not None and arrival.get("exitCode"):
        return Hopeless(f"the container {IN}, which takes the input files, ended with exit code {arrival['exitCode']}")
    return Gone(_disruption(pod) or f"the pod ended before its command did: {_message(pod, None)}")


def _disruption(pod: Mapping[str, Any]) -> str | None:
    """Why the cluster ended the pod, if it did."""
    status = pod.get("status") or {}
    if status.get("reason") == "Evicted":
        return (
            f"the pod was evicted from its node: {_message(pod, None)}; ask for what the command needs in "
            "resources.request, so that it is placed where there is enough"
        )
    if status.get("reason") == "DeadlineExceeded":
        return (
            f"the cluster ended the Job because this worker had not renewed it for too long: {_message(pod, None)}; "
            "look at the way from the worker to the API server"
        )
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"the cluster ended the pod ({condition.get('reason')}): {condition.get('message') or 'no message'}"
    return None


def _hopeless(container: Mapping[str, Any]) -> str | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason") or "", waiting.get("message") or ""
    image = container.get("image") or "?"
    if reason in _NOT_PULLED and _NO_SUCH_IMAGE.search(message):
        return (
            f"the image {image} can't be pulled: {message}; look at its name and tag, and whether the namespace may "
            "read the registry (imagePullSecrets of its service account)"
        )
    if reason in _HOPELESS:
        return f"{_HOPELESS[reason]} ({reason}, image {image}): {message or 'no message'}"
    return None


def _waiting(status: Mapping[str, Any]) -> Waiting:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Waiting(
                f"no node takes it ({condition.get('reason')}): {condition.get('message') or 'no message'}; look at "
                "resources.request, nodeSelector and the cluster's free nodes",
                grave=True,
            )
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _NOT_PULLED:
            why = waiting.get("message") or "no message"
            return Waiting(f"the image {container.get('image')} can't be pulled yet: {why}", grave=True)
        if waiting.get("reason") not in (None, "PodInitializing"):
            return Waiting(f"its container {container.get('name')} is being made ({waiting['reason']})")
    return Waiting("its containers are being made")


def _message(pod: Mapping[str, Any], message: str | None) -> str:
    status = pod.get("status") or {}
    return message or status.get("message") or status.get("reason") or "the cluster gives no reason"
