//! Changes whose shards are given the rows that they lack: other shards' rows, or the home shard's.
//!
//! A row is changed, or not, by what all the rows of the other tables say: so each shard has them all,
//! and every sub-query over them comes to the same on each. What may choose among rows, or come out
//! differently from one time to the next, is refused.

use sqlparser::ast::{Merge, MergeAction, Statement};

use super::super::super::analyze::opened::Opened;
use super::super::super::schema::TableKind;
use super::super::gather;
use super::super::{Impossible, Supply, Writers};
use super::{modifications, outermost, replicate, returning, steady};

/// `None`: it lacks nothing.
pub(super) fn plan(opened: &Opened<'_>) -> Option<Result<Supply, Impossible>> {
    let (modification, with) = outermost(opened.tree);
    let modification = modification.filter(|_| modifications(opened.tree) == 1)?;
    if !matches!(modification, Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_)) {
        return None;
    }
    let (name, _) = replicate::target(modification)?;
    let writers = match opened.table(name)?.kind {
        TableKind::Sharded { .. } => Writers::Owners,
        TableKind::Home => Writers::Home,
        TableKind::Reference => Writers::Copies,
        TableKind::View { .. } | TableKind::Sequence => return None,
    };
    let planned = || {
        match writers {
            Writers::Home => {}
            Writers::Copies => replicate::comes_out_alike(opened, modification)?,
            Writers::Owners => {
                inserts_nothing(modification)?;
                let mut once = steady::Once::new(opened, "a statement on several shards").of_everything();
                once.check(opened.tree)?;
                with.map_or(Ok(()), |with| once.check(with))?;
            }
        }
        let (tables, sql, parameters) = gather::supplied(opened, writers)?;
        Ok(Supply { tables, sql, parameters, writers, returns: returning(modification) })
    };
    Some(planned())
}

/// A row of the source that has no match on one shard may have one on another.
fn inserts_nothing(modification: &Statement) -> Result<(), Impossible> {
    let Statement::Merge(Merge { clauses, .. }) = modification else { return Ok(()) };
    if clauses.iter().any(|clause| matches!(clause.action, MergeAction::Insert(_))) {
        return Err(Impossible::new(
            "that a row has no match cannot be told by each shard alone",
            "Join on the key, or use INSERT … ON CONFLICT.",
        ));
    }
    Ok(())
}
