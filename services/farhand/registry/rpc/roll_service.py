"""RollService."""

from farhand.api.registry.v1 import roll_service_pb2 as api
from farhand.api.registry.v1.roll_service_pb2_grpc import RollServiceServicer
from farhand.kernel import names
from farhand.kernel.errors import InvalidArgument, Violation
from farhand.registry.core import page, worker
from farhand.registry.core.worker import PRESENT, WorkerState
from farhand.registry.rpc.callers import visibility
from farhand.registry.rpc.pages import fill
from farhand.registry.rpc.wire_worker import report_of, state_of, worker_message
from farhand.registry.store import roll
from farhand.registry.store.transactions import Transactions


class RollService(RollServiceServicer):
    """Keeps the roll."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def GetWorker(self, request: api.GetWorkerRequest, context: object) -> api.GetWorkerResponse:
        """Read one."""
        if not request.id:
            raise InvalidArgument.of(Violation("id", "must not be empty"))
        sees = visibility(context)
        async with self._transactions.reading() as connection:
            well_formed = not names.check_worker_id("id", request.id)
            found = await roll.get(connection, request.id, sees.tenants) if well_formed else None
            if found is None:
                known = await roll.ids_like(connection, request.id, sees.tenants)
                raise names.not_found("worker", request.id, known)
        return api.GetWorkerResponse(worker=worker_message(sees.of_worker(found)))

    async def ListWorkers(self, request: api.ListWorkersRequest, context: object) -> api.ListWorkersResponse:
        """Read a page."""
        sees = visibility(context)
        violations, states = [], set[WorkerState]()
        for index, number in enumerate(request.states):
            if (state := state_of(number)) is None:
                violations.append(Violation(f"states[{index}]", f"{number} is no state; {', '.join(WorkerState)} are"))
            else:
                states.add(state)
        group = names.group_key(request.worker_group) if request.worker_group else None
        if group:
            violations += names.check_group_key("worker_group", group)
        if violations:
            raise InvalidArgument.of(*violations)
        wanted = roll.Filter(group, sorted(states or PRESENT), sees.tenants)
        scope = ("workers", request.worker_group, *wanted.states)
        size, after = page.size(request.page_size), page.after(scope, request.page_token)
        async with self._transactions.reading() as connection:
            found = await roll.page(connection, wanted, after, size + 1)
        response = api.ListWorkersResponse()
        response.next_page_token = fill(
            response.workers,
            found,
            size,
            lambda row: worker_message(sees.of_worker(row)),
            lambda row: row.id,
            scope,
        )
        return response

    async def ReportWorkers(self, request: api.ReportWorkersRequest, context: object) -> api.ReportWorkersResponse:
        """Record rows, each only where it is newer than what is known."""
        if len(request.reports) > worker.MOST_REPORTS:
            said = f"has {len(request.reports)} rows; at most {worker.MOST_REPORTS} are allowed"
            raise InvalidArgument.of(Violation("reports", said))
        violations: list[Violation] = []
        reports = []
        for index, message in enumerate(request.reports):
            path = f"reports[{index}]"
            report = report_of(path, message, violations)
            violations += worker.check(path, report)
            reports.append(report)
        if violations:
            raise InvalidArgument.of(*violations)
        async with self._transactions.changing() as connection:
            await roll.put(connection, worker.newest(reports))
        return api.ReportWorkersResponse()
