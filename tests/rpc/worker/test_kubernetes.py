"""The Kubernetes runner's client against an API server that checks what it is told (tests/fixtures)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from farhand.worker.runners import CommandEnd
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.hosted import Task
from farhand.worker.runners.kubernetes.client import KubernetesClient
from farhand.worker.runners.kubernetes.manifest import LEASH
from tests.fixtures.kubernetes_server import KubernetesServer

NAME = "farhand-abcdefgh-j123"


class Play:
    """Runs tasks of one job in a cluster."""

    def __init__(self, cluster: KubernetesServer, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.stop = asyncio.Event()

    async def run(
        self,
        script: str,
        *,
        fence: int = 1,
        outputs: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        patience: float = 30.0,
        image: str = "debian",
        **properties: Any,
    ) -> CommandEnd:
        ids = {"FARHAND_JOB_ID": "j123", "FARHAND_FENCE": str(fence), "FARHAND_GROUP_UID": "wg_abcdefgh"}
        task = Task(
            run_id=f"j123-{fence}",
            argv=["/bin/sh", "-c", script],
            env={**ids, **(env or {})},
            folder=str(self.folder),
            image=image,
            output_files=outputs,
            properties={**self.cluster.properties, **properties},
            settings={"patience": patience},
        )
        return await KubernetesClient().run(task, self.stop)

    def begin(self, script: str, **how: Any) -> asyncio.Task[CommandEnd]:
        return asyncio.create_task(self.run(script, **how))

    async def printed(self, text: bytes) -> None:
        """The node has the line."""
        await self.cluster.until(lambda: text in self.cluster.node.lines())

    async def running(self, fence: int = 1) -> dict[str, Any]:
        """The pod of a run whose command runs."""
        await self.cluster.until(lambda: self.cluster.state(fence) == "running")
        pod = self.cluster.of(fence)
        assert pod is not None
        return pod


@pytest.fixture
def play(cluster: KubernetesServer, tmp_path: Path) -> Play:
    return Play(cluster, tmp_path)


class Go:
    """A file that a command waits for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wait = f"until [ -e {path} ]; do sleep 0.02; done; "

    def go(self) -> None:
        self.path.touch()


@pytest.fixture
def gate(tmp_path_factory: pytest.TempPathFactory) -> Go:
    return Go(tmp_path_factory.mktemp("gate") / "go")


Captured = pytest.CaptureFixture[bytes]


async def test_a_command_runs_as_a_job_and_nothing_of_it_stays(play: Play, capfdbinary: Captured) -> None:
    assert await play.run("echo one; echo two >&2; printf three; exit 3") == CommandEnd(3)
    assert capfdbinary.readouterr().out == b"one\ntwo\nthree\n"
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_files_go_in_and_those_that_are_wanted_come_out(play: Play) -> None:
    (play.folder / "data").mkdir()
    (play.folder / "data" / "in.txt").write_text("hello")
    script = """tr a-z A-Z < data/in.txt > out.txt
mkdir p; echo 1 > p/a.csv; echo 2 > 'p/b *.csv'; echo 3 > p/d.txt; ln -s p/a.csv l.csv; ln -s nowhere n.csv"""
    assert await play.run(script, outputs=("out.txt", "**/*.csv")) == CommandEnd(0)
    assert (play.folder / "out.txt").read_text() == "HELLO"
    assert sorted(str(path.relative_to(play.folder)) for path in play.folder.rglob("*.csv")) == [
        "l.csv",
        "p/a.csv",
        "p/b *.csv",
    ]
    assert (play.folder / "l.csv").read_text() == "1\n"


async def test_files_are_sent_again_when_the_stream_breaks(play: Play) -> None:
    content = bytes(range(256)) * 4096
    (play.folder / "in.bin").write_bytes(content)
    play.cluster.broken_execs = 2
    assert await play.run("mv in.bin out.bin", outputs=("out.bin",)) == CommandEnd(0)
    assert (play.folder / "out.bin").read_bytes() == content


