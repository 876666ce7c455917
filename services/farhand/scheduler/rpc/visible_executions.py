"""Executions as a caller may see them, whole or in part: another tenant's is not there."""

from collections import OrderedDict
from collections.abc import Mapping

from farhand.api.scheduler.v1.execution_pb2 import Execution
from farhand.kernel.errors import NotFound
from farhand.kernel.flow import Flow
from farhand.kernel.job_id import execution_id, execution_key
from farhand.kernel.names import shown
from farhand.runtime.security import Identity
from farhand.scheduler.core.execution_record import ExecutionRecord, TaskRunRecord
from farhand.scheduler.core.flow_outline import Place, outline
from farhand.scheduler.rpc.execution_wire import execution_message, task_run_message
from farhand.scheduler.store.execution_reads import (
    read_definition,
    read_execution,
    read_run_outputs,
    read_task_runs,
)
from farhand.scheduler.store.reading import Reading

OUTPUT_BYTES = 1 << 20  # of one execution, in one answer
_OUTLINES = 128  # flows that are kept


class VisibleExecutions:
    """Finds executions for callers."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._outlines: OrderedDict[int, Mapping[str, Place]] = OrderedDict()

    async def find(self, id: str, caller: Identity) -> ExecutionRecord:
        """The execution. Raises NotFound, Unavailable."""
        key = execution_key(id)
        record = None
        if key is not None:
            async with self._reading.connection() as connection:
                record = await read_execution(connection, key)
        if record is None or not caller.admits_tenant(record.tenant):
            raise _no_execution(id)
        return record

    async def again(self, key: int) -> ExecutionRecord:
        """One that was found before, as it is now. Raises NotFound where it was cleared away meanwhile."""
        async with self._reading.connection() as connection:
            record = await read_execution(connection, key)
        if record is None:
            raise _no_execution(execution_id(key))
        return record

    async def with_task_runs(self, key: int) -> tuple[ExecutionRecord, list[TaskRunRecord]]:
        """One that was found before, with its task runs in the order of their creation. The execution is read first:
        where it has ended, its task runs have. Raises NotFound where it was cleared away meanwhile."""
        async with self._reading.connection() as connection:
            record = await read_execution(connection, key)
            if record is None:
                raise _no_execution(execution_id(key))
            return record, await read_task_runs(connection, key)

    async def whole(self, key: int) -> Execution:
        """The execution with all that is known of it: inputs, history, task runs, and their outputs as far as they
        fit; the others are said to be left out. Raises NotFound, Unavailable."""
        record, runs = await self.with_task_runs(key)
        outputs: dict[int, bytes | None] = {}
        if runs:
            async with self._reading.connection() as connection:
                outputs = await read_run_outputs(connection, key, OUTPUT_BYTES)
        places = await self.places(record)
        message = execution_message(record)
        for run in runs:
            told = message.task_runs.add()
            told.CopyFrom(task_run_message(run, places))
            if (given := outputs.get(run.key)) is not None:
                told.outputs.ParseFromString(given)
            told.outputs_left_out = run.key in outputs and given is None
        return message

    async def places(self, record: ExecutionRecord) -> Mapping[str, Place]:
        """Where the tasks of its flow stand, by id."""
        if record.flow_key not in self._outlines:
            async with self._reading.connection() as connection:
                definition = await read_definition(connection, record.flow_key)
            self._outlines[record.flow_key] = outline(Flow.from_json(definition)) if definition else {}
            while len(self._outlines) > _OUTLINES:
                self._outlines.popitem(last=False)
            return self._outlines[record.flow_key]
        self._outlines.move_to_end(record.flow_key)
        return self._outlines[record.flow_key]


def _no_execution(id: str) -> NotFound:
    return NotFound(f"There is no execution {shown(id)}. `farhand execution list` shows those that are.")
