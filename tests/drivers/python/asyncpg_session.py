"""asyncpg: binary everywhere, a statement cache of its own, and queries of its own about types."""

import asyncio

import asyncpg

from transcript import arguments, say

dsn, scope = arguments()
USERS = (3, 7, 12)


async def refused(label, awaitable):
    try:
        say(label, "no error", await awaitable)
    except asyncpg.PostgresError as error:
        say(label, error.sqlstate, error)


async def statements(conn):
    for user in USERS:
        row = await conn.fetchrow("SELECT id, email, is_active, created_at FROM users WHERE id = $1", user)
        say("row", dict(row))
    say("value", await conn.fetchval("SELECT count(*) FROM jobs WHERE user_id = $1", USERS[0]))
    say("status", await conn.execute("UPDATE users SET plan_id = plan_id WHERE id = $1", USERS[0]))
    prepared = await conn.prepare("SELECT id, name FROM jobs WHERE user_id = $1 ORDER BY id")
    say("parameters", [p.name for p in prepared.get_parameters()])
    say("attributes", [(a.name, a.type.name) for a in prepared.get_attributes()])
    for user in range(1, 15):
        assert len(await prepared.fetch(user)) == 3
    say("prepared", [tuple(row) for row in await prepared.fetch(USERS[1])], prepared.get_statusmsg())
    await conn.executemany(
        "INSERT INTO notifications (user_id, message) VALUES ($1, $2)", [(7, f"many {n}") for n in range(50)]
    )
    text = "DELETE FROM notifications WHERE user_id = 7 AND message LIKE 'many%' RETURNING message"
    say("deleted", len(await conn.fetch(text)))
    many = await conn.fetchmany("SELECT name FROM users WHERE id = $1", [(12,), (12,)])
    say("many", [tuple(row) for row in many])
    # More texts than the cache holds.
    for number in range(130):
        found = await conn.fetchval(f"SELECT {number} + plan_id * 0 FROM users WHERE id = $1", 5)
        assert found == number, found
    await refused("division", conn.fetch("SELECT 1/0 FROM users WHERE id = $1", 3))
    await refused("unknown", conn.fetch("SELECT nothing FROM users WHERE id = $1", 3))
    await refused("duplicate", conn.execute("INSERT INTO users (id, email, name) VALUES (3, 'a', 'b')"))
    await refused(
        "many", conn.executemany("INSERT INTO users (id, email, name) VALUES ($1, 'a', 'b')", [(3,), (3,)])
    )
    say("after", await conn.fetchval("SELECT email FROM users WHERE id = 3"))
    say("script", await conn.execute("SELECT 1 FROM users WHERE id = 3; SELECT 2 FROM jobs WHERE user_id = 3"))
    await refused("simple", conn.execute("SELECT 1 FROM users WHERE id = 3; SELECT 1/0; SELECT 2"))


async def types(conn):
    # It asks for each type that it does not know, and turns "jit" off meanwhile.
    jit = await conn.fetchval("SHOW jit")
    await conn.execute("CREATE TYPE colour AS ENUM ('red', 'green')")
    await conn.execute("CREATE TABLE paints (user_id bigint, c colour)")
    for user in range(1, 9):
        await conn.execute("INSERT INTO paints VALUES ($1, $2)", user, ("red", "green")[user % 2])
        say("colour", await conn.fetchval("SELECT c FROM paints WHERE user_id = $1", user))
    say("red", await conn.fetchval("SELECT count(*) FROM paints WHERE c = $1", "red"))
    say("all", [tuple(row) for row in await conn.fetch("SELECT user_id, c FROM paints ORDER BY user_id")])
    say("jit", await conn.fetchval("SHOW jit") == jit)
    for user in range(1, 9):
        other = await asyncpg.connect(dsn)
        async with other.transaction():
            await other.execute("UPDATE paints SET c = c WHERE user_id = $1", user)
            say("inside", await other.fetchval("SELECT c FROM paints WHERE user_id = $1", user))
        await other.close()
    await conn.execute("DROP TABLE paints")
    await conn.execute("DROP TYPE colour")


async def transactions(conn):
    user = USERS[2]
    for isolation in ("serializable", "repeatable_read", "read_committed"):
        async with conn.transaction(isolation=isolation):
            await conn.fetch("SELECT 1 FROM users WHERE id = $1", user)
            say(isolation, await conn.fetchval("SHOW transaction_isolation"))
    async with conn.transaction(readonly=True):
        await refused("read only", conn.execute("UPDATE users SET name = name WHERE id = $1", user))
    outer = conn.transaction()
    await outer.start()
    await conn.execute("UPDATE users SET name = 'outer' WHERE id = $1", user)
    try:
        async with conn.transaction():
            await conn.execute("UPDATE users SET name = 'inner' WHERE id = $1", user)
            await conn.execute("SELECT 1/0")
    except asyncpg.DivisionByZeroError as error:
        say("inner", error)
    say("outer", await conn.fetchval("SELECT name FROM users WHERE id = $1", user), conn.is_in_transaction())
    found = []
    async for row in conn.cursor(
        "SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id", user, prefetch=5
    ):
        found.append(row["id"])
    say("cursor", found)
    cursor = await conn.cursor("SELECT id FROM job_executions WHERE user_id = $1 ORDER BY id", user)
    say("forward", await cursor.forward(3), await cursor.fetchrow(), len(await cursor.fetch(100)))
    await outer.rollback()
    say("after", await conn.fetchval("SELECT name FROM users WHERE id = $1", user), conn.is_in_transaction())


