"""The files of one run: what its task may fetch and store, in the words of tasks/base.py."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from farhand.api.worker.v1 import file_service_pb2 as api
from farhand.worker.core.slots import JobKey
from farhand.worker.file_cache import FileCache
from farhand.worker.file_transfers import FileTransfers
from farhand.worker.tasks.base import NamespaceFile


class WorkerFiles:
    """What all runs of a worker share."""

    def __init__(self, transfers: FileTransfers, cache: FileCache) -> None:
        self._transfers = transfers
        self._cache = cache

    def of(self, key: JobKey, log: Callable[[str], None]) -> "RunFiles":
        """The files of one run. `log` gets a line when something has to be waited for."""
        return RunFiles(key, self._transfers, self._cache, log)


class RunFiles:
    """See tasks.base.Files. `doing` is what is under way, for people: empty, or e.g. "it stored a.csv"."""

    def __init__(self, key: JobKey, transfers: FileTransfers, cache: FileCache, log: Callable[[str], None]) -> None:
        self.doing = ""
        self._key = key
        self._transfers = transfers
        self._cache = cache
        self._log = log
        self.stopped = False

    def stop(self) -> None:
        """The run is to end."""
        self.stopped = True

    async def download(self, uri: str, to: Path) -> None:
        """See Files.download."""
        request = api.DownloadFileRequest(job_id=self._key[0], fence=self._key[1], uri=uri)
        await self._transfers.download(request, to, self._begin(f"it fetched {uri}"))
        self.doing = ""

    async def upload(self, file: BinaryIO, path: str) -> str:
        """See Files.upload."""
        uri = await self._transfers.upload(self._key, path, file, self._begin(f"it stored the output file {path}"))
        self.doing = ""
        return uri

    async def namespace_files(self) -> Sequence[NamespaceFile]:
        """See Files.namespace_files."""
        found = await self._transfers.namespace_files(self._key, self._begin("it listed the namespace's files"))
        self.doing = ""
        return [NamespaceFile(file.namespace, file.path, file.digest, file.size) for file in found]

    async def copy_namespace_file(self, file: NamespaceFile, to: Path) -> None:
        """See Files.copy_namespace_file."""
        waiting = self._begin(f"it fetched the namespace file {file.path}")
        request = api.DownloadFileRequest(
            job_id=self._key[0],
            fence=self._key[1],
            namespace_file=api.JobNamespaceFile(
                namespace=file.namespace, path=file.path, digest=file.digest, size=file.size
            ),
        )
        await self._cache.copy(file.digest, to, lambda path: self._transfers.download(request, path, waiting))
        self.doing = ""

    def _begin(self, doing: str) -> Callable[[str], None]:
        self.doing = doing

        def waiting(why: str) -> None:
            if self.doing == doing:  # told once
                self._log(f"while {doing}: {why}; trying again")
            self.doing = f"{doing} ({why})"

        return waiting
