"""Files in a bucket of anything that speaks S3 (extra `s3`).

Where it is and who we are comes from the variables and files that every tool for S3
reads: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, … A
small file is one PutObject; a larger one an upload in parts, of which one at a time is
in memory, and which is there whole once it is completed. boto3 blocks, so it is called
in threads.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from farhand.kernel.errors import Unavailable
from farhand.runtime.file_store import PIECE, KeyRefused, NoSuchFile, StoredFile, parts_of
from farhand.runtime.service import StartupError

T = TypeVar("T")

PART = 8 << 20  # bytes; S3 takes 10,000 parts of 5 MiB or more
PAGE = 1000  # keys that are listed and deleted at once: S3's most
LONGEST_KEY = 1024  # bytes in UTF-8
_THREADS = 16
_CONNECT_SECONDS, _READ_SECONDS = 5, 60
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})

log = logging.getLogger(__name__)


class S3Store:
    """See `FileStore`."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        """`client` is boto3's; keys go below `prefix`, which may be empty."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    @classmethod
    def open(cls, bucket: str, prefix: str) -> "S3Store":
        """StartupError where boto3 is missing or knows neither region nor credentials. The bucket is not asked for:
        it may come later, or be write-only for lists."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise StartupError("--files s3://… needs boto3: pip install 'farhand[server,s3]'.") from None
        if not bucket:
            raise StartupError("--files s3://… names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX.")
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=_THREADS,
            # Stores other than Amazon's don't all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.session.Session()
            if session.get_credentials() is None:
                raise StartupError("--files s3://… has no credentials; give AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.")
            client = session.client("s3", region_name=session.region_name or "us-east-1", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StartupError(f"--files s3://{bucket}/{prefix} can't be used: {error}") from None
        return cls(client, bucket, prefix)

    async def write(self, key: str, content: AsyncIterator[bytes]) -> int:
        """See FileStore.write."""
        name = self._name(key)
        upload, size = "", 0
        parts: list[dict[str, Any]] = []
        waiting = bytearray()

        async def send() -> None:
            nonlocal upload
            if not upload:
                upload = (await self._do(self._client.create_multipart_upload, Key=name))["UploadId"]
            number = len(parts) + 1
            body = bytes(waiting)
            waiting.clear()
            answer = await self._do(self._client.upload_part, Key=name, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})

        try:
            async for piece in content:
                size += len(piece)
                waiting += piece
                if len(waiting) >= PART:
                    await send()
            if not upload:
                await self._do(self._client.put_object, Key=name, Body=bytes(waiting))
                return size
            if waiting:
                await send()
            await self._do(
                self._client.complete_multipart_upload, Key=name, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            if upload:  # not awaited: this may be the end of a cancelled call
                self._threads.submit(self._abort, name, upload)
            raise
        return size

    @contextlib.asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[StoredFile]:
        """See FileStore.reading."""
        answer = await self._do(self._client.get_object, Key=self._name(key))
        body = answer["Body"]
        try:
            yield StoredFile(answer["ContentLength"], self._pieces(body))
        finally:
            body.close()

    async def _pieces(self, body: Any) -> AsyncIterator[bytes]:
        while piece := await self._do(body.read, PIECE):
            yield piece

    async def delete(self, prefix: str) -> None:
        """See FileStore.delete."""
        name = self._name(prefix)
        await self._do(self._client.delete_object, Key=name)
        more: dict[str, str] = {}
        while True:
            page = await self._do(self._client.list_objects_v2, Prefix=f"{name}/", MaxKeys=PAGE, **more)
            if found := [{"Key": item["Key"]} for item in page.get("Contents", ())]:
                answer = await self._do(self._client.delete_objects, Delete={"Objects": found, "Quiet": True})
                if errors := answer.get("Errors"):
                    raise Unavailable(f"The file store did not delete {errors[0].get('Key')}.", retry_delay=1.0)
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        """See FileStore.close."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    def _name(self, key: str) -> str:
        parts_of(key)
        name = self._prefix + key
        if len(name.encode()) > LONGEST_KEY:
            raise KeyRefused(f"a key has at most {LONGEST_KEY} bytes")
        return name

    def _abort(self, name: str, upload: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
        except Exception as error:  # the bucket's own rules clear such things away
            log.warning("parts of a file that did not come are left in the bucket", extra={"error": str(error)})

    async def _do(self, call: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call boto3 in a thread. Raises NoSuchFile, Unavailable."""
        from botocore.exceptions import BotoCoreError, ClientError

        if named:
            named["Bucket"] = self._bucket
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*arguments, **named))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in _MISSING:
                raise NoSuchFile(str(named.get("Key"))) from None
            raise self._unavailable(error) from error
        except (BotoCoreError, OSError) as error:
            raise self._unavailable(error) from error
        except Exception as error:
            # urllib3 raises its own from the body of an answer.
            if type(error).__module__.startswith("urllib3"):
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: Exception) -> Unavailable:
        # Also a bucket that is missing and keys that are wrong: an operator mends those while workers try again.
        log.error("the bucket of files can't be used", extra={"bucket": self._bucket, "error": str(error)})
        return Unavailable("The file store can't be used now; the scheduler's log tells why.", retry_delay=1.0)
