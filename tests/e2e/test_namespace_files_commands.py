"""`farhand namespace files` as a stranger types it, against a registry process."""

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fixtures.command_line import Said, farhand
from tests.fixtures.mesh import Mesh

Files = Callable[..., Awaitable[Said]]


@pytest.fixture
async def files(mesh: Mesh) -> Files:
    registry = await mesh.add_registry()

    async def run(*words: str | Path) -> Said:
        return await farhand("namespace", "files", *words, FARHAND_REGISTRY=registry.address)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """scripts/ with a file, one below, an empty one, and links."""
    it = tmp_path / "scripts"
    (it / "lib").mkdir(parents=True)
    (it / "main.py").write_text("print(1)\n")
    (it / "lib" / "tool.py").write_bytes(bytes(range(256)) * 8192)
    (it / "empty").touch()
    (it / "lib" / "again.py").symlink_to(it / "main.py")
    (it / "lib" / "up").symlink_to(it)
    return it


async def test_a_folder_goes_up_with_its_relative_paths_and_comes_back(
    files: Files, folder: Path, tmp_path: Path
) -> None:
    up = await files("upload", "company.team", folder)
    assert up.exit_code == 0, up.all
    assert up.out.splitlines()[0].split() == ["PATH", "BYTES"]
    assert [line.split() for line in up.out.splitlines()[1:]] == [
        ["empty", "0", "uploaded"],
        ["lib/again.py", "9", "uploaded"],
        ["lib/tool.py", "2,097,152", "uploaded"],
        ["main.py", "9", "uploaded"],
    ]
    assert up.err == "4 uploaded to company.team, 0 unchanged.\n"
    listed = await files("list", "company.team.below", "--inherited", "--output", "json")
    assert [(file["path"], file["namespace"], file["size"]) for file in json.loads(listed.out)] == [
        ("empty", "company.team", "0"),
        ("lib/again.py", "company.team", "9"),
        ("lib/tool.py", "company.team", "2097152"),
        ("main.py", "company.team", "9"),
    ]
    assert (await files("get", "company.team", "main.py")).out == "print(1)\n"
    got = await files("get", "company.team", "lib/tool.py", "--to", tmp_path / "tool.py", "--output", "json")
    content = (folder / "lib" / "tool.py").read_bytes()
    assert (tmp_path / "tool.py").read_bytes() == content
    assert json.loads(got.out)["digest"] == sha256(content).hexdigest()


async def test_what_is_there_already_is_left(files: Files, folder: Path) -> None:
    await files("upload", "a", folder)
    (folder / "main.py").write_text("print(2)\n")
    again = await files("upload", "a", folder)
    assert again.err == "2 uploaded to a, 2 unchanged.\n"  # and the link to it
    assert (await files("get", "a", "main.py")).out == "print(2)\n"


async def test_a_file_may_get_another_path(files: Files, folder: Path) -> None:
    assert (await files("upload", "a", folder / "main.py", "--to", "bin/run.py")).exit_code == 0
    assert (await files("upload", "a", folder / "lib", "--to", "deep/er/")).exit_code == 0
    assert [line.split()[0] for line in (await files("list", "a")).out.splitlines()[1:]] == [
        "bin/run.py",
        "deep/er/again.py",
        "deep/er/tool.py",
    ]


async def test_a_file_is_deleted_and_then_missing_with_near_matches(files: Files, folder: Path) -> None:
    await files("upload", "a", folder)
    assert (await files("delete", "a", "main.py")).err == "File main.py of the namespace a is deleted.\n"
    gone = await files("get", "a", "empti")
    assert gone.exit_code == 1 and "Did you mean 'empty'?" in gone.err and gone.out == ""
    assert (await files("delete", "a", "main.py")).exit_code == 1


async def test_what_can_not_be_is_said_in_a_line_or_two(files: Files, folder: Path, tmp_path: Path) -> None:
    missing = await files("upload", "a", tmp_path / "nothing")
    assert missing.exit_code == 2 and "There is no file" in missing.err
    out = await files("upload", "a", folder / "main.py", "--to", "../main.py")
    assert out.exit_code == 1 and "leads out" in out.err and "nothing was uploaded" in out.err
    large = tmp_path / "large"
    large.touch()
    with large.open("r+b") as file:
        file.truncate((64 << 20) + 1)
    too_large = await files("upload", "a", large)
    assert too_large.exit_code == 1 and "64 MiB" in too_large.err
    assert (await files("upload", "a..b", folder)).exit_code == 1
    no_target = await files("get", "a", "main.py", "--output", "json")
    assert no_target.exit_code == 2 and "--to FILE" in no_target.err
    nowhere = await files("get", "a", "main.py", "--to", tmp_path / "no" / "such")
    assert nowhere.exit_code == 1
    empty = await files("list", "b")
    assert (empty.exit_code, empty.out, empty.err) == (0, "", "The namespace b has no files.\n")
    for said in (missing, out, too_large, no_target, nowhere):
        assert "Traceback" not in said.all
