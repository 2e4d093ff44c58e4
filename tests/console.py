"""The console as a Python program meets it: SHOW under both protocols, errors with a hint."""

import asyncio
import sys

import asyncpg
import psycopg
import sqlalchemy

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    help_rows = connection.execute("SHOW HELP").fetchall()
    for (command, *_) in help_rows:
        if not command.startswith("SHOW "):
            continue
        simple = psycopg.ClientCursor(connection).execute(command)
        binary = connection.execute(command, binary=True)
        columns = [column.name for column in simple.description]
        assert columns == [column.name for column in binary.description], command
        binary.fetchall()
        print(command, len(simple.fetchall()))
    try:
        connection.execute("SHOW NONSENSE")
    except psycopg.errors.SyntaxError as error:
        assert "SHOW HELP" in error.diag.message_hint
    else:
        raise AssertionError("nonsense was taken")

# As psycopg works by default: in transactions, with savepoints.
with psycopg.connect(sys.argv[1]) as connection:
    status = connection.info.transaction_status
    connection.execute("SHOW VERSION").fetchone()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    try:
        with connection.transaction():
            connection.execute("KILL_CLIENT 4000000000")
    except psycopg.errors.UndefinedObject:
        pass
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    cursor = connection.execute("SHOW STATE", binary=True)
    assert cursor.fetchmany(2) and cursor.fetchall()
    connection.rollback()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

# SQLAlchemy asks the server who it is, and for hstore.
engine = sqlalchemy.create_engine(sys.argv[1].replace("postgres://", "postgresql+psycopg://"))
with engine.connect() as connection:
    assert connection.exec_driver_sql("SHOW STATE").fetchall()[0] == ("active", "yes")
    assert connection.exec_driver_sql("SHOW VERSION").scalar().startswith("pgring ")
engine.dispose()


async def asynchronous():
    async with asyncpg.create_pool(sys.argv[1], min_size=1) as pool:
        for _ in range(2):
            states = await pool.fetch("SHOW STATE")
            assert tuple(states[0]) == ("active", "yes"), states


asyncio.run(asynchronous())
