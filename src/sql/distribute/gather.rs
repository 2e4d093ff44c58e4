//! Queries that run over copies of the rows they need.

use super::super::analyze::Context;
use super::{Gather, Impossible};

pub(super) fn plan(_text: &[u8], _cx: &Context<'_>) -> Result<Gather, Impossible> {
    Err(Impossible {
        message: "the statement cannot be answered over several shards".to_owned(),
        hint: "Add a condition on the key, or a hint /* pgring: shard=NAME */.".to_owned(),
    })
}
