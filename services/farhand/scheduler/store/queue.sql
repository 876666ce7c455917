-- The statements of the hot path and of everything that moves a job. Each says what it guarantees.
--
-- Locks are taken in one order: execution rows by key (executions.sql), then worker_group rows by uid,
-- then place_in_queue rows by group and tenant, then session rows by id, then live and queue rows by key, then tally
-- rows by lane. What ends a job, or brings it back, appends to step_due for the execution that waits for it, or to
-- trigger_due for the trigger that it evaluates, and locks neither.
-- "Lock, then look in the next statement": a statement that locks sees the rows as they are after the
-- wait, but its subqueries see them as of its start.
--
-- Plans are made once and kept, with joins in the order in which they are written (runtime.database,
-- hot connections): the arrays of a batch first, then tables by their keys.

-- name: lock_groups_for_enqueue
-- An enqueue shares the group with claims and other enqueues, and excludes a change of availability,
-- of the allowed tenants, or a deletion, until it commits (P10, P11).
SELECT uid, key, allowed_tenants, quotas, deleting, gone, now() AS now
FROM scheduler.worker_group WHERE uid = ANY($1::text[]) ORDER BY uid FOR KEY SHARE;

-- name: lock_group_for_claim
-- One claim at a time per group, over all replicas: none overtakes another (P5). `newest`: the lane of every job
-- up to this key is there to be read from now on.
SELECT key, allowed_tenants, quotas, paused, (SELECT last_value FROM scheduler.job_key) AS newest
FROM scheduler.worker_group WHERE uid = $1 AND NOT gone FOR NO KEY UPDATE;

-- name: lock_group_for_change
-- Nothing is enqueued, claimed or changed in this group until the transaction ends (P11).
SELECT key, allowed_tenants, paused, lease_ms, gone, now() AS now
FROM scheduler.worker_group WHERE uid = $1 FOR UPDATE;

-- name: available_groups
-- Of these groups, those that are available: not paused, and a worker with a fresh heartbeat that is
-- not draining (semantics.md, 3). To be asked under one of the locks above.
SELECT g.uid FROM scheduler.worker_group g
WHERE g.uid = ANY($1::text[]) AND NOT g.paused AND EXISTS (
    SELECT FROM scheduler.session s
    WHERE s.group_uid = g.uid AND s.state IN ('CONNECTED', 'DISCONNECTED') AND NOT s.draining
      AND s.heartbeat_at > now() - interval '15 seconds');

-- name: find_lanes
SELECT id, group_uid, tenant, task_type FROM unnest($1::text[], $2::text[], $3::text[]) AS w(group_uid, tenant, task_type)
JOIN scheduler.lane USING (group_uid, tenant, task_type);

-- name: add_lanes
INSERT INTO scheduler.lane (group_uid, tenant, task_type)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) AS w(group_uid, tenant, task_type) ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING;

-- name: lanes_of_group
SELECT id, tenant, task_type FROM scheduler.lane WHERE group_uid = $1;

-- name: lock_places_in_queues
-- One enqueue at a time of each tenant in each group, over all replicas, so that none takes the last place
-- twice (P13). Asked for only where a quota bounds what waits. What makes a queue longer besides, a lost
-- assignment that returns, holds its group FOR UPDATE.
INSERT INTO scheduler.place_in_queue AS p (group_uid, tenant)
SELECT * FROM unnest($1::text[], $2::text[]) AS w(group_uid, tenant) ORDER BY 1, 2
ON CONFLICT (group_uid, tenant) DO UPDATE SET tenant = p.tenant;

-- name: queued_of_tenants
-- Under the locks above: what waits, and at most that.
SELECT w.group_uid, w.tenant, sum(t.queued)::bigint AS queued
FROM unnest($1::text[], $2::text[]) AS w(group_uid, tenant)
JOIN scheduler.lane l ON l.group_uid = w.group_uid AND l.tenant = w.tenant
JOIN scheduler.tally t ON t.lane_id = l.id GROUP BY w.group_uid, w.tenant;

-- name: running_of_tenants
-- Under the lock of a claim, which alone makes them more: the jobs that workers have, and at most those (P13).
SELECT l.tenant, sum(t.live)::bigint AS running
FROM scheduler.lane l JOIN scheduler.tally t ON t.lane_id = l.id WHERE l.group_uid = $1 GROUP BY l.tenant;

