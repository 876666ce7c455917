-- The statements of executions that begin from another one: a restart, a replay.

-- name: read_old_execution
SELECT e.key, e.state, e.tenant, e.namespace, e.flow_id, e.flow_revision, f.definition, e.inputs,
       e.labels::text AS labels, e.trigger
FROM scheduler.execution e JOIN scheduler.flow_revision f ON f.key = e.flow_key WHERE e.key = $1;

-- name: hold_old_execution
-- Upkeep, which locks FOR UPDATE before each batch of task runs that it takes away, waits or has begun.
SELECT key FROM scheduler.execution WHERE key = $1 AND NOT forgotten FOR KEY SHARE;

-- name: old_task_runs
SELECT task_id, iteration, attempt, state, branch IS NOT NULL OR rounds IS NOT NULL AS chose
FROM scheduler.task_run WHERE execution_key = $1 ORDER BY created_at, key;

-- name: take_over_as_ended
-- What was taken over before names the execution that ran it, and its job, still.
INSERT INTO scheduler.task_run (key, execution_key, task_id, iteration, attempt, state, branch, reason, message,
    group_key, group_level, fallback, fallback_level, created_at, started_at, ended_at, taken_from, taken_job_key,
    rounds, rounds_over, loop_values, round_over)
SELECT nextval('scheduler.task_run_key'), $2, t.task_id, t.iteration, t.attempt, t.state, t.branch, t.reason, t.message,
    t.group_key, t.group_level, t.fallback, t.fallback_level, t.created_at,
    coalesce(t.started_at, (SELECT d.started_at FROM scheduler.done d WHERE d.key = t.job_key)), t.ended_at,
    coalesce(t.taken_from, $1), coalesce(t.taken_job_key, t.job_key),
    t.rounds, t.rounds_over, t.loop_values, w.over
FROM unnest($3::text[], $4::text[], $5::int[], $6::boolean[]) AS w(task_id, iteration, attempt, over)
JOIN scheduler.task_run t ON t.execution_key = $1 AND t.task_id = w.task_id AND t.iteration = w.iteration
    AND t.attempt = w.attempt
ORDER BY t.created_at, t.key;

-- name: count_runs_over
-- Those that no step looks at.
UPDATE scheduler.execution SET runs_over = $2 WHERE key = $1;

-- name: take_over_to_go_on
-- Flow control, as it had chosen what is to run of it. None of its rounds is over: steps find that again.
INSERT INTO scheduler.task_run (key, execution_key, task_id, iteration, attempt, state, branch, rounds, loop_values,
                                created_at, started_at)
SELECT nextval('scheduler.task_run_key'), $2, t.task_id, t.iteration, 1, 'RUNNING', t.branch, t.rounds, t.loop_values,
       now(), now()
FROM unnest($3::text[], $4::text[], $5::int[]) AS w(task_id, iteration, attempt)
JOIN scheduler.task_run t ON t.execution_key = $1 AND t.task_id = w.task_id AND t.iteration = w.iteration
    AND t.attempt = w.attempt
ORDER BY t.created_at, t.key;
