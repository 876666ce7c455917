"""The calls to AWS: each in a thread, bounded in time, and repeated while the service is away."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from farhand.worker.runners.patience import Passing, persist

T = TypeVar("T")

TRY = 15.0  # seconds for one answer
_UNKNOWN = ("UnrecognizedClient", "InvalidClientToken", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_REFUSED = ("AccessDenied", "UnauthorizedOperation", "NotAuthorized")
_PASSING = ("Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown", "ServiceUnavailable", "InternalError")


class NoAccess(Exception):
    """There is no way to AWS that we know of, or it does not know us. For people, with what to do."""


class Refused(Exception):
    """The service's final no. `code` is AWS's; the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Aws:
    """One account in one region, by the task's own keys or as the worker's environment says."""

    def __init__(self, properties: Mapping[str, Any], patience: float) -> None:
        """Raises NoAccess."""
        self.patience = patience
        bound = min(TRY, patience)
        self._config = Config(connect_timeout=bound, read_timeout=bound, retries={"total_max_attempts": 1})
        self._endpoint = properties.get("endpointOverride")
        self._session = boto3.Session(
            aws_access_key_id=properties.get("accessKeyId"),
            aws_secret_access_key=properties.get("secretKeyId"),
            aws_session_token=properties.get("sessionToken"),
            region_name=properties.get("region"),
        )
        self._clients: dict[str, Any] = {}
        try:
            for service in ("batch", "logs", "s3"):
                self._clients[service] = self._session.client(service, endpoint_url=self._endpoint, config=self._config)
        except NoRegionError:
            raise NoAccess(
                "the region is not known: write taskRunner.region, or set AWS_REGION for the worker"
            ) from None
        except (BotoCoreError, ValueError) as error:
            raise NoAccess(f"AWS can't be used: {error}") from error

    def close(self) -> None:
        """Let go of the connections."""
        for client in self._clients.values():
            client.close()

    async def call(self, service: str, method: str, **arguments: Any) -> dict[str, Any]:
        """One call that may be repeated, until it works. Raises Refused, NoAccess, Away."""
        return await persist(lambda: self.once(service, method, **arguments), self.patience)

    async def once(self, service: str, method: str, **arguments: Any) -> dict[str, Any]:
        """One call. Raises Passing, Refused, NoAccess."""
        return await self._do(service, method, lambda: dict(getattr(self._clients[service], method)(**arguments)))

    async def upload(self, bucket: str, key: str, path: Path) -> None:
        """Put a file into a bucket. Raises as `call`."""

        def put() -> None:
            with path.open("rb") as file:
                self._clients["s3"].put_object(Bucket=bucket, Key=key, Body=file)

        await persist(lambda: self._do("s3", "put_object", put), self.patience)

    async def download(self, bucket: str, key: str, to: Path) -> None:
        """Write what is in a bucket to a file. Raises as `call`."""

        def get() -> None:
            with to.open("wb") as file:
                shutil.copyfileobj(self._clients["s3"].get_object(Bucket=bucket, Key=key)["Body"], file, 1 << 20)

        await persist(lambda: self._do("s3", "get_object", get), self.patience)

    async def _do(self, service: str, method: str, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except ClientError as error:
            raise self._refusal(service, method, error) from error
        except (EndpointConnectionError, HTTPClientError) as error:
            raise Passing(f"AWS can't be reached ({service}): {error}") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise NoAccess(
                f"{error}: write accessKeyId and secretKeyId in taskRunner, or give the worker a profile or role"
            ) from error
        except BotoCoreError as error:  # what the library itself finds wrong with what we ask
            raise Refused("Invalid", f"AWS can't be asked for {service}.{method}: {error}") from error

    def _refusal(self, service: str, method: str, error: ClientError) -> Exception:
        said = error.response.get("Error", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", "")) or "no message"
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        action = f"{service}:{error.operation_name}"
        if status >= 500 or status == 429 or code.startswith(_PASSING):
            return Passing(f"AWS answers {action} with {code} ({status}): {message}")
        if code.startswith(_UNKNOWN):
            return NoAccess(
                f"AWS does not know this worker ({code}): {message}; look at accessKeyId and secretKeyId in "
                "taskRunner, or at the worker's profile or role"
            )
        if code.startswith(_REFUSED) or status == 403:
            return Refused(
                code,
                f"AWS refuses {action} ({code}): {message}; the worker's user or role needs that right (README.md "
                "lists all that it needs)",
            )
        return Refused(code, f"AWS refuses {action} ({code}): {message}")
