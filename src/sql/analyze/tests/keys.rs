//! Reading: where the keys of sharded tables are known, and where they are not.

use super::{check, check_under, shape};

#[test]
fn constants() {
    check(&[
        ("SELECT * FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "the plain case"),
        ("SELECT * FROM jobs WHERE 7 = user_id", "keys[lit0] colocated", "equality is symmetric"),
        ("SELECT * FROM jobs WHERE user_id = $1", "keys[$1] colocated", "a parameter is a constant"),
        ("SELECT * FROM jobs WHERE $2 = user_id AND id = $1", "keys[$2] colocated", "on the left"),
        ("SELECT * FROM jobs WHERE user_id = '7'", "keys[lit0] colocated", "read as the column's type"),
        ("SELECT * FROM jobs WHERE user_id = -7", "keys[-lit0] colocated", "a negative constant"),
        ("SELECT * FROM jobs WHERE user_id = - '7'", "everywhere jobs.user_id", "minus of an untyped string"),
        ("SELECT * FROM jobs WHERE user_id = +7", "everywhere jobs.user_id", "not read, so not known"),
        ("SELECT * FROM jobs WHERE user_id = - -7", "everywhere jobs.user_id", "arithmetic"),
        ("SELECT * FROM jobs WHERE ((user_id)) = ((7))", "keys[lit0] colocated", "parentheses"),
        ("SELECT * FROM jobs WHERE user_id = 7.0", "everywhere jobs.user_id", "a numeric comparison"),
        ("SELECT * FROM jobs WHERE user_id = 7e0", "everywhere jobs.user_id", "numeric as well"),
        ("SELECT * FROM jobs WHERE user_id = B'111'", "everywhere jobs.user_id", "a bit string is no integer"),
        ("SELECT * FROM jobs WHERE user_id = N'7'", "everywhere jobs.user_id", "N'' is a character(n)"),
        ("SELECT * FROM jobs WHERE user_id = E'7'", "keys[lit0] colocated", "a string in another spelling"),
        ("SELECT * FROM jobs WHERE user_id = $$7$$", "keys[lit0] colocated", "a dollar quote is a string"),
        ("SELECT * FROM jobs WHERE user_id = U&'7'", "keys[lit0] colocated", "so is this"),
        ("SELECT * FROM jobs WHERE user_id = NULL", "keys[null] colocated", "no row at all"),
        ("SELECT * FROM jobs WHERE user_id IS NULL", "everywhere jobs.user_id", "not an equality"),
        ("SELECT * FROM jobs WHERE user_id IS NOT DISTINCT FROM 7", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM documents WHERE slug = 'a'", "keys[lit0] colocated", "a text key"),
        ("SELECT * FROM documents WHERE slug = 42", "everywhere documents.slug", "no integer is a text"),
        ("SELECT * FROM devices WHERE uid = 'x'", "keys[lit0] colocated", "a uuid key"),
        ("SELECT * FROM devices WHERE uid = 'x'::uuid", "keys[lit0] colocated", "cast to its own type"),
        ("SELECT * FROM devices WHERE uid = uuid 'x'", "keys[lit0] colocated", "a typed literal"),
        ("SELECT 7 FROM jobs WHERE user_id = 8 LIMIT 9", "keys[lit1] colocated", "literals are numbered"),
    ]);
}

#[test]
fn parameters_whose_type_something_else_may_decide() {
    for (sql, expect) in [
        ("SELECT * FROM jobs WHERE user_id = $1", &[][..]),
        ("SELECT * FROM jobs WHERE user_id = $1 AND id = $2 OR user_id = $1", &[]),
        ("SELECT * FROM jobs WHERE user_id IN ($1, $2) AND id > $3", &[]),
        ("SELECT * FROM jobs WHERE user_id = ANY($1)", &[]),
        ("SELECT * FROM jobs j JOIN users u ON u.id = $1 WHERE j.user_id = $1", &[]),
        ("SELECT * FROM jobs WHERE user_id = $1 AND $1::bigint > 3", &[]),
        ("SELECT CAST($1 AS int) FROM jobs WHERE user_id = $1", &[]),
        ("SELECT * FROM jobs WHERE user_id = ($1)::int8 AND $1::int8 IS NOT NULL", &[]),
        ("SELECT * FROM jobs WHERE id >= $1 AND user_id = $1", &[1]),
        ("SELECT * FROM jobs WHERE user_id = $1 AND id >= $1", &[1]),
        ("SELECT * FROM jobs WHERE user_id = $2 AND $1 < 3 AND $2::float8 > 1", &[2]),
        ("SELECT * FROM jobs WHERE user_id = $1 AND $1::bigint[] IS NOT NULL", &[1]),
        ("SELECT * FROM jobs WHERE $1::text = 'x' AND user_id = $1", &[1]),
        ("SELECT * FROM jobs WHERE user_id = ANY($1) AND id = ANY($1)", &[1]),
        ("SELECT * FROM jobs WHERE user_id IN ($3, $1) AND id IN ($1, $3)", &[1, 3]),
        ("SELECT * FROM documents WHERE $1::bpchar IS NOT NULL AND slug = $1", &[1]),
        ("SELECT * FROM documents WHERE $1::text IS NOT NULL AND slug = $1", &[]),
        ("INSERT INTO jobs (id, user_id) VALUES ($1, $2)", &[]),
        ("INSERT INTO jobs (id, user_id) VALUES ($1::float8, $1)", &[1]),
        ("INSERT INTO jobs (user_id, id) VALUES ($1, $2), ($3, $2), ($4, 1)", &[]),
        ("INSERT INTO jobs (user_id, id) VALUES ($1, $2), ($3, $3)", &[3]),
        ("UPDATE jobs SET priority = $1 WHERE user_id = $1", &[1]),
        ("DELETE FROM jobs WHERE user_id = $1 AND id = $2", &[]),
        ("SELECT * FROM jobs WHERE user_id = 7 AND id = $1 AND $1 > 3", &[]),
    ] {
        let found = shape(sql);
        assert_eq!(found.statements[0].loose, expect, "{sql}");
    }
}

#[test]
fn casts() {
    check(&[
        ("SELECT * FROM jobs WHERE user_id = '42'::bigint", "keys[lit0] colocated", "the key's family"),
        ("SELECT * FROM jobs WHERE user_id = 42::int2", "keys[lit0] colocated", "out of range is an error"),
        ("SELECT * FROM jobs WHERE user_id = CAST($1 AS int)", "keys[$1] colocated", "CAST is ::"),
        ("SELECT * FROM jobs WHERE user_id = $1::int8", "keys[$1] colocated", "by its other name"),
        ("SELECT * FROM jobs WHERE user_id = -5::int", "keys[-lit0] colocated", "the cast binds closer"),
        ("SELECT * FROM jobs WHERE user_id = (-5)::int", "keys[-lit0] colocated", "or not"),
        ("SELECT * FROM jobs WHERE user_id = 42.7::int", "everywhere jobs.user_id", "rounds to 43"),
        ("SELECT * FROM jobs WHERE user_id = $1::numeric", "everywhere jobs.user_id", "another family"),
        ("SELECT * FROM jobs WHERE user_id = $1::text::int", "everywhere jobs.user_id", "through another family"),
        ("SELECT * FROM jobs WHERE user_id = '4 2'::text::int", "everywhere jobs.user_id", "likewise"),
        ("SELECT * FROM jobs WHERE user_id = 5::regclass", "everywhere jobs.user_id", "another type"),
        ("SELECT * FROM jobs WHERE user_id::bigint = 5", "keys[lit0] colocated", "widening keeps the value"),
        ("SELECT * FROM jobs WHERE user_id::text = '5'", "everywhere jobs.user_id", "a comparison of texts"),
        ("SELECT * FROM jobs WHERE user_id::int2 = 5", "everywhere jobs.user_id", "narrowing is not looked at"),
        ("SELECT * FROM jobs WHERE user_id::numeric = 5", "everywhere jobs.user_id", "another family"),
        ("SELECT * FROM documents WHERE slug = 'abc'::text", "keys[lit0] colocated", "text"),
        ("SELECT * FROM documents WHERE slug = 'abc'::varchar", "keys[lit0] colocated", "no length"),
        ("SELECT * FROM documents WHERE slug = 'abc'::varchar(2)", "everywhere documents.slug", "cut off: 'ab'"),
        ("SELECT * FROM documents WHERE slug = 'abc'::char(5)", "everywhere documents.slug", "padded"),
        ("SELECT * FROM documents WHERE slug = 'abc'::name", "everywhere documents.slug", "cut off at 63"),
        ("SELECT * FROM documents WHERE slug::text = 'abc'", "keys[lit0] colocated", "its own family"),
        ("SELECT * FROM documents WHERE slug COLLATE \"x\" = 'a'", "everywhere documents.slug", "may equate others"),
        ("SELECT * FROM documents WHERE slug = 'a' COLLATE \"x\"", "everywhere documents.slug", "likewise"),
        ("SELECT * FROM documents WHERE lower(slug) = 'a'", "everywhere documents.slug", "a function of the key"),
    ]);
}

#[test]
fn lists() {
    check(&[
        ("SELECT * FROM jobs WHERE user_id IN (1, $1, '3')", "keys[$1 lit0 lit1] colocated", "each of them"),
        ("SELECT * FROM jobs WHERE user_id IN (1, 2 + 3)", "everywhere jobs.user_id", "one is not constant"),
        ("SELECT * FROM jobs WHERE user_id NOT IN (1, 2)", "everywhere jobs.user_id", "all others"),
        ("SELECT * FROM jobs WHERE 1 IN (user_id, id)", "everywhere jobs.user_id", "one of two columns"),
        ("SELECT * FROM jobs WHERE user_id = ANY($1)", "keys[$1[]] colocated", "an array"),
        ("SELECT * FROM jobs WHERE user_id = SOME($1)", "keys[$1[]] colocated", "the same word"),
        ("SELECT * FROM jobs WHERE user_id = ANY($1::bigint[])", "keys[$1[]] colocated", "an array of the family"),
        ("SELECT * FROM jobs WHERE user_id = ANY($1::numeric[])", "everywhere jobs.user_id", "of another"),
        ("SELECT * FROM jobs WHERE user_id = ANY('{1,2}')", "keys[lit0[]] colocated", "an array literal"),
        ("SELECT * FROM jobs WHERE user_id = ANY('{1,2}'::int[])", "keys[lit0[]] colocated", "typed"),
        ("SELECT * FROM jobs WHERE user_id = ANY(ARRAY[1, $1])", "keys[$1 lit0] colocated", "element by element"),
        ("SELECT * FROM jobs WHERE user_id = ANY(ARRAY[1, id])", "everywhere jobs.user_id", "an element varies"),
        ("SELECT * FROM jobs WHERE user_id <> ANY($1)", "everywhere jobs.user_id", "another operator"),
        ("SELECT * FROM jobs WHERE user_id = ALL($1)", "everywhere jobs.user_id", "ALL of none is true"),
        ("SELECT * FROM jobs WHERE user_id > ANY($1)", "everywhere jobs.user_id", "another operator"),
        ("SELECT * FROM jobs WHERE (user_id, id) = (5, 6)", "keys[lit0] colocated", "part by part"),
        ("SELECT * FROM jobs WHERE (id, user_id) IN ((1, 2), (3, 4))", "keys[lit1 lit3] colocated", "second parts"),
        ("SELECT * FROM jobs WHERE (user_id, id) < (5, 6)", "everywhere jobs.user_id", "an order"),
        ("SELECT * FROM jobs WHERE (user_id, id) <> (5, 6)", "everywhere jobs.user_id", "true for user 5 and others"),
    ]);
}

#[test]
fn what_proves_nothing() {
    let all = "everywhere jobs.user_id";
    check(&[
        ("SELECT * FROM jobs", all, "no condition"),
        ("SELECT * FROM jobs WHERE user_id = 7 OR id = 1", all, "job 1 may be anyone's"),
        ("SELECT * FROM jobs WHERE user_id = 7 OR user_id = 8", "keys[lit0 lit1] colocated", "as IN (7, 8)"),
        ("SELECT * FROM jobs WHERE user_id = 7 OR user_id > 8", all, "a range"),
        ("SELECT * FROM jobs WHERE (user_id = 7 AND id = 1) OR (id = 2 AND user_id = $1)", "keys[$1 lit0] colocated", "each branch pins it"),
        ("SELECT * FROM jobs WHERE (user_id = 7 AND user_id = 9) OR user_id = 8", "keys[lit0 lit2] colocated", "any pin of a branch will do, with the others'"),
        ("SELECT * FROM jobs WHERE (user_id = 7 OR id = 1) AND user_id = 8", "keys[lit2] colocated", "the other conjunct does"),
        ("SELECT * FROM jobs WHERE NOT user_id = 7", all, "all others"),
        ("SELECT * FROM jobs WHERE NOT (user_id <> 7)", all, "not looked at"),
        ("SELECT * FROM jobs WHERE NOT (id = 1 AND user_id = 7)", all, "the AND is not the query's own"),
        ("SELECT * FROM jobs WHERE CASE WHEN user_id = 7 THEN true ELSE true END", all, "true of all"),
        ("SELECT * FROM jobs WHERE (user_id = 7) IS NOT TRUE", all, "all others"),
        ("SELECT * FROM jobs WHERE (user_id = 7) IS TRUE", all, "not looked at"),
        ("SELECT * FROM jobs WHERE user_id = 5 IS TRUE", all, "IS binds more loosely"),
        ("SELECT * FROM jobs WHERE (user_id = 7) = false", all, "all others"),
        ("SELECT * FROM jobs WHERE user_id <> 7", all, "another operator"),
        ("SELECT * FROM jobs WHERE user_id >= 7", all, "a range"),
        ("SELECT * FROM jobs WHERE user_id BETWEEN 7 AND 7", all, "a range"),
        ("SELECT * FROM jobs WHERE priority BETWEEN 1 AND 2 AND user_id = 7", "keys[lit2] colocated", "the second AND is a conjunction"),
        ("SELECT * FROM jobs WHERE user_id + 1 = 8", all, "arithmetic on the key"),
        ("SELECT * FROM jobs WHERE user_id = 7 + 1", all, "not a constant of the text"),
        ("SELECT * FROM jobs WHERE -user_id = 7", all, "arithmetic on the key"),
        ("SELECT * FROM jobs WHERE abs(user_id) = 7", all, "a function of the key"),
        ("SELECT * FROM jobs WHERE user_id % 2 = 1", all, "arithmetic on the key"),
        ("SELECT * FROM jobs WHERE coalesce(user_id, 7) = 7", all, "a function of the key"),
        ("SELECT * FROM jobs WHERE id = 7", all, "another column"),
        ("SELECT user_id = 7 FROM jobs", all, "a select list filters nothing"),
        ("SELECT 7 AS user_id FROM jobs WHERE id = 1", all, "nor does an alias"),
        ("SELECT id AS uid FROM jobs WHERE uid = 7", all, "WHERE does not see the select list"),
        ("SELECT * FROM jobs ORDER BY user_id = 7", all, "ORDER BY filters nothing"),
        ("SELECT user_id FROM jobs GROUP BY user_id HAVING user_id = 7", all, "HAVING is not looked at"),
        ("SELECT count(*) FILTER (WHERE user_id = 7) FROM jobs", all, "one aggregate's filter"),
        ("SELECT * FROM jobs WHERE user_id = 7 AND user_id = 8", "keys[lit0] colocated", "either will do: no row has both"),
        ("SELECT * FROM jobs WHERE user_id = id", all, "a column of the same row"),
        ("SELECT * FROM jobs WHERE user_id = user_id", all, "true of all"),
        ("SELECT * FROM jobs WHERE user_id LIKE '7'", all, "a pattern"),
        ("SELECT * FROM jobs WHERE user_id = current_setting('x')::int", all, "not constant"),
        ("SELECT * FROM jobs WHERE true OR user_id = 7 AND id = 1", all, "AND binds closer than OR"),
        ("SELECT * FROM jobs WHERE id IS DISTINCT FROM 1 AND user_id = 7", "keys[lit1] colocated", "the AND is outside"),
    ]);
}

#[test]
fn joins() {
    check(&[
        ("SELECT * FROM users u JOIN jobs j ON j.user_id = u.id WHERE u.id = 7", "keys[lit0] colocated", "through the join"),
        ("SELECT * FROM users u JOIN jobs j ON j.user_id = u.id WHERE j.user_id = 7", "keys[lit0] colocated", "either way"),
        ("SELECT * FROM users u JOIN jobs j ON j.user_id = u.id AND u.id = 7", "keys[lit0] colocated", "an inner join's ON is a condition"),
        ("SELECT * FROM users u, jobs j WHERE j.user_id = u.id AND u.id = 7", "keys[lit0] colocated", "so is WHERE"),
        ("SELECT * FROM users u, jobs j WHERE u.id = 7", "everywhere jobs.user_id", "a cross product with all jobs"),
        ("SELECT * FROM users u, jobs j WHERE u.id = 7 AND j.user_id = 8", "keys[lit0 lit1]", "both known, rows of two owners meet"),
        ("SELECT * FROM users u, jobs j WHERE u.id = 7 AND j.user_id > u.id", "everywhere jobs.user_id", "no equality"),
        ("SELECT * FROM users u CROSS JOIN jobs j WHERE u.id = j.user_id AND j.user_id = 3", "keys[lit0] colocated", "as an inner join"),
        ("SELECT * FROM users u JOIN jobs j ON j.id = u.id WHERE u.id = 7", "everywhere jobs.user_id", "joined on another column"),
        ("SELECT * FROM jobs j JOIN job_executions e ON e.job_id = j.id WHERE j.user_id = 7", "everywhere job_executions.user_id", "the execution's user is not the job's by schema"),
        ("SELECT * FROM users u JOIN jobs j ON j.user_id = u.id JOIN job_executions e ON e.user_id = j.user_id WHERE u.id = 7", "keys[lit0] colocated", "through two joins"),
        ("SELECT * FROM jobs JOIN notifications USING (user_id) WHERE user_id = 7", "keys[lit0] colocated", "USING merges the two"),
        ("SELECT * FROM jobs JOIN notifications USING (user_id) WHERE notifications.user_id = 7", "keys[lit0] colocated", "qualified"),
        ("SELECT * FROM jobs JOIN notifications USING (user_id) JOIN audit_logs USING (user_id) WHERE user_id = 7", "keys[lit0] colocated", "three"),
        ("SELECT * FROM jobs JOIN notifications USING (id) WHERE jobs.user_id = 7", "everywhere notifications.user_id", "not on the key"),
        ("SELECT * FROM jobs JOIN notifications USING (id) WHERE user_id = 7", "everywhere jobs.user_id", "ambiguous: an error in PostgreSQL"),
        ("SELECT * FROM jobs NATURAL JOIN notifications WHERE user_id = 7", "keys[lit0] colocated", "joined on id and user_id"),
        ("SELECT * FROM jobs NATURAL JOIN app_settings WHERE user_id = 7", "keys[lit0] home", "nothing in common"),
        ("SELECT * FROM jobs FULL JOIN notifications USING (user_id) WHERE user_id = 7", "everywhere jobs.user_id", "coalesced"),
        ("SELECT * FROM jobs j JOIN plans p ON p.id = j.priority WHERE j.user_id = 7", "keys[lit0] colocated", "a reference table is everywhere"),
        ("SELECT * FROM jobs j JOIN app_settings s ON s.key = j.name WHERE j.user_id = 7", "keys[lit0] home", "the home shard's rows are wanted too"),
        ("SELECT * FROM jobs j JOIN app_settings s ON s.key = j.name", "everywhere jobs.user_id home", "rows of several places"),
        ("SELECT * FROM jobs a JOIN jobs b ON a.user_id = b.user_id WHERE a.user_id = 7", "keys[lit0] colocated", "with itself"),
        ("SELECT * FROM jobs a JOIN jobs b ON a.id = b.id WHERE a.user_id = 7", "everywhere jobs.user_id", "the other one is another occurrence"),
        ("SELECT * FROM (users u JOIN jobs j ON u.id = j.user_id) WHERE u.id = 7", "keys[lit0] colocated", "parentheses"),
        ("SELECT * FROM (users u JOIN jobs j ON u.id = j.user_id) AS x WHERE x.user_id = 7", "everywhere users.id", "an alias hides them"),
        ("SELECT * FROM documents d JOIN jobs j ON d.slug = j.user_id::text WHERE d.slug = '7'", "everywhere jobs.user_id", "keys of two types"),
        ("SELECT * FROM app_settings s, jobs j JOIN users u ON user_id = u.id WHERE u.id = 7", "keys[lit0] home", "user_id can be jobs' only"),
        ("SELECT * FROM jobs j, app_settings s JOIN users u ON user_id = 5 WHERE u.id = 7", "everywhere jobs.user_id home", "ON sees the two sides of its join: jobs is not one"),
    ]);
}

#[test]
fn outer_joins() {
    check(&[
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE u.id = 1", "keys[lit0] colocated", "jobs that match have the user's key"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = 5", "everywhere users.id", "ON does not restrict the preserved side"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON u.id = 5 AND j.user_id = u.id", "everywhere users.id", "users without a job stay"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = 5 WHERE u.id = 1", "keys[lit0 lit1]", "each has its own"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE j.user_id = 1", "everywhere users.id", "WHERE rejects users without such a job, but that is not looked at"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = u.id WHERE j.user_id IS NULL", "everywhere users.id", "users without a job"),
        ("SELECT * FROM jobs j RIGHT JOIN users u ON j.user_id = u.id WHERE u.id = 1", "keys[lit0] colocated", "mirrored"),
        ("SELECT * FROM jobs j RIGHT JOIN users u ON j.user_id = u.id AND u.id = 1", "everywhere jobs.user_id", "mirrored"),
        ("SELECT * FROM jobs j RIGHT JOIN users u ON j.user_id = 1 WHERE u.id = 1", "keys[lit0 lit1]", "mirrored"),
        ("SELECT * FROM users u FULL JOIN jobs j ON j.user_id = u.id AND u.id = 1", "everywhere users.id", "both sides are preserved"),
        ("SELECT * FROM users u FULL JOIN jobs j ON j.user_id = u.id WHERE u.id = 1", "everywhere jobs.user_id", "users are restricted, jobs are not"),
        ("SELECT * FROM users u FULL JOIN jobs j ON true WHERE u.id = 1 AND j.user_id = 1", "keys[lit0 lit1]", "both restricted by WHERE"),
        ("SELECT * FROM plans p LEFT JOIN users u ON u.plan_id = p.id AND u.id = 1", "keys[lit0]", "plans without a user stay: one owner answers, two would both say so"),
        ("SELECT * FROM plans p LEFT JOIN users u ON u.plan_id = p.id", "everywhere users.id", "not restricted"),
        ("SELECT * FROM users u LEFT JOIN plans p ON u.plan_id = p.id WHERE u.id IN (1, 2)", "keys[lit0 lit1] colocated", "the preserved side is sharded"),
        ("SELECT * FROM users u LEFT JOIN (jobs j JOIN notifications n ON n.user_id = j.user_id) ON j.user_id = u.id WHERE u.id = 1", "keys[lit0] colocated", "the whole right side is restricted"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = u.id LEFT JOIN notifications n ON n.user_id = j.user_id WHERE u.id = 1", "keys[lit0] colocated", "a chain"),
        ("SELECT * FROM users u LEFT JOIN jobs j ON j.user_id = u.id LEFT JOIN notifications n ON n.user_id = u.id AND j.user_id = 4 WHERE u.id = 1", "keys[lit1] colocated", "j is on the preserved side of the second join"),
        ("SELECT * FROM jobs LEFT JOIN notifications USING (user_id) WHERE user_id = 7", "keys[lit0] colocated", "the left one's column"),
        ("SELECT * FROM jobs RIGHT JOIN notifications USING (user_id) WHERE user_id = 7", "keys[lit0] colocated", "the right one's column"),
        ("SELECT * FROM jobs RIGHT JOIN notifications USING (user_id) WHERE jobs.user_id = 7", "everywhere notifications.user_id", "likewise"),
    ]);
}

#[test]
fn names() {
    check(&[
        ("SELECT * FROM public.jobs WHERE user_id = 7", "keys[lit0] colocated", "qualified"),
        ("SELECT * FROM public.jobs WHERE public.jobs.user_id = 7", "keys[lit0] colocated", "column qualified by schema"),
        ("SELECT * FROM public.jobs WHERE other.jobs.user_id = 7", "everywhere jobs.user_id", "another schema: an error"),
        ("SELECT * FROM JOBS WHERE USER_ID = 7", "keys[lit0] colocated", "unquoted names are folded"),
        ("SELECT * FROM \"jobs\" WHERE \"user_id\" = 7", "keys[lit0] colocated", "quoted in their own case"),
        ("SELECT * FROM \"Jobs\" WHERE user_id = 7", "home", "another table"),
        ("SELECT * FROM Mixed WHERE user_id = 7", "home", "folds to mixed, which is not \"Mixed\""),
        ("SELECT * FROM \"Mixed\" WHERE user_id = 7", "keys[lit0] colocated", "as it is spelled"),
        ("SELECT * FROM jobs WHERE \"USER_ID\" = 7", "everywhere jobs.user_id", "another column: an error"),
        ("SELECT * FROM other.jobs WHERE user_id = 7", "home", "of another schema, on the home shard"),
        ("SELECT * FROM other.jobs AS users WHERE users.id = 7", "home", "an alias is not the table"),
        ("SELECT * FROM jobs AS users WHERE users.id = 7", "everywhere jobs.user_id", "jobs.id is not the key"),
        ("SELECT * FROM jobs AS users WHERE users.user_id = 7", "keys[lit0] colocated", "jobs.user_id is"),
        ("SELECT * FROM jobs j WHERE jobs.user_id = 7", "everywhere jobs.user_id", "the alias hides the name"),
        ("SELECT * FROM jobs j(user_id, id) WHERE user_id = 7", "everywhere jobs.user_id", "columns are renamed: that is jobs.id"),
        ("SELECT * FROM jobs j(user_id, k) WHERE k = 7", "keys[lit0] colocated", "and k is jobs.user_id"),
        ("SELECT * FROM jobs j(a) WHERE user_id = 7", "keys[lit0] colocated", "only the first is renamed"),
        ("SELECT * FROM users, jobs WHERE id = 7", "everywhere users.id", "ambiguous"),
        ("SELECT * FROM users, jobs WHERE user_id = 7 AND users.id = 7", "keys[lit0 lit1]", "user_id is jobs' only; literals may differ"),
        ("SELECT * FROM nosuch WHERE user_id = 7", "home", "a temporary table, say"),
        ("SELECT * FROM jobs, nosuch WHERE user_id = 7", "keys[lit0] home", "jobs', or PostgreSQL says ambiguous"),
        ("SELECT * FROM db.public.jobs WHERE user_id = 7", "keys[lit0] colocated", "with the database's name"),
        ("SELECT * FROM ONLY jobs WHERE user_id = 7", "keys[lit0] colocated", "ONLY is no table"),
        ("SELECT * FROM ONLY (jobs) WHERE user_id = 7", "refused: cannot be read", "in parentheses sqlparser does not read it"),
        ("SELECT * FROM app_settings, ONLY jobs", "everywhere jobs.user_id home", "ONLY is no table here either"),
        ("SELECT * FROM jobs binary WHERE user_id = 7", "refused: cannot be read", "no reserved word is an alias"),
        ("TABLE jobs", "everywhere jobs.user_id", "TABLE x is SELECT * FROM x"),
        ("TABLE app_settings", "home", "likewise"),
        ("SELECT 1 WHERE EXISTS (TABLE jobs)", "everywhere jobs.user_id", "inside"),
        ("TABLE app_settings UNION ALL TABLE jobs", "everywhere jobs.user_id home", "both"),
        ("SELECT * FROM U&\"jobs\" WHERE user_id = 7", "refused: cannot be read", "only the server decodes it"),
    ]);
    check_under(&["other", "public"], true, &[
        ("SELECT * FROM jobs WHERE user_id = 7", "home", "other.jobs comes first"),
        ("SELECT * FROM users WHERE id = 7", "keys[lit0] colocated", "found further on"),
        ("SELECT * FROM public.jobs WHERE user_id = 7", "keys[lit0] colocated", "qualified"),
    ]);
    check_under(&["nowhere"], true, &[
        ("SELECT * FROM jobs WHERE user_id = 7", "home", "public is not on the path"),
        ("SELECT * FROM active_jobs WHERE user_id = 7", "home", "nor is the view"),
        ("SELECT * FROM public.active_jobs WHERE user_id = 7", "keys[lit0] colocated", "a view's names do not depend on it"),
    ]);
    let long = "x".repeat(70);
    check(&[(&format!("SELECT * FROM {long}"), "home", "cut off at 63 bytes before it is looked up")]);
}

#[test]
fn what_looks_like_a_condition() {
    check(&[
        ("SELECT * FROM jobs -- WHERE user_id = 7", "everywhere jobs.user_id", "a comment"),
        ("SELECT * FROM jobs /* WHERE user_id = 7 */", "everywhere jobs.user_id", "a comment"),
        ("SELECT * FROM jobs /* /* */ WHERE user_id = 7 */ WHERE id = 1", "everywhere jobs.user_id", "comments nest"),
        ("SELECT * FROM jobs WHERE name = ' AND user_id = 7'", "everywhere jobs.user_id", "a string"),
        ("SELECT * FROM jobs WHERE name = $a$ $$ AND user_id = 7 -- $a$", "everywhere jobs.user_id", "a dollar quote"),
        ("SELECT * FROM jobs WHERE name = E'\\' AND user_id = 7 -- '", "everywhere jobs.user_id", "an escaped quote"),
        ("SELECT * FROM jobs WHERE name = '\\' AND user_id = 7 -- '", "keys[lit1] colocated", "no escape in a standard string"),
        ("SELECT * FROM jobs WHERE name = 'a''b' AND user_id = 7", "keys[lit1] colocated", "a doubled quote"),
        ("SELECT * FROM jobs WHERE \"a = 1 AND user_id\" = 7", "everywhere jobs.user_id", "a quoted name"),
        ("SELECT * FROM jobs WHERE user_id = -- 8\n 7", "keys[lit0] colocated", "the comment is nothing"),
        ("SELECT * FROM jobs WHERE user_id = '1'\n'2'", "keys[lit0] colocated", "one literal of two lines"),
    ]);
    check_under(&["public"], false, &[
        ("SELECT * FROM jobs WHERE name = '\\' AND user_id = 7 -- '", "everywhere jobs.user_id", "an escape when standard_conforming_strings is off"),
        ("SELECT * FROM jobs WHERE name = 'x' AND user_id = 7", "keys[lit1] colocated", "and none here"),
    ]);
}

#[test]
fn subqueries() {
    check(&[
        ("SELECT * FROM jobs WHERE user_id = 7 AND id IN (SELECT job_id FROM job_executions)", "everywhere job_executions.user_id", "all executions"),
        ("SELECT * FROM jobs WHERE user_id = 7 AND id IN (SELECT job_id FROM job_executions WHERE user_id = 7)", "keys[lit0 lit1]", "both known"),
        ("SELECT * FROM jobs WHERE user_id = 7 AND id IN (SELECT job_id FROM job_executions WHERE user_id = 8)", "keys[lit0 lit1]", "two owners"),
        ("SELECT (SELECT count(*) FROM jobs) FROM users WHERE id = 7", "everywhere jobs.user_id", "in the select list"),
        ("SELECT (SELECT count(*) FROM jobs WHERE user_id = 7)", "keys[lit0]", "alone"),
        ("SELECT (SELECT count(*) FROM jobs j WHERE j.user_id = u.id) FROM users u WHERE u.id = 7", "keys[lit0] colocated", "correlated: only users 7's are asked for"),
        ("SELECT (SELECT count(*) FROM jobs j WHERE j.user_id = u.id) FROM users u", "everywhere users.id", "the outer one is not known"),
        ("SELECT * FROM users u WHERE u.id = 7 AND EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = u.id)", "keys[lit0] colocated", "correlated"),
        ("SELECT * FROM users u WHERE u.id = 7 AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = u.id)", "keys[lit0] colocated", "row by row, so as well"),
        ("SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = u.id AND j.user_id = 7)", "everywhere users.id", "not turned around"),
        ("SELECT * FROM users u WHERE u.id = 7 AND EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = u.id OR j.id = 1)", "everywhere jobs.user_id", "OR"),
        ("SELECT * FROM users u WHERE u.id = 7 OR EXISTS (SELECT 1 FROM jobs j WHERE j.user_id = u.id)", "everywhere users.id", "OR outside"),
        ("SELECT * FROM users WHERE id = 7 AND EXISTS (SELECT 1 FROM jobs WHERE user_id = id)", "everywhere jobs.user_id", "id is the inner table's own"),
        ("SELECT * FROM users WHERE users.id = 7 AND EXISTS (SELECT 1 FROM jobs WHERE user_id = users.id)", "keys[lit0] colocated", "qualified"),
        ("SELECT * FROM users u WHERE u.id = 7 AND EXISTS (SELECT 1 FROM app_settings WHERE key = u.email)", "keys[lit0] home", "home's rows are wanted"),
        ("SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM plans WHERE id = 7)", "everywhere users.id", "plans.id is no key"),
        ("SELECT * FROM users u WHERE u.id IN (SELECT user_id FROM jobs WHERE user_id = 7)", "keys[lit0] colocated", "only what the sub-query yields"),
        ("SELECT * FROM users u WHERE u.id = 7 AND u.id IN (SELECT user_id FROM jobs WHERE status = 'x')", "keys[lit0] colocated", "only what may match"),
        ("SELECT * FROM users u WHERE u.id NOT IN (SELECT user_id FROM jobs WHERE user_id = 7)", "everywhere users.id", "all others"),
        ("SELECT * FROM users u WHERE u.id = 7 AND u.id IN (SELECT user_id FROM jobs ORDER BY priority LIMIT 3)", "everywhere jobs.user_id", "the first three of all"),
        ("SELECT * FROM users u WHERE u.id = (SELECT user_id FROM jobs WHERE user_id = 7 LIMIT 1)", "everywhere users.id", "not looked at"),
        ("SELECT * FROM jobs WHERE user_id = 7 ORDER BY (SELECT count(*) FROM audit_logs)", "everywhere audit_logs.user_id", "in ORDER BY"),
        ("SELECT * FROM jobs WHERE user_id = 7 LIMIT (SELECT count(*) FROM audit_logs)", "everywhere audit_logs.user_id", "in LIMIT"),
        ("SELECT * FROM jobs WHERE user_id = 7 GROUP BY (SELECT 1 FROM audit_logs)", "everywhere audit_logs.user_id", "in GROUP BY"),
        ("SELECT 1 FROM jobs WHERE user_id = 7 HAVING count(*) > (SELECT count(*) FROM audit_logs)", "everywhere audit_logs.user_id", "in HAVING"),
        ("SELECT count(*) OVER (PARTITION BY (SELECT max(id) FROM audit_logs)) FROM jobs WHERE user_id = 7", "everywhere audit_logs.user_id", "in a window"),
        ("SELECT * FROM jobs j JOIN users u ON u.id = j.user_id AND EXISTS (SELECT 1 FROM audit_logs) WHERE u.id = 7", "everywhere audit_logs.user_id", "in ON"),
        ("SELECT array(SELECT id FROM audit_logs) FROM jobs WHERE user_id = 7", "everywhere audit_logs.user_id", "in array()"),
        ("VALUES ((SELECT count(*) FROM jobs))", "everywhere jobs.user_id", "in VALUES"),
        ("SELECT * FROM generate_series(1, (SELECT count(*) FROM jobs))", "everywhere jobs.user_id", "in a function's arguments"),
        ("SELECT CASE WHEN EXISTS (SELECT 1 FROM jobs) THEN 1 END", "everywhere jobs.user_id", "in CASE"),
        ("SELECT coalesce((SELECT max(id) FROM jobs), 0)", "everywhere jobs.user_id", "in a function"),
        ("SELECT DISTINCT ON ((SELECT max(id) FROM jobs)) 1", "everywhere jobs.user_id", "in DISTINCT ON"),
    ]);
}

#[test]
fn derived_tables() {
    check(&[
        ("SELECT * FROM (SELECT * FROM jobs WHERE user_id = 7) j", "keys[lit0] colocated", "its own condition"),
        ("SELECT * FROM (SELECT user_id AS uid, name FROM jobs) j WHERE uid = 7", "keys[lit0] colocated", "a condition from above, renamed"),
        ("SELECT * FROM (SELECT * FROM jobs) j WHERE j.user_id = 7", "keys[lit0] colocated", "through *"),
        ("SELECT * FROM (SELECT j.* FROM jobs j, plans) j WHERE j.user_id = 7", "keys[lit0] colocated", "through j.*"),
        ("SELECT * FROM (SELECT id AS user_id FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "that is jobs.id"),
        ("SELECT * FROM (SELECT user_id AS id, id AS user_id FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "exchanged"),
        ("SELECT * FROM (SELECT user_id AS id, id AS user_id FROM jobs) j WHERE j.id = 7", "keys[lit0] colocated", "and this is the key"),
        ("SELECT * FROM (SELECT user_id FROM jobs) j(uid) WHERE uid = 7", "keys[lit0] colocated", "renamed by the alias"),
        ("SELECT * FROM (SELECT user_id + 0 AS user_id FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "computed"),
        ("SELECT * FROM (SELECT user_id FROM jobs LIMIT 5) j WHERE user_id = 7", "everywhere jobs.user_id", "five of all, then user 7's"),
        ("SELECT * FROM (SELECT user_id FROM jobs OFFSET 5) j WHERE user_id = 7", "everywhere jobs.user_id", "likewise"),
        ("SELECT * FROM (SELECT user_id FROM jobs FETCH FIRST 5 ROWS ONLY) j WHERE user_id = 7", "everywhere jobs.user_id", "likewise"),
        ("SELECT * FROM (SELECT DISTINCT user_id FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM (SELECT DISTINCT ON (id) user_id FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "the first of each id may be another's"),
        ("SELECT * FROM (SELECT user_id, count(*) FROM jobs GROUP BY user_id) j WHERE user_id = 7", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM (SELECT user_id, row_number() OVER (ORDER BY id) FROM jobs) j WHERE user_id = 7", "everywhere jobs.user_id", "numbers depend on all rows"),
        ("SELECT * FROM (SELECT user_id FROM jobs FOR UPDATE) j WHERE user_id = 7", "everywhere jobs.user_id", "locks all of them"),
        ("SELECT * FROM (SELECT user_id FROM jobs UNION ALL SELECT id FROM users) j WHERE user_id = 7", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM (SELECT user_id FROM jobs WHERE user_id = 7 LIMIT 1) j JOIN users u ON u.id = j.user_id", "keys[lit0]", "what comes out has its key"),
        ("SELECT * FROM users u JOIN (SELECT user_id FROM jobs) j ON j.user_id = u.id WHERE u.id IN (1, 2)", "keys[lit0 lit1] colocated", "joined on it"),
        ("SELECT * FROM users u LEFT JOIN (SELECT user_id, count(*) n FROM jobs GROUP BY 1) j ON j.user_id = u.id WHERE u.id = 7", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM users u, (SELECT 1 FROM jobs j WHERE j.user_id = u.id) x WHERE u.id = 7", "everywhere jobs.user_id", "not lateral: an error in PostgreSQL"),
        ("SELECT * FROM users u, LATERAL (SELECT 1 FROM jobs j WHERE j.user_id = u.id LIMIT 3) x WHERE u.id = 7", "keys[lit2]", "lateral, for each user"),
        ("SELECT * FROM users u LEFT JOIN LATERAL (SELECT 1 FROM jobs j WHERE j.user_id = u.id LIMIT 3) x ON true WHERE u.id = 7", "keys[lit2]", "as an outer join"),
        ("SELECT * FROM users u LEFT JOIN LATERAL (SELECT u.id AS k, n.id FROM plans n) x ON x.k = 7", "everywhere users.id", "ON through a lateral copy does not restrict the preserved side"),
        ("SELECT * FROM (VALUES (7)) v(id) JOIN jobs j ON j.user_id = v.id", "everywhere jobs.user_id", "not looked at"),
        ("SELECT * FROM (SELECT * FROM (SELECT user_id u2 FROM jobs) a) b WHERE u2 = 7", "keys[lit0] colocated", "two levels"),
        ("SELECT * FROM (SELECT u.id, j.user_id FROM users u LEFT JOIN jobs j ON j.user_id = u.id) x WHERE x.id = 7", "keys[lit0] colocated", "a join within"),
        ("SELECT * FROM (SELECT *, 1 AS user_id FROM app_settings) s WHERE user_id = 7", "home", "a column of that name"),
    ]);
}

#[test]
fn common_tables() {
    check(&[
        ("WITH j AS (SELECT * FROM jobs WHERE user_id = 7) SELECT * FROM j", "keys[lit0] colocated", "its own condition"),
        ("WITH j AS (SELECT user_id, name FROM jobs) SELECT * FROM j WHERE user_id = 7", "keys[lit0] colocated", "read once, so from above"),
        ("WITH j AS (SELECT user_id FROM jobs) SELECT * FROM j a, j b WHERE a.user_id = 7", "everywhere jobs.user_id", "read twice: b needs all"),
        ("WITH j AS (SELECT user_id FROM jobs) SELECT * FROM j a, j b WHERE a.user_id = 7 AND b.user_id = 7", "everywhere jobs.user_id", "not looked at"),
        ("WITH jobs AS (SELECT 1 AS user_id) SELECT * FROM jobs WHERE user_id = 7", "nothing", "the name is shadowed"),
        ("WITH jobs AS (SELECT * FROM jobs WHERE id = 1) SELECT * FROM jobs WHERE user_id = 7", "keys[lit1] colocated", "the inner one is the table"),
        ("WITH RECURSIVE jobs AS (SELECT 1 AS user_id UNION ALL SELECT user_id FROM jobs) SELECT * FROM jobs", "nothing", "recursive: both are the query"),
        ("WITH \"Jobs\" AS (SELECT 1) SELECT * FROM jobs WHERE user_id = 7", "keys[lit1] colocated", "another name"),
        ("WITH JOBS AS (SELECT 1) SELECT * FROM \"jobs\"", "nothing", "the same name"),
        ("WITH jobs AS (SELECT 1) SELECT * FROM public.jobs WHERE user_id = 7", "keys[lit1] colocated", "qualified is the table"),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b", "nothing", "earlier ones are seen"),
        ("WITH a AS (SELECT * FROM users), users AS (SELECT 1) SELECT * FROM a", "everywhere users.id", "later ones are not"),
        ("WITH j(uid) AS (SELECT user_id FROM jobs) SELECT * FROM j WHERE uid = 7", "keys[lit0] colocated", "renamed"),
        ("WITH j AS (SELECT user_id FROM jobs LIMIT 3) SELECT * FROM j WHERE user_id = 7", "everywhere jobs.user_id", "three of all"),
        ("WITH x AS (SELECT 1) SELECT * FROM jobs WHERE user_id = 7 AND id IN (WITH x AS (SELECT * FROM audit_logs) SELECT id FROM x)", "everywhere audit_logs.user_id", "an inner WITH"),
        ("WITH x AS (SELECT 1) SELECT 1 FROM (SELECT * FROM x) y", "nothing", "seen from sub-queries"),
        ("WITH RECURSIVE t AS (SELECT id, user_id FROM jobs WHERE user_id = 7 UNION ALL SELECT j.id, j.user_id FROM jobs j JOIN t ON t.id = j.priority) SELECT * FROM t", "everywhere jobs.user_id", "the recursive term needs all"),
        ("WITH RECURSIVE t AS (SELECT id, user_id FROM jobs WHERE user_id = $1 UNION ALL SELECT j.id, j.user_id FROM jobs j JOIN t ON t.id = j.priority WHERE j.user_id = $1) SELECT * FROM t", "keys[$1 $1]", "unless it says so"),
        ("WITH j AS (SELECT u.id FROM users u WHERE u.id = 7) SELECT * FROM j JOIN jobs ON jobs.user_id = j.id", "keys[lit0] colocated", "what comes out has its key"),
        ("WITH u AS (SELECT id FROM users WHERE id = 7), j AS (SELECT jobs.* FROM jobs JOIN u ON u.id = jobs.user_id) SELECT * FROM j, u", "keys[lit0]", "twice, but known inside"),
    ]);
}

#[test]
fn set_operations() {
    check(&[
        ("SELECT id FROM jobs WHERE user_id = 7 UNION SELECT id FROM jobs WHERE user_id = 8", "keys[lit0 lit1]", "both arms"),
        ("SELECT id FROM jobs WHERE user_id = 7 UNION ALL SELECT id FROM jobs", "everywhere jobs.user_id", "one arm is not known"),
        ("SELECT id FROM jobs WHERE user_id = 7 EXCEPT SELECT id FROM notifications WHERE user_id = $1", "keys[$1 lit0]", "any operation"),
        ("SELECT id FROM jobs WHERE user_id = 7 INTERSECT SELECT 1", "keys[lit0]", "an arm without tables"),
        ("(SELECT id FROM jobs WHERE user_id = 7 LIMIT 1) UNION (SELECT id FROM plans)", "keys[lit0]", "a reference table"),
        ("SELECT id FROM jobs WHERE user_id = 7 UNION SELECT 1 FROM app_settings", "keys[lit0] home", "the home shard"),
        ("SELECT 1 UNION SELECT 2 ORDER BY (SELECT count(*) FROM jobs)", "everywhere jobs.user_id", "ORDER BY of the whole"),
        ("VALUES (1) UNION SELECT id FROM jobs", "everywhere jobs.user_id", "VALUES as an arm"),
    ]);
}

#[test]
fn views() {
    check(&[
        ("SELECT * FROM active_jobs WHERE user_id = 7", "keys[lit0] colocated", "a view is its query"),
        ("SELECT * FROM active_jobs", "everywhere jobs.user_id", "not restricted"),
        ("SELECT * FROM active_jobs WHERE id = 7", "everywhere jobs.user_id", "another column"),
        ("SELECT * FROM active_jobs a JOIN users u ON u.id = a.user_id WHERE u.id = 7", "keys[lit0] colocated", "joined"),
        ("SELECT * FROM busiest WHERE user_id = 7", "everywhere jobs.user_id", "grouped and limited within"),
        ("SELECT * FROM only_five", "everywhere jobs.user_id", "a view's constants are not in the text"),
        ("SELECT * FROM settings_view", "home", "a view on a table of the home shard"),
        ("SELECT * FROM broken_view", "home", "unreadable, names no sharded table"),
        ("SELECT * FROM broken_view, jobs WHERE user_id = 1", "refused: cannot be read", "and here it does"),
    ]);
}

#[test]
fn not_sharded() {
    check(&[
        ("SELECT 1", "nothing", "no table"),
        ("SELECT now(), pg_backend_pid()", "nothing", "no table"),
        ("", "", "an empty query has no statement"),
        (";;", "", "nor has this"),
        ("VALUES (1, 2), (3, 4)", "nothing", "no table"),
        ("SELECT * FROM generate_series(1, 10)", "nothing", "a function is no table"),
        ("SELECT * FROM unnest(ARRAY[1, 2]) AS jobs(user_id)", "nothing", "whatever its alias"),
        ("SELECT * FROM json_to_recordset('[]') AS x(a int)", "nothing", "a function"),
        ("SELECT * FROM plans", "reference", "on every shard"),
        ("SELECT * FROM plans p, app_settings s", "home", "both are on the home shard"),
        ("SELECT * FROM pg_class", "catalog", "pg_catalog is always on the path"),
        ("SELECT * FROM pg_catalog.pg_class c, information_schema.tables t", "catalog", "system schemas"),
        ("SELECT * FROM pg_class, plans", "reference", "every shard has both"),
        ("SELECT * FROM pg_class, app_settings", "home", "the home shard has both"),
        ("SELECT * FROM jobs, pg_class WHERE user_id = 7", "keys[lit0] colocated", "every shard has catalogs"),
        ("SELECT 'jobs'::regclass", "nothing", "a name in a string"),
        ("SELECT * FROM jobs_id_seq", "home", "a sequence"),
        ("SELECT nextval('jobs_id_seq')", "home", "sequences live at home"),
        ("SELECT nextval('jobs_id_seq'), id FROM jobs WHERE user_id = 7", "keys[lit1] home", "beside a key"),
        ("SELECT pg_notify('a', 'b')", "home", "listeners are there"),
        ("SELECT lo_create(0)", "home", "large objects"),
        ("SELECT pg_advisory_xact_lock(1)", "home", "one place to lock"),
        ("SELECT slugify('A b')", "nothing", "immutable: reads no table"),
        ("SELECT top_users()", "refused: may read any table", "a user's function"),
        ("SELECT * FROM top_users(5)", "refused: may read any table", "in FROM"),
        ("SELECT * FROM public.top_users(5) t WHERE t.user_id = 7", "refused: may read any table", "qualified"),
        ("SELECT id FROM jobs WHERE user_id = 7 AND name = top_users()", "refused: may read any table", "with a key"),
        ("SELECT u.top_users FROM users u WHERE u.id = 7", "refused: may read any table", "a call in disguise"),
        ("SELECT query_to_xml('select * from jobs', true, true, '')", "refused: reads tables", "SQL in a string"),
        ("SELECT 1; SELECT * FROM jobs WHERE user_id = 7", "nothing; keys[lit1] colocated", "each by itself"),
        ("SELECT * FROM jobs WHERE user_id = 7; SELECT * FROM app_settings; BEGIN", "keys[lit0] colocated; home; nothing", "each by itself"),
        ("SELECT * FROM jobs TABLESAMPLE system (10) WHERE user_id = 7", "keys[lit1] colocated", "a sample of it"),
        ("SELECT row_number() OVER (ORDER BY id) FROM jobs WHERE user_id IN (1, 2)", "keys[lit0 lit1]", "windows look over all rows"),
        ("SELECT * FROM jobs WHERE user_id IN (1, 2) ORDER BY id LIMIT 3 FOR UPDATE", "keys[lit0 lit1] colocated", "locks"),
    ]);
}

#[test]
fn what_only_postgresql_reads() {
    check(&[
        ("SELECT * FROM jobs WHERE user_id = 7 FOR NO KEY UPDATE", "keys[lit0] colocated", "a lock"),
        ("SELECT * FROM jobs j WHERE user_id = 7 FOR KEY SHARE OF j SKIP LOCKED", "keys[lit0] colocated", "a lock"),
        ("SELECT * FROM jobs WHERE user_id = 7 AND id BETWEEN SYMMETRIC 9 AND 3", "keys[lit0] colocated", "in either order"),
        ("SELECT sum(id) OVER (PARTITION BY user_id ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM jobs WHERE user_id IN (7, 8)", "keys[lit2 lit3] colocated", "rows of one key"),
        ("SELECT sum(id) OVER w FROM jobs WHERE user_id = 7 WINDOW w AS (ORDER BY id GROUPS CURRENT ROW EXCLUDE TIES)", "keys[lit0]", "a named window"),
        ("SELECT * FROM jobs WHERE user_id = 7 WINDOW w AS (ORDER BY id ROWS 1 PRECEDING EXCLUDE nothing)", "refused: cannot be read", "no words of PostgreSQL's"),
        ("SELECT u.name, k.user_id FROM jobs JOIN job_executions u USING (user_id) AS k WHERE u.user_id = 7", "keys[lit0] colocated", "a name for the join"),
        ("SELECT 1 FROM jobs JOIN job_executions USING (user_id) AS k WHERE k.user_id = 7", "everywhere jobs.user_id", "whose column it is is not followed"),
        ("SELECT (SELECT max(a.id) FROM jobs a JOIN notifications b USING (user_id) AS j WHERE j.user_id = 7) FROM audit_logs j", "refused: cannot be read", "another table has that name"),
        ("DELETE FROM jobs USING (SELECT 7 AS u) AS k WHERE user_id = 7", "keys[lit1] colocated", "a table of that name"),
    ]);
}

#[test]
fn sizes() {
    check(&[
        ("SELECT pg_total_relation_size('jobs')", "refused: pg_total_relation_size() of \"jobs\"", "a part of it on each shard"),
        ("SELECT pg_size_pretty(pg_table_size('public.jobs'::regclass))", "refused: pg_table_size() of \"jobs\"", "a part of it on each shard"),
        ("SELECT pg_relation_size('\"Mixed\"', 'fsm')", "refused: of \"Mixed\"", "quoted"),
        ("SELECT \"pg_indexes_size\"('jobs')", "refused: of \"jobs\"", "quoted"),
        ("SELECT pg_relation_size('plans')", "nothing", "a copy's"),
        ("SELECT pg_relation_size('app_settings')", "home", "not sharded"),
        ("SELECT pg_relation_size('jobs_pkey')", "refused: cannot be told", "perhaps an index of a sharded table"),
        ("SELECT pg_relation_size($1)", "refused: cannot be told", "a parameter"),
        ("SELECT c.relname, pg_size_pretty(pg_table_size(c.oid)) FROM pg_class c", "catalog", "what each server says of itself"),
        ("SELECT pg_database_size(current_database())", "nothing", "what each server says of itself"),
    ]);
}

#[test]
fn operators_and_casts_that_call() {
    check(&[
        ("SELECT 1 ### 2", "refused: operator ### calls function \"top_users\"", "as top_users() would"),
        ("SELECT * FROM jobs WHERE user_id = 7 AND id OPERATOR(public.###) 3", "refused: operator ###", "as top_users() would"),
        ("SELECT 1 ## 2", "nothing", "another one"),
        ("SELECT 'ok'::mood::int", "refused: the cast from mood to int4", "as top_users() would"),
        ("SELECT CAST('ok'::public.mood AS integer)", "refused: the cast from mood to int4", "as top_users() would"),
        ("SELECT x::int FROM moody WHERE user_id = 7", "refused: the cast from mood to int4", "a column of that type"),
        ("SELECT 'ok'::mood, x FROM moody WHERE user_id = 7", "keys[lit1] colocated", "no such cast"),
        ("SELECT id::int FROM jobs WHERE user_id = 7", "keys[lit0] colocated", "of another type"),
        ("INSERT INTO jobs (user_id, name) SELECT user_id, x FROM moody WHERE user_id = 7", "refused: the cast from mood to text", "done where it is stored"),
        ("UPDATE moody SET id = 1 WHERE user_id = 7", "keys[lit1] colocated", "of another column"),
    ]);
}
