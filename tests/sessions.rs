//! What a session is promised, although its server connections are shared and its transactions
//! are opened late: transactions, settings, state that stays, limits, and what goes wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

mod support;

#[path = "sessions/conversations.rs"]
mod conversations;
#[path = "sessions/faults.rs"]
mod faults;
#[path = "sessions/limits.rs"]
mod limits;
#[path = "sessions/pinned.rs"]
mod pinned;
#[path = "sessions/prepared.rs"]
mod prepared;
#[path = "sessions/settings.rs"]
mod settings;
#[path = "sessions/stage.rs"]
mod stage;
#[path = "sessions/state.rs"]
mod state;
#[path = "sessions/transactions.rs"]
mod transactions;
