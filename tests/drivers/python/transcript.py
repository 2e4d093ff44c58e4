"""What a program of the matrix prints is compared, line by line, between PostgreSQL and pgring."""

import sys


def say(label, *values):
    print(f"{label}:", *values, flush=True)


def refused(label, error_class, run):
    """Says which error `run` raises: its SQLSTATE and message are part of the transcript."""
    try:
        result = run()
    except error_class as error:
        say(label, getattr(error, "sqlstate", None), str(error).splitlines()[0])
    else:
        say(label, "no error", result)


def arguments():
    """The DSN, and whether the whole of SQL may be used or only what names the shard key."""
    return sys.argv[1], sys.argv[2]
