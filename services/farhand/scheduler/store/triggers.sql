-- The statements of triggers. Each says what it guarantees.
--
-- A trigger's row is its lock. Whoever looks at triggers holds their rows, by key, before every other
-- lock, those of executions and groups too; whoever changes what a flow's triggers are holds the flow's
-- row in triggered_flow before them. What makes a look necessary appends to trigger_due and waits for
-- nobody.

-- name: put_triggered_flows
-- The triggers of these are to be made what their newest revision says.
INSERT INTO scheduler.triggered_flow AS f (tenant, namespace, flow_id, revision)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[])
ON CONFLICT (tenant, namespace, flow_id) DO UPDATE SET revision = excluded.revision, look_at = now();

-- name: remove_triggered_flows
-- From here on no trigger of these starts anything: who looks at one holds its row, or finds none.
WITH gone AS (
    DELETE FROM scheduler.triggered_flow f USING unnest($1::text[], $2::text[], $3::text[]) AS r(tenant, namespace, flow_id)
    WHERE f.tenant = r.tenant AND f.namespace = r.namespace AND f.flow_id = r.flow_id
    RETURNING f.tenant, f.namespace, f.flow_id
), locked AS (
    SELECT t.key FROM gone g JOIN scheduler.trigger t USING (tenant, namespace, flow_id) ORDER BY t.key FOR UPDATE OF t
), removed AS (
    DELETE FROM scheduler.trigger t USING locked l WHERE t.key = l.key RETURNING t.key, t.job_key
), orphaned AS (
    INSERT INTO scheduler.orphaned_evaluation (job_key) SELECT job_key FROM removed WHERE job_key IS NOT NULL
)
DELETE FROM scheduler.trigger_due d USING removed r WHERE d.trigger_key = r.key;

-- name: look_again
-- What these inherit changed: all of the tenant, or of the namespace and those below it.
UPDATE scheduler.triggered_flow SET look_at = now()
WHERE tenant = $1 AND ($2 = '' OR namespace = $2 OR starts_with(namespace, $2 || '.'));

-- name: claim_triggered_flows
-- Some that are to be looked at; for so many seconds nobody else does it.
UPDATE scheduler.triggered_flow f SET look_at = now() + make_interval(secs => $2)
FROM (SELECT tenant, namespace, flow_id FROM scheduler.triggered_flow WHERE look_at <= now() ORDER BY look_at LIMIT $1
      FOR UPDATE SKIP LOCKED) c
WHERE (f.tenant, f.namespace, f.flow_id) = (c.tenant, c.namespace, c.flow_id)
RETURNING f.tenant, f.namespace, f.flow_id, f.revision;

-- name: next_triggered_flow
-- Seconds until one is to be looked at.
SELECT extract(epoch FROM min(look_at) - now())::float8 FROM scheduler.triggered_flow WHERE look_at IS NOT NULL;

-- name: lock_triggered_flow
-- Whether that is still the newest revision of a flow that has triggers; held until the transaction ends.
SELECT now() AS now FROM scheduler.triggered_flow
WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 AND revision = $4 FOR UPDATE;

-- name: triggered_flow_looked_at
UPDATE scheduler.triggered_flow SET look_at = NULL WHERE tenant = $1 AND namespace = $2 AND flow_id = $3;

-- name: put_off_triggered_flow
-- Looked at again after so many seconds, if it is still the same revision that could not be had.
UPDATE scheduler.triggered_flow SET look_at = now() + make_interval(secs => $5)
WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 AND revision = $4;

-- name: lock_triggers_of_flow
SELECT * FROM scheduler.trigger WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 ORDER BY key FOR UPDATE;

-- name: remove_triggers
WITH removed AS (
    DELETE FROM scheduler.trigger t USING unnest($1::bigint[]) AS r(key) WHERE t.key = r.key RETURNING t.key, t.job_key
), orphaned AS (
    INSERT INTO scheduler.orphaned_evaluation (job_key) SELECT job_key FROM removed WHERE job_key IS NOT NULL
)
DELETE FROM scheduler.trigger_due d USING removed r WHERE d.trigger_key = r.key;

