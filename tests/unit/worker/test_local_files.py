"""The trigger on files of the worker: each file fires once, however evaluations end, and none is lost."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from farhand.worker.runners import CommandEnd
from farhand.worker.tasks.base import FileFailed, Level, LineFilter, NamespaceFile, Outcome, OutcomeState
from farhand.worker.triggers import local_files
from farhand.worker.triggers.base import Evaluated
from farhand.worker.triggers.local_files import LocalFiles


class Store:
    """Keeps what is uploaded."""

    stopped = False

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.refuses = False

    async def upload(self, file: BinaryIO, path: str) -> str:
        if self.refuses:
            raise FileFailed("the store is full")
        self.kept[uri := f"farhand:///{len(self.kept)}/{path}"] = file.read()
        return uri

    async def download(self, uri: str, to: Path) -> None:
        raise AssertionError

    async def namespace_files(self) -> Sequence[NamespaceFile]:
        raise AssertionError

    async def copy_namespace_file(self, file: NamespaceFile, to: Path) -> None:
        raise AssertionError


class Context:
    """What a run gives an evaluation."""

    def __init__(self, properties: Mapping[str, Any], state: Mapping[str, Any] | None, folder: Path) -> None:
        self.properties = properties
        self.scope: Mapping[str, Any] = {"trigger": {"id": "t", "state": state}}
        self.env: Mapping[str, str] = {}
        self.files = Store()
        self.lines: list[str] = []
        self._folder = folder

    def log(self, text: str, level: Level = Level.WARN) -> None:
        self.lines.append(text)

    def say(self, text: str, level: Level = Level.INFO) -> None:
        raise AssertionError

    def folder(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        return self._folder

    async def run_process(
        self, argv: Sequence[str], *, env: Mapping[str, str], on_stdout: LineFilter | None = None
    ) -> int:
        return await (await asyncio.create_subprocess_exec(*argv)).wait()

    async def run_command(self, *_: object, **__: object) -> CommandEnd:
        raise AssertionError


class Place:
    """A folder that is looked into, and a trigger's state."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "in"
        self.root.mkdir()
        self.done = tmp_path / "done"
        self.state: Mapping[str, Any] | None = None
        self.context: Context
        self._runs = tmp_path / "runs"
        self._runs.mkdir()
        self._looks = 0

    def write(self, path: str, text: str = "x") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    async def look(self, *, counts: bool = True, refuses: bool = False, **properties: Any) -> Outcome:
        """One evaluation; the scheduler keeps its state if it counts."""
        self._looks += 1
        properties = {"from": str(self.root), **properties}
        if properties.get("action") == "MOVE":
            properties.setdefault("moveDirectory", str(self.done))
        self.context = Context(properties, self.state, self._runs / str(self._looks))
        self.context.files.refuses = refuses
        trigger = Evaluated(LocalFiles())
        assert trigger.validate(properties) == []
        outcome = await trigger.run(self.context)
        if counts and outcome.state is OutcomeState.SUCCESS:
            self.state = outcome.outputs["state"]
        return outcome

    async def names(self, **properties: Any) -> list[str]:
        """The files that an evaluation which counts fires with."""
        outcome = await self.look(**properties)
        assert outcome.state is OutcomeState.SUCCESS, outcome.message
        files = outcome.outputs["variables"]["files"] if outcome.outputs["fired"] else []
        return [file["path"].removeprefix(f"{self.root}/") for file in files]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_files_that_are_new_fire_with_what_they_are(place: Place) -> None:
    file = place.write("a.csv", "one")
    os.utime(file, (0, 0))
    outcome = await place.look()
    (told,) = outcome.outputs["variables"]["files"]
    assert told == {
        "name": "a.csv",
        "path": str(file),
        "size": 3,
        "modified": "1970-01-01T00:00:00.000Z",
        "uri": "farhand:///0/a.csv",
    }
    assert place.context.files.kept == {"farhand:///0/a.csv": b"one"}
    assert outcome.outputs["message"] == "1 new file"
    assert file.read_text() == "one"


async def test_a_file_fires_once_and_again_when_it_was_changed_or_put_back(place: Place) -> None:
    file = place.write("a", "1")
    place.write("b", "1")
    assert sorted(await place.names()) == ["a", "b"]
    assert await place.names() == []
    file.write_text("22")
    assert await place.names() == ["a"]
    file.unlink()
    assert await place.names() == []
    place.write("a", "22")
    assert await place.names() == ["a"]


@pytest.mark.parametrize("action", ["NONE", "MOVE", "DELETE"])
async def test_an_evaluation_that_did_not_count_is_done_again_and_touched_nothing(place: Place, action: str) -> None:
    file = place.write("a")
    assert (await place.look(counts=False, action=action)).outputs["fired"] is True
    assert file.exists()
    assert await place.names(action=action) == ["a"]
    assert file.exists()
    for counts in (False, True, True):  # the action, twice, as if the first had been lost
        assert (await place.look(counts=counts, action=action)).outputs["fired"] is False
        assert file.exists() is (action == "NONE")
    assert sorted(path.name for path in place.done.glob("*")) == (["a"] if action == "MOVE" else [])


async def test_only_what_had_its_execution_is_deleted(place: Place) -> None:
    file = place.write("a", "1")
    await place.look(action="DELETE")
    file.write_text("changed since")
    assert await place.names(action="DELETE") == ["a"]
    assert file.read_text() == "changed since"
    await place.look(action="DELETE")
    assert not file.exists()


