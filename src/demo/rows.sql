-- The sample's rows of the users in the temporary table "owned". Every value follows from
-- the ids, so the union over all shards is the same however many shards there are.
-- demo.users is the number of users on all shards together.

SET client_min_messages = warning;

INSERT INTO users (id, email, name, plan_id, is_active, session_token, created_at)
SELECT id,
       format('user%s@example.com', id),
       (ARRAY['Ada', 'Barbara', 'Claude', 'Donald', 'Edsger', 'Frances', 'Grace', 'Hedy', 'Ivan',
              'Jean', 'Ken', 'Leslie', 'Margaret', 'Niklaus', 'Ole', 'Peter'])[1 + id % 16]
       || ' ' ||
       (ARRAY['Allen', 'Bartik', 'Codd', 'Dahl', 'Engelbart', 'Floyd', 'Gray', 'Hamilton', 'Iverson',
              'Johnson', 'Knuth', 'Liskov', 'McCarthy', 'Naur', 'Ousterhout'])[1 + id % 15],
       1 + id % 3,
       id % 11 <> 0,
       CASE WHEN id % 4 = 0 THEN md5('session ' || id) END,
       timestamptz '2025-01-01 00:00:00+00' + id * interval '7 hours'
FROM owned;

INSERT INTO jobs (id, user_id, name, schedule, status, priority, created_at)
SELECT (o.id - 1) * 3 + k,
       o.id,
       (ARRAY['nightly backup', 'send invoices', 'sync contacts', 'rotate keys', 'weekly report'])[1 + (o.id + k) % 5],
       (ARRAY['0 3 * * *', '*/15 * * * *', '0 9 * * 1'])[k],
       (ARRAY['pending', 'running', 'done', 'paused', 'deleted'])[1 + (o.id * 3 + k) % 5],
       1 + (o.id + k * 2) % 9,
       timestamptz '2025-02-01 00:00:00+00' + o.id * interval '5 hours' + k * interval '11 minutes'
FROM owned o CROSS JOIN generate_series(1, 3) k;

INSERT INTO job_executions (id, job_id, user_id, status, started_at, ended_at, error_message)
SELECT (j.id - 1) * 4 + k,
       j.id,
       j.user_id,
       outcome,
       started_at,
       CASE WHEN outcome <> 'running' THEN started_at + (1 + (j.id * k) % 300) * interval '1 second' END,
       CASE WHEN outcome = 'failed' THEN (ARRAY['timed out', 'connection refused', 'out of memory'])[1 + j.id % 3] END
FROM jobs j
CROSS JOIN generate_series(1, 4) k
CROSS JOIN LATERAL (
    SELECT CASE WHEN (j.id + k) % 7 = 0 THEN 'failed'
                WHEN k = 4 AND j.status = 'running' THEN 'running'
                ELSE 'success' END AS outcome,
           j.created_at + k * interval '1 day' AS started_at
) e;

INSERT INTO notifications (id, user_id, message, is_read, created_at)
SELECT (o.id - 1) * 2 + k,
       o.id,
       (ARRAY['your report is ready', 'a job failed', 'plan limit reached'])[1 + (o.id + k) % 3],
       (o.id + k) % 3 = 0,
       timestamptz '2025-03-01 00:00:00+00' + o.id * interval '3 hours' + k * interval '1 minute'
FROM owned o CROSS JOIN generate_series(1, 2) k;

INSERT INTO audit_logs (id, user_id, entity_type, action, created_at)
SELECT (o.id - 1) * 2 + k,
       o.id,
       (ARRAY['user', 'job'])[k],
       (ARRAY['login', 'create', 'update', 'delete'])[1 + (o.id + k) % 4],
       timestamptz '2025-03-05 00:00:00+00' + o.id * interval '2 hours' + k * interval '1 minute'
FROM owned o CROSS JOIN generate_series(1, 2) k;

-- New ids go on above every id of every shard.
SELECT setval(pg_get_serial_sequence(name, 'id'), ceil(last::numeric / shards)::bigint * shards + shard, false)
FROM (SELECT current_setting('demo.shard')::bigint AS shard,
             current_setting('demo.shards')::bigint AS shards,
             current_setting('demo.users')::bigint AS users) s
CROSS JOIN LATERAL (VALUES ('jobs', users * 3), ('job_executions', users * 12),
                           ('notifications', users * 2), ('audit_logs', users * 2)) t (name, last);

ANALYZE;