async def test_dollars_mean_to_the_command_what_they_mean_in_a_shell(play: Play, capfdbinary: Captured) -> None:
    await play.run("echo \"$A\"; echo '$(B)' '$$'", env={"A": "$(FARHAND_FENCE)$$", "B": "b"})
    assert capfdbinary.readouterr().out == b"$(FARHAND_FENCE)$$\n$(B) $$\n"


async def test_what_a_task_asks_for_is_in_the_job(play: Play, gate: Go) -> None:
    running = play.begin(
        gate.wait,
        pullPolicy="IF_NOT_PRESENT",
        resources={"request": {"cpu": "500m", "memory": "64Mi"}, "limit": {"memory": "1Gi"}},
        serviceAccountName="worker",
        nodeSelector={"disk": "ssd"},
        labels={"team": "data", "farhand/job": "another"},
    )
    pod = await play.running()
    main = pod["spec"]["containers"][0]
    assert main["imagePullPolicy"] == "IfNotPresent"
    assert main["resources"] == {"requests": {"cpu": "500m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["nodeSelector"]) == ("worker", {"disk": "ssd"})
    assert (pod["metadata"]["labels"]["team"], pod["metadata"]["labels"]["farhand/job"]) == ("data", "j123")
    gate.go()
    assert await running == CommandEnd(0)


async def test_a_log_that_breaks_again_and_again_loses_and_doubles_nothing(
    play: Play, gate: Go, capfdbinary: Captured
) -> None:
    play.cluster.cut_after = [1, 40, 90, 91, 500, 20_000, 60_000]
    running = play.begin(
        "for i in $(seq 3000); do echo line $i; done; " + gate.wait + "for i in $(seq 9); do echo x; done"
    )
    await play.printed(b"line 3000\n")
    await play.cluster.until(lambda: not play.cluster.cut_after)
    gate.go()
    assert await running == CommandEnd(0)
    expected = [f"line {number}" for number in range(1, 3001)] + ["x"] * 9
    assert capfdbinary.readouterr().out.decode().splitlines() == expected


# ── a server that is away, hangs or refuses ──


async def test_a_server_that_vanishes_and_comes_back_finds_the_run_going_on(
    play: Play, gate: Go, capfdbinary: Captured
) -> None:
    running = play.begin("echo before; " + gate.wait + "echo meanwhile; exit 4")
    await play.running()
    await play.printed(b"before\n")
    await play.cluster.down()
    gate.go()
    await play.cluster.until(lambda: play.cluster.node.running() == [])
    await play.cluster.up()
    assert await running == CommandEnd(4)
    assert capfdbinary.readouterr().out == b"before\nmeanwhile\n"
    assert play.cluster.node.ever == ["start main 1", "end main 1"]


async def test_a_server_that_does_not_come_back_is_given_up_and_the_leash_ends_the_job(play: Play) -> None:
    running = play.begin("sleep 1000", patience=0.5)
    await play.running()
    await play.cluster.until(lambda: ("patch", "jobs") in play.cluster.seen)
    await play.cluster.down()
    with pytest.raises(Lost, match=rf"can't be reached.*tried for 500ms.*the Job {NAME} .* ends by itself within 10m"):
        await running
    play.cluster.forward(LEASH + 1)
    await play.cluster.until(lambda: play.cluster.node.running() == [])


async def test_a_run_that_goes_on_renews_its_leash(play: Play, gate: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farhand.worker.runners.kubernetes.client.RENEWAL", 0.05)
    running = play.begin(gate.wait)
    await play.running()
    await play.cluster.until(lambda: play.cluster.seen.count(("patch", "jobs")) >= 3)
    gate.go()
    assert await running == CommandEnd(0)


async def test_a_create_whose_answer_is_lost_is_one_job(play: Play) -> None:
    play.cluster.lost_answers = 1
    assert await play.run("true") == CommandEnd(0)
    assert play.cluster.node.ever == ["start main 1", "end main 1"]


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "jobs"),
        ("patch", "jobs"),
        ("list", "pods"),
        ("watch", "pods"),
        ("get", "pods/log"),
        ("create", "pods/exec"),
    ],
)
async def test_a_right_that_is_missing_is_named(play: Play, verb: str, resource: str) -> None:
    play.cluster.rights.discard((verb, resource))
    (play.folder / "in").touch()
    with pytest.raises((NeverRan, Lost), match=f'needs the right "{verb}" on "{resource}" in the namespace jobs'):
        await play.run("sleep 1000")
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_a_token_that_the_server_does_not_know_is_told(play: Play) -> None:
    play.cluster.token = "another"
    with pytest.raises(NeverRan, match=r"does not know this worker \(401\).*taskRunner\.config"):
        await play.run("true")


