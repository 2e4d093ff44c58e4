"""psycopg 3: what an application may do with one database, however its connections are shared."""

import asyncio
import datetime
import threading

import psycopg
from psycopg import pq, sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from transcript import arguments, refused, say

dsn, scope = arguments()
USERS = (3, 7, 12)


def statements():
    with psycopg.connect(dsn) as conn:
        say("status", conn.info.transaction_status.name, conn.info.encoding, conn.info.server_version)
        for user in USERS:
            row = conn.execute("SELECT id, email, is_active, created_at FROM users WHERE id = %s", (user,))
            say("row", row.fetchone(), row.description)
            conn.commit()
        for binary in (False, True):
            cursor = conn.cursor(binary=binary)
            cursor.execute(
                "SELECT id, 1.5::numeric, 'text'::text, '\\x00ff'::bytea, ARRAY[1,2], '{\"a\": 1}'::jsonb,"
                " '2024-02-29'::date, '1 day 02:03'::interval, NULL::int, '[1,5)'::int4range,"
                " 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '10.1.2.3/8'::inet"
                " FROM users WHERE id = %s",
                (USERS[0],),
            )
            say("types", binary, cursor.fetchone(), [column.type_code for column in cursor.description])
            conn.commit()
        with conn.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO notifications (user_id, message) VALUES (%s, %s) RETURNING message",
                [(USERS[1], f"many {n}") for n in range(5)],
                returning=True,
            )
            while True:
                say("returning", cursor.fetchall())
                if not cursor.nextset():
                    break
            cursor.execute(
                "DELETE FROM notifications WHERE user_id = %s AND message LIKE 'many%%'", (USERS[1],)
            )
            say("deleted", cursor.rowcount, cursor.statusmessage)
        conn.commit()
        cursor = conn.execute("SELECT id FROM jobs WHERE user_id = %s ORDER BY id", (USERS[0],))
        cursor.scroll(1)
        say("scrolled", cursor.fetchall())
        conn.rollback()


def errors():
    with psycopg.connect(dsn) as conn:
        for text in (
            "SELECT nothing FROM users WHERE id = 3",
            "SELECT 1/0 FROM users WHERE id = 3",
            "INSERT INTO users (id, email, name) VALUES (3, 'again', 'again')",
            "INSERT INTO jobs (user_id, name) VALUES (3, 'no schedule')",
            "SELEC 1",
            "SELECT 'a'::int FROM users WHERE id = 3",
        ):
            refused("error", psycopg.Error, lambda: conn.execute(text))
            say("status", conn.info.transaction_status.name)
            refused("then", psycopg.Error, lambda: conn.execute("SELECT 1"))
            conn.rollback()
        try:
            conn.execute("INSERT INTO users (id, email, name) VALUES (3, 'again', 'again')")
        except psycopg.errors.UniqueViolation as error:
            diag = error.diag
            say("diag", diag.severity, diag.constraint_name, diag.table_name, diag.message_detail)
        conn.rollback()


def transactions():
    with psycopg.connect(dsn) as conn:
        user = USERS[2]
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.execute("SELECT 1 FROM users WHERE id = %s", (user,))
        say("isolation", conn.execute("SHOW transaction_isolation").fetchone())
        conn.rollback()
        conn.isolation_level = None
        conn.read_only = True
        refused(
            "read only",
            psycopg.Error,
            lambda: conn.execute("UPDATE users SET name = name WHERE id = %s", (user,)),
        )
        conn.rollback()
        conn.read_only = None
        with conn.transaction(force_rollback=True):
            conn.execute("UPDATE users SET name = 'outer' WHERE id = %s", (user,))
            with conn.transaction(force_rollback=True):
                conn.execute("UPDATE users SET name = 'inner' WHERE id = %s", (user,))
                say("inner", conn.execute("SELECT name FROM users WHERE id = %s", (user,)).fetchone())
            say("outer", conn.execute("SELECT name FROM users WHERE id = %s", (user,)).fetchone())
        say("after", conn.execute("SELECT name FROM users WHERE id = %s", (user,)).fetchone())


def cursors():
    with psycopg.connect(dsn) as conn:
        select = "SELECT id FROM job_executions WHERE user_id = %s ORDER BY id"
        with conn.cursor(name="forward") as cursor:
            cursor.itersize = 5
            cursor.execute(select, (USERS[0],))
            say("server cursor", [row[0] for row in cursor], cursor.description[0].name)
        with conn.cursor(name="scrolling", scrollable=True) as cursor:
            cursor.execute(select, (USERS[0],))
            seen = cursor.fetchmany(4)
            cursor.scroll(-2)
            say("scrollable", seen, cursor.fetchone(), cursor.rownumber)
        with conn.cursor(name="binary", binary=True) as cursor:
            cursor.execute(select, (USERS[1],))
            say("binary cursor", cursor.fetchall()[:3])
        conn.commit()
        with conn.cursor(name="held", withhold=True) as cursor:
            cursor.execute(select, (USERS[0],))
            conn.commit()
            say("held", len(cursor.fetchmany(3)))
            conn.commit()
            say("held on", len(cursor.fetchall()))
        conn.commit()


