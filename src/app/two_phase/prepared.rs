//! What is prepared on a server, and how it is finished.

use crate::backend::quoted;
use crate::txn::Gid;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// One transaction of ours that is prepared.
pub(super) struct Prepared {
    pub(super) gid: Gid,
    /// As it is called there.
    pub(super) name: String,
    /// The server's own number of it.
    pub(super) transaction: String,
    /// As the shard calls it now; none if the role was dropped.
    pub(super) owner: Option<String>,
    pub(super) age: Duration,
}

/// What our cluster has prepared in this database. What others have is not even looked at.
pub(super) async fn prepared(client: &Client, cluster: &str) -> Result<Vec<Prepared>, tokio_postgres::Error> {
    let statement = "SELECT gid, owner::text, transaction::text, \
                     greatest(extract(epoch FROM pg_catalog.clock_timestamp() - prepared), 0)::float8 \
                     FROM pg_catalog.pg_prepared_xacts \
                     WHERE database = pg_catalog.current_database() AND pg_catalog.starts_with(gid, $1) \
                     ORDER BY prepared";
    let rows = client.query(statement, &[&format!("pgring:{cluster}:")]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let name: String = row.try_get(0)?;
        let Some(gid) = Gid::parse(&name, cluster) else { continue };
        let age = Duration::try_from_secs_f64(row.try_get(3)?).unwrap_or_default();
        found.push(Prepared { gid, name, owner: row.try_get(1)?, transaction: row.try_get(2)?, age });
    }
    Ok(found)
}

/// `COMMIT PREPARED` or `ROLLBACK PREPARED`, as the owner, or as what one is if there is none any more;
/// false when somebody else was faster.
pub(super) async fn finish(
    client: &Client,
    verb: &str,
    name: &str,
    owner: Option<&str>,
) -> Result<bool, tokio_postgres::Error> {
    if let Some(owner) = owner {
        client.batch_execute(&format!("SET ROLE {}", quoted(owner))).await?;
    }
    let outcome = client.batch_execute(&format!("{verb} PREPARED {}", literal(name))).await;
    client.batch_execute("RESET ROLE").await?;
    match outcome {
        Ok(()) => Ok(true),
        Err(error) => match error.code() {
            // Gone, or "busy": another one is at it.
            Some(&SqlState::UNDEFINED_OBJECT | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => Ok(false),
            _ => Err(error),
        },
    }
}

/// As SQL writes it, whatever `standard_conforming_strings` is: a name may contain anything.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        for (text, expect) in [("a", "'a'"), ("it's", "'it''s'"), ("a\\'b", "E'a\\\\''b'")] {
            assert_eq!(literal(text), expect);
        }
    }
}