-- name: known_requests
-- Those that were used before; held, so that upkeep does not forget them in between.
SELECT r.tenant, r.request_id FROM unnest($1::text[], $2::text[]) AS w(tenant, request_id)
JOIN scheduler.request r ON r.tenant = w.tenant AND r.request_id = w.request_id
ORDER BY r.tenant, r.request_id FOR KEY SHARE OF r;

-- name: allot_keys
-- Keys in the order of the rows; all of them higher than any key that was acknowledged before (P5).
SELECT nextval('scheduler.job_key') AS key FROM generate_series(1, $1);

-- name: remember_requests
-- Answers which of the ids were new; the others were used before (P6).
INSERT INTO scheduler.request (tenant, request_id, body_hash, keys, refusals)
SELECT tenant, request_id, body_hash, string_to_array(keys, ',')::bigint[], refusals
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[]) AS r(tenant, request_id, body_hash, keys, refusals)
ORDER BY tenant, request_id ON CONFLICT DO NOTHING RETURNING tenant, request_id;

-- name: recall_request
SELECT body_hash, keys, refusals FROM scheduler.request WHERE tenant = $1 AND request_id = $2;

-- name: insert_jobs
WITH r AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::smallint[], $5::text[], $6::text[], $7::bytea[],
                         $8::bigint[])
        AS r(key, lane_id, fallback, max_deliveries, namespace, traceparent, task, secrets_of)
), jobs AS (
    INSERT INTO scheduler.job (key, lane_id, fallback, max_deliveries, namespace, traceparent, task, secrets_of)
    SELECT key, lane_id, fallback::"char", max_deliveries, namespace, traceparent, task, secrets_of FROM r
), waiting AS (
    INSERT INTO scheduler.queue (lane_id, key, fallback, lost) SELECT lane_id, key, fallback::"char", 0 FROM r
)
INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
SELECT lane_id, $9, count(*), 0, 0 FROM r GROUP BY lane_id ORDER BY lane_id
ON CONFLICT (lane_id, writer) DO UPDATE SET queued = t.queued + excluded.queued;

-- name: live_seats
-- Of these sessions, those that may be given work. Holds them until the claim commits: a Connect, a
-- drain or an expiry waits, and then sees what the claim assigned (P8; rule 2).
SELECT s.id FROM unnest($1::bigint[], $2::bigint[]) AS w(id, epoch) JOIN scheduler.session s USING (id, epoch)
WHERE s.state = 'CONNECTED' AND NOT s.draining ORDER BY s.id FOR KEY SHARE OF s;

-- name: heads
-- The oldest jobs of these lanes, at most $2 of them and about $3 bytes, in queue order. Reads the head
-- of each lane alone, so its cost does not grow with the queue.
SELECT lane_id, key, task, traceparent, created_at, secrets_of FROM (
    SELECT h.lane_id, h.key, j.task, j.traceparent, j.created_at, j.secrets_of,
           sum(octet_length(j.task)) OVER (ORDER BY h.key) - octet_length(j.task) AS bytes_before
    FROM (
        SELECT q.lane_id, q.key FROM unnest($1::int[]) AS l(id)
        CROSS JOIN LATERAL (
            SELECT lane_id, key FROM scheduler.queue WHERE lane_id = l.id ORDER BY key LIMIT $2
        ) q
        ORDER BY q.key LIMIT $2
    ) h
    JOIN scheduler.job j ON j.key = h.key
) sized WHERE bytes_before < $3 ORDER BY key;

-- name: assign
-- A job leaves the queue and becomes live in one step, under a new fence; a job that a kill took first
-- is left out (P1, P4, P9).
WITH r AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::bigint[], $3::bigint[]) AS r(lane_id, key, session_id)
), taken AS (
    DELETE FROM scheduler.queue q USING r WHERE q.lane_id = r.lane_id AND q.key = r.key
    RETURNING q.lane_id, q.key, q.lost, r.session_id
), born AS (
    INSERT INTO scheduler.live (key, lane_id, fence, session_id, lost, assigned_at)
    SELECT key, lane_id, nextval('scheduler.fence'), session_id, lost, statement_timestamp() FROM taken
    RETURNING key, fence, assigned_at
), counted AS (
    INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
    SELECT lane_id, $4, -count(*), count(*), 0 FROM taken GROUP BY lane_id ORDER BY lane_id
    ON CONFLICT (lane_id, writer) DO UPDATE SET queued = t.queued + excluded.queued, live = t.live + excluded.live
)
SELECT key, fence, assigned_at FROM born;

