-- The statements that move executions. Each says what it guarantees.
--
-- Whoever moves an execution holds its row: by key, and before every lock of queue.sql. What makes a
-- move necessary appends to step_due and waits for nobody.

-- name: keep_flow_revision
INSERT INTO scheduler.flow_revision (tenant, namespace, flow_id, revision, digest, definition)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;

-- name: find_flow_revision
-- Held until the transaction ends, so that upkeep does not forget it before an execution names it.
SELECT key FROM scheduler.flow_revision
WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 AND revision = $4 AND digest = $5 FOR KEY SHARE;

-- name: read_definitions
SELECT f.key, f.tenant, f.definition FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.flow_revision f USING (key);

-- name: remember_execution_request
-- Nothing comes back where the id was used before; who used it at this moment is waited for.
INSERT INTO scheduler.execution_request (tenant, request_id, body_hash, execution_key)
VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING execution_key;

-- name: recall_execution_request
SELECT body_hash, execution_key FROM scheduler.execution_request WHERE tenant = $1 AND request_id = $2;

-- name: allot_execution_key
SELECT nextval('scheduler.execution_key');

-- name: create_execution
-- With it, in one statement, that there is something to do; unless it ends at once ($14, why: $15).
WITH created AS (
    INSERT INTO scheduler.execution (key, flow_key, tenant, namespace, flow_id, flow_revision, inputs, labels,
                                     trigger, restart_of, replay_of, traceparent, parent_span, trigger_key,
                                     tick_at, backfill, evaluation_job_key, created_at,
                                     state, message, states, state_times, ended_at)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $16, $17, $18, $19, now(),
           coalesce($14, 'CREATED'), $15, array_remove(ARRAY['CREATED', $14], NULL),
           CASE WHEN $14 IS NULL THEN ARRAY[now()] ELSE ARRAY[now(), now()] END,
           CASE WHEN $14 IS NOT NULL THEN now() END
    RETURNING key, ended_at, trigger_key, state
), told AS (
    INSERT INTO scheduler.trigger_due (trigger_key, ended)
    SELECT trigger_key, state FROM created WHERE ended_at IS NOT NULL AND trigger_key IS NOT NULL
)
INSERT INTO scheduler.step_due (execution_key) SELECT key FROM created WHERE ended_at IS NULL;

-- name: ask_execution_kill
-- The first kill counts; one that has ended is left as it is. Waits for who moves it at this moment.
WITH asked AS (
    UPDATE scheduler.execution SET kill_at = coalesce(kill_at, now())
    WHERE key = $1 AND state NOT IN ('SUCCESS', 'WARNING', 'FAILED', 'KILLED') RETURNING key
)
INSERT INTO scheduler.step_due (execution_key) SELECT key FROM asked;

-- name: executions_due
-- Which are to be looked at by now, from the first $1 rows that say so.
SELECT DISTINCT execution_key FROM (
    SELECT execution_key FROM scheduler.step_due WHERE due_at <= now() ORDER BY due_at LIMIT $1
) d;

-- name: next_timer
-- Seconds until something is due that is not yet.
SELECT extract(epoch FROM due_at - now())::float8 FROM scheduler.step_due WHERE due_at > now() ORDER BY due_at LIMIT 1;

-- name: lock_executions
-- Those of these that nobody else moves now, as they are. The others stay due: whoever has them took
-- away only what was due before it looked.
SELECT e.key, e.flow_key, e.tenant, e.namespace, e.flow_id, e.flow_revision, e.state, e.inputs, e.labels::text AS labels,
       e.trigger, e.traceparent, e.parent_span, e.created_at, e.kill_at, e.message, e.runs_over, now() AS now,
       CASE WHEN e.wake_at > now() THEN e.wake_at END AS wake_at
FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.execution e ON e.key = w.key
ORDER BY e.key FOR NO KEY UPDATE OF e SKIP LOCKED;

-- name: take_due
-- Before the look: what comes to be due from here on is not taken away unseen.
DELETE FROM scheduler.step_due d USING unnest($1::bigint[]) AS w(key)
WHERE d.execution_key = w.key AND d.due_at <= now();

-- name: runs_of_executions
-- All task runs but those of rounds that are over, and where the jobs are of those that have not ended. One
-- snapshot: a job is in one place.
SELECT t.execution_key, t.key, t.task_id, t.iteration, t.attempt, t.state, t.job_key, t.taken_job_key, t.branch,
       t.reason, t.message, t.rounds, t.rounds_over, t.round_over,
       t.wait_limit, t.again_at, t.created_at, t.started_at, t.ended_at,
       CASE WHEN d.key IS NOT NULL THEN d.state WHEN l.key IS NULL THEN 'CREATED'
            WHEN l.kill_at IS NOT NULL THEN 'KILLING' WHEN l.started_at IS NOT NULL THEN 'RUNNING'
            ELSE 'ASSIGNED' END AS job_state,
       d.reason AS job_reason, d.message AS job_message, d.started_at AS job_started_at,
       greatest(j.created_at, (SELECT max(b.lost_at) FROM scheduler.lost_delivery b WHERE b.key = j.key)) AS waiting_since
FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.task_run t ON t.execution_key = w.key AND NOT t.round_over
LEFT JOIN scheduler.live l ON l.key = t.job_key AND t.state IN ('CREATED', 'KILLING')
LEFT JOIN scheduler.done d ON d.key = t.job_key AND t.state IN ('CREATED', 'KILLING')
LEFT JOIN scheduler.job j ON j.key = t.job_key AND t.wait_limit IS NOT NULL AND t.state = 'CREATED'
ORDER BY t.execution_key, t.created_at, t.key;

