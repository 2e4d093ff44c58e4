"""A Django project with the database of the command line."""

import os
from urllib.parse import urlsplit

_dsn = urlsplit(os.environ["MATRIX_DSN"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _dsn.hostname,
        "PORT": _dsn.port,
        "USER": _dsn.username,
        "PASSWORD": _dsn.password,
        "NAME": _dsn.path.lstrip("/"),
        "OPTIONS": {"server_side_binding": os.environ.get("MATRIX_BINDING") == "server"},
    }
}
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "shop",
]
SECRET_KEY = "of a test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Hashing a password slowly is not what is tested.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
