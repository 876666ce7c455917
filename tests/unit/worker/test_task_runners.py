"""Task runners: how they are found, what Docker's takes, and how a folder is copied there and back."""

import io
import tarfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from farhand.kernel.flow.types.runners import RUNNERS
from farhand.worker.runners import Command, CommandEnd
from farhand.worker.runners import registry as runners
from farhand.worker.runners.docker import TYPE, DockerRunner
from farhand.worker.runners.folder_copies import pack, unpack
from farhand.worker.runners.hosted import read_end, write_end
from farhand.worker.runners.registry import ENTRY_POINT_GROUP, TaskRunners

PROCESS = "io.kestra.plugin.core.runner.Process"


def docker(**settings: Any) -> DockerRunner:
    return DockerRunner({}, **{"socket": "/s", "patience": 1.0, "allow_volumes": False, **settings})


def every() -> TaskRunners:
    return runners.load({}, [docker()], [])


def entry(name: str) -> EntryPoint:
    return EntryPoint(name, "no.such.module:Class", ENTRY_POINT_GROUP)


def test_one_of_another_package_is_there_without_being_imported_and_replaces_none() -> None:
    found = runners.load({}, [docker()], [entry("org.example.Ssh"), entry(TYPE), entry("not a name")])
    assert found.foreign == ["org.example.Ssh"]
    assert found.chosen({"type": "org.example.Ssh"}).type == "org.example.Ssh"
    assert isinstance(found.chosen({"type": TYPE}), DockerRunner)
    assert found.chosen(None).type == PROCESS


@pytest.mark.parametrize("name", [PROCESS, TYPE])
def test_flows_take_what_workers_take(name: str) -> None:
    """Else a flow is saved that fails on its worker, or one is refused that would run."""
    violation = every().violations({"type": name, "qqqq": 1}, "image")[0]
    named = violation.description.partition("It has ")[2].removesuffix(".").split(", ")
    assert set(named) - {"type"} == {field.alias or each for each, field in RUNNERS[name].model_fields.items()}


def wrong(image: str = "busybox", **properties: Any) -> list[str]:
    found = every().violations({"type": TYPE, **properties}, image)
    return [f"{each.path}: {each.description}" for each in found]


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"memory": {"memory": "64MB"}, "cpu": {"cpus": "0.5"}, "pullPolicy": "never"},
        {"memory": '{"memory": 67108864}', "privileged": "false", "entryPoint": '["/a"]', "user": "a"},
    ],
)
def test_what_expressions_leave_is_taken(properties: dict[str, Any]) -> None:
    assert wrong(**properties) == []
    assert every().violations({"type": TYPE, "image": "busybox", **properties}, "") == []


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (
            {"volumes": ["/a:/b"]},
            "taskRunner.volumes: are not allowed on this worker (its --docker-allow-volumes is off)",
        ),
        ({"privileged": "true"}, "taskRunner.privileged: must be false: a privileged container is root"),
        ({"memory": {"memory": "1MB"}}, "taskRunner.memory.memory: is too little: a container needs at least 6MB"),
        ({"memory": {"memory": "much"}}, "taskRunner.memory.memory: 'much' is not a size; write 512MB"),
        ({"memory": {}}, "taskRunner.memory.memory: is required"),
        ({"memory": "64MB"}, "taskRunner.memory: must be a map with memory, not a string"),
        ({"cpu": {"cpus": 0}}, "taskRunner.cpu.cpus: must be at least 0.01 cores"),
        ({"cpu": {"cpus": 1, "shares": 1}}, "taskRunner.cpu.shares: is no property of cpu. It has cpus."),
        ({"pullPolicy": "OFTEN"}, "taskRunner.pullPolicy: must be one of ALWAYS, IF_NOT_PRESENT, NEVER, not 'OFTEN'"),
        ({"entryPoint": []}, "taskRunner.entryPoint: must not be empty"),
        ({"netwrokMode": "none"}, "taskRunner.netwrokMode: is no property of " + TYPE + ". Did you mean networkMode?"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(properties: dict[str, Any], message: str) -> None:
    (told,) = wrong(**properties)
    assert told.startswith(message)


def test_an_image_is_asked_for_where_it_belongs() -> None:
    assert wrong("") == ["containerImage: is required: it names the image of the container"]


def test_a_container_has_a_name_of_its_run_and_place_alone(tmp_path: Path) -> None:
    def name(run: str, private: str) -> str:
        undo = docker().plan(Command(run, (), {}, tmp_path, tmp_path / private))[1]
        assert undo.target == f"/containers/{undo.what.removeprefix('the container ')}?force=true&v=true"
        return undo.what

    assert len({name("a-1", "x"), name("a-2", "x"), name("a-1", "y")}) == 3
    assert name("a/ö", "x").startswith("the container farhand-a---")


@pytest.mark.parametrize(("killed", "reason"), [(False, "RUNNER_FAILED"), (True, "")])
def test_a_client_that_leaves_no_end_died_itself(tmp_path: Path, killed: bool, reason: str) -> None:
    end = read_end(tmp_path / "end.json", -9, killed=killed)
    assert (end.exit_code, end.reason) == (-9 if killed else None, reason)
    write_end(tmp_path / "end.json", CommandEnd(3, "A", "b"))
    assert read_end(tmp_path / "end.json", 3, killed=killed) == CommandEnd(3, "A", "b")


# ── copies of the folder ──


def test_a_folder_comes_there_open_to_whoever_the_command_runs_as(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "in").mkdir(parents=True, mode=0o700)
    (work / "in" / "a.sh").touch(mode=0o700)
    (work / "b").touch(mode=0o600)
    file = io.BytesIO()
    pack(work, file, "root", (1000, 100))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        members = {each.name: (oct(each.mode), each.uid, each.gid, each.uname) for each in archive}
    assert members == {
        "root": ("0o777", 1000, 100, ""),
        "root/b": ("0o666", 1000, 100, ""),
        "root/in": ("0o777", 1000, 100, ""),
        "root/in/a.sh": ("0o777", 1000, 100, ""),
    }


def test_what_comes_back_is_regular_files_that_are_wanted_and_stay_in_the_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "input.txt").write_text("from before")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:

        def add(name: str, content: bytes = b"", **changes: Any) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in changes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))

        add("root/a.txt", b"a")
        add("root/deep/b.txt", b"b")
        add("root/c.bin", b"c")
        add("root/link.txt", type=tarfile.SYMTYPE, linkname="deep/b.txt")
        add("root/hard.txt", type=tarfile.LNKTYPE, linkname="root/a.txt")
        add("root/out.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("root/up.txt", type=tarfile.SYMTYPE, linkname="../../secret")
        add("root/self.txt", type=tarfile.SYMTYPE, linkname="self.txt")
        add("root/pipe.txt", type=tarfile.FIFOTYPE)
        add("root/../escaped.txt", b"x")
        add("/escaped.txt", b"x")
        add("root/folder.txt", type=tarfile.DIRTYPE)
        add("root/plots", type=tarfile.DIRTYPE)
    file.seek(0)
    unpack(file, work, "root", ["**/*.txt", "./plots"])
    found = {str(each.relative_to(work)): each.read_bytes() for each in work.rglob("*") if each.is_file()}
    assert found == {"a.txt": b"a", "deep/b.txt": b"b", "link.txt": b"b", "hard.txt": b"a"}
    assert (work / "plots").is_dir()
    assert list(tmp_path.iterdir()) == [work]
