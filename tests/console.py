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