async def pool(conn):
    async with asyncpg.create_pool(dsn, min_size=8, max_size=8) as connections:

        async def work(user):
            async with connections.acquire() as mine:
                async with mine.transaction():
                    await mine.execute("UPDATE users SET plan_id = plan_id WHERE id = $1", user)
                    return await mine.fetchval("SELECT id FROM users WHERE id = $1", user)

        users = [1 + number % 40 for number in range(120)]
        say("pool", await asyncio.gather(*(work(user) for user in users)) == users)


async def cancels(conn):
    try:
        await conn.execute("SELECT pg_sleep(60) FROM users WHERE id = 3", timeout=0.2)
    except asyncio.TimeoutError:
        say("timeout", "raised")
    say("usable", await conn.fetchval("SELECT email FROM users WHERE id = $1", 3))
    task = asyncio.create_task(conn.fetchval("SELECT pg_sleep(60) FROM users WHERE id = $1", 3))
    await asyncio.sleep(0.2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        say("task", "cancelled")
    say("usable", await conn.fetchval("SELECT email FROM users WHERE id = $1", 3))


async def introspection(conn):
    await conn.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok');"
        "CREATE TYPE pair AS (a int, b text);"
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
        "CREATE TABLE felt (m mood, p pair, ps pair[], d positive, r int8range, j jsonb)"
    )
    await conn.execute(
        "INSERT INTO felt VALUES ($1, $2, $3, $4, $5, $6)",
        "ok",
        (1, "x"),
        [(2, "y"), (3, None)],
        5,
        asyncpg.Range(1, 10),
        '{"a": 1}',
    )
    say("row", dict(await conn.fetchrow("SELECT * FROM felt")))
    await conn.set_type_codec("jsonb", encoder=repr, decoder=lambda text: "decoded " + text, schema="pg_catalog")
    say("codec", await conn.fetchval("SELECT j FROM felt"))
    await conn.reload_schema_state()
    await refused("domain", conn.execute("INSERT INTO felt (d) VALUES ($1)", -1))
    await conn.execute("DROP TABLE felt; DROP TYPE mood; DROP TYPE pair; DROP DOMAIN positive")


async def copies(conn):
    await conn.execute("CREATE TABLE copied (id int, body text, stamp date)")
    rows = [(number, "x\t\n" * number, None) for number in range(300)]
    say("in", await conn.copy_records_to_table("copied", records=rows))

    async def blocks():
        for number in range(500):
            yield b"%d\t%s\t\\N\n" % (number, b"y" * 10000)

    say("in", await conn.copy_to_table("copied", source=blocks()))
    out = bytearray()

    async def take(block):
        out.extend(block)

    say("out", await conn.copy_from_table("copied", output=take, format="csv"), len(out))
    out.clear()
    query = "SELECT id FROM copied WHERE id < $1 AND body LIKE 'x%' ORDER BY id"
    say("query", await conn.copy_from_query(query, 5, output=take), bytes(out))
    await refused("bad", conn.copy_records_to_table("missing", records=rows))
    say("count", await conn.fetchval("SELECT count(*) FROM copied"))
    await conn.execute("DROP TABLE copied")


async def listening(conn):
    heard, enough = [], asyncio.Event()

    def listener(_, pid, channel, payload):
        heard.append((channel, payload))
        if len(heard) == 3:
            enough.set()

    await conn.add_listener("matrix", listener)
    other = await asyncpg.connect(dsn)
    for number in range(3):
        await other.execute("SELECT pg_notify('matrix', $1)", str(number))
    await asyncio.wait_for(enough.wait(), 20)
    say("heard", heard)
    await conn.remove_listener("matrix", listener)
    await other.close()


async def settings(conn):
    tuned = await asyncpg.connect(dsn, server_settings={"geqo": "off", "search_path": "pg_catalog, public"})
    say("start-up", await tuned.fetchval("SHOW geqo"), await tuned.fetchval("SHOW search_path"))
    await tuned.execute("SET TIME ZONE 'Asia/Tokyo'")
    say("zone", tuned.get_settings().TimeZone, await tuned.fetchval("SELECT '2024-01-01'::timestamptz::text"))
    await tuned.execute("CREATE TEMPORARY TABLE mine (n int)")
    await tuned.execute("INSERT INTO mine VALUES (1)")
    say("temporary", await tuned.fetchval("SELECT n FROM mine"))
    # What asyncpg's pool runs when a connection comes back.
    await tuned.reset()
    say("reset", tuned.get_settings().TimeZone == "Asia/Tokyo", await tuned.fetchval("SHOW geqo"))
    await tuned.close()


async def main():
    parts = [statements, types, transactions, pool, cancels]
    if scope == "whole":
        parts = [introspection, copies, listening, settings]
    conn = await asyncpg.connect(dsn)
    for part in parts:
        say("##", part.__name__)
        await part(conn)
    await conn.close()


asyncio.run(main())
