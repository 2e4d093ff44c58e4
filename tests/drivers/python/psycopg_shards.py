"""psycopg 3 against a pgring whose database is the sample. Prints "ok" at the end."""

import asyncio
import sys

import psycopg
from psycopg.rows import dict_row

dsn = sys.argv[1]


def sync():
    with psycopg.connect(dsn) as conn:
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        for id in range(1, 31):
            row = conn.execute("SELECT id, email, created_at FROM users WHERE id = %s", (id,)).fetchone()
            assert row[:2] == (id, f"user{id}@example.com"), row
            conn.commit()

        # The transaction psycopg opens by itself goes from shard to shard, and fails as a whole.
        for id in range(1, 10):
            row = conn.execute("UPDATE users SET name = 'z' WHERE id = %s RETURNING id", (id,)).fetchone()
            assert row == (id,), row
        assert conn.execute("SELECT count(*) FROM users WHERE name = 'z'").fetchone() == (9,)
        for id, failure in ((3, psycopg.errors.DivisionByZero), (4, psycopg.errors.InFailedSqlTransaction)):
            try:
                conn.execute("SELECT 1 / (id - 3) FROM users WHERE id = %s", (id,))
                raise AssertionError("a failed transaction goes on")
            except failure:
                pass
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        conn.rollback()
        assert conn.execute("SELECT count(*) FROM users WHERE name = 'z'").fetchone() == (0,)
        conn.rollback()

        with conn.transaction():
            conn.execute("UPDATE users SET name = 'x' WHERE id = 7")
            try:
                with conn.transaction():
                    conn.execute("UPDATE users SET name = 'y' WHERE id = 7")
                    raise psycopg.Rollback()
            except psycopg.Rollback:
                pass
            assert conn.execute("SELECT name FROM users WHERE id = 7").fetchone() == ("x",)
            raise psycopg.Rollback()
        assert conn.execute("SELECT name FROM users WHERE id = 7").fetchone() != ("x",)
        conn.rollback()

        # Binary, both ways.
        cursor = conn.cursor(binary=True, row_factory=dict_row)
        cursor.execute("SELECT id, plan_id, is_active, created_at FROM users WHERE id = %b", (12,))
        assert cursor.fetchone()["id"] == 12
        cursor.execute("SELECT id FROM jobs WHERE user_id = %s ORDER BY id", (12,), prepare=True)
        assert [row["id"] for row in cursor] == [34, 35, 36]
        cursor.execute("SELECT id FROM users WHERE id = ANY(%s)", ([12],))
        assert cursor.fetchone()["id"] == 12
        conn.rollback()

        # A server-side cursor.
        with conn.cursor(name="mine") as cursor:
            cursor.execute("SELECT id FROM job_executions WHERE user_id = %s ORDER BY id", (5,))
            cursor.itersize = 5
            assert len(list(cursor)) == 12
        conn.commit()

        # COPY.
        with conn.cursor() as cursor:
            with cursor.copy("COPY app_settings FROM STDIN") as copy:
                for number in range(1000):
                    copy.write_row((f"key {number}", "x" * number))
            with cursor.copy("COPY (SELECT key FROM app_settings WHERE key LIKE 'key %') TO STDOUT") as copy:
                assert len(list(copy.rows())) == 1000
        conn.rollback()
        assert conn.execute("SELECT count(*) FROM app_settings WHERE key LIKE 'key %'").fetchone() == (0,)
        conn.rollback()

        # An error in COPY leaves the session usable.
        try:
            with conn.cursor().copy("COPY app_settings FROM STDIN") as copy:
                copy.write("no tab\n")
            raise AssertionError("COPY took a row without its columns")
        except psycopg.errors.BadCopyFileFormat:
            conn.rollback()

    # Statements prepared at once, on every shard, for as long as the session lives.
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as conn:
        for round in range(3):
            for id in range(1, 41):
                assert conn.execute("SELECT id FROM users WHERE id = %s", (id,)).fetchone() == (id,)
                conn.execute(f"SELECT {round} + %s::int", (id,))
        conn.execute("SET TIME ZONE 'Asia/Tokyo'")
        assert conn.info.parameter_status("TimeZone") == "Asia/Tokyo"
        stamp = conn.execute("SELECT created_at FROM users WHERE id = %s", (3,)).fetchone()[0]
        assert stamp.utcoffset().total_seconds() == 9 * 3600, stamp

    # The simple protocol: parameters in the text.
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        for id in range(1, 21):
            assert conn.execute("SELECT id FROM users WHERE id = %s", (id,)).fetchone() == (id,)
        name = "'; DROP TABLE users; --\\"
        conn.execute("UPDATE users SET name = %s WHERE id = %s", (name, 11))
        assert conn.execute("SELECT name FROM users WHERE id = %s", (11,)).fetchone() == (name,)
        ids = conn.execute("SELECT id FROM users WHERE id = %s; SELECT id FROM jobs WHERE user_id = %s", (4, 4))
        assert ids.fetchone() == (4,) and ids.nextset() and len(ids.fetchall()) == 3


