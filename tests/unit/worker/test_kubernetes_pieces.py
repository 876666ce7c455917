"""The pure pieces of the Kubernetes runner: where a log goes on, what a pod's state means, the Job's name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farhand.worker.runners.kubernetes.log_position import LogPosition
from farhand.worker.runners.kubernetes.manifest import job_name, pull_policy
from farhand.worker.runners.kubernetes.pod import Arriving, Ended, Gone, Hopeless, Running, Waiting, state_of

# A line: after how many tenths of a second it comes, and what it says. Few words, so that lines are alike.
LINES = st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["a", "b", ""])), max_size=60)


def a_log(lines: list[tuple[int, str]], zone: str) -> list[tuple[float, bytes]]:
    """Times and lines, as a node sends them."""
    at, log = 0.0, []
    for pause, text in lines:
        at += pause / 10
        whole, tenths = divmod(round(at * 10), 10)
        minutes, seconds = divmod(whole, 60)
        log.append((at, f"2026-11-24T19:{minutes:02}:{seconds:02}.{tenths}00000000{zone} {text}\n".encode()))
    return log


@given(LINES, st.lists(st.integers(1, 400), max_size=12), st.sampled_from(["Z", "+05:30"]))
def test_a_log_that_breaks_anywhere_is_whole_and_nothing_comes_twice(
    lines: list[tuple[int, str]], breaks: list[int], zone: str
) -> None:
    log, position, came = a_log(lines, zone), LogPosition(), list[bytes]()
    for length in [*breaks, None]:
        since = position.since
        first = -1.0
        if since is not None:
            hour, minute, second = (int(part) for part in since[11:19].split(":"))
            began = 19 * 60 if zone == "Z" else 13 * 60 + 30  # minutes, UTC
            first = (hour * 60 + minute - began) * 60 + second
        stream = b"".join(line for at, line in log if at >= first)[:length]
        position.begin()
        for start in range(0, len(stream), 37):
            came += position.feed(stream[start : start + 37])
    came += position.finish()
    assert came == [text.encode() for _, text in lines]


def test_a_last_line_without_its_end_is_taken_at_the_end_alone() -> None:
    position = LogPosition()
    position.begin()
    assert position.feed(b"2026-11-24T19:00:00.1Z whole\n2026-11-24T19:00:00.2Z half") == [b"whole"]
    assert position.finish() == [b"half"]


def a_pod(main: dict[str, Any] | None = None, arrival: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    mains = [{"name": "main", "image": "debian", "state": main}] if main is not None else []
    inits = [{"name": "farhand-in", "image": "busybox", "state": arrival}] if arrival is not None else []
    return {"status": {"containerStatuses": mains, "initContainerStatuses": inits, **status}}


DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted"}


@pytest.mark.parametrize(
    ("pod", "state", "words"),
    [
        ({}, Waiting, "being made"),
        (a_pod({"waiting": {"reason": "PodInitializing"}}, {"running": {}}), Arriving, ""),
        (a_pod({"waiting": {"reason": "ContainerCreating"}}), Waiting, "ContainerCreating"),
        (a_pod({"running": {}}), Running, ""),
        (a_pod({"terminated": {"exitCode": 0, "reason": "Completed"}}), Ended, ""),
        (a_pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), Ended, "more than the memory of its node"),
        (a_pod({"terminated": {"exitCode": 143}}, conditions=[DISRUPTED]), Ended, "PreemptionByScheduler): preempted"),
        (a_pod({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}), Gone, "not known"),
        (a_pod(phase="Failed", reason="Evicted", message="low on disk"), Gone, "evicted from its node: low on disk"),
        (a_pod(phase="Failed", reason="DeadlineExceeded"), Gone, "had not renewed it"),
        (a_pod(phase="Failed", reason="NodeLost", message="gone"), Gone, "before its command did: gone"),
        (a_pod(arrival={"terminated": {"exitCode": 2}}, phase="Failed"), Hopeless, "exit code 2"),
        (a_pod({"waiting": {"reason": "InvalidImageName", "message": "x"}}), Hopeless, "image's name is not one"),
        (a_pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}), Hopeless, "no secret"),
        (
            a_pod({"waiting": {"reason": "ErrImagePull", "message": "unauthorized: login"}}),
            Hopeless,
            "imagePullSecrets",
        ),
        (a_pod({"waiting": {"reason": "ErrImagePull", "message": "timeout"}}), Waiting, "can't be pulled yet: timeout"),
    ],
)
def test_what_a_pods_state_means(pod: dict[str, Any], state: type, words: str) -> None:
    found = state_of(pod)
    assert isinstance(found, state)
    assert words in getattr(found, "why", "")


def test_a_jobs_name_is_the_same_for_each_fence_and_another_for_each_installation_and_command() -> None:
    assert job_name("wg_ABC", "j1-7", "j1") == job_name("wg_ABC", "j1-8", "j1") == "farhand-abc-j1"
    assert job_name("wg_abd", "j1-7", "j1") == "farhand-abd-j1"
    assert job_name("wg_abc", "j1-7.2", "j1") == "farhand-abc-j1-2"


@pytest.mark.parametrize(
    ("value", "word"),
    [("IF_NOT_PRESENT", "IfNotPresent"), ("Always", "Always"), ("NEVER", "Never"), ("x", None), (1, None)],
)
def test_pull_policies_are_read_as_here_and_as_there(value: Any, word: str | None) -> None:
    assert pull_policy(value) == word
