//! One PostgreSQL that holds all the rows is the oracle: what pgring answers over three shards is
//! what the oracle answers, or a refusal that says what to change. Never something else.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "routing/generator.rs"]
mod generator;
#[path = "routing/oracle.rs"]
mod oracle;
#[path = "routing/random.rs"]
mod random;
#[path = "routing/schema.rs"]
mod schema;
#[path = "routing/statements.rs"]
mod statements;