-- name: runs_of_rounds_over
-- Those of some tasks whose rounds are over: whoever names the outputs of a whole loop needs them.
SELECT t.execution_key, t.key, t.task_id, t.iteration, t.attempt, t.state, t.job_key, t.taken_job_key, t.branch,
       t.reason, t.message, t.rounds, t.rounds_over, t.round_over, t.wait_limit, t.again_at, t.created_at, t.started_at, t.ended_at,
       NULL AS job_started_at
FROM unnest($1::bigint[], $2::text[]) AS w(key, task_id)
JOIN scheduler.task_run t ON t.execution_key = w.key AND t.task_id = w.task_id AND t.round_over
ORDER BY t.execution_key, t.created_at, t.key;

-- name: values_of_rounds
-- JSON. Numbers of rounds are from 0.
SELECT w.key, w.number, t.loop_values[w.number + 1] AS value
FROM unnest($1::bigint[], $2::int[]) AS w(key, number) JOIN scheduler.task_run t USING (key);

-- name: put_loop_values
UPDATE scheduler.task_run SET loop_values = $2 WHERE key = $1;

-- name: output_sizes_of_jobs
-- In bytes, without reading the outputs themselves.
SELECT d.key, octet_length(d.outputs) AS size FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.done d ON d.key = w.key
WHERE d.outputs IS NOT NULL;

-- name: outputs_of_jobs
SELECT d.key, d.outputs FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.done d ON d.key = w.key
WHERE d.outputs IS NOT NULL;

-- name: allot_task_run_keys
SELECT nextval('scheduler.task_run_key') AS key FROM generate_series(1, $1);

-- name: insert_task_runs
-- A task run that is there already is an error of ours: the unique key refuses the whole transaction.
INSERT INTO scheduler.task_run (key, execution_key, task_id, iteration, attempt, state, job_key, branch, reason,
    message, group_key, group_level, fallback, fallback_level, wait_limit, again_at, created_at, started_at, ended_at,
    rounds, rounds_over, round_over)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::text[], $7::bigint[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::interval[],
    $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::timestamptz[], $20::int[], $21::bytea[],
    $22::boolean[]);

-- name: update_task_runs
-- A final state never changes. Where a run has its group already, that stays.
UPDATE scheduler.task_run t
SET state = r.state, job_key = r.job_key, branch = r.branch, reason = r.reason, message = r.message,
    group_key = coalesce(r.group_key, t.group_key), group_level = coalesce(r.group_level, t.group_level),
    fallback = coalesce(r.fallback, t.fallback), fallback_level = coalesce(r.fallback_level, t.fallback_level),
    wait_limit = r.wait_limit, again_at = r.again_at, started_at = r.started_at, ended_at = r.ended_at,
    rounds = r.rounds, rounds_over = r.rounds_over
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::interval[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::int[], $16::bytea[])
    AS r(key, state, job_key, branch, reason, message, group_key, group_level, fallback, fallback_level, wait_limit,
         again_at, started_at, ended_at, rounds, rounds_over)
WHERE t.key = r.key AND t.state NOT IN ('SUCCESS', 'WARNING', 'FAILED', 'KILLED', 'SKIPPED');

-- name: mark_rounds_over
UPDATE scheduler.task_run SET round_over = true WHERE key = ANY ($1::bigint[]);

-- name: move_executions
-- $3: the states that each went through, joined by commas; empty: none. A final state never changes. The
-- trigger of one that ended is told how.
WITH moved AS (
UPDATE scheduler.execution e
SET state = CASE r.states WHEN '' THEN e.state ELSE r.state END, message = r.message, wake_at = r.wake_at,
    ended_at = r.ended_at, runs_over = r.runs_over,
    states = e.states || string_to_array(r.states, ','),
    state_times = e.state_times || array_fill(now(), ARRAY[cardinality(string_to_array(r.states, ','))])
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::int[])
    AS r(key, state, states, message, wake_at, ended_at, runs_over)
WHERE e.key = r.key AND e.state NOT IN ('SUCCESS', 'WARNING', 'FAILED', 'KILLED')
RETURNING e.trigger_key, e.state, e.ended_at
)
INSERT INTO scheduler.trigger_due (trigger_key, ended)
SELECT trigger_key, state FROM moved WHERE trigger_key IS NOT NULL AND ended_at IS NOT NULL;

-- name: add_due
INSERT INTO scheduler.step_due (execution_key, due_at) SELECT * FROM unnest($1::bigint[], $2::timestamptz[]);

-- name: put_off
-- What an execution has to do is looked at later: now it only makes trouble.
UPDATE scheduler.step_due SET due_at = now() + make_interval(secs => $2) WHERE execution_key = $1 AND due_at <= now();

-- name: places_of_jobs
SELECT j.key, j.lane_id FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.job j ON j.key = w.key ORDER BY j.key;

-- name: mark_all_killing
-- mark_killing (queue.sql) for many: the first kill counts. Answers with whom each is.
UPDATE scheduler.live l SET kill_at = coalesce(l.kill_at, now()), kill_grace_ms = coalesce(l.kill_grace_ms, $2)
FROM (SELECT l.key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.live l ON l.key = w.key
      ORDER BY l.key FOR UPDATE OF l) r
WHERE l.key = r.key RETURNING l.key, l.fence, l.session_id;

-- name: jobs_that_ended
SELECT d.key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.done d ON d.key = w.key;

-- name: kill_of_execution
-- Where an execution's kill has come: its state, and the jobs whose workers have not confirmed it (P9).
SELECT e.state, ARRAY(SELECT l.key FROM scheduler.task_run t JOIN scheduler.live l ON l.key = t.job_key
                      WHERE t.execution_key = e.key AND NOT l.kill_acked) AS unconfirmed
FROM scheduler.execution e WHERE e.key = $1;
