"""What is asked of AWS Batch for a run, and what its answers mean. Pure.

Without files a job is one container. With files it is a task of up to three that share
a volume (Batch: `ecsProperties`): `farhand-in` copies the input files from the bucket,
`main` runs the command when that has succeeded, `farhand-out` copies the working folder's
files back when main has ended. The copying is the AWS CLI's, in an image of its own.

A job's name is the worker group's uid, which no other installation has, and the job's
id; its tags tell the fence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from farhand.kernel.globs import is_literal

FOLDER = "/farhand/work"
MAIN, IN, OUT = "main", "farhand-in", "farhand-out"
JOB, FENCE, RUN = "farhand-job", "farhand-fence", "farhand-run"
SIDE_IMAGE = "public.ecr.aws/aws-cli/aws-cli:latest"
LOG_GROUP = "/aws/batch/job"
LONGEST_RUN = 86_400  # seconds; what Batch itself ends a job after, where the task says no waitUntilCompletion
ENDED = frozenset({"SUCCEEDED", "FAILED"})
_DEFAULTS = {"cpu": "1", "memory": "2048"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `prefix`: where the run's files are in the bucket, "" without files; see kubernetes.Wanted."""

    name: str
    run: str
    job: str
    fence: int
    argv: Sequence[str]
    env: Mapping[str, str]
    image: str
    properties: Mapping[str, Any]
    seconds: int
    prefix: str = ""
    brings_files: bool = False
    output_files: Sequence[str] = ()


def job_name(group_uid: str, run_id: str, job: str) -> str:
    """The job's name: the same for every assignment of a job, and no other installation's."""
    nth = run_id.rpartition(".")[2] if "." in run_id else ""
    return "-".join(part for part in ("farhand", group_uid.removeprefix("wg_").lower(), job, nth) if part)


