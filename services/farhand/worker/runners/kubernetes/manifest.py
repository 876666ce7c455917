"""The Job that a run asks for. Pure.

Its name is made of the worker group's uid, which no other installation has, and the
job's id; the fence is a label. So there is at most one Job for a job of ours, whoever
asks, and the API server's own rule about names is the lock (client.py).

The working folder is a volume that lives as long as the pod. With input files an
init container waits until they have arrived; with output files a container beside
the command's stays until they were fetched, or for as long as the leash.

    initContainers: farhand-in      waits for /farhand/in/done, which the upload makes last
    containers:     main            the command
                    farhand-out     waits to be killed
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FOLDER = "/farhand/work"  # the working folder, in every container of the pod
ARRIVAL = "/farhand/in"  # where the input files arrive, in the init container alone
MAIN = "main"
IN = "farhand-in"
OUT = "farhand-out"
JOB, FENCE, RUN = "farhand/job", "farhand/fence", "farhand/run"
SIDE_IMAGE = "busybox:stable"

LEASH = 600
"""Seconds: a Job that its client does not renew for so long is ended by the cluster itself."""

KEPT_AFTER = 3600  # seconds that an ended Job stays where nobody deleted it
GRACE = 10  # seconds from TERM to KILL of the command

_PULL_POLICIES = {"always": "Always", "ifnotpresent": "IfNotPresent", "never": "Never"}
_WAIT_IN = f"trap 'exit 143' TERM; until [ -e {ARRIVAL}/done ]; do sleep 0.2 || exit 1; done"
_WAIT_OUT = "trap 'exit 0' TERM; while :; do sleep 86400 & wait $!; done"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `name` names the Job; `run` is a random text that tells this client's Job from all others.

    `properties` are the task's `taskRunner`. `job`, `fence`: see Assignment.
    """

    name: str
    run: str
    job: str
    fence: int
    argv: Sequence[str]
    env: Mapping[str, str]
    image: str
    properties: Mapping[str, Any]
    brings_files: bool
    hands_out_files: bool


def job_name(group_uid: str, run_id: str, job: str) -> str:
    """The Job's name: the same for every assignment of a job, and no other installation's."""
    nth = run_id.rpartition(".")[2] if "." in run_id else ""  # a task's second command, and so on
    group = group_uid.removeprefix("wg_").lower()
    return "-".join(part for part in ("farhand", group, job, nth) if part)


def manifest(wanted: Wanted) -> dict[str, Any]:
    """The Job. Environment and arguments are as given: the cluster's own `$(NAME)` means nothing in them."""
    own = wanted.properties
    labels = {
        **{str(name): str(value) for name, value in (own.get("labels") or {}).items()},
        "app.kubernetes.io/managed-by": "farhand",
        JOB: wanted.job,
        FENCE: str(wanted.fence),
        RUN: wanted.run,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "volumes": [{"name": "work", "emptyDir": {}}],
        "containers": [_main(wanted)],
    }
    if wanted.brings_files:
        pod["volumes"].append({"name": "in", "emptyDir": {}})
        pod["initContainers"] = [_side(IN, _WAIT_IN, own, [_mount("work", FOLDER), _mount("in", ARRIVAL)])]
    if wanted.hands_out_files:
        pod["containers"].append(_side(OUT, _WAIT_OUT, own, [_mount("work", FOLDER)]))
    if own.get("serviceAccountName"):
        pod["serviceAccountName"] = own["serviceAccountName"]
    if own.get("nodeSelector"):
        pod["nodeSelector"] = {name: str(value) for name, value in own["nodeSelector"].items()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": wanted.name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": LEASH,
            "ttlSecondsAfterFinished": KEPT_AFTER,
            "podReplacementPolicy": "Failed",
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def pull_policy(value: Any) -> str | None:
    """The cluster's word for `pullPolicy`, as it is written there (IfNotPresent) or here (IF_NOT_PRESENT)."""
    return _PULL_POLICIES.get(value.replace("_", "").lower()) if isinstance(value, str) else None


def _main(wanted: Wanted) -> dict[str, Any]:
    own = wanted.properties
    container: dict[str, Any] = {
        "name": MAIN,
        "image": wanted.image,
        "command": [_plain(part) for part in wanted.argv],
        "env": [{"name": name, "value": _plain(value)} for name, value in wanted.env.items()],
        "workingDir": FOLDER,
        "volumeMounts": [_mount("work", FOLDER)],
        # What a container that died says last is looked for in its log, which we have.
        "terminationMessagePolicy": "File",
    }
    if policy := pull_policy(own.get("pullPolicy")):
        container["imagePullPolicy"] = policy
    resources = own.get("resources") or {}
    asked = {
        theirs: {kind: str(amount) for kind, amount in (resources.get(ours) or {}).items()}
        for ours, theirs in (("request", "requests"), ("limit", "limits"))
        if resources.get(ours)
    }
    if asked:
        container["resources"] = asked
    return container


def _side(name: str, script: str, own: Mapping[str, Any], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "image": (own.get("fileSidecar") or {}).get("image") or SIDE_IMAGE,
        "command": ["/bin/sh", "-c", _plain(script)],
        "volumeMounts": mounts,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }


def _mount(volume: str, path: str) -> dict[str, Any]:
    return {"name": volume, "mountPath": path}


def _plain(text: str) -> str:
    """The cluster replaces $(NAME) in commands and variables, and writes $$ for $."""
    return text.replace("$", "$$")