def pipelines():
    with psycopg.connect(dsn, autocommit=True) as conn:
        with conn.pipeline() as pipeline:
            cursors = []
            for user in range(1, 25):
                cursors.append(conn.execute("SELECT id, email FROM users WHERE id = %s", (user,)))
                pipeline.sync()
            say("pipeline", [cursor.fetchone() for cursor in cursors])
        # One batch without Sync is one transaction.
        user = USERS[1]
        try:
            with conn.pipeline():
                conn.execute("UPDATE users SET name = 'piped' WHERE id = %s", (user,))
                conn.execute("SELECT 1/0 FROM users WHERE id = %s", (user,))
                conn.execute("UPDATE users SET name = 'aborted' WHERE id = %s", (user,))
        except psycopg.Error as error:
            say("pipeline failed", error.sqlstate)
        say("undone", conn.execute("SELECT name FROM users WHERE id = %s", (user,)).fetchone())
        # An error at every position, each followed by work that has to succeed.
        for position in range(4):
            with conn.pipeline() as pipeline:
                cursors = []
                for number in range(4):
                    text = "SELECT 1/(%s::int - %s::int) FROM users WHERE id = %s"
                    cursors.append(conn.execute(text, (number, position, user)))
                    try:
                        pipeline.sync()
                    except psycopg.Error as error:
                        say("at sync", error.sqlstate)
                outcome = []
                for cursor in cursors:
                    try:
                        outcome.append(cursor.fetchone())
                    except psycopg.Error as error:
                        outcome.append(error.sqlstate or type(error).__name__)
                say("positions", outcome)
            say("status", conn.info.transaction_status.name, conn.info.pipeline_status.name)


def prepared():
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
        conn.prepared_max = 3
        for round in range(3):
            for user in range(1, 20):
                row = conn.execute("SELECT id FROM users WHERE id = %s", (user,)).fetchone()
                assert row == (user,), row
                conn.execute(f"SELECT {round}, %s::int FROM users WHERE id = %s", (round, user))
        say("prepared", "kept few, and every answer was right")
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as conn:
        say("raw", conn.execute("SELECT email FROM users WHERE id = $1", (USERS[0],)).fetchone())
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        both = conn.execute(
            "SELECT email FROM users WHERE id = %s; SELECT count(*) FROM jobs WHERE user_id = %s", (3, 3)
        )
        say("simple", both.fetchall(), both.nextset(), both.fetchall())


def sql_prepared():
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("PREPARE mine (bigint) AS SELECT email FROM users WHERE id = $1")
        say("execute", conn.execute("EXECUTE mine (3)").fetchone())
        refused("again", psycopg.Error, lambda: conn.execute("PREPARE mine AS SELECT 1"))
        conn.execute("DEALLOCATE mine")
        refused("gone", psycopg.Error, lambda: conn.execute("EXECUTE mine (3)"))
        conn.execute("DEALLOCATE ALL")


