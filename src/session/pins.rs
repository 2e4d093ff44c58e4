//! Why a session keeps a server connection beyond its transaction, and when it need not any more.
//!
//! A statement that makes such state names its reason when it is analysed. Whether the state is
//! still there after something that may have ended it (an `UNLISTEN`, a `DROP`, a rollback) only
//! the server knows: it is asked, in one statement, before the client hears that it is done.

use super::attach::Unattached;
use super::settings::role_of_statement;
use super::state::{Doubt, Held, Session};
use crate::backend::{Server, ServerError, quoted};
use crate::config::PoolMode;
use crate::error::ClientError;
use crate::sql::{Kind, Pin, Shape};
use crate::txn::Phase;
use crate::wire::TxStatus;

/// Reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pins(u16);

/// In the order in which the console names them.
const ALL: [Pin; 13] = [
    Pin::TemporaryTable,
    Pin::Listen,
    Pin::HoldCursor,
    Pin::AdvisoryLock,
    Pin::Setting,
    Pin::Sequence,
    Pin::Code,
    Pin::Load,
    Pin::Seed,
    Pin::Replication,
    Pin::Unread,
    Pin::Call,
    Pin::Suspect,
];

/// What of a session's state is still on its server, in the words of [`asked`], but for its end
/// ([`question`]). Operators are qualified: the session's `search_path` may hide PostgreSQL's. Whatever
/// is made in a temporary schema, a table or statistics, depends on it.
const QUESTION: &str = "SELECT pg_catalog.concat_ws(',', \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks \
        WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND locktype OPERATOR(pg_catalog.=) 'advisory') \
        THEN 'lock' END, \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend \
        WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
        AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) THEN 'temporary' END, \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_listening_channels()) THEN 'listen' END, \
    CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable) THEN 'cursor' END";

/// The whole question; with `settings` also whether there is one that `server` is not known to have.
/// Who one is has no place in `pg_settings`, nor have parameters of users' own: of those, `customs` are
/// looked for.
fn question(server: &Server, settings: bool, customs: &[&str]) -> String {
    if !settings {
        return format!("{QUESTION})");
    }
    let known: Vec<String> = server.settings.names().map(quoted).collect();
    let mut unknown = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' AND NOT \
         pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.text[]))",
        known.join(", ")
    );
    for custom in customs.iter().filter(|custom| server.settings.get(custom).is_none()) {
        let custom = quoted(custom);
        unknown += &format!(
            " OR COALESCE(pg_catalog.current_setting({custom}, true), '') OPERATOR(pg_catalog.<>) ''"
        );
    }
    let mut compare = |parameter: &str, known: &str| {
        unknown += &format!(
            " OR pg_catalog.current_setting('{parameter}') OPERATOR(pg_catalog.<>) {}",
            quoted(known)
        );
    };
    match server.settings.get("role").map(role_of_statement) {
        None => compare("role", "none"),
        Some(Some(role)) => compare("role", &role),
        Some(None) => {}
    }
    if server.settings.get("session_authorization").is_none()
        && let Some(login) = server.reported.get("session_authorization")
    {
        compare("session_authorization", login);
    }
    format!("{QUESTION}, CASE WHEN {unknown} THEN 'setting' END)")
}

/// What a server answers twice, before it has been told its settings again and after, and forgets: the
/// values of those that it does not report. `None`: it has none.
fn comparison(server: &Server) -> Option<String> {
    let unreported =
        |name: &&str| !server.reports(name) && !matches!(*name, "role" | "session_authorization");
    let names: Vec<&str> = server.settings.names().filter(unreported).collect();
    if names.is_empty() {
        return None;
    }
    let value = |name: &&str| format!("pg_catalog.current_setting({}, true)", quoted(name));
    let values: Vec<String> = names.iter().map(value).collect();
    let ask = format!("SELECT pg_catalog.concat_ws('|', {})", values.join(", "));
    let again: Vec<&str> = names.iter().filter_map(|name| server.settings.get(name)).collect();
    Some(format!("BEGIN; {ask}; {}; {ask}; ROLLBACK", again.join("; ")))
}

