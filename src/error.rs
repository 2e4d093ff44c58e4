//! What a client may be told.
//!
//! Every room has its own error type for the log; what leaves the process towards a client
//! is a [`ClientError`], and all of its SQLSTATEs and wordings stand in this file, so that
//! the whole of what pgring can say is read in one place. None of them carries a password,
//! a server's address or a Rust debug string.

use std::borrow::Cow;

/// A five-character SQLSTATE (PostgreSQL manual, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `feature_not_supported`: not possible across shards.
    pub const REFUSED: SqlState = SqlState::new("0A000");
    /// `too_many_connections`: a pool's or the clients' limit.
    pub const TOO_MANY: SqlState = SqlState::new("53300");
    /// `admin_shutdown`.
    pub const SHUTTING_DOWN: SqlState = SqlState::new("57P01");
    /// `cannot_connect_now`: no healthy primary.
    pub const UNAVAILABLE: SqlState = SqlState::new("57P03");
    /// `connection_failure`: a server was lost.
    pub const SERVER_LOST: SqlState = SqlState::new("08006");
    /// `transaction_resolution_unknown`.
    pub const OUTCOME_UNKNOWN: SqlState = SqlState::new("08007");
    /// `invalid_password`.
    pub const PASSWORD: SqlState = SqlState::new("28P01");
    /// `invalid_authorization_specification`.
    pub const NOT_ALLOWED: SqlState = SqlState::new("28000");
    /// `program_limit_exceeded`.
    pub const LIMIT: SqlState = SqlState::new("54000");
    /// `statement_too_complex`.
    pub const TOO_COMPLEX: SqlState = SqlState::new("54001");
    /// `undefined_object`.
    pub const UNDEFINED_OBJECT: SqlState = SqlState::new("42704");
    /// `protocol_violation`.
    pub const PROTOCOL: SqlState = SqlState::new("08P01");
    /// `invalid_catalog_name`: no such database.
    pub const NO_DATABASE: SqlState = SqlState::new("3D000");
    /// `in_failed_sql_transaction`.
    pub const FAILED_TRANSACTION: SqlState = SqlState::new("25P02");
    /// `invalid_sql_statement_name`: no such prepared statement.
    pub const NO_STATEMENT: SqlState = SqlState::new("26000");
    /// `duplicate_prepared_statement`.
    pub const DUPLICATE_STATEMENT: SqlState = SqlState::new("42P05");
    /// `invalid_cursor_name`: no such portal.
    pub const NO_PORTAL: SqlState = SqlState::new("34000");
    /// `invalid_savepoint_specification`.
    pub const NO_SAVEPOINT: SqlState = SqlState::new("3B001");
    /// `no_active_sql_transaction`.
    pub const NO_TRANSACTION: SqlState = SqlState::new("25P01");
    /// `invalid_parameter_value`.
    pub const BAD_VALUE: SqlState = SqlState::new("22023");
    /// `bad_copy_file_format`.
    pub const BAD_COPY: SqlState = SqlState::new("22P04");
    /// `insufficient_privilege`.
    pub const PRIVILEGE: SqlState = SqlState::new("42501");
    /// `name_too_long`.
    pub const LONG_NAME: SqlState = SqlState::new("42622");
    /// `syntax_error`.
    pub const SYNTAX: SqlState = SqlState::new("42601");
    /// `deadlock_detected`.
    pub const DEADLOCK: SqlState = SqlState::new("40P01");
    /// `query_canceled`.
    pub const CANCELED: SqlState = SqlState::new("57014");
    /// `idle_in_transaction_session_timeout`.
    pub const IDLE_TRANSACTION: SqlState = SqlState::new("25P03");
    /// `idle_session_timeout`.
    pub const IDLE_SESSION: SqlState = SqlState::new("57P05");
    /// `internal_error`.
    pub const INTERNAL: SqlState = SqlState::new("XX000");
}

impl SqlState {
    /// The code of these five digits or capital letters.
    pub const fn new(code: &'static str) -> SqlState {
        match code.as_bytes() {
            [a, b, c, d, e] => SqlState([*a, *b, *c, *d, *e]),
            _ => panic!("a SQLSTATE has five characters"),
        }
    }

    /// A code that came from a server.
    pub fn told(code: &[u8]) -> Option<SqlState> {
        let is_one = code.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        is_one.then(|| code.try_into().ok().map(SqlState)).flatten()
    }

    /// Its five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

/// Whether the session survives the error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// An error as the client sees it: the fields of an `ErrorResponse`
/// (PostgreSQL manual, section 55.8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientError {
    /// Does the session survive?
    pub severity: Severity,
    /// Machine-readable code.
    pub code: SqlState,
    /// One line, lower case, no full stop: PostgreSQL's style.
    pub message: Cow<'static, str>,
    /// More about this occurrence.
    pub detail: Option<Cow<'static, str>>,
    /// What to change.
    pub hint: Option<Cow<'static, str>>,
    /// PostgreSQL's function that says so, where drivers go by that.
    pub routine: Option<&'static str>,
}

impl ClientError {
    /// An error that ends the statement, not the session.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> ClientError {
        let (detail, hint, routine) = (None, None, None);
        ClientError { severity: Severity::Error, code, message: message.into(), detail, hint, routine }
    }

    /// An error that ends the session.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> ClientError {
        ClientError { severity: Severity::Fatal, ..ClientError::error(code, message) }
    }

    /// With what to change.
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> ClientError {
        self.hint = Some(hint.into());
        self
    }

    /// With more about this occurrence.
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> ClientError {
        self.detail = Some(detail.into());
        self
    }

    /// A statement pgring will not guess about.
    pub fn refused(message: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> ClientError {
        ClientError::error(SqlState::REFUSED, message).with_hint(hint)
    }

    /// A message that breaks the protocol; the session cannot go on after it.
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> ClientError {
        ClientError::fatal(SqlState::PROTOCOL, message)
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code.as_str(), self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ClientError {}
