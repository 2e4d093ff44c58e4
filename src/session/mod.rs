//! One client from its first byte to its last.
//!
//! A session lives on the thread that accepted it. Its journey: `startup` (TLS, who are you),
//! `welcome` (what the servers would report), then [`Session::run`]: frames come in through
//! `io`, `simple` and `extended` decide what each means with the help of `analysis`, `attach`
//! gets the shard's server, `execute`'s relay passes the answer on, and `ready` settles what the
//! statement did to the session. `reads` says which statements a replica may answer, and when it has seen
//! the session's writes. `batch` is what is under way, `settings` and `own` are the state
//! that servers do not keep, `pins` the state that they do; `cancel` is how others reach a session
//! that is busy, `company` what they see of one that waits on several shards, `neighbours` how a cancel request finds its process.
//!
//! While it has nothing to do, a session is one small future and its state: no buffer, no server. What only
//! some statements need is a box of theirs, in the state as in the future (`startup` has the test).

mod analysis;
mod attach;
mod batch;
mod cancel;
mod company;
mod console;
mod copy;
mod deferred;
mod directory;
mod distributed;
mod extended;
mod io;
mod lookup;
mod neighbours;
mod own;
mod pins;
mod prepared;
mod reads;
mod ready;
mod reparse;
mod reworded;
mod settings;
mod simple;
mod sql_prepared;
mod startup;
mod state;
mod tally;
pub mod tls;
mod transaction;
pub mod two_phase;
mod waiting;
mod welcome;
mod worker;

pub use company::{Part, Verdict, Wait, Waiting};
pub use console::{Answer, Console, ConsoleColumn, ConsoleCommand, TransactionStep};
pub use directory::{Database, Directory, Greeting, User};
pub use lookup::{Answer as LookupAnswer, AskDatabase, Lookup, LookupError, Role};
pub use neighbours::{Home, Neighbours, SLOTS, cancel_on};
pub use startup::{Accepted, serve};
pub use state::{End, Session};
pub use worker::{ClientInfo, ServerInUse, Worker, WorkerMessage};
