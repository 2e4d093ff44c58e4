//! (shape, parameters, topology, hints) → where a statement runs. Pure.
//!
//! Analysis has said where the keys stand; here their values are read, in place, and the shards
//! that own them are found:
//!
//! - [`parameters`]: the values of a `Bind`, looked at where they lie in the message;
//! - `key`: a value → the canonical form the ring hashes, or nothing;
//! - `array`: the elements of `'{1,2}'` and of binary arrays;
//! - [`hint`]: what comments and `SET pgring.…` ask for;
//! - [`decide`]: all of it together → [`Decision`];
//! - [`explain`]: a decision in words, for `SHOW pgring.route` and for refusals.
//!
//! The invariant: a value that is not *proven* to denote a key, by a spelling and a type that
//! every PostgreSQL reads alike, counts as an unknown key. `1e2`, `0x10`, a `numeric` parameter and
//! a date are such values. The price is a refusal or a wider route; a guess would be a wrong answer.
//! And a hint that contradicts a key that is proven is refused: of two shards one is wrong.

mod array;
pub mod decide;
pub mod explain;
pub mod hint;
mod key;
pub mod parameters;

pub use decide::{
    Decision, Request, Route, ShardSet, computed_owner, copied_owner, needs_parameters, owner, route,
};
pub use explain::{ShownKey, Why, refusal, steps};
pub use hint::SessionHints;
pub use parameters::{Parameters, ParametersError, Value};