def pool():
    with ConnectionPool(dsn, min_size=8, max_size=8, open=True) as connections:
        connections.wait(30)
        seen, lock = [], threading.Lock()

        def work(user):
            for _ in range(5):
                with connections.connection() as conn:
                    found = conn.execute("SELECT id FROM users WHERE id = %s", (user,)).fetchone()
                    conn.execute("SET LOCAL application_name = 'worker'")
                    conn.execute("UPDATE users SET plan_id = plan_id WHERE id = %s", (user,))
                    with lock:
                        seen.append(found[0])

        threads = [threading.Thread(target=work, args=(user,)) for user in range(1, 13)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        say("pool", sorted(seen), connections.get_stats().get("requests_errors", 0))


async def asynchronous():
    async with AsyncConnectionPool(dsn, min_size=6, max_size=6, open=False) as connections:

        async def one(user):
            async with connections.connection() as conn:
                cursor = await conn.execute("SELECT id FROM users WHERE id = %s", (user,))
                return (await cursor.fetchone())[0]

        say("async pool", await asyncio.gather(*(one(user) for user in range(1, 40))))
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        task = asyncio.create_task(conn.execute("SELECT pg_sleep(60) FROM users WHERE id = 3"))
        while not task.done():
            await asyncio.sleep(0.05)
            await conn.cancel_safe()
        try:
            await task
        except psycopg.Error as error:
            say("cancelled", error.sqlstate, error)
        await conn.execute("SET statement_timeout = '30ms'")
        try:
            await conn.execute("SELECT pg_sleep(60) FROM users WHERE id = 3")
        except psycopg.Error as error:
            say("timed out", error.sqlstate, error)
        await conn.execute("RESET statement_timeout")
        cursor = await conn.execute("SHOW statement_timeout")
        say("reset", await cursor.fetchone())


def settings():
    with psycopg.connect(dsn, autocommit=True, options="-c DateStyle=German,DMY -c geqo=off") as conn:
        say("start-up", conn.execute("SHOW DateStyle").fetchone(), conn.execute("SHOW geqo").fetchone())
        say("parameter", conn.info.parameter_status("DateStyle"))
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        say("zone", conn.info.parameter_status("TimeZone"), conn.info.timezone)
        say("stamp", conn.execute("SELECT created_at::text FROM users WHERE id = 3").fetchone())
        conn.execute("SELECT set_config('my.setting', 'kept', false)")
        say("set_config", conn.execute("SELECT current_setting('my.setting')").fetchone())
        conn.execute("SET client_encoding TO 'LATIN1'")
        say("latin", conn.info.encoding, conn.execute("SELECT 'é' || %s", ("ü",)).fetchone())
        conn.execute("RESET ALL")
        say("after reset", conn.info.encoding, conn.info.parameter_status("TimeZone") == "Asia/Tokyo")
        with conn.transaction(force_rollback=True):
            conn.execute("SET search_path = pg_catalog")
        say("path", conn.execute("SHOW search_path").fetchone())
        conn.execute("SET application_name = 'transcript'")
        say("name", conn.info.parameter_status("application_name"))
        conn.execute("DISCARD ALL")
        say("discarded", conn.info.parameter_status("application_name"))


def copies():
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE copied (id int, body text, stamp timestamptz, data bytea)")
        stamp = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc)
        rows = [(number, "line\n\ttab\\" * number, stamp, bytes(range(number))) for number in range(40)]
        for form in ("TEXT", "BINARY"):
            statement = sql.SQL("COPY copied FROM STDIN (FORMAT {})").format(sql.SQL(form))
            with conn.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(["int4", "text", "timestamptz", "bytea"])
                for row in rows:
                    copy.write_row(row)
            say("copied in", form, cursor.rowcount)
            out = sql.SQL("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT (FORMAT {})").format(sql.SQL(form))
            with conn.cursor() as cursor, cursor.copy(out) as copy:
                copy.set_types(["int4", "text", "timestamptz", "bytea"])
                say("copied out", form, hash_of(list(copy.rows())))
            conn.execute("TRUNCATE copied")
        # Larger than any buffer between here and the server.
        block = b"x" * 8192 + b"\t\\N\t\\N\n"
        with conn.cursor().copy("COPY copied (body, stamp, data) FROM STDIN") as copy:
            for _ in range(600):
                copy.write(block)
        say("big", conn.execute("SELECT count(*), sum(length(body)) FROM copied").fetchone())
        with conn.cursor().copy("COPY copied TO STDOUT") as copy:
            say("big out", sum(len(piece) for piece in copy))
        with conn.cursor() as cursor:
            try:
                with cursor.copy("COPY copied FROM STDIN") as copy:
                    copy.write("1\tx\t\\N\t\\N\n")
                    raise KeyError("the client has changed its mind")
            except KeyError as error:
                say("abandoned", error, conn.info.transaction_status.name)
        conn.rollback()
        refused("rolled back", psycopg.Error, lambda: conn.execute("SELECT * FROM copied"))


def hash_of(rows):
    import hashlib

    return len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def types():
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
        conn.execute("CREATE TYPE pair AS (left_side int, right_side text)")
        register_enum(EnumInfo.fetch(conn, "mood"), conn)
        register_composite(CompositeInfo.fetch(conn, "pair"), conn)
        conn.execute("CREATE TABLE felt (m mood, p pair, j jsonb)")
        conn.execute("INSERT INTO felt VALUES (%s, %s, %s)", ("ok", (1, "x"), Jsonb({"a": [1]})))
        row = conn.execute("SELECT m, p, j FROM felt").fetchone()
        say("types", row[0].name, tuple(row[1]), row[2])
        conn.execute("DROP TABLE felt; DROP TYPE pair; DROP TYPE mood")