async def test_what_is_moved_replaces_nothing_and_is_not_found_again(place: Place) -> None:
    place.done = place.root / "done"
    place.write("sub/a", "new")
    place.write("done/sub/a", "old")
    properties = {"action": "MOVE", "recursive": True}
    assert await place.names(**properties) == ["sub/a"]
    assert await place.names(**properties) == []
    assert (place.done / "sub/a").read_text() == "old"
    assert (place.done / "sub/a.1").read_text() == "new"


async def test_what_cant_be_moved_is_told_and_tried_again(place: Place) -> None:
    place.write("a", "1")
    place.done.write_text("in the way")
    await place.look(action="MOVE")
    outcome = await place.look(action="MOVE")
    why = f"'a' can't be moved to '{place.done}': File exists"
    assert outcome.outputs["message"] == f"0 new files; {why}" and place.context.lines == [why]
    place.done.unlink()
    assert await place.names(action="MOVE") == []
    assert (place.done / "a").read_text() == "1"


async def test_a_pattern_means_whole_paths_and_folders_inside_are_looked_into_if_that_is_said(place: Place) -> None:
    for path in ("a.csv", "a.csv.part", "sub/b.csv", ".c.csv"):
        place.write(path)
    assert await place.names(regExp=r"[^.].*\.csv") == ["a.csv"]
    assert await place.names(regExp=r".*/b\.csv", recursive="true") == ["sub/b.csv"]


async def test_the_oldest_come_first_and_the_rest_at_the_next_evaluation(place: Place) -> None:
    for number in range(5):
        os.utime(place.write(f"{number}"), (9 - number, 9 - number))
    assert await place.names(maxFiles=2) == ["4", "3"]
    assert await place.names(maxFiles="2") == ["2", "1"]
    assert await place.names(maxFiles=2) == ["0"]


async def test_links_pipes_and_names_that_are_no_paths_are_left_alone(place: Place) -> None:
    place.write("a")
    (place.root / "link").symlink_to(place.root / "a")
    (place.root / "linked").symlink_to(place.root.parent, target_is_directory=True)
    os.mkfifo(place.root / "pipe")
    place.write("b\nc")
    (place.root / os.fsdecode(b"\xff")).write_text("x")
    assert await place.names(recursive=True) == ["a"]
    assert len(place.context.lines) == 2 and all("a file is left where it is" in line for line in place.context.lines)


async def test_another_folder_under_the_same_name_does_not_make_the_first_one_forgotten(place: Place) -> None:
    """A drive that is not mounted for a while, or another machine of the group."""
    place.write("a")
    assert await place.names() == ["a"]
    away = place.root.rename(place.root.with_name("away"))
    place.root.mkdir()
    assert await place.names() == []
    place.root.rmdir()
    away.rename(place.root)
    assert await place.names() == []
    assert place.state is not None and len(place.state["places"]) == 1


async def test_a_folder_that_cant_be_looked_into_is_a_failure_with_its_name(place: Place) -> None:
    place.root.rmdir()
    outcome = await place.look()
    assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, "FOLDER_FAILED")
    assert outcome.message == f"can't look into '{place.root}': No such file or directory"
    place.root.write_text("a file")
    assert (await place.look()).message == f"can't look into '{place.root}': Not a directory"


async def test_files_that_cant_be_stored_are_kept_for_the_next_evaluation(place: Place) -> None:
    place.write("a")
    outcome = await place.look(refuses=True)
    assert (outcome.reason, outcome.message) == (
        "OUTPUT_FILES_FAILED",
        "a file can't be stored: the store is full",
    )
    assert await place.names() == ["a"]


async def test_more_files_than_can_be_remembered_are_a_failure_that_says_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "MOST_REMEMBERED", 2)
    for name in ("a", "b", "c"):
        place.write(name)
    assert len(await place.names(maxFiles=2)) == 2
    outcome = await place.look()
    assert outcome.reason == "FOLDER_FAILED"
    assert "take them away, or let action MOVE or DELETE do it" in outcome.message
    assert len(await place.names(action="DELETE", maxFiles=2)) == 1


async def test_a_state_that_nobody_of_us_wrote_is_an_error_and_no_crash(place: Place) -> None:
    place.write("a")
    states: list[dict[str, Any]] = [{"places": 5}, {"places": [{}]}, {"places": [{"place": "x", "looked": "y"}]}]
    for state in states:
        place.state = state
        assert await place.names() == ["a"]


@pytest.mark.parametrize(
    ("properties", "wrong"),
    [
        ({}, "from: is required"),
        ({"from": "in"}, "from: must be an absolute path, not 'in'"),
        ({"from": "/in", "action": "BURN"}, "action: must be one of NONE, MOVE, DELETE, not 'BURN'"),
        ({"from": "/in", "action": "MOVE"}, "moveDirectory: is required: where files are moved to"),
        ({"from": "/in", "action": "MOVE", "moveDirectory": "/in/"}, "moveDirectory: is the folder itself"),
        ({"from": "/in", "maxFiles": 0}, "maxFiles: must be a whole number from 1 to 1000"),
        ({"from": "/in", "maxFiles": "many"}, "maxFiles: must be a whole number from 1 to 1000"),
    ],
)
def test_what_is_wrong_is_told_before_the_folder_is_looked_at(properties: dict[str, Any], wrong: str) -> None:
    assert [f"{each.path}: {each.description}" for each in LocalFiles().validate(properties)] == [wrong]
