"""An embedded PostgreSQL through its life: first start, restart, kill -9 of each part, a second owner."""

import asyncio
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from farhand.runtime import postgres_binaries
from farhand.runtime.embedded_postgres import EmbeddedPostgres
from farhand.runtime.postgres_binaries import OtherUser
from farhand.runtime.postgres_processes import number_in, send, servers_in
from farhand.runtime.service import StartupError


class Owner:
    """`python -m farhand.runtime.embedded_postgres` as a process of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        reading, writing = os.pipe()
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "farhand.runtime.embedded_postgres", "--data", str(folder), "--no-fsync", *flags],
            env={**os.environ, "FARHAND_READY_FD": str(writing)},
            pass_fds=(writing,),
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writing)
        with os.fdopen(reading) as ready:
            line = ready.readline()
        self.url: str = json.loads(line)["url"] if line else ""

    @property
    def server(self) -> int:
        pid = number_in(self.folder / "data" / "postmaster.pid")
        assert pid is not None
        return pid

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    started: list[Owner] = []
    yield started
    for owner in started:
        owner.process.kill()
        owner.process.communicate()


def own(owners: list[Owner], folder: Path, *flags: str) -> Owner:
    owners.append(Owner(folder, *flags))
    return owners[-1]


async def run(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_restart_keeps_the_data_the_password_and_the_url(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    async with EmbeddedPostgres(folder, fsync=False) as postgres:
        url = postgres.url
        await run(url, "CREATE TABLE kept (x int)")
        assert await run(url, "SHOW server_version_num") is not None
        assert await run(url, "SHOW fsync") == "off"
        assert await run(url, "SHOW unix_socket_directories") == ""
    assert servers_in(folder / "data") == set()
    async with EmbeddedPostgres(folder) as postgres:
        assert postgres.url == url
        assert await run(url, "SELECT count(*) FROM kept") == 0
        assert await run(url, "SHOW fsync") == "on"


async def test_the_password_is_asked_for_and_private(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
        assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600
        assert await run(postgres.url, "SELECT rolpassword LIKE 'SCRAM-SHA-256%' FROM pg_authid WHERE rolcanlogin")
        password = (tmp_path / "password").read_text().strip()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await run(postgres.url.replace(password, "guess"), "SELECT 1")


def test_a_second_owner_is_refused_with_the_pid_of_the_first(tmp_path: Path, owners: list[Owner]) -> None:
    first = own(owners, tmp_path)
    second = own(owners, tmp_path)
    assert second.url == ""
    _, errors = second.process.communicate(timeout=30)
    assert second.process.returncode == 1
    assert errors.count("\n") == 1
    assert f"in use by process {first.process.pid}" in errors
    assert first.end(signal.SIGTERM)[0] == 0


def test_the_server_ends_by_itself_when_its_owner_is_killed(tmp_path: Path, owners: list[Owner]) -> None:
    owner = own(owners, tmp_path)
    ends = os.pidfd_open(owner.server)
    owner.end(signal.SIGKILL)
    ended, _, _ = select.select([ends], [], [], 20)
    os.close(ends)
    assert ended


def test_the_next_owner_takes_over_from_one_that_was_killed(tmp_path: Path, owners: list[Owner]) -> None:
    first = own(owners, tmp_path)
    asyncio.run(run(first.url, "CREATE TABLE kept AS SELECT 7 AS x"))
    before = first.server
    first.end(signal.SIGKILL)
    second = own(owners, tmp_path)
    assert second.url == first.url
    assert second.server != before
    assert asyncio.run(run(second.url, "SELECT x FROM kept")) == 7


def test_after_a_power_cut_of_all_processes_a_foreign_pid_in_the_pid_file_is_no_obstacle(
    tmp_path: Path, owners: list[Owner]
) -> None:
    first = own(owners, tmp_path)
    os.kill(first.process.pid, signal.SIGSTOP)  # it must not start it again
    everything = servers_in(tmp_path / "data")
    assert len(everything) > 1
    for pid in everything:
        send(pid, signal.SIGKILL)  # the rest ends by itself when their leader is gone
    first.end(signal.SIGKILL)
    pid_file = tmp_path / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    # Of the same user: PostgreSQL takes any such process for a server.
    user = OtherUser.needed()
    with subprocess.Popen(["sleep", "60"], user=None if user is None else user.uid) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert own(owners, tmp_path).url == first.url
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_is_killed_is_started_again_on_its_port(tmp_path: Path, owners: list[Owner]) -> None:
    owner = own(owners, tmp_path)
    before = owner.server
    asyncio.run(run(owner.url, "CREATE TABLE kept AS SELECT 7 AS x"))

    async def until_it_answers() -> object:
        async with asyncio.timeout(30):
            while True:
                try:
                    return await run(owner.url, "SELECT x FROM kept")
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)

    os.kill(before, signal.SIGKILL)
    assert asyncio.run(until_it_answers()) == 7
    assert owner.server != before
    code, errors = owner.end(signal.SIGTERM)
    assert code == 0
    assert "starting it again" in errors
    assert servers_in(tmp_path / "data") == set()


async def test_an_initdb_that_was_interrupted_is_done_anew(tmp_path: Path) -> None:
    draft = tmp_path / "data.new"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
        assert await run(postgres.url, "SELECT 1") == 1


async def test_an_owner_that_was_killed_in_the_middle_of_initdb_is_no_obstacle(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "farhand.runtime.embedded_postgres", "--data", str(tmp_path)),
        stderr=subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        while not servers_in(tmp_path / "data.new"):  # the only sign is the process itself
            await asyncio.sleep(0.001)
    process.kill()
    await process.wait()
    assert not (tmp_path / "data").exists()
    async with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
        assert await run(postgres.url, "SELECT 1") == 1


async def test_a_wanted_port_in_use_is_one_clear_line_and_frees_the_folder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match=f"Port {port} on 127.0.0.1 is in use"):
            async with EmbeddedPostgres(tmp_path, port, fsync=False):
                pass
    async with EmbeddedPostgres(tmp_path, port, fsync=False) as postgres:
        assert postgres.address == f"127.0.0.1:{port}"


async def test_a_remembered_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "port").write_text(f"{port}\n")
        async with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
            assert postgres.address != f"127.0.0.1:{port}"
            assert await run(postgres.url, "SELECT 1") == 1


async def test_data_of_another_major_version_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(StartupError, match="written by PostgreSQL 15, this is 18"):
        async with EmbeddedPostgres(tmp_path):
            pass


async def test_a_server_that_ends_at_its_start_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path, fsync=False):
        pass
    with (tmp_path / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(StartupError, match="no_such_setting") as caught:
        async with EmbeddedPostgres(tmp_path, fsync=False):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
async def test_as_root_it_runs_as_another_user_in_a_folder_that_this_user_could_not_reach(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    async with EmbeddedPostgres(tmp_path / "data folder", fsync=False):
        pids = servers_in(tmp_path / "data folder" / "data")
        assert pids
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids}.isdisjoint({0})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
async def test_as_root_it_runs_from_a_copy_where_the_other_user_can_not_read_the_binaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands in for a virtual environment under /root.
    monkeypatch.setattr(OtherUser, "reaches", lambda self, path: False)
    async with EmbeddedPostgres(tmp_path, fsync=False) as postgres:
        copy = Path((tmp_path / "binaries").read_text().strip())
        assert copy != postgres_binaries.installed()
        (leader, *_) = servers_in(tmp_path / "data")
        assert Path(f"/proc/{leader}/exe").readlink() == copy / "bin" / "postgres"
        assert await run(postgres.url, "SELECT 1") == 1
    assert not copy.parent.parent.exists()
    assert postgres_binaries.installed().exists()


def test_a_folder_is_reachable_only_if_every_folder_on_the_way_is(tmp_path: Path) -> None:
    stranger = OtherUser(uid=54_321, gid=54_321)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert stranger.reaches(Path("/usr/bin"))
    (tmp_path / "a").chmod(0o700)
    assert not stranger.reaches(inner)


def test_only_a_copy_of_ours_is_ever_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious" / "bin" / "x"
    precious.mkdir(parents=True)
    postgres_binaries.remove_copy(precious)
    assert precious.exists()