def temporary():
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE TEMPORARY TABLE mine (n int)")
        conn.execute("INSERT INTO mine SELECT generate_series(1, 10)")
        with psycopg.connect(dsn, autocommit=True) as other:
            refused("another's", psycopg.Error, lambda: other.execute("SELECT * FROM mine"))
            other.execute("CREATE TEMPORARY TABLE mine (n int)")
            say("own", other.execute("SELECT count(*) FROM mine").fetchone())
        say("mine", conn.execute("SELECT count(*) FROM mine").fetchone())
        conn.execute("DISCARD TEMP")
        refused("discarded", psycopg.Error, lambda: conn.execute("SELECT * FROM mine"))
        conn.execute("SELECT pg_advisory_lock(4711)")
        with psycopg.connect(dsn, autocommit=True) as other:
            say("locked", other.execute("SELECT pg_try_advisory_lock(4711)").fetchone())
        conn.execute("SELECT pg_advisory_unlock(4711)")
        with psycopg.connect(dsn, autocommit=True) as other:
            say("unlocked", other.execute("SELECT pg_try_advisory_lock(4711)").fetchone())


def notices():
    with psycopg.connect(dsn, autocommit=True) as conn:
        heard = []
        conn.add_notice_handler(lambda diag: heard.append((diag.severity, diag.message_primary)))
        conn.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        conn.execute("DROP TABLE IF EXISTS never_there")
        say("notices", heard)
        conn.execute("LISTEN matrix")
        with psycopg.connect(dsn, autocommit=True) as other:
            other.execute("NOTIFY matrix, 'one'")
            with other.transaction():
                other.execute("SELECT pg_notify('matrix', 'two')")
        say("heard", [(n.channel, n.payload) for n in conn.notifies(timeout=20, stop_after=2)])
        conn.execute("UNLISTEN *")


def two_phase():
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE prepared_rows (n int)")
        conn.commit()
        for outcome in (conn.tpc_commit, conn.tpc_rollback):
            # The servers' names for prepared transactions are not a database's own.
            xid = conn.xid(1, f"{conn.info.dbname}-{outcome.__name__}", "branch")
            conn.tpc_begin(xid)
            conn.execute("INSERT INTO prepared_rows VALUES (1)")
            conn.tpc_prepare()
            with psycopg.connect(dsn, autocommit=True) as other:
                say("in doubt", xid.gtrid in [found.gtrid for found in other.tpc_recover()])
            outcome()
            say(outcome.__name__, conn.execute("SELECT count(*) FROM prepared_rows").fetchone())
            conn.rollback()
        conn.execute("DROP TABLE prepared_rows")
        conn.commit()


def large_objects():
    with psycopg.connect(dsn) as conn:
        oid = conn.execute("SELECT lo_from_bytea(0, '\\xdeadbeef')").fetchone()[0]
        conn.commit()
        say("large object", conn.execute("SELECT lo_get(%s)", (oid,)).fetchone())
        descriptor = conn.execute("SELECT lo_open(%s, 131072)", (oid,)).fetchone()[0]
        say("descriptor", descriptor, conn.execute("SELECT loread(%s, 2)", (descriptor,)).fetchone())
        conn.execute("SELECT lo_unlink(%s)", (oid,))
        conn.commit()


def low_level():
    conn = pq.PGconn.connect(dsn.encode())
    result = conn.prepare(b"named", b"SELECT email FROM users WHERE id = $1")
    described = conn.describe_prepared(b"named")
    say("described", pq.ExecStatus(result.status).name, described.nfields, described.param_type(0))
    again = conn.prepare(b"named", b"SELECT 1")
    say("duplicate", again.error_field(pq.DiagnosticField.SQLSTATE))
    say("answer", conn.exec_prepared(b"named", [b"3"]).get_value(0, 0))
    missing = conn.exec_prepared(b"unknown", [])
    say("unknown", missing.error_field(pq.DiagnosticField.SQLSTATE), conn.transaction_status)
    say("empty", pq.ExecStatus(conn.exec_(b"").status).name)
    conn.send_query(b"SELECT email FROM users WHERE id = 3")
    conn.set_single_row_mode()
    statuses = []
    while (result := conn.get_result()) is not None:
        statuses.append(pq.ExecStatus(result.status).name)
    say("single rows", statuses)
    conn.finish()


keyed = [statements, errors, transactions, pipelines, prepared, pool, low_level]
whole = [sql_prepared, cursors, settings, copies, types, temporary, notices, two_phase, large_objects]
for part in keyed if scope == "keyed" else whole:
    say("##", part.__name__)
    part()
if scope == "keyed":
    asyncio.run(asynchronous())