def definition(wanted: Wanted, *, fargate: bool) -> dict[str, Any]:
    """The arguments of RegisterJobDefinition. Raises nothing: the properties are checked."""
    own = wanted.properties
    asked: dict[str, Any] = {
        "jobDefinitionName": wanted.name,
        "type": "container",
        "platformCapabilities": ["FARGATE" if fargate else "EC2"],
        "retryStrategy": {"attempts": 1},
        "timeout": {"attemptDurationSeconds": wanted.seconds},
        "tags": _tags(wanted),
    }
    shared: dict[str, Any] = {}
    if own.get("executionRoleArn"):
        shared["executionRoleArn"] = own["executionRoleArn"]
    if fargate:
        shared["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    role = own.get("taskRoleArn")
    if not wanted.prefix:
        container = {**_main(wanted), **shared, **({"jobRoleArn": role} if role else {})}
        return {**asked, "containerProperties": container}
    task = {
        **shared,
        **({"taskRoleArn": role} if role else {}),
        "containers": _containers(wanted),
        "volumes": [{"name": "work", "host": {}}],
    }
    return {**asked, "ecsProperties": {"taskProperties": [task]}}


def submission(wanted: Wanted, queue: str, definition_arn: str, *, given: bool) -> dict[str, Any]:
    """The arguments of SubmitJob. `given`: the definition is the task's own, so the command goes with the job."""
    asked: dict[str, Any] = {
        "jobName": wanted.name,
        "jobQueue": queue,
        "jobDefinition": definition_arn,
        "retryStrategy": {"attempts": 1},
        "timeout": {"attemptDurationSeconds": wanted.seconds},
        "tags": _tags(wanted),
    }
    if given:
        override: dict[str, Any] = {"command": list(wanted.argv), "environment": _environment(wanted.env)}
        if wanted.properties.get("resources"):
            override["resourceRequirements"] = _resources(wanted.properties)
        asked["containerOverrides"] = override
    return asked


def _main(wanted: Wanted) -> dict[str, Any]:
    return {
        "image": wanted.image,
        "command": list(wanted.argv),
        "environment": _environment(wanted.env),
        "resourceRequirements": _resources(wanted.properties),
    }


def _containers(wanted: Wanted) -> list[dict[str, Any]]:
    """A container that another waits for may not be essential; one of them must be."""
    mount = {"mountPoints": [{"sourceVolume": "work", "containerPath": FOLDER, "readOnly": False}]}
    # There is no working folder to be set in a task of several containers.
    shell = ["/bin/sh", "-c", f'cd {FOLDER} && exec "$@"', "farhand"]
    main = {**_main(wanted), **mount, "name": MAIN, "essential": not wanted.output_files}
    main["command"] = [*shell, *wanted.argv]
    containers = [main]
    bucket = f"s3://{wanted.properties['bucket']}/{wanted.prefix}"
    if wanted.brings_files:
        main["dependsOn"] = [{"containerName": IN, "condition": "SUCCESS"}]
        script = f"aws s3 cp --recursive --no-progress {bucket}in/ {FOLDER}/ && chmod -R a+rwX {FOLDER}"
        containers.insert(0, {**_side(IN, script, wanted.properties), **mount, "essential": False})
    if wanted.output_files:
        only = " ".join(f"--include '{_wider(pattern)}'" for pattern in wanted.output_files)
        script = f"aws s3 cp --recursive --no-progress --exclude '*' {only} {FOLDER}/ {bucket}out/"
        side = {**_side(OUT, script, wanted.properties), **mount, "essential": True}
        containers.append({**side, "dependsOn": [{"containerName": MAIN, "condition": "COMPLETE"}]})
    return containers


def _side(name: str, script: str, own: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "image": SIDE_IMAGE,
        "command": ["/bin/sh", "-c", script],
        "environment": [],
        "resourceRequirements": _resources({"resources": own.get("sidecarResources")}, cpu="0.25", memory="512"),
    }


def _wider(pattern: str) -> str:
    """A pattern of the AWS CLI that means at least what ours does; its `*` goes into folders too. What comes too much
    is left out when it is fetched."""
    wide = pattern.removeprefix("./").replace("**/", "*").replace("**", "*")
    wide = wide + "*" if wide.endswith("/") else wide
    return wide.replace("'", "?") if not is_literal(pattern) or "'" in wide else wide


def _environment(env: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in env.items()]


def _resources(own: Mapping[str, Any], **defaults: str) -> list[dict[str, str]]:
    asked = {**_DEFAULTS, **defaults, **((own.get("resources") or {}).get("request") or {})}
    return [{"type": "VCPU", "value": str(asked["cpu"])}, {"type": "MEMORY", "value": str(asked["memory"])}]


def _tags(wanted: Wanted) -> dict[str, str]:
    return {JOB: wanted.job, FENCE: str(wanted.fence), RUN: wanted.run}


# ── what a description (DescribeJobs) means ──


def exit_code(job: Mapping[str, Any]) -> int | None:
    """The command's; None where its container never ran or Batch does not know."""
    return _part(job, MAIN).get("exitCode")


def stream(job: Mapping[str, Any]) -> str | None:
    """The command's log stream, once there is one."""
    return _part(job, MAIN).get("logStreamName")


def why(job: Mapping[str, Any]) -> str:
    """What Batch says about the job's end, with what to do where that is known; empty: nothing."""
    said = [str(job.get("statusReason") or ""), str(_part(job, MAIN).get("reason") or "")]
    for side, what in (
        (IN, "the input files could not be copied from the bucket"),
        (OUT, "the output files could not"),
    ):
        if _part(job, side).get("exitCode"):
            said.append(
                f"{what} (container {side}: exit code {_part(job, side)['exitCode']}; look at taskRoleArn's rights)"
            )
    text = "; ".join(dict.fromkeys(part for part in said if part))
    if "CannotPullContainer" in text:
        text += "; look at containerImage, and at the execution role's right to read the registry"
    if "OutOfMemory" in text:
        text += "; raise resources.request.memory, or use less"
    return text


def out_of_memory(job: Mapping[str, Any]) -> bool:
    """The command was killed for its memory."""
    return "OutOfMemory" in str(_part(job, MAIN).get("reason") or "")


def side_failed(job: Mapping[str, Any], side: str) -> bool:
    """A container beside the command's ended badly."""
    return bool(_part(job, side).get("exitCode"))


def _part(job: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What is said of one container."""
    for task in (job.get("ecsProperties") or {}).get("taskProperties") or ():
        for container in task.get("containers") or ():
            if container.get("name") == name:
                return dict(container)
    return dict(job.get("container") or {}) if name == MAIN and "ecsProperties" not in job else {}
