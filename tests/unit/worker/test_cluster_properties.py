"""What tasks may say to the runners of clusters, as a worker checks it and as a flow's save does."""

from typing import Any

import pytest

from farhand.kernel.flow.types.runners import RUNNERS
from farhand.worker.runners.batch.runner import _KNOWN as BATCH_KNOWN
from farhand.worker.runners.batch.runner import BatchRunner
from farhand.worker.runners.kubernetes.runner import _KNOWN as KUBERNETES_KNOWN
from farhand.worker.runners.kubernetes.runner import KubernetesRunner

QUEUE = {"jobQueueArn": "q"}


def wrong(runner: KubernetesRunner | BatchRunner, image: str = "debian", **properties: Any) -> list[str]:
    found = runner.validate({"type": runner.type, **properties}, image)
    return [f"{violation.path}: {violation.description}" for violation in found]


def test_what_a_flow_may_say_is_what_a_worker_knows() -> None:
    for runner, known in ((KubernetesRunner({}), KUBERNETES_KNOWN), (BatchRunner({}), BATCH_KNOWN)):
        assert {field.alias for field in RUNNERS[runner.type].model_fields.values()} == known - {"type"}


def test_what_is_right_is_taken() -> None:
    assert not wrong(
        KubernetesRunner({}),
        config={"masterUrl": "https://x", "trustCerts": "true"},
        namespace="jobs",
        pullPolicy="ALWAYS",
        resources={"request": {"cpu": "500m", "memory": "256Mi"}, "limit": {"nvidia.com/gpu": 1}},
        nodeSelector={"kubernetes.io/arch": "arm64"},
        labels={"team": "data"},
        fileSidecar={"image": "busybox"},
        waitUntilRunning="PT5M",
    )
    assert not wrong(BatchRunner({}), **QUEUE, resources={"request": {"cpu": "0.5", "memory": 2048}})


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"image": ""}, "/containerImage: is required: a Job's command runs in an image"),
        ({"namespcae": "x"}, "namespcae: is no property of"),
        ({"namespace": "No_Name"}, "namespace: 'No_Name' is no name of a namespace"),
        ({"pullPolicy": "SOMETIMES"}, "pullPolicy: must be ALWAYS, IF_NOT_PRESENT or NEVER, not 'SOMETIMES'"),
        ({"resources": {"limits": {}}}, "resources.limits: is not known; known are limit, request"),
        ({"resources": {"request": {"memory": "lots"}}}, "resources.request.memory: 'lots' is no quantity"),
        ({"config": {"oauthToken": "x"}}, "config.masterUrl: is required"),
        (
            {"config": {"masterUrl": "cluster:6443"}},
            "config.masterUrl: 'cluster:6443' is no address; write https://HOST",
        ),
        ({"nodeSelector": ["x"]}, "nodeSelector: must be a map, not a list"),
        ({"labels": {"a b": "x"}}, "labels: 'a b' can't be the name of a label"),
        ({"labels": {"a": "x" * 64}}, "labels.a: must be at most 63 letters"),
        ({"waitUntilRunning": "soon"}, "waitUntilRunning: 'soon' is not a duration"),
    ],
)
def test_what_is_wrong_for_a_cluster_is_said_with_its_path(properties: dict[str, Any], message: str) -> None:
    (said,) = wrong(KubernetesRunner({}), **properties)
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({}, "jobQueueArn: is required, or computeEnvironmentArn"),
        ({**QUEUE, "image": ""}, "/containerImage: is required"),
        ({**QUEUE, "accessKeyId": "x"}, "accessKeyId: and secretKeyId belong together"),
        ({**QUEUE, "region": 1}, "region: must be a string, not a number"),
        (
            {**QUEUE, "resources": {"request": {"memory": "2Gi"}}},
            "resources.request.memory: must be a whole number of MiB",
        ),
        ({**QUEUE, "resources": {"request": {"gpu": 1}}}, "resources.request.gpu: is not known"),
        ({**QUEUE, "completionCheckInterval": "5 parsecs"}, "completionCheckInterval: '5 parsecs' is not a duration"),
    ],
)
def test_what_is_wrong_for_batch_is_said_with_its_path(properties: dict[str, Any], message: str) -> None:
    (said,) = wrong(BatchRunner({}), **properties)
    assert said.startswith(message)
