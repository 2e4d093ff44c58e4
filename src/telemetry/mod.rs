//! What the running process tells about itself.
//!
//! Three things that the rooms below fill and the outermost rooms show, so that neither has
//! to know the other: [`metrics`] counts, [`logs`] says, [`snapshot`] describes what is there
//! at one moment. Nothing here knows HTTP, the console or a socket.
//!
//! Nothing here fails a statement either: a metric that cannot be counted is a defect found
//! by a test, and a log line that cannot be written is dropped.

pub mod logs;
pub mod metrics;
pub mod snapshot;

pub use logs::{LogError, LogFormat};
pub use metrics::Metrics;
pub use snapshot::Snapshot;
