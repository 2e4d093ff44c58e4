//! How a statement that needs several shards is answered: what each of them runs, and how one
//! answer is made of theirs.
//!
//! Pure: a text and a [`Schema`](super::Schema) in, a [`Plan`] out. Three tiers, the cheapest that
//! is exact wins:
//!
//! - [`Merge`]: each shard's rows are rows of the answer. They stream through, in order where an
//!   order is asked for, and are counted off where there is a limit.
//! - [`Combine`]: each shard folds its rows into partial results (a sum and a count for an average,
//!   say), and one PostgreSQL folds those into the answer. So an expression over aggregates, the
//!   scale of a quotient or the order of groups is always PostgreSQL's own.
//! - [`Gather`]: the rows and columns that matter are copied into temporary tables on one
//!   PostgreSQL, which runs the statement there.
//!
//! Writes: [`Each`] shard runs the statement on its own rows, or an `INSERT` is [`Split`] by the
//! owners of its rows.
//!
//! Texts are cut and joined by tokens, never printed from a tree: what a shard runs has the
//! client's own words wherever it is the client's own statement.

mod carried;
mod copy;
mod ddl;
mod plan;

pub use carried::*;
pub use copy::*;
pub(in crate::sql) use ddl::holds;
pub use ddl::{Ddl, OfMade, ddl, made_table, makes_ids, of_made};
pub use plan::*;
pub use select::array_type;
pub use writes::tells_the_time;

use super::analyze::Context;
use super::analyze::tokens::Tokens;
use super::lexer::tokenize;

mod gather;
mod select;
mod writes;

/// How a text of one statement is answered by several shards. The text's target is known to need
/// them.
///
/// # Errors
/// It cannot be.
pub fn plan(text: &[u8], cx: &Context<'_>) -> Result<Plan, Impossible> {
    if let Some(outcome) = writes::plan(text, cx) {
        return outcome;
    }
    if let Some(column) = system_column(text, cx) {
        return Err(Impossible::new(
            format!("\"{column}\" means something else on each shard"),
            "Leave it away, add a condition on the key, or a hint /* pgring: shard=NAME */.",
        ));
    }
    match select::plan(text, cx) {
        Some(plan) => Ok(plan),
        None => gather::plan(text, cx).map(Plan::Gather),
    }
}

/// The last resort, also for what a cheaper plan turns out not to be exact for once the types of its
/// columns are known.
///
/// # Errors
/// It cannot be done over copies either.
pub fn gather(text: &[u8], cx: &Context<'_>) -> Result<Gather, Impossible> {
    gather::plan(text, cx)
}

/// A column of PostgreSQL's own that tells of a row's place on its server.
fn system_column(text: &[u8], cx: &Context<'_>) -> Option<&'static str> {
    let tokens = tokenize(text, cx.standard_conforming_strings).ok()?;
    let tokens = Tokens::new(text, tokens);
    let named = |column: &str| (0..tokens.len()).any(|at| tokens.is_word(at, column));
    ["ctid", "xmin", "xmax", "cmin", "cmax"].into_iter().find(|column| named(column))
}
