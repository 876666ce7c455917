"""One run in a cluster, from the claim of the Job's name to its deletion.

claim    create the Job. Its name is the job's: where it is taken by a run of an older fence, that one is deleted
         with its pods, and ours is created once it is gone; by a newer fence: ours must not run (P1, P4)
follow   watch the pod, read its log, and renew the Job's leash; all three go on where they stopped when the
         server was away, for as long as the patience lasts
fetch    the output files, from the container that waited with them
clean    delete the Job, whatever happened. Killed before that, the Job ends when its leash does; or earlier, by
         the claim of the job's next run
"""

import asyncio
import secrets
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from farhand.kernel.durations import format_duration, parse_duration
from farhand.worker.runners import CommandEnd
from farhand.worker.runners.client import Lost, NeverRan
from farhand.worker.runners.hosted import Task
from farhand.worker.runners.kubernetes import files
from farhand.worker.runners.kubernetes import pod as pods
from farhand.worker.runners.kubernetes.api import TRY, Cluster, NoAccess, Refused
from farhand.worker.runners.kubernetes.log_position import LogPosition
from farhand.worker.runners.kubernetes.manifest import (
    FENCE,
    JOB,
    LEASH,
    MAIN,
    RUN,
    Wanted,
    job_name,
    manifest,
)
from farhand.worker.runners.patience import PATIENCE, Away, Passing, Pauses

WAIT_UNTIL_RUNNING = 600.0  # seconds
RENEWAL = 60.0  # seconds between two renewals of the leash
LOOK = 0.5  # seconds between two looks at something that ends


class KubernetesClient:
    """See runners.client.Client. A setting `patience` (seconds) says how long a server may be away."""

    async def run(self, task: Task, stop: asyncio.Event) -> CommandEnd:
        """See runners.client.Client.run."""
        patience = float(task.settings.get("patience", PATIENCE))
        try:
            async with Cluster.open(task.properties, patience) as cluster:
                return await _Run(cluster, task, stop).live()
        except NoAccess as error:
            raise NeverRan(str(error)) from error


