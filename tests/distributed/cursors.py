"""Cursors over several shards, as psycopg and SQL use them; prints what came."""

import sys

import psycopg

dsn = sys.argv[1]
# Keys of different shards, of three.
ids = [int(number) for number in sys.argv[2:]]


def show(*values):
    print(*values)


with psycopg.connect(dsn) as conn:
    # Rows in order, in portions that end anywhere.
    for size in (1, 7, 50, 1000):
        with conn.cursor(name="merged") as cur:
            cur.itersize = size
            cur.execute("SELECT id, name FROM users WHERE id < %s ORDER BY name DESC, id", (90,))
            show([column.name for column in cur.description])
            total = 0
            for number, name in cur:
                total = total * 31 % 1000003 + number
            show("merged", size, total)
    conn.commit()

    # Statements of other kinds in between, by the same transaction.
    with conn.cursor(name="first") as one, conn.cursor(name="second") as two:
        one.execute("SELECT id FROM users ORDER BY id")
        two.execute("SELECT plan_id, count(*) FROM users GROUP BY plan_id ORDER BY plan_id")
        show(one.fetchmany(5))
        show(two.fetchmany(2))
        conn.execute("UPDATE users SET name = 'new' WHERE id = 3")
        show(conn.execute("SELECT count(*) FROM users WHERE name = 'new'").fetchall())
        show(one.fetchmany(3), two.fetchall())
        show(len(one.fetchall()))
    conn.rollback()

    # Copied together.
    with conn.cursor(name="gathered") as cur:
        cur.execute("SELECT DISTINCT ON (plan_id) plan_id, id FROM users ORDER BY plan_id, id DESC")
        show(cur.fetchmany(2), cur.fetchall())
    conn.rollback()

    # A cursor of each of several keys' shards.
    for at, number in enumerate(ids):
        conn.execute(f"DECLARE c{at} CURSOR FOR SELECT id FROM jobs WHERE user_id = {number} ORDER BY id")
    for _ in range(2):
        for at in range(len(ids)):
            show(conn.execute(f"FETCH c{at}").fetchall(), conn.execute("SELECT count(*) FROM users").fetchall())
    for at in range(len(ids)):
        conn.execute(f"CLOSE c{at}")
    conn.commit()

    def script(*statements):
        for statement in statements:
            try:
                cur = conn.execute(statement)
                show(cur.statusmessage, cur.fetchall() if cur.description else "")
            except psycopg.Error as error:
                show(error.sqlstate, error.diag.message_primary)
        conn.rollback()

    script(
        "DECLARE c NO SCROLL CURSOR FOR SELECT id FROM users ORDER BY id LIMIT 9 OFFSET 2",
        "FETCH c",
        "FETCH NEXT FROM c",
        "FETCH FORWARD 2 IN c",
        "MOVE 1 FROM c",
        "FETCH 1 FROM c",
        "SAVEPOINT s",
        "FETCH FORWARD ALL FROM c",
        "FETCH c",
        "MOVE ALL FROM c",
        "CLOSE c",
        "FETCH c",
    )
    script("DECLARE c CURSOR FOR SELECT id FROM users", "DECLARE c CURSOR FOR SELECT id FROM jobs")
    script("DECLARE c CURSOR FOR SELECT nothing FROM users")
    script("DECLARE c CURSOR FOR SELECT id FROM users", "CLOSE ALL", "FETCH c")
    # Gone with the savepoint; or not.
    script(
        "SELECT count(*) FROM users",
        "SAVEPOINT a",
        "DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id",
        "FETCH c",
        "ROLLBACK TO a",
        "FETCH c",
        "ROLLBACK TO a",
        "DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id",
        "RELEASE a",
        "SAVEPOINT b",
        "FETCH 2 FROM c",
        "ROLLBACK TO b",
        "FETCH 2 FROM c",
    )
    # Gone with the transaction.
    script("DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id", "FETCH c", "COMMIT", "FETCH c")
    # It shows the rows of when it was declared.
    script(
        "DECLARE c CURSOR FOR SELECT count(*) OVER (), id FROM users ORDER BY id",
        "DECLARE d CURSOR FOR SELECT id, name FROM users ORDER BY id",
        "UPDATE users SET name = 'late'",
        "FETCH d",
        "FETCH c",
    )
    conn.autocommit = True
    script("DECLARE c CURSOR FOR SELECT id FROM users")