/// A server's answer to the question, and, with `settings`, whether one of those it is known to have has
/// another value now.
async fn what_is_left(
    server: &mut Server,
    settings: bool,
    customs: &[&str],
) -> Result<(Option<String>, bool), ServerError> {
    let question = question(server, settings, customs);
    if let Some(comparison) = comparison(server).filter(|_| settings) {
        let answers = server.ask_all(&format!("{question}; {comparison}")).await;
        match answers {
            Ok(answers) => {
                let changed = answers.get(1) != answers.last();
                return Ok((answers.into_iter().next().flatten(), changed));
            }
            // A setting that cannot be made again: its library has come, and does not know it.
            Err(ServerError::Refused { line, .. }) => {
                tracing::debug!("settings could not be compared: {line}");
                if server.status != TxStatus::Idle {
                    server.run(&["ROLLBACK".to_owned()]).await?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok((server.ask(&question).await?, false))
}

/// Has one of these parameters another value than what it goes back to? Much cheaper than the question:
/// `pg_settings` is the whole list, in words, each time. `None`: this does not tell.
async fn have_other_values(server: &mut Server, names: &[String]) -> Option<bool> {
    if names.iter().any(|name| server.settings.get(name).is_some()) {
        return None;
    }
    // Of what it reports it has told.
    let names: Vec<&String> = names.iter().filter(|name| !server.reports(name)).collect();
    if names.is_empty() {
        return Some(false);
    }
    // A function takes a hundred arguments.
    if names.len() > 50 {
        return None;
    }
    // Of one that is not there yet, this makes one that is empty.
    let value = |name: &&String| {
        let value = format!("COALESCE(pg_catalog.current_setting({}, true), '')", quoted(name));
        format!("pg_catalog.quote_literal({value})")
    };
    let values: Vec<String> = names.iter().map(value).collect();
    let ask = format!("SELECT pg_catalog.concat_ws(' ', {})", values.join(", "));
    let reset: Vec<String> = names.iter().map(|name| format!("SET LOCAL {name} TO DEFAULT")).collect();
    let answers = server.ask_all(&format!("BEGIN; {ask}; {}; {ask}; ROLLBACK", reset.join("; "))).await;
    match answers.as_deref() {
        Ok([Some(before), Some(after)]) => Some(before != after),
        // One that may not be set, or is none any more. What else is wrong with the connection, the next
        // question tells.
        _ => {
            if server.status != TxStatus::Idle
                && let Err(error) = server.run(&["ROLLBACK".to_owned()]).await
            {
                tracing::debug!("settings could not be asked for: {error}");
            }
            None
        }
    }
}

/// The reasons a server can be asked about.
fn asked(pin: Pin) -> Option<&'static str> {
    match pin {
        Pin::AdvisoryLock => Some("lock"),
        Pin::TemporaryTable => Some("temporary"),
        Pin::Listen => Some("listen"),
        Pin::HoldCursor => Some("cursor"),
        Pin::Call | Pin::Suspect => Some("setting"),
        Pin::Load | Pin::Setting | Pin::Sequence | Pin::Seed | Pin::Replication | Pin::Code | Pin::Unread => {
            None
        }
    }
}

impl Pins {
    fn bit(pin: Pin) -> u16 {
        1 << (pin as u16)
    }

    pub(super) fn add(&mut self, pin: Pin) {
        self.0 |= Pins::bit(pin);
    }

    fn of(pin: Pin) -> Pins {
        Pins(Pins::bit(pin))
    }

    /// Code has been called that may have left something.
    fn has_called(self) -> bool {
        self.has(Pin::Call) || self.has(Pin::Suspect)
    }

    pub(super) fn has(self, pin: Pin) -> bool {
        self.0 & Pins::bit(pin) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn union(self, other: Pins) -> Pins {
        Pins(self.0 | other.0)
    }

    /// Some of it may be there after `DISCARD ALL`: libraries stay loaded, and a seed stays planted.
    pub(super) fn outlives_discard(self) -> bool {
        [Pin::Load, Pin::Seed, Pin::Replication, Pin::Unread].into_iter().any(|pin| self.has(pin))
    }

    /// For the console: one reason is as good as several.
    pub(super) fn reason(self) -> Option<&'static str> {
        ALL.into_iter().find(|pin| self.has(*pin)).map(reason)
    }

    /// After the server has said what is there.
    fn as_answered(self, answer: &str) -> Pins {
        let mut pins = Pins::default();
        for pin in ALL {
            let stands = match asked(pin) {
                Some(word) => answer.split(',').any(|there| there == word),
                None => self.has(pin),
            };
            if stands {
                pins.add(pin);
            }
        }
        pins
    }
}

/// In words.
fn reason(pin: Pin) -> &'static str {
    match pin {
        Pin::TemporaryTable => "temporary table",
        Pin::Listen => "LISTEN",
        Pin::HoldCursor => "cursor WITH HOLD",
        Pin::AdvisoryLock => "advisory lock",
        Pin::Load => "LOAD",
        Pin::Setting => "set_config",
        Pin::Sequence => "currval",
        Pin::Seed => "setseed",
        Pin::Replication => "replication",
        Pin::Code => "DO",
        Pin::Unread => "unknown code",
        Pin::Call | Pin::Suspect => "code that was called",
    }
}

impl Session {
    /// The held server stays with the session, from now on and whether or not the statement
    /// succeeds: better once too often.
    pub(super) fn pin(&mut self, pin: Pin) {
        let in_transaction = self.tx.phase() != Phase::Idle;
        let Some(held) = &mut self.held else { return };
        held.pins.add(pin);
        // What a transaction made may go with it.
        self.pins_to_check |= in_transaction || matches!(pin, Pin::Call | Pin::Suspect);
        self.note_pins();
    }

    /// A function that was not seen to set anything may have set what the server reports: then the
    /// server stays with the session that called it.
    pub(super) fn pin_if_changed_unasked(&mut self) {
        let Some(held) = &mut self.held else { return };
        match held.lease.changed_unasked() {
            None => {}
            // The server cannot be asked whether a setting that the session has made is still it.
            Some(true) => self.pin(Pin::Setting),
            Some(false) => self.pin(Pin::Call),
        }
    }

    /// Tells the console.
    pub(super) fn note_pins(&self) {
        let all = self.held.iter().chain(&self.parked).map(|held| held.pins);
        self.control().pinned.set(all.fold(Pins::default(), Pins::union));
    }

    /// Statements that may end what pins the session.
    pub(super) fn note_releases(&mut self, shape: &Shape, text: &[u8]) {
        if self.pins_to_check || self.held.as_ref().is_none_or(|held| held.pins.is_empty()) {
            return;
        }
        let called = self.held.as_ref().is_some_and(|held| held.pins.has_called());
        let contains = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        self.pins_to_check = shape.statements.len() > 1
            || shape.statements.iter().any(|statement| match statement.kind {
                Kind::Listen => statement.pin.is_none(),
                Kind::Discard => true,
                Kind::Set { .. } | Kind::Reset { .. } | Kind::ResetAll => called,
                Kind::Ddl => contains(b"drop"),
                Kind::Other => contains(b"close"),
                _ => false,
            })
            || contains(b"advisory_unlock");
    }

    /// Is there a reason to ask the held server what is still there, and can it be asked?
    pub(super) fn may_release(&self) -> bool {
        let session_mode = self.directory.pool.mode == PoolMode::Session;
        self.pins_to_check
            && !session_mode
            && !self.relay.is_busy()
            && self.held.as_ref().is_some_and(|held| {
                let askable = ALL.into_iter().any(|pin| held.pins.has(pin) && asked(pin).is_some());
                askable && held.lease.status == TxStatus::Idle && held.lease.outbox.is_empty()
            })
    }

    /// Asks the held server what is still there.
    pub(super) async fn release_pins(&mut self) {
        self.pins_to_check = false;
        let schema = self.database.schema.load_full();
        let Some(held) = &mut self.held else { return };
        let called = held.pins.has_called();
        let suspects = schema.as_ref().map(|schema| schema.suspects());
        if held.pins == Pins::of(Pin::Suspect)
            && let Some(sets) = suspects.and_then(|suspects| suspects.sets())
            && let Some(differ) = have_other_values(&mut held.lease, sets).await
        {
            held.lease.unnamed = 0;
            if differ {
                held.doubt = held.doubt.max(Doubt::Settings);
            } else {
                held.pins = Pins::default();
                held.doubt = held.doubt.max(Doubt::Equal);
            }
            self.note_pins();
            self.detach_if_free();
            self.hold_listener();
            return;
        }
        // A parameter whose name only the code knows, and that the server does not list.
        if called {
            held.doubt = held.doubt.max(Doubt::Settings);
        }
        let customs: Vec<&str> = suspects.into_iter().flat_map(|suspects| suspects.customs()).collect();
        let answered = what_is_left(&mut held.lease, called, &customs).await;
        held.lease.unnamed = 0;
        match answered {
            Ok((Some(answer), changed)) => {
                held.pins = held.pins.as_answered(&answer);
                if changed {
                    held.pins.add(Pin::Setting);
                }
            }
            Ok((None, _)) => tracing::debug!("a pin could not be checked: no answer"),
            // It stays pinned, with whatever limit or lack of rights made it say no.
            Err(ServerError::Refused { line, .. }) => tracing::debug!("a pin could not be checked: {line}"),
            // The next statement finds the connection lost, and tells the client so.
            Err(error) => tracing::debug!("a pin could not be checked: {error}"),
        }
        self.note_pins();
        self.detach_if_free();
        self.hold_listener();
    }
}

/// Does it call `currval()` or `lastval()`?
pub(super) fn asks_for_sequences(shape: &Shape) -> bool {
    shape.statements.iter().any(|statement| statement.pin == Some(Pin::Sequence))
}

/// Sequences.
impl Session {
    /// `currval()` and `lastval()` tell what happened on their connection. A session that asks for
    /// them is refused once, and from then on keeps one that knows of nobody else's past.
    pub(super) async fn refuse_or_keep_sequences(&mut self) -> Result<(), Unattached> {
        if self.directory.pool.mode == PoolMode::Session {
            return Ok(());
        }
        if !self.database.is_one_shard() {
            return Err(ClientError::refused(
                "currval() and lastval() are not possible across shards: each has its own sequences",
                "Use INSERT … RETURNING, or the value that nextval() gave.",
            )
            .into());
        }
        let clean = |held: &Held| held.pins.has(Pin::Sequence);
        if self.keeps_sequences && self.held.as_ref().is_none_or(clean) {
            return Ok(());
        }
        self.keeps_sequences = true;
        if self.tx.phase() == Phase::Idle && !self.relay.is_busy() && !self.batch.is_sent() {
            self.keep_sequences().await?;
        }
        Err(ClientError::refused(
            "currval() and lastval() tell what happened on one connection, and the session has used several",
            "It keeps one from now on: begin again with the INSERT or nextval(). Better, use INSERT … RETURNING.",
        )
        .into())
    }

    /// The server just taken forgets what others did with sequences, and stays.
    pub(super) async fn keep_sequences(&mut self) -> Result<(), Unattached> {
        let Some(held) = &mut self.held else { return Ok(()) };
        if held.pins.has(Pin::Sequence) {
            return Ok(());
        }
        if let Err(error) = held.lease.run(&["DISCARD SEQUENCES".to_owned()]).await {
            let told = self.server_error(&error, false);
            self.drop_held();
            return Err(told.into());
        }
        held.lease.unnamed = 0;
        held.pins.add(Pin::Sequence);
        self.note_pins();
        Ok(())
    }

    /// After an answer of pgring's own: what the session does not keep is given back, and the
    /// connection that may have something to tell is listened to again.
    pub(super) fn hold_listener_if_free(&mut self) {
        if !self.relay.is_busy() && (self.held.is_some() || !self.parked.is_empty()) {
            self.detach_if_free();
            self.hold_listener();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_there_pins_no_longer() {
        let mut pins = Pins::default();
        for pin in [Pin::Listen, Pin::TemporaryTable, Pin::Load] {
            pins.add(pin);
        }
        assert_eq!(pins.reason(), Some("temporary table"));
        let left = pins.as_answered("listen");
        assert_eq!(left.reason(), Some("LISTEN"));
        assert!(left.outlives_discard() && !left.has(Pin::TemporaryTable));
        assert_eq!(left.as_answered("").reason(), Some("LOAD"));
        // What a function or a DO block made unseen.
        assert!(left.as_answered("lock").has(Pin::AdvisoryLock));
    }

    #[test]
    fn every_reason_is_listed() {
        assert!(ALL.iter().all(|pin| ALL.iter().filter(|other| *other == pin).count() == 1));
        assert_eq!(ALL.map(reason).iter().filter(|words| words.is_empty()).count(), 0);
    }
}
