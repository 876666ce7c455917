-- The statements that keep secret inputs. What is sealed goes in and out here; the keys never come near.

-- name: name_sealing_key
-- The first secret's key is the one that all seal under from then on.
INSERT INTO scheduler.sealing_key (key_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: hold_sealing_key
-- It stays so until the transaction ends: who names another waits for what is being sealed under this one.
SELECT key_id FROM scheduler.sealing_key FOR SHARE;

-- name: change_sealing_key
INSERT INTO scheduler.sealing_key (key_id) VALUES ($1) ON CONFLICT (one) DO UPDATE SET key_id = excluded.key_id;

-- name: insert_secrets
INSERT INTO scheduler.secret_input (execution_key, name, key_id, sealed)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bytea[]);

-- name: secrets_of_executions
SELECT s.execution_key, s.name, s.sealed FROM unnest($1::bigint[]) AS w(key)
JOIN scheduler.secret_input s ON s.execution_key = w.key ORDER BY s.execution_key, s.name;

-- name: count_secrets
SELECT key_id, count(*) AS count FROM scheduler.secret_input GROUP BY key_id ORDER BY key_id;

-- name: secrets_under_other_keys
-- The next $4 after ($2, $3) that are not under the key $1, with whose they are; held, so that none is sealed anew
-- twice. An execution that upkeep forgets at this moment takes its secrets along.
SELECT s.execution_key, s.name, s.sealed, e.tenant
FROM scheduler.secret_input s JOIN scheduler.execution e ON e.key = s.execution_key
WHERE (s.execution_key, s.name) > ($2, $3) AND s.key_id <> $1
ORDER BY s.execution_key, s.name LIMIT $4 FOR UPDATE OF s;

-- name: seal_secrets_anew
UPDATE scheduler.secret_input s SET key_id = $1, sealed = r.sealed
FROM unnest($2::bigint[], $3::text[], $4::bytea[]) AS r(execution_key, name, sealed)
WHERE s.execution_key = r.execution_key AND s.name = r.name;
