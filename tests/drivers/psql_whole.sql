CREATE TABLE notes (id serial PRIMARY KEY, body text NOT NULL CHECK (body <> ''), at timestamptz);
COMMENT ON TABLE notes IS 'of psql';
\d notes
\d+ notes
\d notes_id_seq
COPY notes (body) FROM STDIN;
one
two
\.
\copy notes (body) FROM PROGRAM 'seq 2'
\copy notes TO PROGRAM 'cat'
TABLE notes;
INSERT INTO notes (body) VALUES ('');
SET TIME ZONE 'Asia/Tokyo';
SET DateStyle = 'German';
UPDATE notes SET at = '2024-01-02 03:04:05+00' RETURNING at;
PREPARE p (int) AS SELECT body FROM notes WHERE id = $1;
EXECUTE p (2);
DEALLOCATE p;
DECLARE held CURSOR WITH HOLD FOR SELECT body FROM notes ORDER BY id;
FETCH 2 FROM held;
FETCH 1 FROM held;
CLOSE held;
DO $$ BEGIN RAISE NOTICE 'noticed'; END $$;
CREATE TEMPORARY TABLE mine AS SELECT generate_series(1, 3) AS n;
SELECT sum(n) FROM mine;
CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
\df doubled
\sf doubled
SELECT doubled(21);
\set QUIET on
\lo_import /dev/null 'of psql'
SELECT count(*) FROM pg_largeobject_metadata WHERE oid = :LASTOID;
\lo_unlink :LASTOID
\set QUIET off
SELECT pg_advisory_lock(1), pg_advisory_unlock(1);
DROP FUNCTION doubled;
DROP TABLE notes;
RESET ALL;
SHOW TimeZone;