-- name: assigned_to
-- What these sessions hold, to find assignments that committed without our hearing of it.
SELECT l.session_id, l.key, l.fence, l.lane_id, l.assigned_at, l.kill_at IS NOT NULL AS killing,
       j.task, j.traceparent, j.created_at, j.secrets_of
FROM scheduler.live l JOIN scheduler.job j USING (key)
WHERE l.session_id = ANY($1::bigint[]) ORDER BY l.key;

-- name: mark_started
WITH r AS (
    SELECT l.key FROM unnest($1::bigint[], $2::bigint[]) AS r(key, fence)
    JOIN scheduler.live l ON l.key = r.key AND l.fence = r.fence
    WHERE l.started_at IS NULL ORDER BY l.key FOR UPDATE OF l
)
UPDATE scheduler.live l SET started_at = now() FROM r WHERE l.key = r.key RETURNING l.key;

-- name: complete
-- Records results whose fence is the live one, and no others; a job that is being killed ends KILLED
-- (P3, P4, P9). Only the worker that the job was assigned to is heard. `due`: executions are to be looked at;
-- `trigger_due`: triggers are.
WITH r AS MATERIALIZED (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
                         $8::bigint[], $9::bytea[], $10::bigint[])
        AS r(key, fence, worker_id, state, exit_code, reason, message, run_us, outputs, log_end)
), locked AS MATERIALIZED (
    SELECT l.key, l.lane_id, l.fence, l.session_id, l.lost, l.assigned_at, l.started_at, l.kill_at,
           r.state, r.exit_code, r.reason, r.message, r.run_us, r.outputs, r.log_end
    FROM r JOIN scheduler.live l ON l.key = r.key AND l.fence = r.fence
    JOIN scheduler.session s ON s.id = l.session_id AND s.worker_id = r.worker_id
    ORDER BY l.key FOR UPDATE OF l
), gone AS (
    DELETE FROM scheduler.live l USING locked k WHERE l.key = k.key
), ended AS (
    INSERT INTO scheduler.done (key, lane_id, state, fence, session_id, lost, assigned_at, started_at, ended_at,
                                kill_at, exit_code, reason, message, run_us, outputs, log_end)
    SELECT key, lane_id, CASE WHEN kill_at IS NULL THEN state ELSE 'KILLED' END, fence, session_id, lost, assigned_at,
           coalesce(started_at, greatest(assigned_at, now() - coalesce(run_us, 0) * interval '1 microsecond')),
           now(), kill_at, exit_code, reason, message, run_us, outputs, log_end
    FROM locked
), counted AS (
    INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
    SELECT lane_id, $11, 0, -count(*), count(*) FROM locked GROUP BY lane_id ORDER BY lane_id
    ON CONFLICT (lane_id, writer) DO UPDATE SET live = t.live + excluded.live, ended = t.ended + excluded.ended
), due AS (
    INSERT INTO scheduler.step_due (execution_key)
    SELECT DISTINCT t.execution_key FROM locked k JOIN scheduler.task_run t ON t.job_key = k.key RETURNING id
), triggers AS (
    INSERT INTO scheduler.trigger_due (trigger_key)
    SELECT t.key FROM locked k JOIN scheduler.trigger t ON t.job_key = k.key RETURNING id
)
SELECT key, fence, lane_id, now() AS ended_at, EXISTS (SELECT FROM due) AS due,
       EXISTS (SELECT FROM triggers) AS trigger_due
FROM locked;

