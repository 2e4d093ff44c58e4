//! One connection to one PostgreSQL: reaching it, TLS, login, bringing its settings in line
//! with a session's, cancelling what runs on it. Nothing here knows of pools or clients.
//!
//! A [`Server`] is sans-decision: it moves bytes between the socket and two [`Buffer`]s and
//! remembers what state the connection is in. What may be sent on it is decided above.
//!
//! [`Buffer`]: crate::wire::Buffer

mod cancel;
mod connect;
mod facts;
mod login;
mod prepared;
mod server;
mod settings;
mod stream;
mod tcp;
pub mod tls;
mod types;

pub use cancel::{CancelKey, cancel};
pub use connect::{ConnectError, Target, connect};
pub use facts::{Ends, Facts};
pub use prepared::{Evicted, PreparedNames, SharedName};
pub use server::{Server, ServerError};
pub use settings::{Reading, Settings, quoted, set_config_local, set_config_statement};
pub use stream::Stream;
pub use tcp::tune;
pub use types::{FIRST_OF_USERS, TypeMap, TypeNames};
