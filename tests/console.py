"""The console as a Python program meets it: SHOW under both protocols, errors with a hint."""

import sys

import psycopg

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