-- name: judge
-- What became of results that were not recorded now. A fence that is neither live nor recorded was
-- given up: a higher one exists or will (P4); so was that of a job which was forgotten since. UNKNOWN: no such
-- job was ever made here, as far as a database that was restored from a backup knows.
SELECT r.key, r.fence, CASE
    WHEN d.fence = r.fence THEN 'DUPLICATE'
    WHEN l.fence = r.fence THEN 'UNKNOWN'
    WHEN j.key IS NULL AND r.key > (SELECT last_value FROM scheduler.job_key) THEN 'UNKNOWN'
    ELSE 'STALE' END AS status
FROM unnest($1::bigint[], $2::bigint[]) AS r(key, fence)
LEFT JOIN scheduler.job j ON j.key = r.key
LEFT JOIN scheduler.live l ON l.key = r.key
LEFT JOIN scheduler.done d ON d.key = r.key;

-- name: give_back
-- Ends assignments that bring no result. $1: the session; $2: their keys, or null for all it holds;
-- $3: those keys that cost a delivery, or null for all; $4: why. A job that is being killed ends
-- KILLED; one that was lost too often ends FAILED; the others wait again under their old key and in
-- their own lane, so they leave neither their place nor their group (P5, P10).
WITH taken AS MATERIALIZED (
    SELECT l.key, l.lane_id, l.fence, l.session_id, l.assigned_at, l.kill_at, j.fallback, j.max_deliveries,
           l.lost + CASE WHEN $3::bigint[] IS NULL OR l.key = ANY($3::bigint[]) THEN 1 ELSE 0 END AS lost
    FROM scheduler.live l JOIN scheduler.job j ON j.key = l.key
    WHERE l.session_id = $1 AND ($2::bigint[] IS NULL OR l.key = ANY($2::bigint[]))
    ORDER BY l.key FOR UPDATE OF l
), gone AS (
    DELETE FROM scheduler.live l USING taken t WHERE l.key = t.key
), judged AS MATERIALIZED (
    SELECT *, CASE WHEN kill_at IS NOT NULL THEN 'KILLED' WHEN lost >= max_deliveries THEN 'FAILED'
                   ELSE 'CREATED' END AS state
    FROM taken
), noted AS (
    INSERT INTO scheduler.lost_delivery (key, fence, session_id, assigned_at, lost_at, reason)
    SELECT key, fence, session_id, assigned_at, now(), $4 FROM judged
), ended AS (
    INSERT INTO scheduler.done (key, lane_id, state, fence, session_id, lost, assigned_at, ended_at, kill_at,
                                reason, message)
    SELECT key, lane_id, state, 0, session_id, lost, assigned_at, now(), kill_at,
           CASE state WHEN 'KILLED' THEN 'KILLED' ELSE 'WORKER_LOST' END,
           CASE state WHEN 'KILLED' THEN 'It was being killed when its worker was lost.'
                ELSE 'Its worker was lost ' || lost || CASE lost WHEN 1 THEN ' time' ELSE ' times' END
                     || ', which is as often as max_deliveries allows.' END
    FROM judged WHERE state <> 'CREATED'
), logged AS (
    INSERT INTO scheduler.log_chunk (key, fence, start_offset, end_offset, records)
    SELECT key, 0, 0, 1, $5::bytea FROM judged WHERE state = 'FAILED'
), waiting AS (
    INSERT INTO scheduler.queue (lane_id, key, fallback, lost)
    SELECT lane_id, key, fallback, lost FROM judged WHERE state = 'CREATED'
), counted AS (
    INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
    SELECT lane_id, $6, count(*) FILTER (WHERE state = 'CREATED'), -count(*),
           count(*) FILTER (WHERE state <> 'CREATED')
    FROM judged GROUP BY lane_id ORDER BY lane_id
    ON CONFLICT (lane_id, writer) DO UPDATE
    SET queued = t.queued + excluded.queued, live = t.live + excluded.live, ended = t.ended + excluded.ended
), due AS (
    INSERT INTO scheduler.step_due (execution_key)
    SELECT DISTINCT t.execution_key FROM judged k JOIN scheduler.task_run t ON t.job_key = k.key
), triggers AS (
    INSERT INTO scheduler.trigger_due (trigger_key)
    SELECT t.key FROM judged k JOIN scheduler.trigger t ON t.job_key = k.key WHERE k.state <> 'CREATED'
)
SELECT key, fence, state FROM judged;

