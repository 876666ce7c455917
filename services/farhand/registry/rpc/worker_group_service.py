"""WorkerGroupService."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from farhand.api.registry.v1 import worker_group_service_pb2 as api
from farhand.api.registry.v1.worker_group_service_pb2_grpc import WorkerGroupServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, ResourceExists, Violation
from farhand.registry.core import deletion, page, request_id, worker_group
from farhand.registry.core.change import Change, Put, Removed
from farhand.registry.core.etag import check_etag
from farhand.registry.core.update_mask import concerning, fields_to_change
from farhand.registry.core.visibility import Visibility
from farhand.registry.core.worker_group import GroupState, Refusal, WorkerGroup
from farhand.registry.rpc import wire
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.group_deletion import GroupDeletion
from farhand.registry.rpc.pages import fill
from farhand.registry.store import changes, flows, namespaces, requests, tenants, worker_groups
from farhand.registry.store.transactions import Transactions

_EVERYTHING = Visibility(None)


class WorkerGroupService(WorkerGroupServiceServicer):
    """Manages worker groups."""

    def __init__(
        self,
        transactions: Transactions,
        deletions: GroupDeletion,
        *,
        lease_floor: timedelta,
        new_uid: Callable[[], str],
    ) -> None:
        self._transactions = transactions
        self._deletions = deletions
        self._lease_floor = lease_floor
        self._new_uid = new_uid

    async def CreateWorkerGroup(
        self, request: api.CreateWorkerGroupRequest, context: object
    ) -> api.CreateWorkerGroupResponse:
        """Make one."""
        violations: list[Violation] = []
        asked = wire.worker_group_asked(request.worker_group, violations)
        violations += names.check_group_key("worker_group.key", asked.key)
        violations += worker_group.check(asked, self._lease_floor)
        violations += request_id.check(request.request_id)
        if violations:
            raise InvalidArgument.of(*violations)
        asked = worker_group.normalized(asked)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await requests.answered(connection, request.request_id, asked)
            if stored is None:
                if (other := await worker_groups.get(connection, asked.key)) is not None:
                    raise _exists(other)
                await _check_tenants(connection, asked.allowed_tenants + asked.named_in_quotas)
                stored = await worker_groups.insert(connection, replace(asked, uid=self._new_uid()), revision)
                await changes.record(connection, Change(revision, Put(stored)))
                await requests.remember(connection, request.request_id, asked, stored)
        return api.CreateWorkerGroupResponse(worker_group=wire.worker_group_message(stored))

    async def GetWorkerGroup(self, request: api.GetWorkerGroupRequest, context: object) -> api.GetWorkerGroupResponse:
        """Read one."""
        sees = visibility(context)
        async with self._transactions.reading() as connection:
            found = await _existing(connection, request.key, sees)
        return api.GetWorkerGroupResponse(worker_group=wire.worker_group_message(sees.of_group(found)))

    async def ListWorkerGroups(
        self, request: api.ListWorkerGroupsRequest, context: object
    ) -> api.ListWorkerGroupsResponse:
        """Read a page, the default group first."""
        scope = ("worker_groups",)
        sees = visibility(context)
        size, after = page.size(request.page_size), page.after(scope, request.page_token)
        async with self._transactions.reading() as connection:
            found = await worker_groups.page(connection, sees.tenants, after, size + 1)
        response = api.ListWorkerGroupsResponse()
        response.next_page_token = fill(
            response.worker_groups,
            found,
            size,
            lambda row: wire.worker_group_message(sees.of_group(row)),
            lambda row: row.key,
            scope,
        )
        return response

    async def UpdateWorkerGroup(
        self, request: api.UpdateWorkerGroupRequest, context: object
    ) -> api.UpdateWorkerGroupResponse:
        """Change fields of one; nothing changes, and its etag stays, when they have these values already."""
        message = request.worker_group
        violations: list[Violation] = []
        asked = wire.worker_group_asked(message, violations)
        fields, wrong = fields_to_change(
            request.update_mask.paths, wire.set_fields(message), worker_group.CHANGEABLE, wire.all_fields(message)
        )
        violations = concerning(fields, violations) + wrong + worker_group.check(asked, self._lease_floor, fields)
        if violations:
            raise InvalidArgument.of(*violations)
        asked = worker_group.normalized(asked)
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await _existing(connection, asked.key, _EVERYTHING)
            check_etag(message.etag, _label(stored), stored.revision)
            changed = replace(stored, **{field: getattr(asked, field) for field in fields})
            if changed != stored:
                await _check_tenants(connection, changed.allowed_tenants + changed.named_in_quotas)
                stored = await worker_groups.update(connection, changed, revision)
                await changes.record(connection, Change(revision, Put(stored)))
        return api.UpdateWorkerGroupResponse(worker_group=wire.worker_group_message(stored))

    async def DeleteWorkerGroup(
        self, request: api.DeleteWorkerGroupRequest, context: object
    ) -> api.DeleteWorkerGroupResponse:
        """Ask the scheduler to finish with it, and wait a while for the answer."""
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await _existing(connection, request.key, _EVERYTHING)
            # Who asks again may still hold the etag from before the first time.
            check_etag(request.etag, _label(stored), stored.revision, stored.deleting_since)
            marked = deletion.step(stored, deletion.Asked(request.force))
            assert marked is not None
            deletion.check_unused(
                stored,
                await tenants.naming_group(connection, stored.key),
                await namespaces.naming_group(connection, stored.key),
                await flows.naming_group(connection, stored.key),
            )
            if marked != stored:
                marked = await worker_groups.update(connection, marked, revision)
                await changes.record(connection, Change(revision, Put(marked)))
        left = await self._deletions.outcome(stored.uid)
        return api.DeleteWorkerGroupResponse(worker_group=None if left is None else wire.worker_group_message(left))

    async def ResolveWorkerGroupDeletion(
        self, request: api.ResolveWorkerGroupDeletionRequest, context: object
    ) -> api.ResolveWorkerGroupDeletionResponse:
        """Take the scheduler's answer: without jobs the group goes, with jobs it is ACTIVE again."""
        uid = request.uid
        violations = names.check_text("uid", uid, 100) if uid else [Violation("uid", "must not be empty")]
        for path in ("queued_jobs", "running_jobs"):
            if getattr(request, path) < 0:
                violations.append(Violation(path, "must not be negative"))
        if violations:
            raise InvalidArgument.of(*violations)
        answer: deletion.Event = deletion.Finished()
        if request.queued_jobs or request.running_jobs:
            answer = deletion.Refused(Refusal(request.queued_jobs, request.running_jobs))
        async with self._transactions.changing() as connection:
            revision = await changes.lock(connection) + 1
            stored = await worker_groups.get_by_uid(connection, uid)
            if stored is None:
                if isinstance(answer, deletion.Finished) and await changes.removed_uid(connection, uid):
                    return api.ResolveWorkerGroupDeletionResponse()  # this answer came before
                raise names.not_found("worker group with the uid", uid)
            after = deletion.step(stored, answer)
            if after is None:
                await worker_groups.delete(connection, uid)
                await changes.record(connection, Change(revision, Removed(stored)))
            elif after != stored:
                kept = await worker_groups.update(connection, after, revision)
                await changes.record(connection, Change(revision, Put(kept)))
        return api.ResolveWorkerGroupDeletionResponse()


def _label(group: WorkerGroup) -> str:
    return f"worker group {names.shown(names.group_label(group.key))}"


def _exists(other: WorkerGroup) -> ResourceExists:
    if other.state is GroupState.DELETING:
        return ResourceExists(f"The {_label(other)} is still being deleted; create it again once it is gone.")
    return ResourceExists(f"There is a {_label(other)} already.")


async def _existing(connection: AsyncConnection, group_id: str, sees: Visibility) -> WorkerGroup:
    key = names.group_key(group_id)
    well_formed = not key or not names.check_group_key("key", key)
    found = await worker_groups.get(connection, key) if well_formed else None
    if found is not None and sees.sees_group(found):
        return found
    label = names.group_label(key)
    raise names.not_found("worker group", label, await worker_groups.keys_like(connection, key, sees.tenants))


async def _check_tenants(connection: AsyncConnection, named: tuple[str, ...]) -> None:
    if missing := await tenants.missing(connection, named):
        raise names.not_found("tenant", missing[0], await tenants.ids_like(connection, missing[0], None))
