//! Logs: lines on standard error, as text for people or as JSON for machines.
//!
//! Standard output belongs to the commands (`pgring ring`, `pgring explain`), standard error
//! to the log. Which lines appear is a filter in `tracing-subscriber`'s syntax, as in
//! `info,pgring::pool=debug`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that chooses the format: `json`, or `text`.
pub const FORMAT_VARIABLE: &str = "PGRING_LOG_FORMAT";
/// The variable that chooses what is logged.
pub const FILTER_VARIABLE: &str = "PGRING_LOG";
/// What is logged when nobody says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<LogFormat, LogError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Why logging could not start.
#[derive(thiserror::Error, Debug)]
pub enum LogError {
    /// An unknown format.
    #[error("log format \"{0}\" is neither \"text\" nor \"json\"")]
    Format(String),
    /// A filter nobody can read.
    #[error("log filter \"{0}\" is not one: {1}")]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// Logging was started before, by us or by a test.
    #[error("logging was started already: {0}")]
    Started(Box<dyn std::error::Error + Send + Sync>),
}

/// The format that the environment asks for.
pub fn format_from_environment() -> Result<LogFormat, LogError> {
    variable(FORMAT_VARIABLE).as_deref().unwrap_or_default().parse()
}

/// Starts logging. Without a filter, `PGRING_LOG` decides, and without that `info`.
///
/// To be called once, before anything is worth logging.
pub fn init(format: LogFormat, filter: Option<&str>) -> Result<(), LogError> {
    let filter = filter.map(str::to_owned).or_else(|| variable(FILTER_VARIABLE));
    let filter = parse_filter(filter.as_deref().unwrap_or(DEFAULT_FILTER))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    }
    .map_err(LogError::Started)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|error| LogError::Filter(filter.to_owned(), error))
}

/// A variable that is set to nothing is as good as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (text, expect) in [
            ("text", Some(LogFormat::Text)),
            ("JSON", Some(LogFormat::Json)),
            (" json ", Some(LogFormat::Json)),
            ("", Some(LogFormat::Text)),
            ("xml", None),
        ] {
            assert_eq!(text.parse::<LogFormat>().ok(), expect, "{text}");
        }
    }

    #[test]
    fn filters() {
        for (filter, good) in
            [("info", true), ("warn,pgring::pool=debug", true), ("pgring=loudly", false), ("a=b=c", false)]
        {
            assert_eq!(parse_filter(filter).is_ok(), good, "{filter}");
        }
    }
}