-- name: end_waiting
-- Ends jobs that still wait, and says which those were. $3: the state, $4: the reason, $5: the
-- message, $6: a log chunk or null, $7: whether somebody asked for it.
WITH taken AS (
    DELETE FROM scheduler.queue q USING unnest($1::int[], $2::bigint[]) AS r(lane_id, key)
    WHERE q.lane_id = r.lane_id AND q.key = r.key RETURNING q.lane_id, q.key, q.lost
), ended AS (
    INSERT INTO scheduler.done (key, lane_id, state, fence, lost, ended_at, kill_at, reason, message)
    SELECT key, lane_id, $3, 0, lost, now(), CASE WHEN $7::boolean THEN now() END, $4, $5 FROM taken
), noted AS (
    INSERT INTO scheduler.log_chunk (key, fence, start_offset, end_offset, records)
    SELECT key, 0, 0, 1, $6::bytea FROM taken WHERE $6::bytea IS NOT NULL
), counted AS (
    INSERT INTO scheduler.tally AS t (lane_id, writer, queued, live, ended)
    SELECT lane_id, $8, -count(*), 0, count(*) FROM taken GROUP BY lane_id ORDER BY lane_id
    ON CONFLICT (lane_id, writer) DO UPDATE SET queued = t.queued + excluded.queued, ended = t.ended + excluded.ended
), due AS (
    INSERT INTO scheduler.step_due (execution_key)
    SELECT DISTINCT t.execution_key FROM taken k JOIN scheduler.task_run t ON t.job_key = k.key
), triggers AS (
    INSERT INTO scheduler.trigger_due (trigger_key)
    SELECT t.key FROM taken k JOIN scheduler.trigger t ON t.job_key = k.key
)
SELECT key FROM taken;

-- name: waiting_that_may_not
-- Jobs of the group that wait and whose fallback is not WAIT; at most 10,000 at a time.
SELECT q.lane_id, q.key, q.fallback::text AS fallback FROM scheduler.lane l
JOIN scheduler.queue q ON q.lane_id = l.id AND q.fallback <> 'W'
WHERE l.group_uid = $1 ORDER BY q.key LIMIT 10000;

-- name: waiting_forbidden
-- Jobs of the group that wait and whose tenant it does not allow; at most 10,000 at a time.
SELECT l.tenant, q.lane_id, q.key FROM scheduler.lane l JOIN scheduler.queue q ON q.lane_id = l.id
WHERE l.group_uid = $1 AND l.tenant <> ALL ($2::text[]) ORDER BY l.tenant, q.key LIMIT 10000;

-- name: groups_to_settle
-- Groups that are not available and in which a job waits that may not.
SELECT DISTINCT l.group_uid FROM scheduler.queue q JOIN scheduler.lane l ON l.id = q.lane_id
JOIN scheduler.worker_group g ON g.uid = l.group_uid
WHERE q.fallback <> 'W' AND (g.paused OR NOT EXISTS (
    SELECT FROM scheduler.session s
    WHERE s.group_uid = g.uid AND s.state IN ('CONNECTED', 'DISCONNECTED') AND NOT s.draining
      AND s.heartbeat_at > now() - interval '15 seconds'));

-- name: job_place
SELECT lane_id FROM scheduler.job WHERE key = $1;

-- name: mark_killing
-- The first kill counts. Answers with whom the job is.
UPDATE scheduler.live SET kill_at = coalesce(kill_at, now()), kill_grace_ms = coalesce(kill_grace_ms, $2)
WHERE key = $1 RETURNING fence, session_id, kill_acked;

-- name: ack_kills
UPDATE scheduler.live l SET kill_acked = true
FROM (SELECT l.key FROM unnest($1::bigint[], $2::bigint[]) AS r(key, fence)
      JOIN scheduler.live l ON l.key = r.key AND l.fence = r.fence ORDER BY l.key FOR UPDATE OF l) r
WHERE l.key = r.key RETURNING l.key;

-- name: kill_state
SELECT (SELECT kill_acked FROM scheduler.live WHERE key = $1) AS acked,
       EXISTS (SELECT FROM scheduler.done WHERE key = $1) AS ended;