def rolled_back_on_each():
    """A server that joins a transaction and has to be brought in line first is in the transaction."""
    for name in ("joins simply", "joins prepared"):
        factory = psycopg.ClientCursor if name == "joins simply" else psycopg.Cursor
        with psycopg.connect(dsn, application_name=name, cursor_factory=factory) as conn:
            for id in range(1, 11):
                conn.execute("UPDATE users SET name = 'undone' WHERE id = %s", (id,))
            conn.rollback()
            for id in range(1, 11):
                assert conn.execute("SELECT name FROM users WHERE id = %s", (id,)).fetchone() != ("undone",), id


def two_phase():
    """A client's own two-phase commit is for one shard; over several, COMMIT does it."""
    conn = psycopg.connect(dsn)
    conn.tpc_begin(conn.xid(1, "pgring driver test", "shards"))
    for id in range(1, 11):
        conn.execute("UPDATE users SET name = 'prepared' WHERE id = %s", (id,))
    try:
        conn.tpc_prepare()
        raise AssertionError("ten users' rows were prepared by the client")
    except psycopg.errors.FeatureNotSupported as error:
        assert error.diag.message_hint, error
    # psycopg takes what it has tried to prepare for prepared: nothing but the end is left.
    conn.close()
    with psycopg.connect(dsn) as conn:
        for id in range(1, 11):
            assert conn.execute("SELECT name FROM users WHERE id = %s", (id,)).fetchone() != ("prepared",)


def pipeline():
    with psycopg.connect(dsn, autocommit=True) as conn:
        with conn.pipeline() as pipeline:
            cursors = []
            for id in range(1, 31):
                cursors.append(conn.execute("SELECT id FROM users WHERE id = %s", (id,)))
                # Without it the batch is one transaction.
                pipeline.sync()
            assert [cursor.fetchone() for cursor in cursors] == [(id,) for id in range(1, 31)]
        with conn.pipeline():
            first = conn.execute("SELECT id FROM jobs WHERE user_id = %s ORDER BY id", (8,))
            second = conn.execute("SELECT count(*) FROM notifications WHERE user_id = %s", (8,))
            assert second.fetchone() == (2,) and len(first.fetchall()) == 3
        try:
            with conn.pipeline():
                conn.execute("UPDATE users SET name = 'gone' WHERE id = 8")
                conn.execute("SELECT 1/0")
            raise AssertionError("an error in a pipeline went unnoticed")
        except psycopg.errors.DivisionByZero:
            pass
        assert conn.execute("SELECT name FROM users WHERE id = 8").fetchone() != ("gone",)
        with conn.pipeline(), conn.transaction():
            conn.execute("INSERT INTO notifications (user_id, message) VALUES (8, 'piped')")
            conn.execute("DELETE FROM notifications WHERE user_id = 8 AND message = 'piped'")


async def asynchronous():
    async def one(id):
        async with await psycopg.AsyncConnection.connect(dsn) as conn:
            async with conn.cursor() as cursor:
                await cursor.execute("SELECT id FROM users WHERE id = %s", (id,))
                return (await cursor.fetchone())[0]

    assert await asyncio.gather(*(one(id) for id in range(1, 41))) == list(range(1, 41))

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        sleeping = asyncio.create_task(conn.execute("SELECT pg_sleep(100) FROM users WHERE id = 1"))
        while not sleeping.done():
            await asyncio.sleep(0.1)
            conn.cancel()
        try:
            await sleeping
            raise AssertionError("the sleep was not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        await conn.execute("LISTEN news")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other:
            await other.execute("SELECT pg_notify('news', 'hello')")
        async for notification in conn.notifies(timeout=20, stop_after=1):
            assert notification.payload == "hello"
            break
        else:
            raise AssertionError("no notification")


sync()
rolled_back_on_each()
two_phase()
pipeline()
asyncio.run(asynchronous())
print("ok")
