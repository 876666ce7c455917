"""One line broken per guarantee, and the tests that must notice.

A sabotage names the guarantee that it breaks (design.md, Guarantees), the file, the
line as it is, the line as it would be, and the tests that are run against it.
"""

from dataclasses import dataclass

SCHEDULER = "services/farhand/scheduler"
WORKER = "services/farhand/worker"
QUEUE = f"{SCHEDULER}/store/queue.sql"

STORE = "tests/store/scheduler/test_queue.py"
GUARDS = "tests/store/scheduler/test_job_guards.py"
CONNECT = "tests/rpc/scheduler/test_connect.py"
QUOTAS = "tests/store/scheduler/test_quotas.py"
STEPPING = "tests/store/scheduler/test_stepping.py"
PLACES = "tests/store/scheduler/test_places.py"
REPEATS = "tests/store/scheduler/test_repeats_store.py"
TRIGGERS = "tests/store/scheduler/test_triggers.py"
SUBMIT = "tests/rpc/scheduler/test_submit_once.py"
SEEDS = "tests/simulation/test_seeds.py::test_no_seed_breaks_a_guarantee"
FAULTS = "tests/e2e/test_faults.py"


@dataclass(frozen=True, slots=True)
class Sabotage:
    """See the module."""

    name: str
    guarantee: str
    file: str
    line: str
    broken: str
    tests: tuple[str, ...]


