//! From a TOML file as it is written to settings every other room can trust.
//!
//! The file as written is a spanned TOML document; [`Settings`] is what has been validated,
//! and nothing in it is parsed or checked again. Between the two stands one pass
//! that never stops at a mistake: it reports it, goes on with a stand-in, and gives the
//! settings out only if nothing was reported. So whoever edits the file sees all of their
//! mistakes at once, each with its line and what to do.
//!
//! The code that reads a key is its only declaration (name, form, range, default, all in
//! one row of [`validate`] or [`databases`]); a key that no row asked for is unknown.
//!
//! - [`settings`]: the validated types;
//! - [`section`]: a table of the document, read key by key;
//! - [`values`]: durations, sizes and addresses as they are written;
//! - [`validate`], [`databases`]: every key of the manual;
//! - [`problem`]: what is wrong with a file, and where;
//! - [`diff`]: what a reload changed.
//!
//! This room knows no run-time objects: it neither connects nor builds a ring.

mod databases;
pub mod diff;
pub mod problem;
mod section;
pub mod settings;
mod suggest;
mod validate;
mod values;

#[cfg(test)]
mod tests;

pub use problem::{Problem, Problems};
pub use settings::*;

use std::ffi::OsString;
use std::path::Path;

/// The name of the database that is the console, and so of no other.
pub const CONSOLE_DATABASE: &str = "pgring";

/// Reads and validates a file.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) => Err(Problems(vec![Problem {
            file: path.to_owned(),
            line: None,
            key: String::new(),
            message: format!("cannot be read: {error}"),
            remedy: "name a file of TOML that pgring may read".to_owned(),
        }])),
    }
}

/// Validates the text of a file. Relative paths in it are relative to the directory of
/// `origin`; passwords and the presence of TLS files are looked up.
pub fn parse(text: &str, origin: &Path) -> Result<Settings, Problems> {
    parse_with(text, origin, &|name| std::env::var_os(name))
}

/// As [`parse`], with the environment as an argument.
fn parse_with(
    text: &str,
    origin: &Path,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Settings, Problems> {
    section::read(text, origin, environment, validate::settings).0
}
