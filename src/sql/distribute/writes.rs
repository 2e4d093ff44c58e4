//! What several shards change: [`Each`](super::Each) its own rows, [`Split`](super::Split) by owner,
//! or all of them alike ([`Replicate`](super::Replicate)).

use super::super::analyze::Context;
use super::{Impossible, Plan};

/// `None`: it changes nothing.
pub(super) fn plan(_text: &[u8], _cx: &Context<'_>) -> Option<Result<Plan, Impossible>> {
    None
}