-- name: make_trigger
INSERT INTO scheduler.trigger (tenant, namespace, flow_id, trigger_id, type, flow_key, plan, disabled_by, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING key;

-- name: renew_trigger
-- A new revision of its flow has it, too: its state stays. An evaluation of what it no longer is counts no more.
UPDATE scheduler.trigger
SET flow_key = $2, plan = $3, disabled_by = $4, next_at = $5, job_stale = job_key IS NOT NULL AND (job_stale OR plan <> $3)
WHERE key = $1;

-- name: triggers_due
-- Which are to be looked at by now, from the first $1 rows that say so.
SELECT DISTINCT trigger_key FROM (
    SELECT trigger_key FROM scheduler.trigger_due WHERE due_at <= now() ORDER BY due_at LIMIT $1
) d;

-- name: next_trigger
-- Seconds until one is due that is not yet.
SELECT extract(epoch FROM due_at - now())::float8 FROM scheduler.trigger_due WHERE due_at > now()
ORDER BY due_at LIMIT 1;

-- name: lock_triggers
-- Those of these that nobody else looks at now, as they are, with the transaction's time.
SELECT t.*, now() AS now, f.revision AS flow_revision
FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.trigger t ON t.key = w.key
JOIN scheduler.flow_revision f ON f.key = t.flow_key
ORDER BY t.key FOR NO KEY UPDATE OF t SKIP LOCKED;

-- name: lock_trigger
-- One, as it is once nobody else holds it.
SELECT t.*, now() AS now, f.revision AS flow_revision
FROM scheduler.trigger t JOIN scheduler.flow_revision f ON f.key = t.flow_key WHERE t.key = $1 FOR NO KEY UPDATE OF t;

-- name: begin_backfill
-- The newest backfill of a locked trigger is this one from now on.
UPDATE scheduler.trigger SET backfill = $2, backfill_start = $3, backfill_end = $4, backfill_inputs = $5,
    backfill_labels = $6 WHERE key = $1;

-- name: take_triggers_due
-- Before the look, all that says when these are to be looked at: the look says it anew. What others append from
-- here on is not seen, and so not taken away.
-- Answers how executions of theirs ended.
WITH taken AS (
    DELETE FROM scheduler.trigger_due d USING unnest($1::bigint[]) AS w(key) WHERE d.trigger_key = w.key
    RETURNING d.trigger_key, d.ended
)
SELECT DISTINCT trigger_key, ended FROM taken WHERE ended IS NOT NULL;

-- name: forget_trigger_due
-- Of triggers that are gone.
DELETE FROM scheduler.trigger_due d USING unnest($1::bigint[]) AS w(key)
WHERE d.trigger_key = w.key AND NOT EXISTS (SELECT FROM scheduler.trigger t WHERE t.key = w.key);

-- name: move_triggers
-- What became of triggers that were looked at.
UPDATE scheduler.trigger t
SET disabled_by = r.disabled_by, next_at = r.next_at, last_at = r.last_at, asked_at = r.asked_at,
    job_key = r.job_key, execution_key = coalesce(r.execution_key, t.execution_key),
    result = coalesce(r.result, t.result), message = CASE WHEN r.result IS NULL THEN t.message ELSE r.message END,
    result_at = CASE WHEN r.result IS NULL THEN t.result_at ELSE now() END,
    backfill_next = r.backfill_next, backfill_at = r.backfill_at, backfill_state = r.backfill_state,
    backfill_fired = r.backfill_fired
FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::bigint[],
            $7::bigint[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::int[])
    AS r(key, disabled_by, next_at, last_at, asked_at, job_key, execution_key, result, message, backfill_next,
         backfill_at, backfill_state, backfill_fired)
WHERE t.key = r.key;

-- name: add_triggers_due
INSERT INTO scheduler.trigger_due (trigger_key, due_at) SELECT * FROM unnest($1::bigint[], $2::timestamptz[]);

-- name: put_off_trigger
-- What it has to do is looked at later: now it only makes trouble.
UPDATE scheduler.trigger_due SET due_at = now() + make_interval(secs => $2) WHERE trigger_key = $1 AND due_at <= now();

-- name: allot_execution_keys
SELECT nextval('scheduler.execution_key') AS key FROM generate_series(1, $1);

-- name: evaluations
-- Where the evaluations are. One snapshot: a job is in one place, or is no more.
SELECT w.key, d.reason, d.message, d.outputs,
       CASE WHEN d.key IS NOT NULL THEN d.state WHEN l.kill_at IS NOT NULL THEN 'KILLING'
            WHEN l.started_at IS NOT NULL THEN 'RUNNING' WHEN l.key IS NOT NULL THEN 'ASSIGNED'
            WHEN j.key IS NOT NULL THEN 'CREATED' END AS state
FROM unnest($1::bigint[]) AS w(key)
LEFT JOIN scheduler.done d ON d.key = w.key
LEFT JOIN scheduler.live l ON l.key = w.key
LEFT JOIN scheduler.job j ON j.key = w.key;

-- name: executions_that_run
SELECT e.key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.execution e ON e.key = w.key WHERE e.ended_at IS NULL;

-- name: move_evaluations
-- Of triggers that are held. What one remembers changes where an evaluation counted ($3 not null); the evaluation
-- before the last ($2, where one ended) is nobody's any more, unless it started an execution.
UPDATE scheduler.trigger t
SET last_job_key = coalesce(r.ended_job, t.last_job_key), remembered = coalesce(r.remembered, t.remembered),
    job_stale = false
FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS r(key, ended_job, remembered) WHERE t.key = r.key;

-- name: evaluations_to_forget
-- Of these jobs, those that ended and started nothing.
SELECT w.key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.done d ON d.key = w.key
WHERE NOT EXISTS (SELECT FROM scheduler.execution e WHERE e.evaluation_job_key = w.key);

-- name: take_orphaned_evaluations
DELETE FROM scheduler.orphaned_evaluation o
USING (SELECT job_key FROM scheduler.orphaned_evaluation LIMIT $1 FOR UPDATE SKIP LOCKED) c
WHERE o.job_key = c.job_key RETURNING o.job_key;

-- name: any_orphaned_evaluations
SELECT EXISTS (SELECT FROM scheduler.orphaned_evaluation);
