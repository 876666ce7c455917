"""Files beside scripts: what comes in, what goes out, what is refused, and what is waited for."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from farhand.api.types.v1.log_record_pb2 import LOG_STREAM_SYSTEM
from farhand.api.types.v1.outcome_pb2 import (
    OUTCOME_STATE_FAILED,
    OUTCOME_STATE_KILLED,
    OUTCOME_STATE_SUCCESS,
)
from farhand.api.worker.v1 import session_pb2 as pb
from farhand.kernel.errors import FileTooLarge, StaleFence, Unavailable, Violation
from farhand.worker import file_transfers
from tests.fixtures.fake_scheduler import FILE_OWNER, FakeScheduler, FakeSession, a_job
from tests.rpc.worker.gates import exists

BASE = f"farhand:///main/{FILE_OWNER}/{FILE_OWNER}/1/"
PYTHON = "io.kestra.plugin.scripts.python.Script"


async def run(
    fake_scheduler: FakeScheduler, *commands: str, type: str | None = None, **properties: Any
) -> tuple[pb.Result, dict[str, Any]]:
    """One run to its end, by a fresh worker."""
    session = await started(fake_scheduler, *commands, type=type, **properties)
    result = await ended(fake_scheduler, session)
    return result, MessageToDict(result.outcome.outputs)


async def ended(fake_scheduler: FakeScheduler, session: FakeSession, name: str = "job-1") -> pb.Result:
    """The result, once the log is there too."""
    result = await session.result(name)
    await fake_scheduler.log_reaches(name, result.log_end_offset)
    return result


async def started(
    fake_scheduler: FakeScheduler, *commands: str, type: str | None = None, **properties: Any
) -> FakeSession:
    settings = {name: properties.pop(name) for name in ("file_cache", "data") if name in properties}
    timeout = properties.pop("timeout", 0.0)
    await fake_scheduler.run_worker(**settings)
    session = await fake_scheduler.session()
    more: dict[str, Any] = {"type": type} if type else {}
    source: dict[str, Any] = {"script": commands[0]} if type == PYTHON else {"commands": list(commands)}
    session.assign(a_job("job-1", properties=source | properties, timeout=timeout, **more))
    return session


def system(fake_scheduler: FakeScheduler) -> list[str]:
    return fake_scheduler.lines("job-1", stream=LOG_STREAM_SYSTEM)


def failure(result: pb.Result) -> str:
    assert result.outcome.state == OUTCOME_STATE_FAILED, result
    return result.outcome.reason


# ── in ──


async def test_input_files_are_texts_and_what_earlier_tasks_stored(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.stored[BASE + "model.bin"] = bytes(range(256)) * 4096
    result, _ = await run(
        fake_scheduler,
        "cat data/in.csv n; sha256sum model.bin; ls -A",
        inputFiles={"data/in.csv": "a,ü\n", "model.bin": BASE + "model.bin", "n": 42},
    )
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    text = "\n".join(fake_scheduler.lines("job-1"))
    assert text.startswith("a,ü\n42") and text.endswith("data\nmodel.bin\nn")


async def test_input_files_may_be_the_json_of_a_map(fake_scheduler: FakeScheduler) -> None:
    await run(fake_scheduler, "cat a", inputFiles='{"a": "from an expression"}')
    assert fake_scheduler.lines("job-1") == ["from an expression"]


async def test_a_python_script_has_its_files_too(fake_scheduler: FakeScheduler) -> None:
    result, outputs = await run(
        fake_scheduler,
        "open('out.txt', 'w').write(open('in.txt').read().upper())",
        type=PYTHON,
        inputFiles={"in.txt": "text"},
        outputFiles=["out.txt"],
    )
    assert outputs["outputFiles"] == {"out.txt": BASE + "out.txt"}, result
    assert fake_scheduler.files.stored == {BASE + "out.txt": b"TEXT"}


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a//b", "a\nb"])
async def test_an_input_file_that_leads_out_of_the_folder_is_refused(fake_scheduler: FakeScheduler, path: str) -> None:
    result, _ = await run(fake_scheduler, "true", inputFiles={path: "x"})
    assert failure(result) == "INVALID_PROPERTIES"


async def test_all_that_is_wrong_with_the_files_is_told_at_once(fake_scheduler: FakeScheduler) -> None:
    result, _ = await run(
        fake_scheduler,
        "true",
        inputFiles={"a": [], "b": "farhand:///main/nonsense"},
        outputFiles=["../x", 7],
        namespaceFiles={"enabled": "perhaps", "includes": ["*"], "exclude": ["/x"]},
    )
    assert failure(result) == "INVALID_PROPERTIES"
    for part in (
        "inputFiles.a: ",
        "inputFiles.b: ",
        "outputFiles[1]: ",
        "namespaceFiles.enabled: ",
        "namespaceFiles.includes: is not known",
        "namespaceFiles.exclude[0]: ",
    ):
        assert part in result.outcome.message
    assert fake_scheduler.files.calls == []


async def test_a_file_that_is_not_there_fails_the_job_in_the_schedulers_words(fake_scheduler: FakeScheduler) -> None:
    result, _ = await run(fake_scheduler, "true", inputFiles={"in": BASE + "nothing"})
    assert failure(result) == "INPUT_FILES_FAILED"
    assert "the input file in can't be had: There is no file" in result.outcome.message
    assert system(fake_scheduler) == [result.outcome.message]


async def test_a_file_where_another_one_needs_a_folder_is_an_error_in_words(fake_scheduler: FakeScheduler) -> None:
    result, _ = await run(fake_scheduler, "true", inputFiles={"a": "x", "a/b/c": "y"})
    assert failure(result) == "INVALID_PROPERTIES"
    assert result.outcome.message == "inputFiles.a/b/c: lies in 'a', which is a file itself"
    fake_scheduler.files.namespace = {"a": b"x"}
    result, _ = await run(fake_scheduler, "true", namespaceFiles={"enabled": True}, inputFiles={"a/b": "y"})
    assert failure(result) == "INPUT_FILES_FAILED" and "the input file a/b can't be written" in result.outcome.message


# ── the namespace's ──


async def test_namespace_files_are_there_and_input_files_win(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.namespace = {"main.py": b"print(1)", "data/a": b"from the namespace", "x": b"1"}
    result, _ = await run(
        fake_scheduler,
        "cat main.py data/a; find . -type f | sort",
        namespaceFiles={"enabled": True, "exclude": ["x"]},
        inputFiles={"data/a": "own"},
    )
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    assert fake_scheduler.lines("job-1") == ["print(1)own./data/a", "./main.py"]


async def test_only_the_included_ones_are_fetched_and_none_where_they_are_not_enabled(
    fake_scheduler: FakeScheduler,
) -> None:
    fake_scheduler.files.namespace = {"a.py": b"1", "sub/b.py": b"2", "c.csv": b"3"}
    await run(fake_scheduler, "ls", namespaceFiles={"include": ["*.py"]})
    assert fake_scheduler.files.calls == ["list", "download a.py"]
    await run(fake_scheduler, "ls", namespaceFiles={"enabled": False})
    assert fake_scheduler.files.calls == ["list", "download a.py"]


async def test_a_second_run_fetches_nothing_and_what_a_task_does_to_its_copy_changes_nothing(
    fake_scheduler: FakeScheduler,
) -> None:
    fake_scheduler.files.namespace = {"a": b"as uploaded"}
    session = await started(fake_scheduler, "cat a; echo spoiled > a", namespaceFiles={"enabled": True})
    await ended(fake_scheduler, session, "job-1")
    for number in (2, 3):
        name = f"job-{number}"
        session.assign(a_job(name, properties={"commands": ["cat a"], "namespaceFiles": {"enabled": True}}))
        await ended(fake_scheduler, session, name)
        assert fake_scheduler.lines(name) == ["as uploaded"]
    assert fake_scheduler.files.calls.count("download a") == 1
    fake_scheduler.files.namespace = {"a": b"replaced"}
    session.assign(a_job("job-4", properties={"commands": ["cat a"], "namespaceFiles": {"enabled": True}}))
    await ended(fake_scheduler, session, "job-4")
    assert fake_scheduler.lines("job-4") == ["replaced"]


async def test_runs_that_start_together_fetch_a_file_once(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.namespace = {"a": b"x" * 100_000}
    await fake_scheduler.run_worker(slots=8)
    session = await fake_scheduler.session()
    names = [f"job-{number}" for number in range(8)]
    for name in names:
        session.assign(a_job(name, properties={"commands": ["cat a"], "namespaceFiles": {"enabled": True}}))
    results = [await session.result(name) for name in names]
    assert {result.outcome.state for result in results} == {OUTCOME_STATE_SUCCESS}
    assert fake_scheduler.files.calls.count("download a") == 1


async def test_what_was_damaged_in_the_cache_is_fetched_again(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    fake_scheduler.files.namespace = {"a": b"as uploaded"}
    session = await started(fake_scheduler, "cat a", namespaceFiles={"enabled": True}, data=tmp_path / "w")
    await session.result("job-1")
    [kept] = (tmp_path / "w" / "files").iterdir()
    kept.write_bytes(b"as spoiled!")
    session.assign(a_job("job-2", properties={"commands": ["cat a"], "namespaceFiles": {"enabled": True}}))
    await ended(fake_scheduler, session, "job-2")
    assert fake_scheduler.lines("job-2") == ["as uploaded"]
    assert fake_scheduler.files.calls.count("download a") == 2 and kept.read_bytes() == b"as uploaded"


async def test_the_cache_keeps_what_was_used_last_up_to_its_limit(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.files.namespace = {name: name.encode() * 1000 for name in "abcd"}
    session = await started(
        fake_scheduler, "cat *", namespaceFiles={"enabled": True}, data=tmp_path / "w", file_cache=2500
    )
    result = await ended(fake_scheduler, session, "job-1")
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    kept = sorted(path.read_bytes()[:1] for path in (tmp_path / "w" / "files").iterdir())
    assert kept == [b"c", b"d"]


async def test_what_comes_with_another_digest_fails_the_job_and_is_not_kept(
    fake_scheduler: FakeScheduler, tmp_path: Path
) -> None:
    fake_scheduler.files.namespace = {"a": b"abc"}
    fake_scheduler.files.damaged = {"a"}
    result, _ = await run(fake_scheduler, "cat a", namespaceFiles={"enabled": True}, data=tmp_path / "w")
    assert failure(result) == "INPUT_FILES_FAILED" and "digest" in result.outcome.message
    assert list((tmp_path / "w" / "files").iterdir()) == []


# ── out ──


async def test_output_files_are_stored_by_patterns(fake_scheduler: FakeScheduler) -> None:
    result, outputs = await run(
        fake_scheduler,
        "mkdir -p plots/deep; echo 1 > a.csv; echo 2 > b.txt; echo 3 > plots/p.png; echo 4 > plots/deep/q.png",
        "ln -s a.csv link.csv; : > empty.csv",
        outputFiles=["*.csv", "plots/**", "b.txt"],
    )
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    paths = ["a.csv", "b.txt", "empty.csv", "link.csv", "plots/deep/q.png", "plots/p.png"]
    assert outputs["outputFiles"] == {path: BASE + path for path in paths}
    assert [fake_scheduler.files.stored[BASE + path] for path in paths] == [
        b"1\n",
        b"2\n",
        b"",
        b"1\n",
        b"4\n",
        b"3\n",
    ]


async def test_a_large_file_goes_out_whole(fake_scheduler: FakeScheduler) -> None:
    await run(fake_scheduler, "head -c 5000001 /dev/zero > big", outputFiles=["big"])
    assert fake_scheduler.files.stored == {BASE + "big": bytes(5_000_001)}


async def test_a_pattern_that_means_nothing_is_a_warning(fake_scheduler: FakeScheduler) -> None:
    result, outputs = await run(fake_scheduler, "echo 1 > a", outputFiles=["a", "*.csv", "no/such"])
    assert result.outcome.state == OUTCOME_STATE_SUCCESS and list(outputs["outputFiles"]) == ["a"]
    assert [line.split("'")[1] for line in system(fake_scheduler)] == ["*.csv", "no/such"]


async def test_a_failing_script_keeps_its_files_and_its_reason(fake_scheduler: FakeScheduler) -> None:
    result, outputs = await run(fake_scheduler, "echo 1 > a; exit 3", outputFiles=["a"])
    assert failure(result) == "NONZERO_EXIT" and result.outcome.exit_code == 3
    assert outputs == {"exitCode": 3, "vars": {}, "outputFiles": {"a": BASE + "a"}}


@pytest.mark.parametrize(
    ("command", "pattern", "word"),
    [
        ("ln -s /etc/passwd out", "out", "leads out"),
        ("ln -s /etc/passwd out", "*", "leads out"),
        ("ln -s /etc out", "out/passwd", "leads out"),
        ("ln -s ../.. up", "up/worker-id", "leads out"),
        ("ln -s out out", "out", "symbolic links"),
        ("ln -s nowhere out", "*", "No such file"),
        ("mkdir out", "out", "is no file"),
        ("mkfifo out", "out", "is no file"),
        ("touch \"$(printf 'a\\nb')\"", "*", "control"),
        ("i=0; while [ $i -lt 1001 ]; do : > f$i; i=$((i+1)); done", "f*", "1,000"),
    ],
)
async def test_what_is_no_file_of_the_folder_is_not_stored(
    fake_scheduler: FakeScheduler, command: str, pattern: str, word: str
) -> None:
    result, _ = await run(fake_scheduler, command, outputFiles=[pattern])
    assert failure(result) == "OUTPUT_FILES_FAILED" and word in result.outcome.message, result.outcome.message
    assert fake_scheduler.files.stored == {}


async def test_a_linked_folder_is_not_entered_by_a_pattern(fake_scheduler: FakeScheduler) -> None:
    result, _ = await run(fake_scheduler, "mkdir a; echo 1 > a/x; ln -s /etc a/etc", outputFiles=["a/*/passwd"])
    assert result.outcome.state == OUTCOME_STATE_SUCCESS and len(system(fake_scheduler)) == 1


async def test_a_file_that_the_scheduler_refuses_fails_the_job_in_its_words(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.errors = [FileTooLarge.of(Violation("chunk", "the file is over 5 bytes"))]
    result, outputs = await run(fake_scheduler, "echo 1 > a", outputFiles=["a"])
    assert failure(result) == "OUTPUT_FILES_FAILED" and "over 5 bytes" in result.outcome.message
    assert outputs["exitCode"] == 0


async def test_a_stale_fence_ends_the_transfer(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.errors = [StaleFence("not yours any more")]
    result, _ = await run(fake_scheduler, "echo 1 > a", outputFiles=["a"])
    assert failure(result) == "OUTPUT_FILES_FAILED" and fake_scheduler.files.calls == ["upload a"]


# ── waiting ──


async def test_what_can_not_serve_now_is_asked_again_and_the_log_says_so_once(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.namespace = {"a": b"1"}
    fake_scheduler.files.errors = [Unavailable("The registry is away.")] * 3
    result, _ = await run(fake_scheduler, "cat a > b", namespaceFiles={"enabled": True}, outputFiles=["b"])
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    assert fake_scheduler.files.calls == ["list"] * 4 + ["download a", "upload b"]
    assert system(fake_scheduler) == ["while it listed the namespace's files: The registry is away.; trying again"]


async def test_a_scheduler_that_can_not_serve_for_long_fails_the_job(
    fake_scheduler: FakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_transfers, "PATIENCE", 0.5)
    fake_scheduler.files.errors = [Unavailable("The disk is full.")] * 1000
    result, _ = await run(fake_scheduler, "echo 1 > a", outputFiles=["a"])
    assert failure(result) == "OUTPUT_FILES_FAILED"
    assert "could not serve for 500ms: The disk is full." in result.outcome.message


async def test_a_scheduler_that_comes_back_gets_the_file(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.gate.clear()
    session = await started(fake_scheduler, "head -c 3000000 /dev/zero > a", outputFiles=["a"])
    await fake_scheduler.files.begun.wait()
    assert session is not None
    await fake_scheduler.stop()
    fake_scheduler.files.gate.set()
    await fake_scheduler.start(int(fake_scheduler.address.rpartition(":")[2]))
    result = await (await fake_scheduler.session()).result("job-1")
    assert result.outcome.state == OUTCOME_STATE_SUCCESS
    assert fake_scheduler.files.stored == {BASE + "a": bytes(3_000_000)}


async def test_a_timeout_ends_an_upload_and_says_what_was_under_way(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.gate.clear()
    session = await started(fake_scheduler, "echo 1 > a", outputFiles=["a"], timeout=2.0)
    result = await ended(fake_scheduler, session, "job-1")
    assert failure(result) == "TIMEOUT"
    assert result.outcome.message.endswith("timeout of 2s, while it stored the output file a")
    fake_scheduler.files.gate.set()


async def test_a_kill_ends_an_upload(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.files.gate.clear()
    session = await started(fake_scheduler, "echo 1 > a", outputFiles=["a"])
    await fake_scheduler.files.begun.wait()
    session.cancel("job-1")
    assert (await session.result("job-1")).outcome.state == OUTCOME_STATE_KILLED
    fake_scheduler.files.gate.set()


async def test_a_killed_script_stores_nothing(fake_scheduler: FakeScheduler, tmp_path: Path) -> None:
    session = await started(fake_scheduler, f"echo 1 > a; touch {tmp_path}/there; sleep 60", outputFiles=["a"])
    await exists(tmp_path / "there")
    session.cancel("job-1")
    assert (await session.result("job-1")).outcome.state == OUTCOME_STATE_KILLED
    assert fake_scheduler.files.calls == [] and system(fake_scheduler) == []


async def test_a_lease_that_runs_out_during_an_upload_leaves_no_result(fake_scheduler: FakeScheduler) -> None:
    fake_scheduler.lease, fake_scheduler.heartbeat_interval = 2.0, 0.3
    fake_scheduler.files.gate.clear()
    await started(fake_scheduler, "echo 1 > a", outputFiles=["a"])
    await fake_scheduler.files.begun.wait()
    fake_scheduler.answers_heartbeats = False
    while True:
        session = await fake_scheduler.session()
        [held] = session.hello.held
        assert held.phase != pb.HELD_PHASE_FINISHED
        if held.phase == pb.HELD_PHASE_SELF_FENCED:
            break
    fake_scheduler.files.gate.set()