@pytest.mark.parametrize("what", [("create", "jobs"), ("list", "pods")])
async def test_a_server_that_hangs_is_given_up(play: Play, what: tuple[str, str]) -> None:
    play.cluster.hanging.add(what)
    with pytest.raises((NeverRan, Lost), match=r"gives no answer within 0\.3 s \(tried for 300ms\)"):
        await play.run("sleep 1000", patience=0.3)
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_no_server_at_all_is_told(play: Play) -> None:
    await play.cluster.down()
    with pytest.raises(NeverRan, match=r"http://127\.0\.0\.1:\d+ can't be reached"):
        await play.run("true", patience=0.3)


# ── what clusters do to pods ──


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
async def test_an_image_that_is_not_there_is_told_at_once(play: Play, reason: str) -> None:
    play.cluster.node.images["nosuch:1"] = (reason, 'failed to pull "nosuch:1": docker.io/library/nosuch:1: not found')
    with pytest.raises(NeverRan, match=r"the image nosuch:1 can't be pulled: .*not found; look at its name"):
        await play.run("true", image="nosuch:1")
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_a_registry_in_trouble_is_waited_for(play: Play, capfd: pytest.CaptureFixture[str]) -> None:
    play.cluster.node.images["slow:1"] = ("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout")
    with pytest.raises(NeverRan, match=r"not started within 300ms \(waitUntilRunning\).*i/o timeout"):
        await play.run("true", image="slow:1", waitUntilRunning="PT0.3S")
    assert capfd.readouterr().err.count("waiting: the image slow:1 can't be pulled yet") == 1


async def test_a_pod_that_no_node_takes_is_waited_for_and_then_told(play: Play) -> None:
    play.cluster.unschedulable = "0/3 nodes are available: 3 Insufficient memory."
    with pytest.raises(NeverRan, match=r"Unschedulable.*3 Insufficient memory\.; look at resources\.request"):
        await play.run("true", waitUntilRunning="PT0.3S")
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_a_quota_that_lets_no_pod_be_made_is_told(play: Play) -> None:
    play.cluster.quota = "exceeded quota: small, requested: pods=1, used: pods=9, limited: pods=9"
    with pytest.raises(NeverRan, match=r"no pod could be made: .*exceeded quota: small"):
        await play.run("true", waitUntilRunning="PT0.3S")


async def test_a_command_that_its_image_can_not_run_is_told(play: Play) -> None:
    play.cluster.node.unstartable.add("bare:1")
    with pytest.raises(NeverRan, match=r"can't be run in its image: exec: .*no such file"):
        await play.run("true", image="bare:1")


async def test_too_little_memory_is_told_with_the_limit(play: Play) -> None:
    running = play.begin("sleep 1000", resources={"limit": {"memory": "64Mi"}})
    pod = await play.running()
    play.cluster.node.out_of_memory(pod["metadata"]["name"], "main")
    end = await running
    assert (end.exit_code, end.reason) == (137, "OUT_OF_MEMORY")
    assert "more than its limit of 64Mi: raise resources.limit.memory" in end.why


