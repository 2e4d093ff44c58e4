"""Connects, works and leaves, over and over, until a file appears; any error is a failure."""

import os
import sys

import psycopg

dsn, stop_file, progress_file = sys.argv[1:]
with open(progress_file, "ab", buffering=0) as progress:
    while not os.path.exists(stop_file):
        with psycopg.connect(dsn) as connection:
            for user in (1, 2, 3):
                with connection.transaction():
                    found = connection.execute("SELECT id FROM users WHERE id = %s", (user,)).fetchone()
                assert found == (user,), found
        progress.write(b".")
