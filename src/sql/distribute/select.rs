//! Queries whose rows, or partial results, come from each shard: [`Merge`](super::Merge) and
//! [`Combine`](super::Combine).

use super::super::analyze::Context;
use super::Plan;

/// `None`: neither is exact.
pub(super) fn plan(_text: &[u8], _cx: &Context<'_>) -> Option<Plan> {
    None
}
