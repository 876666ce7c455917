"""Task runners: where a script runs, and what each takes. The worker's part is farhand.worker.runners."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from farhand.kernel.flow.parts import Part, TypeName
from farhand.kernel.flow.types.properties import (
    OR_TEMPLATE,
    Boolean,
    Properties,
    SomeStrings,
    TemplatedDuration,
    Variable,
)
from farhand.kernel.kinds import kind
from farhand.kernel.names import shown
from farhand.kernel.sizes import LEAST_MEMORY, parse_size


class AnyRunner(Part):
    """What a task says about its runner; what it takes beside its type is the runner's to say."""

    model_config = ConfigDict(extra="allow")

    type: TypeName = Field(description="Where the script runs.")


class Runner(Properties):
    """What one runner takes beside its type."""

    NEEDS_IMAGE: ClassVar[bool] = False
    """The task has to say `containerImage`, or the runner `image`."""


class Process(Runner):
    """A process of the worker's machine."""


def _memory(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"must be a size such as 512MB, not {kind(value)}")
    if parse_size(str(value)) < LEAST_MEMORY:
        raise ValueError(f"{shown(str(value))} is too little: a container needs at least 6MB")
    return value


def _cpus(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number of cores such as 0.5, not {kind(value)}")
    if not 0.01 <= value <= 10_000:
        raise ValueError("must be at least 0.01 cores, and at most 10000")
    return value


def _not_privileged(value: Any) -> Any:
    if value is True:
        raise ValueError("must be false: a privileged container is root on the worker's machine")
    return value


class PullPolicy(StrEnum):
    """When an image is fetched from its registry."""

    ALWAYS = "ALWAYS"
    IF_NOT_PRESENT = "IF_NOT_PRESENT"
    NEVER = "NEVER"


class Memory(Part):
    """Bounds of a container's memory."""

    memory: Annotated[Any, AfterValidator(_memory), WithJsonSchema({"type": ["string", "integer"]}), OR_TEMPLATE] = (
        Field(description="The most that it may use, e.g. 512MB; it is killed when it wants more.")
    )


class Cpu(Part):
    """Bounds of a container's processors."""

    cpus: Annotated[Any, AfterValidator(_cpus), WithJsonSchema({"type": "number"}), OR_TEMPLATE] = Field(
        description="How many cores' time it gets at most, e.g. 0.5."
    )


class Docker(Runner):
    """A container on the worker's machine, by Docker or Podman."""

    NEEDS_IMAGE: ClassVar[bool] = True

    image: str | None = Field(None, description="The image, where the task says no containerImage.", min_length=1)
    pull_policy: Annotated[PullPolicy, Field(strict=False), OR_TEMPLATE] = Field(
        PullPolicy.IF_NOT_PRESENT, description="When the image is pulled: ALWAYS, IF_NOT_PRESENT or NEVER."
    )
    memory: Memory | None = Field(None, description="Bounds of its memory.")
    cpu: Cpu | None = Field(None, description="Bounds of its processors.")
    network_mode: str | None = Field(None, description="Docker's network mode, e.g. none, host, bridge.", min_length=1)
    entry_point: SomeStrings | None = Field(
        None, description="What is started, with the interpreter and script as its arguments; the image's is not."
    )
    user: str | None = Field(None, description="Who it runs as: a name or number, or USER:GROUP.", min_length=1)
    volumes: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="HOST:CONTAINER[:ro], where the worker allows them."
    )
    privileged: Annotated[Boolean, BeforeValidator(_not_privileged)] = Field(False, description="Is not allowed.")


class Quantities(Part):
    """Amounts of a cluster's resources, e.g. {cpu: 500m, memory: 256Mi}."""

    model_config = ConfigDict(extra="allow")


class ClusterResources(Part):
    """What a container asks for, and what it may use."""

    request: Quantities | None = Field(None, description="What it is placed by, e.g. {cpu: 500m, memory: 256Mi}.")
    limit: Quantities | None = Field(None, description="The most that it may use, e.g. {memory: 1Gi}.")