class _Run:
    def __init__(self, cluster: Cluster, task: Task, stop: asyncio.Event) -> None:
        self._cluster = cluster
        self._task = task
        self._stop = stop
        self._folder = Path(task.folder)
        self._limits = (task.properties.get("resources") or {}).get("limit") or {}
        self._wanted = Wanted(
            name=job_name(task.env.get("FARHAND_GROUP_UID", ""), task.run_id, task.env["FARHAND_JOB_ID"]),
            run=secrets.token_hex(8),
            job=task.env["FARHAND_JOB_ID"],
            fence=int(task.env["FARHAND_FENCE"]),
            argv=task.argv,
            env=task.env,
            image=task.image,
            properties=task.properties,
            brings_files=any(self._folder.iterdir()),
            hands_out_files=bool(task.output_files),
        )
        self._uid = ""  # the Job's, once it is ours
        self._asked = False  # it may be there, though we were not told
        self._born = time.monotonic()  # of the run; the Job is younger
        self._pod: dict[str, Any] | None = None
        self._started = asyncio.Event()  # the command did
        self._ended = asyncio.Event()  # the command did, so its log has an end
        self._log = LogPosition()
        self._told: set[str] = set()  # reasons to wait that are in the log

    # ── the whole ──

    async def live(self) -> CommandEnd:
        body = asyncio.create_task(self._from_claim_to_fetch())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([body, stopping], return_when=asyncio.FIRST_COMPLETED)
            if body.done():
                return await body
            if self._uid:
                # The rest goes on: it reads the last words, and sees the end.
                await self._cluster.delete_job(self._wanted.name, self._uid)
                return await body
            return CommandEnd(-signal.SIGTERM)
        except Refused as error:
            raise (Lost if self._started.is_set() else NeverRan)(str(error)) from error
        except NoAccess as error:
            raise (Lost if self._uid else NeverRan)(str(error)) from error
        except Away as error:
            why = f"{error} (tried for {format_duration(self._cluster.patience)})"
            self._cluster.patience = 0.0  # for what is still to be cleaned
            if not self._uid:
                raise NeverRan(why) from error
            raise Lost(
                f"{why}; the Job {self._wanted.name} in the namespace {self._cluster.namespace} ends by itself within "
                f"{format_duration(LEASH)}, or is deleted by the next run of this job"
            ) from error
        finally:
            for task in (body, stopping):
                task.cancel()
            await asyncio.gather(body, stopping, return_exceptions=True)
            await self._clean()

    async def _from_claim_to_fetch(self) -> CommandEnd:
        await self._claim()
        following = asyncio.create_task(self._follow(), name="pod")
        others = [asyncio.create_task(self._renew(), name="leash"), asyncio.create_task(self._read_log(), name="log")]
        for task in others:
            task.add_done_callback(lambda task: following.cancel() if _error(task) else None)
        try:
            try:
                state = await following
            except asyncio.CancelledError:
                for error in map(_error, others):
                    if error is not None:
                        raise error from None
                raise
            if isinstance(state, pods.Hopeless):
                raise NeverRan(state.why)
            self._ended.set()
            if isinstance(state, pods.Gone):
                await asyncio.wait([others[1]], timeout=LOOK)  # its last words may still be on their way
                if self._stop.is_set():
                    return CommandEnd(-signal.SIGTERM)
                raise Lost(state.why)
            await others[1]
            return await self._with_files(state)
        finally:
            following.cancel()
            for task in others:
                task.cancel()
            await asyncio.gather(following, *others, return_exceptions=True)

    async def _with_files(self, state: pods.Ended) -> CommandEnd:
        end = CommandEnd(state.exit_code, state.reason, state.why)
        if not self._wanted.hands_out_files or self._stop.is_set():
            return end
        if self._pod is None or not pods.out_runs(self._pod):
            return end if end.reason else CommandEnd(end.exit_code, "OUTPUT_FILES_FAILED", "the pod is gone with them")
        try:
            await files.hand_out(self._cluster, _name(self._pod), self._task.output_files, self._folder)
        except (files.FilesFailed, Refused, Away) as error:
            why = f"the output files can't be fetched from the pod: {error}"
            return end if end.reason else CommandEnd(end.exit_code, "OUTPUT_FILES_FAILED", why)
        return end

    # ── claim ──

    async def _claim(self) -> None:
        told = False
        deadline = time.monotonic() + self._cluster.patience
        while (taken := await self._create()) is not None:
            labels = taken["metadata"].get("labels") or {}
            self._may_replace(labels)
            if not told:
                told = True
                _complain(
                    f"a run of this job before (fence {labels[FENCE]}) is still in the cluster: deleting it first"
                )
            await self._cluster.delete_job(self._wanted.name, taken["metadata"]["uid"])
            if time.monotonic() > deadline:
                raise NeverRan(
                    f"the Job {self._wanted.name} of an earlier run of this job was deleted, and is not gone after "
                    f"{format_duration(self._cluster.patience)}: its node may be lost. When you are sure that its pod "
                    f"is dead: kubectl delete pod --force -n {self._cluster.namespace} -l {JOB}={self._wanted.job}"
                )
            await asyncio.sleep(LOOK)

    async def _create(self) -> dict[str, Any] | None:
        """Create the Job; or the one that has its name."""

        async def create() -> None:
            self._asked = True
            job = await self._cluster.create_job(manifest(self._wanted))
            self._uid = job["metadata"]["uid"]

        try:
            # Not to be broken off: a Job that was asked for must be known, or nobody deletes it.
            await _whole(create())
            return None
        except Refused as error:
            if error.status != 409:
                raise
        taken = await self._cluster.job(self._wanted.name)
        if taken is None:  # gone since
            return await self._create()
        if not self._is_ours(taken):
            return taken
        self._uid = taken["metadata"]["uid"]  # the answer to our first try was lost
        return None

    def _is_ours(self, job: dict[str, Any]) -> bool:
        return (job["metadata"].get("labels") or {}).get(RUN) == self._wanted.run

    def _may_replace(self, labels: dict[str, str]) -> None:
        if labels.get(JOB) != self._wanted.job or not labels.get(FENCE, "").isdigit():
            raise NeverRan(
                f"there is a Job {self._wanted.name} in the namespace {self._cluster.namespace} that Farhand did not "
                "make: delete or rename it"
            )
        if int(labels[FENCE]) >= self._wanted.fence:
            raise NeverRan(
                f"the job runs in the cluster under the fence {labels[FENCE]}, and this run has the fence "
                f"{self._wanted.fence}: it is not this worker's any more"
            )

    # ── follow ──

    async def _follow(self) -> pods.Ended | pods.Hopeless | pods.Gone:
        """Watch the pod until the command has ended, or can't."""
        pauses = Pauses(self._cluster.patience)
        selector = f"{RUN}={self._wanted.run}"
        wait = parse_duration(str(self._task.properties.get("waitUntilRunning") or WAIT_UNTIL_RUNNING))
        brought = False
        while True:
            try:
                found, version = await self._cluster.pods(selector)
                state = await self._take(found)
                if isinstance(state, pods.Ended | pods.Hopeless | pods.Gone):
                    return state
                async with asyncio.timeout(None if self._started.is_set() else self._born + wait - time.monotonic()):
                    if isinstance(state, pods.Arriving) and not brought:
                        await self._bring_in()
                        brought = True
                    async with aclosing(self._cluster.changes(selector, version)) as changes:
                        async for kind, pod in changes:
                            pauses.worked()
                            self._pod = pod
                            if kind == "DELETED" or _changed(state, pods.state_of(pod, limits=self._limits)):
                                break
            except TimeoutError:
                raise NeverRan(await self._why_not_running(wait)) from None
            except Passing as why:
                await pauses.failed(why)
            else:
                pauses.worked()

    async def _take(self, found: list[dict[str, Any]]) -> pods.State:
        """Look at what the cluster lists."""
        if found:
            # One at a time; where a pod was replaced against our wish, the one that ran counts.
            self._pod = min(found, key=lambda pod: pod["metadata"]["creationTimestamp"])
            state = pods.state_of(self._pod, limits=self._limits)
            if isinstance(state, pods.Running | pods.Ended):
                self._started.set()
            if isinstance(state, pods.Waiting) and state.grave and state.why not in self._told:
                self._told.add(state.why)
                _complain(f"waiting: {state.why}")
            return state
        if self._pod is not None:
            state = pods.state_of(self._pod, limits=self._limits)
            if isinstance(state, pods.Ended) and (state.exit_code == 0 or self._stop.is_set()):
                return state
            return pods.Gone(f"the pod {_name(self._pod)} was deleted before its command ended; not by this worker")
        job = await self._cluster.job(self._wanted.name)
        if job is None or job["metadata"]["uid"] != self._uid:
            return pods.Gone(f"the Job {self._wanted.name} was deleted; not by this worker")
        for condition in (job.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "Failed" and condition.get("status") == "True":
                return pods.Hopeless(f"the Job failed ({condition.get('reason')}): {condition.get('message')}")
        return pods.Waiting("no pod was made for the Job yet")

    async def _bring_in(self) -> None:
        assert self._pod is not None
        try:
            await files.bring_in(self._cluster, _name(self._pod), self._folder)
        except files.FilesFailed as error:
            found, _ = await self._cluster.pods(f"{RUN}={self._wanted.run}")
            if not (found and pods.arrived(found[0])):  # else only the word of their arrival was lost
                raise NeverRan(f"the input files can't be put into the pod: {error}") from error

    async def _why_not_running(self, wait: float) -> str:
        state = pods.state_of(self._pod, limits=self._limits) if self._pod else pods.Waiting("there is no pod")
        why = state.why if isinstance(state, pods.Waiting) else "its input files have not arrived"
        if self._pod is None and (reasons := await self._cluster.reasons(self._uid)):
            why = f"no pod could be made: {reasons[-1]}"
        return f"the command has not started within {format_duration(wait)} (waitUntilRunning): {why}"

    async def _read_log(self) -> None:
        """Print the log as it comes; ends when the command has ended and all of it was read."""
        await self._started.wait()
        pauses = Pauses(self._cluster.patience)
        while True:
            whole = self._ended.is_set()
            assert self._pod is not None
            try:
                self._log.begin()
                log = self._cluster.log(_name(self._pod), MAIN, self._log.since, follow=not whole)
                async with aclosing(log):
                    async for chunk in log:
                        pauses.worked()
                        _print(self._log.feed(chunk))
                if whole:
                    _print(self._log.finish())
                    return
                pauses.worked()
                await self._moment()
            except Passing as why:
                await pauses.failed(why)
            except Refused as error:
                if error.status == 403:
                    raise
                if whole:
                    if not self._stop.is_set():
                        _complain(f"the end of the log can't be read: {error}")
                    return
                await self._moment()  # 400: the container is not ready to be asked; 404: the pod is gone, we shall hear

    async def _moment(self) -> None:
        """Until the command has ended, but not for long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), LOOK)

    async def _renew(self) -> None:
        """Keep the Job alive. Its leash counts from its start, by the cluster's clock; ours from a little before."""
        while True:
            try:
                await self._cluster.renew(self._wanted.name, int(time.monotonic() - self._born) + LEASH)
            except Refused as error:
                if error.status == 404:  # deleted; who follows its pod will see what that means
                    return
                raise
            await asyncio.sleep(RENEWAL)

    # ── end ──

    async def _knows(self) -> bool:
        """There may be a Job of ours; then we know which."""
        if not self._uid and self._asked:
            job = await self._cluster.job(self._wanted.name)
            if job is not None and self._is_ours(job):
                self._uid = job["metadata"]["uid"]
        return bool(self._uid)

    async def _clean(self) -> None:
        try:
            if await self._knows():
                await self._cluster.delete_job(self._wanted.name, self._uid)
        except (Refused, Away, NoAccess) as error:
            if self._uid:
                _complain(f"the Job {self._wanted.name} can't be deleted, and ends when its leash does: {error}")


async def _whole(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await it, also where we are cancelled meanwhile; then for the time of one answer."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=TRY)
        task.cancel()
        raise


def _error(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def _changed(before: pods.State, now: pods.State) -> bool:
    """Whether a look at the whole is due. Why something waits may change often, and is asked for at the end alone."""
    return type(before) is not type(now) or (isinstance(now, pods.Waiting) and now.grave and before != now)


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _print(lines: list[bytes]) -> None:
    if lines:
        sys.stdout.buffer.write(b"\n".join([*lines, b""]))
        sys.stdout.buffer.flush()


def _complain(why: str) -> None:
    print(why, file=sys.stderr, flush=True)
