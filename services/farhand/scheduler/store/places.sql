-- The statements of places: which executions of a flow with `concurrency` run, and which wait for their turn.
--
-- Whoever gives, takes or frees a place holds the flow's row in flow_limit until its transaction ends; several
-- by the flows' names. It comes after all other locks, so nobody who holds it waits for anything else. A statement
-- that counts places comes after the one that locks, and so sees what was committed before.

-- name: share_flow
-- Until the transaction ends no limit comes to be for this flow. Costs no row.
SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 5));

-- name: own_flow
-- Waits for those who created executions of the flow while it had no limit.
SELECT pg_advisory_xact_lock(hashtextextended($1, 5));

-- name: lock_limit
SELECT key, revision, most, behavior FROM scheduler.flow_limit
WHERE tenant = $1 AND namespace = $2 AND flow_id = $3 FOR NO KEY UPDATE;

-- name: make_limit
INSERT INTO scheduler.flow_limit (tenant, namespace, flow_id, revision, most, behavior)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING key;

-- name: fill_places
-- What ran already when the flow had no limit has its places, too. The lock waits for steps that end one of them.
INSERT INTO scheduler.place (limit_key, execution_key, waits)
SELECT $1, e.key, false FROM (
    SELECT key FROM scheduler.execution
    WHERE tenant = $2 AND namespace = $3 AND flow_id = $4 AND ended_at IS NULL ORDER BY key FOR SHARE
) e;

-- name: change_limit
UPDATE scheduler.flow_limit SET revision = $2, most = $3, behavior = $4 WHERE key = $1;

-- name: count_places
SELECT (SELECT count(*) FROM scheduler.place WHERE limit_key = $1 AND NOT waits) AS taken,
       EXISTS (SELECT FROM scheduler.place WHERE limit_key = $1 AND waits) AS waits;

-- name: take_place
INSERT INTO scheduler.place (limit_key, execution_key, waits) VALUES ($1, $2, $3);

-- name: executions_that_wait
-- Of these. To be asked after what is due of them was taken away: a turn that comes later is due again.
SELECT p.execution_key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.place p ON p.execution_key = w.key
WHERE p.waits;

-- name: lock_limits_of
-- The flows in which these executions have or wait for places.
SELECT key FROM scheduler.flow_limit WHERE key IN (
    SELECT p.limit_key FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.place p ON p.execution_key = w.key)
ORDER BY tenant, namespace, flow_id FOR NO KEY UPDATE;

-- name: free_places
DELETE FROM scheduler.place p USING unnest($1::bigint[]) AS w(key) WHERE p.execution_key = w.key;

-- name: give_places
-- To those who have waited longest, as far as these flows' places go. Each execution is due.
WITH free AS (
    SELECT l.key, CASE WHEN l.most IS NOT NULL THEN greatest(0, l.most - (
        SELECT count(*) FROM scheduler.place p WHERE p.limit_key = l.key AND NOT p.waits)) END AS places
    FROM unnest($1::bigint[]) AS w(key) JOIN scheduler.flow_limit l USING (key)
), next AS (
    SELECT p.id FROM free f CROSS JOIN LATERAL (
        SELECT id FROM scheduler.place WHERE limit_key = f.key AND waits ORDER BY id LIMIT f.places) p
), given AS (
    UPDATE scheduler.place p SET waits = false FROM next n WHERE p.id = n.id RETURNING p.execution_key
)
INSERT INTO scheduler.step_due (execution_key) SELECT execution_key FROM given ORDER BY execution_key
RETURNING execution_key;

-- name: limits_waited_for
-- Flows in which somebody waits, $1 < key, in the order of their keys.
SELECT l.key, l.tenant, l.namespace, l.flow_id FROM scheduler.flow_limit l
WHERE l.key > $1 AND EXISTS (SELECT FROM scheduler.place p WHERE p.limit_key = l.key AND p.waits)
ORDER BY l.key LIMIT $2;

-- name: places_left_over
-- Places of executions that have ended. A replica of a release that knows no places leaves them, and nobody else.
SELECT p.execution_key FROM scheduler.place p
WHERE p.limit_key = $1 AND NOT EXISTS (
    SELECT FROM scheduler.execution e WHERE e.key = p.execution_key AND e.ended_at IS NULL);