-- name: pending_kills
-- Kills that the workers of these sessions have not confirmed.
SELECT session_id, key, fence, kill_grace_ms FROM scheduler.live
WHERE session_id = ANY($1::bigint[]) AND kill_at IS NOT NULL AND NOT kill_acked ORDER BY key;

-- name: bind_worker
INSERT INTO scheduler.worker (id, subject) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: lock_worker
-- One Connect of a worker at a time.
SELECT subject FROM scheduler.worker WHERE id = $1 FOR UPDATE;

-- name: lock_sessions_of_worker
SELECT id, incarnation, group_uid, state, draining, lease_ms FROM scheduler.session
WHERE worker_id = $1 AND (state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED') OR incarnation = $2)
ORDER BY id FOR UPDATE;

-- name: open_session
-- A new incarnation, or a new stream of a known one: the epoch grows, and with it the older stream is out. The
-- group may be another, too: one that was made anew under its key.
INSERT INTO scheduler.session AS s (worker_id, incarnation, group_uid, subject, tenants, epoch, renewal, lease_ms, state,
    draining, slots, busy_slots, task_types, host, version, boot_id, replica, connected_at, heartbeat_at, report)
VALUES ($1, $2, $3, $4, $5, nextval('scheduler.epoch'), 1, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, now(), now(), 1)
ON CONFLICT (worker_id, incarnation) DO UPDATE
SET epoch = excluded.epoch, renewal = s.renewal + 1, lease_ms = excluded.lease_ms, state = excluded.state,
    group_uid = excluded.group_uid, tenants = excluded.tenants, draining = excluded.draining, slots = excluded.slots,
    busy_slots = excluded.busy_slots, task_types = excluded.task_types, replica = excluded.replica, heartbeat_at = now(), report = s.report + 1
RETURNING id, epoch;

-- name: take_over
-- Assignments ($3, $4: key, fence) of some sessions ($2) become another's ($1), where they are theirs.
UPDATE scheduler.live l SET session_id = $1
FROM (SELECT l.key FROM unnest($3::bigint[], $4::bigint[]) AS r(key, fence)
      JOIN scheduler.live l ON l.key = r.key AND l.fence = r.fence
      WHERE l.session_id = ANY($2::bigint[]) ORDER BY l.key FOR UPDATE OF l) r
WHERE l.key = r.key;

-- name: change_session
UPDATE scheduler.session SET state = $2, draining = $3, report = report + 1 WHERE id = $1;

-- name: lock_session
SELECT id, worker_id, group_uid, epoch, renewal, state, draining FROM scheduler.session WHERE id = $1 FOR UPDATE;

-- name: session_of_worker
-- The newest session of a worker.
SELECT s.*, g.key AS group_key FROM scheduler.session s JOIN scheduler.worker_group g ON g.uid = s.group_uid
WHERE s.worker_id = $1 ORDER BY s.epoch DESC LIMIT 1;

-- name: known_workers
SELECT id FROM scheduler.worker ORDER BY id LIMIT 5000;

-- name: renew
-- A lease moves only for the session's present epoch, while the session lives (rule 2, rule 6).
UPDATE scheduler.session s
SET renewal = s.renewal + 1, heartbeat_at = now(), lease_ms = r.lease_ms, busy_slots = r.busy_slots, report = s.report + 1
FROM (SELECT s.id, r.lease_ms, r.busy_slots
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[]) AS r(id, epoch, lease_ms, busy_slots)
      JOIN scheduler.session s ON s.id = r.id AND s.epoch = r.epoch
      WHERE s.state IN ('CONNECTED', 'DRAINING') ORDER BY s.id FOR NO KEY UPDATE OF s) r
WHERE s.id = r.id RETURNING s.id;

-- name: living_sessions
SELECT id, epoch, renewal, lease_ms, group_uid FROM scheduler.session
WHERE state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED');

-- name: expire_session
-- Only if its counter still stands where it stood a whole lease ago.
UPDATE scheduler.session SET state = 'LOST', report = report + 1
WHERE id = $1 AND epoch = $2 AND renewal = $3 AND state IN ('CONNECTED', 'DRAINING', 'DISCONNECTED')
RETURNING worker_id;

-- name: group_leases
SELECT uid, lease_ms FROM scheduler.worker_group WHERE uid = ANY($1::text[]);
