"""The calls to the cluster: each bounded in time, and repeated while the server is away.

Of the official library this takes what is hard: how to find and to prove oneself to
the server (kubeconfig, plugins, service accounts), TLS, and proxies. Objects stay the
API's own JSON: its thousand models cost two seconds of every run to load.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.stream import WsApiClient

from farhand.worker.runners.patience import Away, Passing, persist

TRY = 15.0  # seconds for one answer
SILENCE = 60.0  # seconds without a byte on a stream, after which it is opened anew
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_CONNECTION = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError, OSError)
_MERGE = "application/merge-patch+json"


class NoAccess(Exception):
    """There is no way to the server that we know of, or it does not know us. For people, with what to do."""


class Refused(Exception):
    """The server's final no. `status` is HTTP's; the message is for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """One namespace of one cluster."""

    def __init__(self, configuration: Configuration, properties: Mapping[str, Any], patience: float) -> None:
        self.namespace: str = properties.get("namespace") or "default"
        self.patience = patience
        self._try = min(TRY, patience)
        self._properties = properties
        self._client = ApiClient(configuration)
        self._sockets = WsApiClient(configuration, heartbeat=30)

    @classmethod
    @asynccontextmanager
    async def open(cls, properties: Mapping[str, Any], patience: float) -> AsyncIterator[Self]:
        """Find the cluster. Raises NoAccess where there is none to find."""
        cluster = cls(await _configuration(properties.get("config")), properties, patience)
        try:
            yield cluster
        finally:
            await cluster._client.close()
            await cluster._sockets.close()

    @property
    def address(self) -> str:
        """The server's, for people."""
        return str(self._client.configuration.host)

    # ── what is asked of it ──

    async def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create it. Raises Refused (409: the name is taken)."""
        return await self._call("POST", self._jobs(), "create", "jobs", body=manifest)

    async def job(self, name: str) -> dict[str, Any] | None:
        """The Job; None: there is none."""
        try:
            return await self._call("GET", self._jobs(name), "get", "jobs")
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def renew(self, name: str, deadline: int) -> None:
        """Have the cluster end the Job `deadline` seconds after its start."""
        patch = {"spec": {"activeDeadlineSeconds": deadline}}
        await self._call("PATCH", self._jobs(name), "patch", "jobs", body=patch, content=_MERGE)

    async def delete_job(self, name: str, uid: str) -> None:
        """Have that very Job deleted, its pods first. Returns once that is promised; a Job that is gone is well."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", self._jobs(name), "delete", "jobs", body=options)
        except Refused as error:
            if error.status not in (404, 409):  # 409: another Job has the name by now
                raise

    async def pods(self, selector: str) -> tuple[list[dict[str, Any]], str]:
        """The pods that bear the labels, and from where to watch on."""
        said = await self._call("GET", self._pods(), "list", "pods", query=[("labelSelector", selector)])
        return said["items"], said["metadata"]["resourceVersion"]

    async def changes(self, selector: str, version: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """What happens to them from there on (ADDED, MODIFIED, DELETED), until the server ends the stream.

        Raises Passing where it breaks; where "too old" is among the words, list again.
        """
        query = [
            ("labelSelector", selector),
            ("resourceVersion", version),
            ("watch", "true"),
            ("timeoutSeconds", str(int(SILENCE / 2))),
        ]
        async for line in self._lines(self._pods(), "watch", "pods", query):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise Passing(str(event["object"].get("message")))
            if event["type"] != "BOOKMARK":
                yield event["type"], event["object"]

    async def log(self, pod: str, container: str, since: str | None, *, follow: bool) -> AsyncGenerator[bytes, None]:
        """The log, in pieces, each line with its time. Raises Passing where it breaks, Refused."""
        query = [("container", container), ("timestamps", "true")]
        if follow:
            query.append(("follow", "true"))
        if since:
            query.append(("sinceTime", since))
        async with self._stream(self._pods(pod) + "/log", "get", "pods/log", query) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def reasons(self, uid: str) -> list[str]:
        """What the cluster tells of an object's troubles, newest last; nothing where we may not read that."""
        query = [("fieldSelector", f"involvedObject.uid={uid},type=Warning")]
        try:
            said = await self._call("GET", f"/api/v1/namespaces/{self.namespace}/events", "list", "events", query=query)
        except (Refused, Away):
            return []
        return [f"{event.get('reason')}: {event.get('message')}" for event in said["items"]]

    @asynccontextmanager
    async def exec(
        self, pod: str, container: str, command: list[str], *, stdin: bool
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Run a command in a container; frames as in files.py. Raises Passing, Refused."""
        path = self._pods(pod) + "/exec"
        query = [("container", container), ("stdout", "true"), ("stderr", "true"), ("stdin", str(stdin).lower())]
        query += [("command", part) for part in command]
        try:
            method, url, headers, *_ = await self._serialized("GET", path, query, None, None)
            async with asyncio.timeout(self._try):
                opening = await self._sockets.call_api(method, url, header_params=headers, _preload_content=False)
                socket = await opening.response
        except aiohttp.WSServerHandshakeError as error:
            raise self._refusal(error.status, error.message, "create", "pods/exec", None) from error
        except _CONNECTION as error:
            raise Passing(self._away(error)) from error
        try:
            yield socket
        finally:
            await socket.close()

    # ── how ──

    def _jobs(self, name: str = "") -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs" + (f"/{name}" if name else "")

    def _pods(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods" + (f"/{name}" if name else "")

    async def _call(
        self,
        method: str,
        path: str,
        verb: str,
        resource: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        """One call, again and again while the server is away. Raises Refused, Away. Safe to repeat: see client.py."""
        renewed = False

        async def once() -> dict[str, Any]:
            nonlocal renewed
            async with self._answer(
                method, path, query, body, content, aiohttp.ClientTimeout(total=self._try)
            ) as answer:
                if answer.status == 401 and not renewed:
                    renewed = True  # a token lives shorter than many a run
                    self._client.configuration = await _configuration(self._properties.get("config"))
                    self._sockets.configuration = self._client.configuration
                    raise Passing("the credentials were renewed", 0)
                text = await answer.text()
                if answer.status >= 400:
                    raise self._refusal(answer.status, text, verb, resource, answer.headers.get("Retry-After"))
                return dict(json.loads(text))

        return await persist(once, self.patience)

    @asynccontextmanager
    async def _stream(
        self, path: str, verb: str, resource: str, query: list[tuple[str, str]]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(sock_connect=self._try, sock_read=SILENCE)
        async with self._answer("GET", path, query, None, "application/json", timeout) as answer:
            if answer.status >= 400:
                raise self._refusal(answer.status, await answer.text(), verb, resource, None)
            yield answer

    async def _lines(self, path: str, verb: str, resource: str, query: list[tuple[str, str]]) -> AsyncIterator[bytes]:
        async with self._stream(path, verb, resource, query) as answer:
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        body: Mapping[str, Any] | None,
        content: str,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            serialized = await self._serialized(method, path, query, body, content)
            method, url, headers, sent, _ = serialized
            response = await self._client.call_api(method, url, headers, sent, _request_timeout=timeout)
            try:
                yield response.response
            finally:
                response.response.close()
        except _CONNECTION as error:
            raise Passing(self._away(error)) from error

    async def _serialized(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]] | None,
        body: Mapping[str, Any] | None,
        content: str | None,
    ) -> tuple[Any, ...]:
        headers = {"Accept": "application/json", **({"Content-Type": content} if content else {})}
        answer = await self._client.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return tuple(answer)

    def _away(self, error: BaseException) -> str:
        why = f"it gives no answer within {self._try:g} s" if isinstance(error, TimeoutError) else str(error)
        return f"the API server {self.address} can't be reached: {why or type(error).__name__}"

    def _refusal(
        self, status: int, text: str, verb: str, resource: str, retry_after: str | None
    ) -> Refused | Passing | NoAccess:
        try:
            message = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            message = text.strip()[:500] or "no message"
        if status in _PASSING:
            after = float(retry_after) if retry_after and retry_after.isdigit() else None
            return Passing(f"the API server {self.address} answers {status}: {message}", after)
        if status == 401:
            return NoAccess(
                f"the API server {self.address} does not know this worker (401): {message}; look at the token or "
                "certificate in taskRunner.config, or at the worker's KUBECONFIG or service account"
            )
        if status == 403:
            return Refused(
                status,
                f"the API server {self.address} refuses (403): {message}; the worker's account needs the right "
                f'"{verb}" on "{resource}" in the namespace {self.namespace} (a Role and its RoleBinding; README.md '
                "lists all that it needs)",
            )
        return Refused(status, f"the API server {self.address} refuses ({status}): {message}")


async def _configuration(own: Mapping[str, Any] | None) -> Configuration:
    """From the task's `config`, or as kubectl does: KUBECONFIG or ~/.kube/config; else the pod's service account."""
    configuration = Configuration()
    try:
        if own:
            await config.load_kube_config_from_dict(_kubeconfig(own), client_configuration=configuration)
            return configuration
        paths = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        if any(Path(path).is_file() for path in paths.split(os.pathsep)):
            await config.load_kube_config(paths, client_configuration=configuration, persist_config=False)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except Exception as error:  # the library raises whatever a broken file makes it raise
        raise NoAccess(
            f"the cluster can't be found: {error}; name it in taskRunner.config, set KUBECONFIG for the worker, or run "
            "the worker in a pod with a service account"
        ) from error
    return configuration


def _kubeconfig(own: Mapping[str, Any]) -> dict[str, Any]:
    cluster = {"server": own.get("masterUrl"), "insecure-skip-tls-verify": own.get("trustCerts") in (True, "true")}
    if own.get("caCertData"):
        cluster["certificate-authority-data"] = own["caCertData"]
    theirs = {"token": "oauthToken", "client-certificate-data": "clientCertData", "client-key-data": "clientKeyData"}
    user = {name: own[ours] for name, ours in theirs.items() if own.get(ours)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "task",
        "contexts": [{"name": "task", "context": {"cluster": "task", "user": "task"}}],
        "clusters": [{"name": "task", "cluster": cluster}],
        "users": [{"name": "task", "user": user}],
    }
