-- Text as the database's collation orders it.

SELECT w FROM words ORDER BY w

SELECT user_id, w FROM words ORDER BY w, user_id

SELECT user_id, w FROM words ORDER BY w DESC NULLS LAST, user_id

SELECT w, user_id FROM words ORDER BY w, user_id LIMIT 10

SELECT w, user_id FROM words ORDER BY w DESC, user_id LIMIT 10 OFFSET 20

SELECT user_id FROM words ORDER BY w, user_id LIMIT 20

SELECT user_id, v FROM words ORDER BY v, user_id

SELECT user_id, fixed FROM words ORDER BY fixed, user_id

SELECT user_id, c FROM words ORDER BY c, user_id

SELECT user_id, p FROM words ORDER BY p DESC, user_id

SELECT user_id, w FROM words ORDER BY w COLLATE "C", user_id

SELECT user_id, c FROM words ORDER BY c COLLATE "default", user_id

SELECT user_id, w FROM words ORDER BY lower(w), user_id

SELECT user_id, w || 'x' AS x FROM words ORDER BY x, user_id

SELECT user_id, w FROM words ORDER BY ROW(w, user_id)

SELECT user_id, w FROM words ORDER BY ARRAY[w, v], user_id

SELECT min(w), max(w), min(v), max(v), min(fixed), max(fixed) FROM words

SELECT min(c), max(c), min(p), max(p) FROM words

SELECT min(w COLLATE "C"), max(w COLLATE "C") FROM words

SELECT max(lower(w)) || '!' FROM words

SELECT min(w) < 'b', max(w) > 'B' FROM words

SELECT w, count(*) FROM words GROUP BY w ORDER BY w

SELECT w, count(*) FROM words GROUP BY w ORDER BY count(*), w DESC

SELECT w, count(*) FROM words GROUP BY w HAVING min(w) > 'B' ORDER BY 1

SELECT upper(w) AS u, count(*), max(w) FROM words GROUP BY u ORDER BY u

SELECT c, count(*), max(w) FROM words GROUP BY c ORDER BY c

SELECT left(w, 1) AS l, min(w), max(w) FROM words GROUP BY l ORDER BY l DESC

SELECT user_id, max(w) FROM words GROUP BY user_id ORDER BY max(w), user_id

SELECT DISTINCT w FROM words ORDER BY w

SELECT DISTINCT w FROM words

SELECT DISTINCT v FROM words ORDER BY v DESC LIMIT 7

SELECT DISTINCT ON (w) w, user_id FROM words ORDER BY w, user_id

SELECT count(DISTINCT w), count(DISTINCT lower(w)) FROM words

SELECT string_agg(w, ',' ORDER BY w, user_id) FROM words

SELECT array_agg(DISTINCT w ORDER BY w) FROM words

SELECT w, row_number() OVER (ORDER BY w, user_id) FROM words

SELECT user_id, rank() OVER (ORDER BY w DESC) FROM words ORDER BY user_id

SELECT user_id FROM words WHERE w > 'b' ORDER BY user_id

SELECT user_id FROM words WHERE w BETWEEN 'A' AND $1{'e'} ORDER BY w, user_id

SELECT user_id FROM words WHERE w < v ORDER BY user_id

SELECT a.user_id, b.user_id FROM words a JOIN words b ON b.user_id = a.user_id AND a.w < b.v ORDER BY 1

SELECT a.user_id, b.user_id FROM words a JOIN words b ON a.w > b.w WHERE a.user_id < 10 AND b.user_id < 10 ORDER BY 1, 2

SELECT user_id FROM words WHERE w = (SELECT max(w) FROM words) ORDER BY 1

SELECT w FROM words WHERE user_id < 10 UNION SELECT v FROM words WHERE user_id < 10 ORDER BY w

SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY w) FROM words

SELECT greatest(max(w), max(v)), least(min(w), min(v)) FROM words

SELECT name FROM users ORDER BY name, id LIMIT 10

SELECT label, count(*) FROM readings GROUP BY label ORDER BY label

SELECT code, fixed, id FROM readings ORDER BY code, fixed DESC, id LIMIT 30

SELECT tags, id FROM readings ORDER BY tags, id LIMIT 30

SELECT doc, id FROM readings ORDER BY doc, id LIMIT 30

SELECT mood::text AS m, count(*) FROM readings GROUP BY m ORDER BY m

SELECT u.id FROM users u JOIN words w ON w.user_id = u.id ORDER BY w.w, u.name, u.id LIMIT 12

WITH s AS (SELECT w, user_id FROM words ORDER BY w DESC, user_id LIMIT 9) SELECT string_agg(w, '|' ORDER BY w, user_id) FROM s

SELECT w FROM words WHERE user_id IN (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12) ORDER BY w

SELECT x FROM (SELECT w AS x FROM words WHERE w IS NOT NULL) q ORDER BY x LIMIT 40

SELECT (w, user_id) AS pair FROM words ORDER BY pair LIMIT 10

SELECT user_id FROM words ORDER BY w USING >, user_id LIMIT 10

SELECT w FROM words ORDER BY w FETCH FIRST 3 ROWS WITH TIES
