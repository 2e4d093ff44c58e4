#!/bin/sh
# Runs once in each PostgreSQL container, when its data directory is made.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<SQL
\i /sample/roles.sql
ALTER DATABASE "$POSTGRES_DB" OWNER TO app;
GRANT CREATE ON DATABASE "$POSTGRES_DB" TO pgring;
SQL
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username app --dbname "$POSTGRES_DB" --file /sample/schema.sql