class ClusterConfig(Part):
    """How the API server is found; without it: the worker's KUBECONFIG, or its pod's service account."""

    master_url: str = Field(description="The API server, e.g. https://10.0.0.1:6443.", min_length=1)
    oauth_token: str | None = Field(None, description="A service account's token.")
    ca_cert_data: str | None = Field(None, description="The server's authority, PEM in base64.")
    client_cert_data: str | None = Field(None, description="A client's certificate, PEM in base64.")
    client_key_data: str | None = Field(None, description="Its key, PEM in base64.")
    trust_certs: Boolean = Field(False, description="True: whoever answers is taken for the server.")


class FileSidecar(Part):
    """The container that moves files."""

    image: str | None = Field(None, description="An image with sh, tar, head, wc and find; busybox.", min_length=1)


class Kubernetes(Runner):
    """A Job of a Kubernetes cluster."""

    NEEDS_IMAGE: ClassVar[bool] = True

    config: ClusterConfig | None = Field(None, description="How the cluster is found.")
    namespace: str = Field("default", description="The cluster's namespace.", min_length=1)
    pull_policy: Annotated[PullPolicy, Field(strict=False), OR_TEMPLATE] = Field(
        PullPolicy.IF_NOT_PRESENT, description="When the image is pulled: ALWAYS, IF_NOT_PRESENT or NEVER."
    )
    resources: ClusterResources | None = Field(None, description="What the container asks for, and may use.")
    service_account_name: str | None = Field(None, description="The pod's service account.", min_length=1)
    node_selector: dict[str, Variable] = Field({}, description="Labels that the node must have.")
    labels: dict[str, Variable] = Field({}, description="Labels of the Job and its pod.")
    file_sidecar: FileSidecar | None = Field(None, description="The container that moves files.")
    wait_until_running: TemplatedDuration = Field("PT10M", description="How long the command may take to start.")


class BatchAmounts(Part):
    """What a container of AWS Batch gets."""

    cpu: Any = Field(None, description="vCPUs, e.g. 0.5.")
    memory: Any = Field(None, description="MiB, e.g. 2048.")


class BatchResources(Part):
    """What a container of AWS Batch gets."""

    request: BatchAmounts | None = Field(None, description="Its vCPUs and memory.")


class Batch(Runner):
    """A job of AWS Batch."""

    region: str | None = Field(None, description="AWS's region, e.g. eu-central-1; else the worker's.")
    endpoint_override: str | None = Field(None, description="Another endpoint than AWS's own.")
    access_key_id: str | None = Field(None, description="A key of AWS; else the worker's profile or role.")
    secret_key_id: str | None = Field(None, description="Its secret.")
    session_token: str | None = Field(None, description="A session's token, where the key is of one.")
    job_queue_arn: str | None = Field(None, description="The queue; or say computeEnvironmentArn.")
    compute_environment_arn: str | None = Field(
        None, description="The compute environment; its queue is found, or made."
    )
    job_definition_arn: str | None = Field(None, description="A definition of yours, for commands without files.")
    execution_role_arn: str | None = Field(None, description="The role that pulls the image and writes the log.")
    task_role_arn: str | None = Field(None, description="The command's role; with files it needs the bucket.")
    bucket: str | None = Field(None, description="The bucket by way of which files go.")
    resources: BatchResources | None = Field(None, description="The command's vCPUs and memory.")
    sidecar_resources: BatchResources | None = Field(None, description="Those of the containers that copy files.")
    wait_until_completion: TemplatedDuration = Field("P1D", description="What AWS Batch ends the job after.")
    completion_check_interval: TemplatedDuration = Field("PT5S", description="How often the job is looked at.")


RUNNERS: Mapping[str, type[Runner]] = {
    "io.kestra.plugin.core.runner.Process": Process,
    "io.kestra.plugin.ee.aws.runner.Batch": Batch,
    "io.kestra.plugin.ee.kubernetes.runner.Kubernetes": Kubernetes,
    "io.kestra.plugin.scripts.runner.docker.Docker": Docker,
}
"""What comes with Farhand, by type."""
