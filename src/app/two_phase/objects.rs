//! What a shard needs to take part in a two-phase commit, in the schema `pgring`.
//!
//! The objects are the control role's. Ordinary users may only call three functions, which act on
//! rows of the caller's own transaction: nobody can read a decision, nor make one for a
//! transaction of another role that recovery would believe (see [`crate::txn::recovery::author`]).

use tokio_postgres::Client;

/// Of what is made on a shard. What a newer pgring has made stays.
const VERSION: i32 = 2;

/// One at a time makes things in the schema, whatever they are.
pub(in crate::app) const LOCK: &str = "BEGIN; SET LOCAL client_min_messages = warning; \
                                       SELECT pg_catalog.pg_advisory_xact_lock(8099004086716137473)";

/// `stage`, `since` and the `timelines` on which the participants were seen say how far a decision has come to its removal, see
/// [`review`](crate::txn::recovery::review). A decision is `commit` with the list of participants, or recovery's `abort`. Both have the one primary
/// key, so that whoever comes second waits for the first and sees what it did. Names of roles are as they were when the row was
/// written, in `decision` and `applied` alike. `neighbour` has who is beside the shard (version 2).
const TABLES: &str = r"
CREATE SCHEMA IF NOT EXISTS pgring;
GRANT USAGE ON SCHEMA pgring TO PUBLIC;
CREATE TABLE IF NOT EXISTS pgring.part (
    name    text PRIMARY KEY,
    version integer NOT NULL);
CREATE TABLE IF NOT EXISTS pgring.decision (
    xid          uuid PRIMARY KEY,
    verdict      text NOT NULL CHECK (verdict IN ('commit', 'abort')),
    owner        name,
    participants text[],
    timelines    int[],
    stage        text NOT NULL DEFAULT 'fresh' CHECK (stage IN ('fresh', 'settled', 'retiring', 'lost')),
    since        timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE INDEX IF NOT EXISTS decision_stage ON pgring.decision (stage, since);
CREATE TABLE IF NOT EXISTS pgring.applied (
    xid   uuid NOT NULL,
    owner name NOT NULL,
    made  timestamptz NOT NULL DEFAULT clock_timestamp(),
    cried boolean NOT NULL DEFAULT false,
    PRIMARY KEY (xid, owner));
CREATE TABLE IF NOT EXISTS pgring.neighbour (
    shard text PRIMARY KEY,
    seen  timestamptz NOT NULL DEFAULT clock_timestamp());";

const FUNCTIONS: &str = r"
-- The decider's, when a second writer joins.
CREATE OR REPLACE FUNCTION pgring.decide(xid uuid) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgring$
BEGIN
    INSERT INTO pgring.decision (xid, verdict, owner) VALUES ($1, 'commit', session_user);
END
$pgring$;

-- Every other writer's, together with its PREPARE TRANSACTION; gives back who will own that.
CREATE OR REPLACE FUNCTION pgring.witness(xid uuid, owner name) RETURNS name
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgring$
BEGIN
    IF NOT pg_has_role(session_user, $2, 'MEMBER') THEN
        RAISE insufficient_privilege USING MESSAGE = format('%I is no role of yours', $2);
    END IF;
    INSERT INTO pgring.applied (xid, owner) VALUES ($1, $2);
    RETURN $2;
END
$pgring$;

-- The decider's, together with its COMMIT.
CREATE OR REPLACE FUNCTION pgring.decided(xid uuid, owner name, participants text[]) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $pgring$
BEGIN
    IF NOT pg_has_role(session_user, $2, 'MEMBER') THEN
        RAISE insufficient_privilege USING MESSAGE = format('%I is no role of yours', $2);
    END IF;
    -- A row that is complete has been committed, and is nobody's to change.
    UPDATE pgring.decision AS d SET owner = $2, participants = $3
     WHERE d.xid = $1 AND d.owner = session_user AND d.verdict = 'commit' AND d.participants IS NULL;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'the transaction has no decision to complete';
    END IF;
    -- The others must not be committed by a decision that a crash can take back.
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$pgring$;
REVOKE ALL ON pgring.decision, pgring.applied, pgring.neighbour, pgring.part FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgring.decide(uuid), pgring.witness(uuid, name), pgring.decided(uuid, name, text[])
   TO PUBLIC";

/// Who owns the schema, if that is neither the control role nor a superuser: what is in it is not to be
/// trusted.
pub(in crate::app) async fn stranger(client: &Client) -> Result<Option<String>, tokio_postgres::Error> {
    let statement = "SELECT r.rolname::text FROM pg_catalog.pg_namespace AS n \
                     JOIN pg_catalog.pg_roles AS r ON r.oid = n.nspowner \
                     WHERE n.nspname = 'pgring' AND r.rolname <> current_user AND NOT r.rolsuper";
    let row = client.query_opt(statement, &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Makes on a shard what it lacks.
///
/// # Errors
/// The control role may not, or the server is lost; nothing is left half made.
pub(super) async fn install(client: &Client) -> Result<(), tokio_postgres::Error> {
    if version(client).await? >= VERSION {
        return Ok(());
    }
    let made = make(client).await;
    if made.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    made
}

async fn make(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(LOCK).await?;
    if version(client).await? < VERSION {
        client.batch_execute(TABLES).await?;
        client.batch_execute(FUNCTIONS).await?;
        let put = "INSERT INTO pgring.part (name, version) VALUES ('two-phase', $1) \
                   ON CONFLICT (name) DO UPDATE SET version = excluded.version";
        client.execute(put, &[&VERSION]).await?;
    }
    client.batch_execute("COMMIT").await
}

/// Of what the shard has; 0 is nothing.
async fn version(client: &Client) -> Result<i32, tokio_postgres::Error> {
    let there = "SELECT pg_catalog.to_regclass('pgring.part') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = client.query_opt("SELECT version FROM pgring.part WHERE name = 'two-phase'", &[]).await?;
    row.map_or(Ok(0), |row| row.try_get(0))
}
