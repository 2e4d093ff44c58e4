"""psycopg's COPY against three shards. Prints "ok" at the end."""

import asyncio
import sys

import psycopg

dsn = sys.argv[1]
ROWS = [(id, id % 9, f'body "{id}"\n\t\\', id) for id in range(1000, 1300)]


def kept(conn):
    found = conn.execute("SELECT user_id, n, body, price::int FROM driven").fetchall()
    return sorted(found)


def sync():
    with psycopg.connect(dsn, autocommit=True) as conn:
        cur = conn.cursor()
        for binary in (False, True):
            options = "(FORMAT binary)" if binary else ""
            cur.execute("DELETE FROM driven")
            with cur.copy(f"COPY driven (user_id, n, body) FROM STDIN {options}") as copy:
                if binary:
                    copy.set_types(["int8", "int4", "text"])
                for row in ROWS:
                    copy.write_row(row[:3])
            assert cur.rowcount == 300, cur.rowcount
            cur.execute("UPDATE driven SET price = user_id")
            assert kept(conn) == ROWS
            with cur.copy(f"COPY (SELECT user_id, n, body FROM driven) TO STDOUT {options}") as copy:
                copy.set_types(["int8", "int4", "text"])
                assert sorted(copy.rows()) == [row[:3] for row in ROWS]

        # A program that raises within the block, and rows that are wrong.
        cur.execute("DELETE FROM driven")
        try:
            with cur.copy("COPY driven (user_id) FROM STDIN") as copy:
                copy.write_row((1,))
                copy.write_row((2,))
                raise KeyError("mine")
        except KeyError:
            pass
        try:
            with cur.copy("COPY driven (user_id, n) FROM STDIN") as copy:
                for id in range(5000):
                    copy.write_row((id, 5000 if id == 4000 else 1))
            raise AssertionError("the row was taken")
        except psycopg.errors.CheckViolation as error:
            assert "COPY driven, line 4001" in error.diag.context, error.diag.context
        assert kept(conn) == []

    with psycopg.connect(dsn) as conn:
        with conn.cursor().copy("COPY driven (user_id) FROM STDIN") as copy:
            copy.write("1\n2\n3\n")
        with conn.cursor() as cur:
            cur.execute("INSERT INTO driven (user_id) VALUES (4)")
        assert len(kept(conn)) == 4
        conn.rollback()
        assert kept(conn) == []


async def asynchronous():
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        cur = conn.cursor()
        async with cur.copy("COPY driven (user_id) FROM STDIN") as copy:
            for id in range(100):
                await copy.write_row((id,))
        async with cur.copy("COPY driven (user_id) TO STDOUT") as copy:
            lines = b"".join([bytes(data) async for data in copy]).split()
        assert sorted(map(int, lines)) == list(range(100))
        await conn.execute("DELETE FROM driven")


sync()
asyncio.run(asynchronous())
print("ok")
