\set user 7
SELECT id, email, created_at FROM users WHERE id = :user;
SELECT count(*) AS jobs, max(id) AS last FROM jobs WHERE user_id = :user \gset
\echo :jobs :last
\if :{?last}
\echo there are jobs
\endif
SELECT id, name FROM jobs WHERE user_id = :user ORDER BY id \gx
SELECT id, email FROM users WHERE id = :user \gdesc
SELECT format('SELECT name FROM users WHERE id = %s', id) FROM users WHERE id = :user \gexec
\set FETCH_COUNT 3
SELECT id FROM job_executions WHERE user_id = :user ORDER BY id;
\unset FETCH_COUNT
BEGIN;
UPDATE users SET name = 'psql' WHERE id = :user RETURNING name;
SAVEPOINT here;
SELECT 1/0 FROM users WHERE id = :user;
ROLLBACK TO here;
SELECT name FROM users WHERE id = :user;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1/0 FROM users WHERE id = :user;
SELECT name FROM users WHERE id = :user;
COMMIT;
SELECT 1 FROM users WHERE id = :user \; SELECT 2 FROM jobs WHERE user_id = :user LIMIT 1;
SELECT id % 2, status, count(*) FROM jobs WHERE user_id = :user GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
\echo :LAST_ERROR_SQLSTATE :ROW_COUNT :ERROR
\copy (SELECT id FROM jobs WHERE user_id = 7 ORDER BY id) TO STDOUT CSV HEADER
\encoding
SELECT name FROM users WHERE id = :'user';
