//! Frames and messages of the PostgreSQL protocol (manual, chapter 55), sans-I/O.
//!
//! The relay forwards frames as they lie in a [`Buffer`]: this room finds where they begin and
//! end ([`header`]), reads the few fields pgring decides by (`frontend`, `backend`), and writes
//! the messages pgring itself has to say. It never trusts a length: everything here is total
//! over arbitrary bytes.

mod backend;
mod buffer;
mod frame;
mod frontend;
mod startup;
mod value;

pub use backend::*;
pub use buffer::{Buffer, SLAB};
pub use frame::*;
pub use frontend::*;
pub use startup::*;
pub use value::encode;
