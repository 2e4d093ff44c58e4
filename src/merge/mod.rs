//! Rows of several shards as rows of one answer; pure.
//!
//! - [`row`]: a `DataRow` taken apart and put together, without knowing what its values mean;
//! - [`order`]: how PostgreSQL orders values of a type, read from their binary form;
//! - [`Merger`]: which shard's next row is the answer's next one, and which rows a limit lets
//!   through;
//! - [`array`]: a column's values as one array parameter, for what PostgreSQL itself folds.
//!
//! Types are known by their OIDs, which of PostgreSQL's own never change. What is not known here
//! is not ordered: [`order::SortType::of`] says so before a row has been seen.

pub mod array;
mod merger;
pub mod order;
pub mod row;

pub use merger::{Merger, Next};
