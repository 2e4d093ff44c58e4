"""Connects, works and leaves, over and over, until a file appears; any error is a failure."""

import os
import sys

import psycopg

dsn, stop_file = sys.argv[1:]
loops = 0
while not os.path.exists(stop_file):
    with psycopg.connect(dsn) as connection:
        for user in (1, 2, 3):
            with connection.transaction():
                found = connection.execute("SELECT id FROM users WHERE id = %s", (user,)).fetchone()
            assert found == (user,), found
    loops += 1
print(loops)