async def test_an_eviction_is_told(play: Play) -> None:
    running = play.begin("trap '' TERM; sleep 1000")
    pod = await play.running()
    play.cluster.evict(pod, "The node was low on resource: memory.")
    try:
        why = (await running).why  # where the end of its container is seen first
    except Lost as error:
        why = str(error)
    assert "evicted from its node: The node was low on resource: memory" in why


async def test_a_job_that_somebody_deletes_is_told(play: Play) -> None:
    running = play.begin("sleep 1000")
    await play.running()
    play.cluster.delete(NAME)
    with pytest.raises(Lost, match=r"was deleted.*not by this worker"):
        await running


# ── ends and fences ──


async def test_a_stop_reaches_the_command_with_its_grace_and_its_last_words_are_read(
    play: Play, capfdbinary: Captured
) -> None:
    running = play.begin("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.02; done")
    await play.running()
    await play.printed(b"up\n")
    await play.cluster.until(lambda: ("get", "pods/log") in play.cluster.seen)
    play.stop.set()
    assert await running == CommandEnd(9)
    await play.cluster.until(lambda: not play.cluster.jobs)
    assert capfdbinary.readouterr().out.startswith(b"up\n")


async def test_a_stop_before_the_start_leaves_nothing(play: Play) -> None:
    play.cluster.unschedulable = "none"
    running = play.begin("true")
    await play.cluster.until(lambda: play.cluster.pods)
    play.stop.set()
    assert (await running).exit_code == -15
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_a_stop_while_the_answer_to_the_creation_is_awaited_leaves_nothing(play: Play) -> None:
    play.cluster.lost_answers = 1
    running = play.begin("sleep 1000")
    await play.cluster.until(lambda: play.cluster.jobs)
    play.stop.set()
    assert (await running).exit_code is not None
    await play.cluster.until(lambda: not play.cluster.jobs)


async def test_a_lost_workers_job_is_gone_before_the_next_run_of_it_starts(
    play: Play, capfd: pytest.CaptureFixture[str]
) -> None:
    lost = play.begin("trap '' TERM; sleep 1000", fence=1)
    await play.running()
    await play.cluster.until(lambda: ("watch", "pods") in play.cluster.seen)
    with play.cluster.nobody_deletes():  # what a worker does that was killed with -9: nothing
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
    play.cluster.grace = 0.1
    assert await play.run("true", fence=2) == CommandEnd(0)
    assert play.cluster.node.ever == ["start main 1", "end main 1", "start main 2", "end main 2"]
    assert "a run of this job before (fence 1) is still in the cluster" in capfd.readouterr().err


async def test_a_run_of_an_older_fence_does_not_touch_the_newer(play: Play, gate: Go) -> None:
    newer = play.begin(gate.wait, fence=2)
    await play.running(2)
    with pytest.raises(NeverRan, match=r"runs in the cluster under the fence 2, and this run has the fence 1"):
        await play.run("true", fence=1)
    gate.go()
    assert await newer == CommandEnd(0)
    assert play.cluster.node.ever == ["start main 2", "end main 2"]


async def test_a_lost_node_is_told_and_nothing_is_started_beside_it(play: Play) -> None:
    lost = play.begin("sleep 1000", fence=1)
    pod = await play.running()
    play.cluster.node_lost = True
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    with pytest.raises(NeverRan, match=r"is not gone after 300ms: its node may be lost.*kubectl delete pod --force"):
        await play.run("true", fence=2, patience=0.3)
    assert play.cluster.node.ever == ["start main 1"]
    await play.cluster.node.stop(pod, 1)


async def test_a_job_of_a_strangers_is_left_alone(play: Play, gate: Go) -> None:
    running = play.begin(gate.wait)
    await play.running()
    del play.cluster.jobs[NAME]["metadata"]["labels"]["farhand/job"]
    with pytest.raises(NeverRan, match=r"that Farhand did not make"):
        await play.run("true", fence=2)
    gate.go()
    assert await running == CommandEnd(0)
