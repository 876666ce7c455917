"""What every file store promises, tried with each of them: a folder, and S3 as moto plays it on loopback."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from farhand.kernel.errors import Unavailable
from farhand.runtime.file_store import FileStore, KeyRefused, NoSuchFile, open_store
from farhand.runtime.file_store.folder import FolderStore
from farhand.runtime.file_store.s3 import PART, S3Store
from farhand.runtime.service import StartupError

MIB = 1 << 20


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    """An endpoint that speaks S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, and an environment that says where it is."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="files")
    yield "files"
    for item in client.list_objects_v2(Bucket="files").get("Contents", ()):
        client.delete_object(Bucket="files", Key=item["Key"])
    client.delete_bucket(Bucket="files")
    client.close()


@pytest.fixture(params=["folder", "s3", "s3 with a prefix"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FileStore]:
    """Each of them, empty."""
    if request.param == "folder":
        it = open_store(str(tmp_path / "files"))
    else:
        bucket = request.getfixturevalue("bucket")
        it = open_store(f"s3://{bucket}" + ("/a/prefix/" if "prefix" in request.param else ""))
    yield it
    await it.close()


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def content_of(store: FileStore, key: str) -> bytes:
    async with store.reading(key) as file:
        content = b"".join([piece async for piece in file.content])
        assert file.size == len(content)
        return content


async def test_what_is_written_is_read(store: FileStore) -> None:
    assert await store.write("main/a/b.csv", pieces(b"x,", b"y\n")) == 4
    assert await content_of(store, "main/a/b.csv") == b"x,y\n"
    assert await store.write("main/a/empty", pieces()) == 0
    assert await content_of(store, "main/a/empty") == b""


async def test_names_may_hold_all_that_a_path_may(store: FileStore) -> None:
    key = "main/a/größe %41?#&+ '\"\\.csv"
    await store.write(key, pieces(b"1"))
    assert await content_of(store, key) == b"1"
    with pytest.raises(NoSuchFile):
        await content_of(store, "main/a/größe A?#&+ '\"\\.csv")


async def test_a_large_file_comes_back_in_pieces_of_1_mib_at_most(store: FileStore) -> None:
    parts = [bytes([number]) * MIB for number in range(2 * PART // MIB + 1)]
    await store.write("main/large", pieces(*parts, b"end"))
    async with store.reading("main/large") as file:
        assert file.size == len(parts) * MIB + 3
        read = [piece async for piece in file.content]
    assert b"".join(read) == b"".join(parts) + b"end"
    assert max(map(len, read)) <= MIB and min(map(len, read)) > 0


async def test_what_is_written_again_replaces_what_was_there(store: FileStore) -> None:
    await store.write("main/a", pieces(b"long and old"))
    await store.write("main/a", pieces(b"new"))
    assert await content_of(store, "main/a") == b"new"


async def test_a_reader_keeps_what_it_opened(store: FileStore) -> None:
    await store.write("main/a", pieces(b"o" * (3 * MIB)))
    async with store.reading("main/a") as file:
        first = await anext(file.content)
        await store.write("main/a", pieces(b"new"))
        rest = [piece async for piece in file.content]
    assert first + b"".join(rest) == b"o" * (3 * MIB)


@pytest.mark.parametrize("size", [10, 2 * PART + 10])
async def test_what_breaks_off_leaves_no_trace(store: FileStore, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(0, size, MIB):
            yield b"x" * min(MIB, size)
        raise ConnectionError("the worker is gone")

    with pytest.raises(ConnectionError):
        await store.write("main/new", broken())
    with pytest.raises(NoSuchFile):
        await content_of(store, "main/new")
    await store.write("main/old", pieces(b"old"))
    with pytest.raises(ConnectionError):
        await store.write("main/old", broken())
    assert await content_of(store, "main/old") == b"old"


async def test_a_write_that_is_cancelled_leaves_no_trace(store: FileStore) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            begun.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(store.write("main/new", endless()))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(NoSuchFile):
        await content_of(store, "main/new")


async def test_what_is_not_there_is_said_to_be_missing(store: FileStore) -> None:
    await store.write("main/a/b", pieces(b"1"))
    for key in ("main/a", "main/a/b/c", "main/a/bb", "main/c"):
        with pytest.raises(NoSuchFile):
            await content_of(store, key)


async def test_a_prefix_is_deleted_with_all_below_it_and_nothing_beside_it(store: FileStore) -> None:
    for key in ("main/a/1/x", "main/a/2/y/z", "main/ab/1", "other/a/1"):
        await store.write(key, pieces(b"1"))
    await store.delete("main/a")
    for key in ("main/a/1/x", "main/a/2/y/z"):
        with pytest.raises(NoSuchFile):
            await content_of(store, key)
    assert await content_of(store, "main/ab/1") == await content_of(store, "other/a/1") == b"1"
    await store.delete("main/a")
    await store.delete("main/ab/1")
    with pytest.raises(NoSuchFile):
        await content_of(store, "main/ab/1")
    await store.write("main/a/1/x", pieces(b"2"))
    assert await content_of(store, "main/a/1/x") == b"2"


async def test_more_files_than_one_page_lists_are_deleted(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farhand.runtime.file_store.s3.PAGE", 3)
    for number in range(8):
        await store.write(f"main/a/{number}", pieces(b"1"))
    await store.delete("main/a")
    for number in range(8):
        with pytest.raises(NoSuchFile):
            await content_of(store, f"main/a/{number}")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "main/../../x", "..", "main//a", "main/./a", "main/a/", "a\0b"])
async def test_no_key_plays_tricks(store: FileStore, key: str) -> None:
    with pytest.raises(KeyRefused):
        await store.write(key, pieces(b"1"))
    with pytest.raises(KeyRefused):
        await content_of(store, key)
    with pytest.raises(KeyRefused):
        await store.delete(key)


async def test_many_write_and_read_at_once(store: FileStore) -> None:
    async def there_and_back(number: int) -> None:
        content = bytes([number]) * (100_000 + number)
        await store.write(f"main/{number}/x", pieces(content))
        assert await content_of(store, f"main/{number}/x") == content
        await store.delete(f"main/{number}")

    await asyncio.gather(*map(there_and_back, range(20)))


# ── a folder's own ──


async def test_two_stores_share_a_folder(tmp_path: Path) -> None:
    one, other = FolderStore.open(tmp_path), FolderStore.open(tmp_path)
    await one.write("main/a", pieces(b"1"))
    assert await content_of(other, "main/a") == b"1"
    await one.close()
    await other.close()


async def test_a_folder_can_have_no_file_where_it_has_a_folder(tmp_path: Path) -> None:
    store = FolderStore.open(tmp_path)
    await store.write("main/a/b", pieces(b"1"))
    for key in ("main/a", "main/a/b/c", "main/" + "x" * 300):
        with pytest.raises(KeyRefused):
            await store.write(key, pieces(b"2"))
    assert await content_of(store, "main/a/b") == b"1"
    await store.close()
    assert list((tmp_path / ".arriving").iterdir()) == []


async def test_a_half_written_file_of_a_dead_process_goes_after_a_day(tmp_path: Path) -> None:
    await FolderStore.open(tmp_path).close()
    for name, age in (("old", 90_000), ("young", 10)):
        (tmp_path / ".arriving" / name).touch()
        os.utime(tmp_path / ".arriving" / name, (0, 0) if age > 86_400 else None)
    await FolderStore.open(tmp_path).close()
    assert [path.name for path in (tmp_path / ".arriving").iterdir()] == ["young"]


async def test_a_folder_that_is_gone_is_told_as_unavailable(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "gone")
    with pytest.raises(Unavailable):
        await store.write("main/a", pieces(b"1"))
    await store.close()


def test_a_place_that_can_be_none_is_refused_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (str(tmp_path / "file" / "below"), "ftp://somewhere", "s3:///prefix"):
        with pytest.raises(StartupError):
            open_store(place)


# ── S3's own ──


async def test_s3_that_does_not_answer_or_has_no_such_bucket_is_unavailable(bucket: str) -> None:
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:1", region_name="us-east-1")
    for store in (S3Store(client, bucket, ""), open_store("s3://another")):
        with pytest.raises(Unavailable):
            await store.write("main/a", pieces(b"1"))
        with pytest.raises(Unavailable):
            await store.delete("main/a")
        await store.close()


async def test_s3_without_credentials_is_refused_at_start(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StartupError, match="AWS_ACCESS_KEY_ID"):
        open_store(f"s3://{bucket}")


async def test_parts_of_a_file_that_broke_off_are_aborted(bucket: str) -> None:
    store = open_store(f"s3://{bucket}")

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (PART + 1)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await store.write("main/a", broken())
    client = boto3.client("s3", region_name="us-east-1")
    await store.close()  # waits for its threads
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    client.close()