SABOTAGES = [
    Sabotage(
        "a claimed job stays in the queue",
        "P1",
        QUEUE,
        "    DELETE FROM scheduler.queue q USING r WHERE q.lane_id = r.lane_id AND q.key = r.key\n",
        "    UPDATE scheduler.queue q SET lost = q.lost FROM r WHERE q.lane_id = r.lane_id AND q.key = r.key\n",
        (STORE, GUARDS),
    ),
    Sabotage(
        "a worker believes in its lease for an hour too long",
        "P1",
        f"{WORKER}/core/lease.py",
        "    return sent + duration - max(MARGIN_SECONDS, MARGIN_SHARE * duration)\n",
        "    return sent + duration + 3600\n",
        (f"{FAULTS}::test_a_worker_that_stands_still_past_its_lease_loses_its_job_before_another_starts_it",),
    ),
    Sabotage(
        "a lost assignment is not queued again",
        "P2",
        QUEUE,
        "    SELECT lane_id, key, fallback, lost FROM judged WHERE state = 'CREATED'\n",
        "    SELECT lane_id, key, fallback, lost FROM judged WHERE state = 'NEVER'\n",
        (STORE, GUARDS),
    ),
    Sabotage(
        "a recorded job stays live",
        "P3",
        QUEUE,
        "    DELETE FROM scheduler.live l USING locked k WHERE l.key = k.key\n",
        "    DELETE FROM scheduler.live l USING locked k WHERE l.key = -k.key\n",
        (STORE, GUARDS),
    ),
    Sabotage(
        "a result's fence is not looked at",
        "P4",
        QUEUE,
        "    FROM r JOIN scheduler.live l ON l.key = r.key AND l.fence = r.fence\n    JOIN scheduler.session",
        "    FROM r JOIN scheduler.live l ON l.key = r.key\n    JOIN scheduler.session",
        (GUARDS,),
    ),
    Sabotage(
        "the newest job goes first",
        "P5",
        QUEUE,
        "            SELECT lane_id, key FROM scheduler.queue WHERE lane_id = l.id ORDER BY key LIMIT $2\n",
        "            SELECT lane_id, key FROM scheduler.queue WHERE lane_id = l.id ORDER BY key DESC LIMIT $2\n",
        (STORE, CONNECT),
    ),
    Sabotage(
        "request ids are not remembered",
        "P6",
        f"{SCHEDULER}/loops/enqueue.py",
        "            if not placed.submission.request_id or (name in new and first[name] == index):\n",
        "            if not placed.submission.request_id or name:\n",
        (SUBMIT,),
    ),
    Sabotage(
        "credit is off by one",
        "P7",
        f"{SCHEDULER}/loops/stream.py",
        "min(self.limit - self.sent, MOST",
        "min(self.limit - self.sent + 1, MOST",
        (CONNECT,),
    ),
    Sabotage(
        "a draining session is still given work",
        "P8",
        QUEUE,
        "WHERE s.state = 'CONNECTED' AND NOT s.draining ORDER BY s.id FOR KEY SHARE OF s;",
        "ORDER BY s.id FOR KEY SHARE OF s;",
        (STORE,),
    ),
    Sabotage(
        "a kill is acknowledged before the worker confirms",
        "P9",
        f"{SCHEDULER}/loops/kills.py",
        '                    return not row["kill_acked"]\n',
        "                    return False\n",
        (CONNECT,),
    ),
    Sabotage(
        "a killed job's result keeps its own state",
        "P9",
        QUEUE,
        "CASE WHEN kill_at IS NULL THEN state ELSE 'KILLED' END, fence",
        "state, fence",
        (GUARDS,),
    ),
    Sabotage(
        "a cancel is forgotten when its assignment has not come yet",
        "P9",
        f"{WORKER}/core/slots.py",
        "        self._cancelled[job_id] = max(fence, self._cancelled.get(job_id, fence))\n",
        "        self._cancelled.pop(job_id, None)\n",
        ("tests/unit/worker/test_slots.py", "tests/rpc/worker/test_running_jobs.py"),
    ),
    Sabotage(
        "a credential's tenants are not looked at",
        "P10",
        f"{SCHEDULER}/loops/stream.py",
        "task_type in self.task_types and (self.tenants is None or tenant in self.tenants)",
        "task_type in self.task_types",
        (SUBMIT,),
    ),
    Sabotage(
        "an enqueue does not lock its group",
        "P11",
        QUEUE,
        "ORDER BY uid FOR KEY SHARE;",
        "ORDER BY uid;",
        (STORE,),
    ),
    Sabotage(
        "a group without a worker counts as available",
        "P11",
        QUEUE,
        "WHERE g.uid = ANY($1::text[]) AND NOT g.paused AND EXISTS (\n",
        "WHERE g.uid = ANY($1::text[]) AND NOT g.paused OR EXISTS (\n",
        (STORE,),
    ),
    Sabotage(
        "a result that was not recorded is forgotten",
        "P2",
        f"{WORKER}/agent.py",
        "event = Event.SETTLED if verdict.status in frames.SETTLING else Event.UNSETTLED",
        "event = Event.SETTLED",
        ("tests/rpc/worker/test_sessions.py",),
    ),
    Sabotage(
        "another worker's result is heard",
        "P3",
        QUEUE,
        "JOIN scheduler.session s ON s.id = l.session_id AND s.worker_id = r.worker_id",
        "JOIN scheduler.session s ON s.id = l.session_id",
        (STORE,),
    ),
    Sabotage(
        "a resume keeps what was given to others",
        "P4",
        f"{SCHEDULER}/store/sessions.py",
        'verdicts[fence] = "KEEP" if mine and phase in ("RECEIVED", "RUNNING") else "STOP"',
        'verdicts[fence] = "KEEP" if phase in ("RECEIVED", "RUNNING") else "STOP"',
        (STORE,),
    ),
    Sabotage(
        "an older epoch renews the lease",
        "P4",
        QUEUE,
        "JOIN scheduler.session s ON s.id = r.id AND s.epoch = r.epoch",
        "JOIN scheduler.session s ON s.id = r.id",
        (STORE,),
    ),
    Sabotage(
        "an older epoch is given work",
        "P8",
        QUEUE,
        "AS w(id, epoch) JOIN scheduler.session s USING (id, epoch)",
        "AS w(id, epoch) JOIN scheduler.session s USING (id)",
        (STORE,),
    ),
    Sabotage(
        "a claim does not look at the allowed tenants",
        "P10",
        f"{SCHEDULER}/loops/dispatch.py",
        "if (not allowed or lane.tenant in allowed) and lane.id not in closed\n",
        "if lane.id not in closed\n",
        (CONNECT,),
    ),
    Sabotage(
        "a lost delivery costs nothing",
        "P2",
        QUEUE,
        "l.key = ANY($3::bigint[]) THEN 1 ELSE 0 END AS lost",
        "l.key = ANY($3::bigint[]) THEN 0 ELSE 0 END AS lost",
        (STORE, GUARDS),
    ),
    Sabotage(
        "a session expires after half a lease",
        "P12",
        f"{SCHEDULER}/core/lease.py",
        "elif now - before[2] >= row.lease:",
        "elif now - before[2] >= row.lease / 2:",
        ("tests/properties/test_session_machine.py",),
    ),
    Sabotage(
        "a restarted scheduler does not wait one lease",
        "P12",
        f"{SCHEDULER}/core/lease.py",
        "                before = (row.epoch, row.renewal, now)\n",
        "                before = (row.epoch, row.renewal, now - row.lease)\n",
        ("tests/properties/test_session_machine.py",),
    ),
    Sabotage(
        "a shorter lease holds before the worker has answered for it",
        "P1",
        f"{SCHEDULER}/core/lease.py",
        "        return self.longest\n",
        "        return wanted\n",
        ("tests/properties/test_session_machine.py",),
    ),
    Sabotage(
        "a worker's id can be taken over by another credential",
        "P10",
        f"{SCHEDULER}/store/sessions.py",
        "        if subject != opening.subject:\n",
        "        if subject is None:\n",
        (STORE,),
    ),
    Sabotage(
        "the warden does not kill at the deadline",
        "P1",
        f"{WORKER}/warden/run_table.py",
        "    (_S.RUNNING, _E.FENCE): (_S.FENCED, (_F.KILL,)),\n",
        "    (_S.RUNNING, _E.FENCE): (_S.FENCED, ()),\n",
        ("tests/unit/warden", "tests/e2e/test_warden.py"),
    ),
    Sabotage(
        "a claim does not wait for its group's lock, as SKIP LOCKED would not",
        "P5",
        QUEUE,
        "FROM scheduler.worker_group WHERE uid = $1 AND NOT gone FOR NO KEY UPDATE;",
        "FROM scheduler.worker_group WHERE uid = $1 AND NOT gone;",
        (STORE,),
    ),
    Sabotage(
        "a job of a lane that is new overtakes",
        "P5",
        f"{SCHEDULER}/loops/dispatch.py",
        '            rows = [row for row in found if row["key"] <= newest]\n',
        "            rows = found\n",
        ("tests/store/scheduler/test_dispatch.py",),
    ),
    Sabotage(
        "a lost job waits behind the others",
        "P5",
        QUEUE,
        "            SELECT lane_id, key FROM scheduler.queue WHERE lane_id = l.id ORDER BY key LIMIT $2\n",
        "            SELECT lane_id, key FROM scheduler.queue WHERE lane_id = l.id ORDER BY lost, key LIMIT $2\n",
        (STORE,),
    ),
    Sabotage(
        "a lost job comes back in another group",
        "P10",
        QUEUE,
        "    SELECT lane_id, key, fallback, lost FROM judged WHERE state = 'CREATED'\n",
        "    SELECT (SELECT max(id) FROM scheduler.lane), key, fallback, lost FROM judged WHERE state = 'CREATED'\n",
        (STORE,),
    ),
    Sabotage(
        "a drain is acknowledged while a claim is on its way",
        "P8",
        f"{SCHEDULER}/loops/sessions.py",
        "        await self._listener.settled()\n        if not asked_by_worker:\n",
        "        if not asked_by_worker:\n",
        (SEEDS,),
    ),
    Sabotage(
        "a drain is not acknowledged",
        "P8",
        f"{SCHEDULER}/loops/sessions.py",
        "        if not asked_by_worker:\n            stream.put(Drain())\n        stream.put(DrainAck())\n",
        "        if not asked_by_worker:\n            stream.put(Drain())\n",
        (CONNECT,),
    ),
    Sabotage(
        "leases are watched by a wall clock",
        "P12",
        f"{SCHEDULER}/loops/janitor.py",
        "now: Callable[[], float] = time.monotonic)",
        "now: Callable[[], float] = time.time)",
        ("tests/unit/scheduler/test_janitor.py",),
    ),
    Sabotage(
        "a session expires by the database's clock",
        "P12",
        QUEUE,
        "WHERE id = $1 AND epoch = $2 AND renewal = $3 AND state IN",
        "WHERE id = $1 AND epoch = $2 AND heartbeat_at < now() - lease_ms * interval '1 ms' AND state IN",
        (STORE,),
    ),
    Sabotage(
        "a result is acknowledged before it is committed",
        "P2",
        f"{SCHEDULER}/loops/results.py",
        "        answers = await self.completions.put(completions)\n",
        '        stream.put(ResultAcks([(c.key, c.fence, "RECORDED") for c in completions]))\n'
        "        answers = await self.completions.put(completions)\n",
        (CONNECT,),
    ),
    Sabotage(
        "a silent stream is kept",
        "P12",
        f"{SCHEDULER}/loops/janitor.py",
        "        await self._sessions.part_from_silent(self._now())\n",
        "",
        ("tests/rpc/scheduler/test_silence.py",),
    ),
    Sabotage(
        "a task run's end leaves no step due",
        "P2",
        QUEUE,
        "FROM locked k JOIN scheduler.task_run t ON t.job_key = k.key RETURNING id\n",
        "FROM locked k JOIN scheduler.task_run t ON t.job_key = -k.key RETURNING id\n",
        (STEPPING,),
    ),
    Sabotage(
        "a step looks at its task runs before it takes away what is due",
        "P2",
        f"{SCHEDULER}/loops/stepping.py",
        "            await take_due(connection, held)\n            runs = await read_runs(connection, held)\n",
        "            runs = await read_runs(connection, held)\n            await take_due(connection, held)\n",
        (STEPPING,),
    ),
    Sabotage(
        "two replicas step one execution at a time",
        "P1",
        f"{SCHEDULER}/store/executions.sql",
        "ORDER BY e.key FOR NO KEY UPDATE OF e SKIP LOCKED;\n",
        "ORDER BY e.key;\n",
        (STEPPING,),
    ),
    Sabotage(
        "places are counted without the flow's lock",
        "P1",
        f"{SCHEDULER}/store/places.sql",
        "WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 FOR NO KEY UPDATE;\n",
        "WHERE tenant = $1 AND namespace = $2 AND flow_id = $3;\n",
        (PLACES,),
    ),
    Sabotage(
        "an execution that ends keeps its place",
        "P2",
        f"{SCHEDULER}/store/places.sql",
        "DELETE FROM scheduler.place p USING unnest($1::bigint[]) AS w(key) WHERE p.execution_key = w.key;\n",
        "DELETE FROM scheduler.place p USING unnest($1::bigint[]) AS w(key) WHERE p.execution_key = -w.key;\n",
        (PLACES,),
    ),
    Sabotage(
        "upkeep forgets jobs that a restart took over",
        "P2",
        f"{SCHEDULER}/store/upkeep.py",
        "       AND NOT EXISTS (SELECT FROM scheduler.task_run t WHERE t.taken_job_key = d.key)\n",
        "",
        (REPEATS,),
    ),
    Sabotage(
        "a restart takes over from an execution that is being forgotten",
        "P2",
        f"{SCHEDULER}/store/repeats.sql",
        "WHERE key = $1 AND NOT forgotten FOR KEY SHARE;\n",
        "WHERE key = $1;\n",
        (REPEATS,),
    ),
    Sabotage(
        "a restart runs again what had ended well",
        "P3",
        f"{SCHEDULER}/core/takeover.py",
        "        if any(each is not None and each.state in _WELL for each in around):\n",
        "        if any(each is not None and each.state in _WELL for each in around[1:]):\n",
        ("tests/unit/scheduler/test_takeover.py",),
    ),
    Sabotage(
        "an execution that is to be killed begins more tasks",
        "P9",
        f"{SCHEDULER}/core/execution_step.py",
        "execution.state is ExecutionState.KILLING or execution.kill_at is not None or self._cancelled is not None\n",
        "self._cancelled is not None\n",
        ("tests/scenarios/test_executions.py",),
    ),
    Sabotage(
        "a tenant may have one job too many running",
        "P13",
        f"{SCHEDULER}/core/tenant_quotas.py",
        "bound - running.get(tenant, 0))",
        "bound + 1 - running.get(tenant, 0))",
        (QUOTAS,),
    ),
    Sabotage(
        "two claims of a group count what runs at one time",
        "P13",
        QUEUE,
        "FROM scheduler.worker_group WHERE uid = $1 AND NOT gone FOR NO KEY UPDATE;\n",
        "FROM scheduler.worker_group WHERE uid = $1 AND NOT gone FOR KEY SHARE;\n",
        (QUOTAS,),
    ),
    Sabotage(
        "a tenant may have one job too many waiting",
        "P13",
        f"{SCHEDULER}/core/tenant_quotas.py",
        "        if place.queued < place.limit:\n",
        "        if place.queued <= place.limit:\n",
        (QUOTAS,),
    ),
    Sabotage(
        "two enqueues of a tenant count what waits at one time",
        "P13",
        f"{SCHEDULER}/store/tenant_quotas.py",
        '    await connection.execute(SQL["lock_places_in_queues"], *columns)\n',
        "",
        (QUOTAS,),
    ),
    Sabotage(
        "a tenant at its limit hides those behind it",
        "P13",
        f"{SCHEDULER}/loops/dispatch.py",
        "if (not allowed or lane.tenant in allowed) and lane.id not in closed\n",
        "if not allowed or lane.tenant in allowed\n",
        (QUOTAS,),
    ),
    Sabotage(
        "a task run is queued whether there is room or not",
        "P13",
        f"{SCHEDULER}/loops/stepping.py",
        "                if (error := room.take(queued.job.group_uid, queued.job.tenant)) is not None\n",
        "                if (error := room.take(queued.job.group_uid, queued.job.tenant)) is not None and not run\n",
        (STEPPING,),
    ),
    Sabotage(
        "a cron expression that changes begins at the clock's time, though it was set back",
        "P3",
        f"{SCHEDULER}/core/trigger.py",
        "    return cron.after(now if last_at is None else max(now, last_at))\n",
        "    return cron.after(now)\n",
        (TRIGGERS,),
    ),
    Sabotage(
        "a revision is taken over though a newer one was told",
        "P2",
        f"{SCHEDULER}/store/triggers.sql",
        "WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 AND revision = $4 FOR UPDATE;\n",
        "WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 AND revision >= $4 FOR UPDATE;\n",
        (TRIGGERS,),
    ),
]
