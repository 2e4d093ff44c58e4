//! Prepared statements that SQL asks for by name: `PREPARE`, `EXECUTE`, `DEALLOCATE`, and the
//! view `pg_prepared_statements`.
//!
//! SQL names them in its text, and PostgreSQL's answers name them too. So a server has them by
//! the client's own names, unlike those of `Bind`, which many sessions share under one name: it is
//! given what a text is about just ahead of it, in the same round trip, and whatever other sessions
//! have left by their names is closed there first. The text itself is passed on as it is, and so is
//! everything PostgreSQL has to say about it. Whether a statement came by `Parse` or by `PREPARE`
//! makes no difference: there is one space of names, as there.
//!
//! Where there is one shard nothing else is to be done. Where there are several, `EXECUTE` is
//! routed as the statement it executes, its constant arguments being that one's parameters.

use super::attach::Unattached;
use super::distributed::Destination;
use super::prepared::{Prepared, Under};
use super::ready::Effect;
use super::settings::statement_texts;
use super::state::Session;
use crate::backend::{Evicted, PreparedNames, Reading, Server, SharedName};
use crate::error::ClientError;
use crate::execute::{Expect, Relay, ResultShape};
use crate::route::Parameters;
use crate::sql::{
    Argument, Execution, Kind, Lexed, Mentions, Pin, Preparation, Shape, Statement, Target, TokenKind,
    tokenize,
};
use crate::wire::{self, TxStatus};
use std::cell::{Cell, OnceCell};
use std::ops::Deref;
use std::rc::Rc;

/// What a `PREPARE` that is run ahead of a statement is itself called meanwhile.
const AHEAD: &[u8] = b"__pgring_prepare";

/// Spreads a number over 64 bits: what tells variants of one text apart is combined by XOR.
pub(super) fn mixed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Tells what SQL's `PREPARE` makes from the same text prepared by `Parse`.
const BY_SQL: u64 = 0x5371_6c20_5072_6570;

/// What a server knows a statement by.
pub(super) enum NameOnServer {
    /// The client's name; empty for the unnamed statement.
    Clients(Box<[u8]>),
    /// One of pgring's own.
    Shared(SharedName),
}

impl Deref for NameOnServer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            NameOnServer::Clients(name) => name,
            NameOnServer::Shared(name) => name,
        }
    }
}

impl Session {
    /// What the text of a `PREPARE` makes.
    pub(super) fn made_by_sql(&mut self, text: &[u8], under: &Under) -> Result<Rc<Prepared>, ClientError> {
        let context = self.context_with(under.strings)?;
        let variant = self.variant(text, under) ^ BY_SQL;
        let worker = Rc::clone(&self.worker);
        let mut interner = worker.interner.borrow_mut();
        interner.intern(text, &[], (context, variant), under, || {
            let mut lexed = Lexed::default();
            let shape = self.shape_with(text, &mut lexed, context, under.strings)?;
            let unknown_table = self.unknown_table.replace(false);
            let [Statement { kind: Kind::Prepare(made), .. }] = &shape.statements[..] else {
                return Err(unfollowed());
            };
            Ok(Prepared {
                id: worker.new_number(),
                text: text.into(),
                by_sql: Some(made.name.as_bytes().into()),
                types: Box::default(),
                oids: made.types.clone().into(),
                inferred: OnceCell::new(),
                shape: Rc::new(Shape {
                    statements: vec![made.inner.clone()],
                    mentions: Mentions { all: shape.mentions.all, ..Mentions::default() },
                }),
                unknown_table,
                lexed,
                variant,
                context,
                result: ResultShape::default(),
                result_as_of: Cell::default(),
                under: under.clone(),
                reading: Reading::of(text),
            })
        })
    }

    pub(super) fn effect_of_prepare(&mut self, text: &[u8]) -> Effect {
        match self.made_by_sql(text, &self.under_now()) {
            Ok(statement) => Effect::Prepare(statement),
            // It was analysed a moment ago, and refused if it was not to be followed.
            Err(error) => {
                tracing::error!(database = self.database.name, "a PREPARE is lost: {}", error.message);
                Effect::None
            }
        }
    }

    /// A `PREPARE` of the client's has run on the held server.
    pub(super) fn prepared_by_sql(&mut self, mut statement: Rc<Prepared>) {
        let Some(name) = statement.by_sql.clone() else { return };
        // A SET may have come before it in the same message.
        let under = self.under_now();
        if !statement.under.now.read_alike(&under.now, statement.reading)
            && let Ok(renewed) = self.made_by_sql(&statement.text, &under)
        {
            statement = renewed;
        }
        if let Some(held) = &mut self.held {
            // Room has been made when it was sent.
            held.lease.prepared.insert_named(&name, statement.id);
        }
        self.statements.insert(name, statement);
        self.control().prepared.set(self.statements.len());
    }

    /// A `DEALLOCATE` of the client's has run on the held server.
    pub(super) fn deallocated_by_sql(&mut self, name: &str) {
        if let Some(held) = &mut self.held {
            held.lease.prepared.remove_named(name.as_bytes());
        }
        self.statements.remove(name.as_bytes());
        self.control().prepared.set(self.statements.len());
    }

    /// Which statement an `EXECUTE` executes as things stand: PostgreSQL decides what columns it
    /// has when the `EXECUTE` is parsed.
    pub(super) fn executed_id(&self, shape: &Shape) -> Option<u64> {
        let execution = shape.mentions.execution.as_ref()?;
        self.statements.get(execution.name.as_bytes()).map(|statement| statement.id)
    }

    /// Why the session keeps its server after an `EXECUTE`: for what it executes.
    pub(super) fn pin_of_executed(&self, shape: &Shape, statement: &Statement) -> Option<Pin> {
        if let Kind::Prepare(made) = &statement.kind {
            // It may be executed by the next statement of the message.
            return made.inner.pin.filter(|_| shape.statements.len() > 1);
        }
        shape.mentions.execution.as_ref()?;
        let pin = |name: &String| self.statements.get(name.as_bytes())?.shape.statements.first()?.pin;
        shape.mentions.names.iter().find_map(pin)
    }

    /// Refuses what would leave unknown what a name stands for, or where it has to run.
    pub(super) fn refuse_unfollowed_names(&self, shape: &Shape, text: &[u8]) -> Result<(), ClientError> {
        if shape.mentions.names.is_empty() {
            return Ok(());
        }
        if let Some(name) =
            shape.mentions.names.iter().find(|name| PreparedNames::is_reserved(name.as_bytes()))
        {
            return Err(ClientError::refused(
                format!("the name \"{name}\" of a prepared statement is reserved for pgring"),
                "Use another name.",
            ));
        }
        let count = shape.statements.len();
        if count == 1 {
            return Ok(());
        }
        if !self.database.is_one_shard() && shape.mentions.execution.is_some() {
            return Err(ClientError::refused(
                "EXECUTE among other statements of one message cannot be routed",
                "Send the statements one by one.",
            ));
        }
        let prepares = shape.statements.iter().any(|statement| matches!(statement.kind, Kind::Prepare(_)));
        if prepares && statement_texts(text, count, self.standard_conforming_strings).len() != count {
            return Err(unfollowed());
        }
        Ok(())
    }

    /// As [`Session::route`]; `EXECUTE` goes where what it executes does.
    pub(super) fn route_by_name(
        &mut self,
        shape: &Rc<Shape>,
        text: &[u8],
        lexed: &Lexed,
        parameters: &Parameters<'_>,
    ) -> Result<Destination, Unattached> {
        let one_shard = self.database.is_one_shard();
        if !one_shard && let Some(destination) = self.route_to_cursor(shape, text, lexed, parameters)? {
            return Ok(destination);
        }
        let Some(execution) = shape.mentions.execution.as_ref().filter(|_| !one_shard) else {
            return self.route(shape, text, lexed, parameters);
        };
        // Of what does not exist, or has other parameters, any server says so.
        let Ok(executed) = self.statement(execution.name.as_bytes()) else {
            return self.route(shape, text, lexed, parameters);
        };
        if execution.arguments.len() != self.parameter_count(&executed) {
            return self.route(shape, text, lexed, parameters);
        }
        let Some(inner) = executed.shape.statements.first() else {
            return self.route(shape, text, lexed, parameters);
        };
        if inner.pin == Some(Pin::Setting) {
            return Err(ClientError::refused(
                "set_config() with values that are not constants cannot be followed across shards",
                "Use SET, or set_config() with constants as the only expression of a SELECT.",
            )
            .into());
        }
        if execution.into_table {
            refuse_derived_table(inner)?;
            return self.route(shape, text, lexed, parameters);
        }
        let arguments = Arguments::of(execution, text, lexed, &executed.oids);
        let arguments = arguments.parameters()?;
        let hints = lexed.hints();
        if hints.key.is_none() && hints.shard.is_none() && hints.invalid.is_none() {
            return self.route(&executed.shape, &executed.text, &executed.lexed, &arguments);
        }
        let known = match &inner.target {
            Target::Keys { .. } if hints.shard.is_none() => {
                self.route(&executed.shape, &executed.text, &executed.lexed, &arguments).ok()
            }
            _ => None,
        };
        let target = Target::Refused(String::new(), String::new());
        let placed = Statement {
            kind: Kind::Query,
            target,
            access: inner.access,
            pin: None,
            at_primary: inner.at_primary,
            loose: Vec::new(),
        };
        let placed = Rc::new(Shape { statements: vec![placed], ..Shape::default() });
        let shard = self.route(&placed, text, lexed, parameters)?;
        if let (Some(Destination::One(known)), Destination::One(hinted)) = (&known, &shard)
            && known != hinted
        {
            return Err(ClientError::refused(
                "the hint and the prepared statement's key belong to different shards",
                "Leave the hint away: the key is known.",
            )
            .into());
        }
        Ok(shard)
    }

    /// What this `EXECUTE` executes, if all of that is known here: `None` is not refused for what it
    /// is, but for where it would have to run.
    pub(super) fn executed(
        &mut self,
        shape: &Shape,
        text: &[u8],
        lexed: &Lexed,
    ) -> Result<Option<Executed>, Unattached> {
        let strings = self.standard_conforming_strings;
        let Some(execution) = shape.mentions.execution.as_ref() else { return Ok(None) };
        let alone = matches!(shape.statements[..], [Statement { kind: Kind::Execute(_), .. }]);
        let executed = self.statement(execution.name.as_bytes())?;
        let known = executed.under.first.read_alike(&executed.under.now, executed.reading)
            && executed.under.strings == strings;
        if !alone || execution.into_table || !known {
            return Ok(None);
        }
        let text_of = match executed.by_sql {
            None => Some(executed.text.to_vec()),
            Some(_) => prepared_text(&executed.text, strings),
        };
        let mut types = executed.oids.to_vec();
        types.resize(execution.arguments.len(), 0);
        let typed = execution.arguments.iter().zip(&types);
        let values: Option<Vec<Option<Vec<u8>>>> =
            typed.map(|(argument, declared)| value(*argument, *declared, text, lexed)).collect();
        let (Some(body), Some(_)) = (text_of, values) else { return Ok(None) };
        if types.contains(&Preparation::OTHER_TYPE) {
            return Ok(None);
        }
        let is_integer = |argument: &Argument| match argument {
            Argument::Literal(slot) => lexed.literal_kind(*slot) == TokenKind::Integer,
            Argument::NegatedLiteral(_) => true,
            Argument::Null | Argument::Expression => false,
        };
        let numbered = execution.arguments.iter().enumerate();
        let integers = numbered.filter(|(_, argument)| is_integer(argument)).map(|(at, _)| at).collect();
        let parameters = Arguments::of(execution, text, lexed, &types).body;
        Ok(Some(Executed { text: body, types, parameters, integers }))
    }

    fn parameter_count(&self, statement: &Prepared) -> usize {
        let tokens = tokenize(&statement.text, self.standard_conforming_strings).unwrap_or_default();
        let numbers = tokens.iter().filter(|token| token.kind == TokenKind::Param).filter_map(|token| {
            let number = &statement.text[token.span.start as usize + 1..token.span.end as usize];
            std::str::from_utf8(number).ok()?.parse().ok()
        });
        numbers.max().unwrap_or(0).max(statement.oids.len())
    }

    /// Does only the home shard know what this statement is about?
    pub(super) fn is_at_home(&self, statement: &Prepared) -> bool {
        let named =
            statement.shape.mentions.names.iter().filter_map(|name| self.statements.get(name.as_bytes()));
        let shapes = named.map(|named| &named.shape).chain([&statement.shape]);
        shapes.flat_map(|shape| &shape.statements).any(|statement| {
            matches!(
                statement.target,
                Target::Home
                    | Target::Catalog
                    | Target::Keys { home: true, .. }
                    | Target::Everywhere { home: true, .. }
            )
        })
    }

    /// May the held shard be without what this statement is about?
    pub(super) fn is_elsewhere(&self, statement: &Prepared) -> bool {
        let unsure = |statement: &Statement| matches!(statement.target, Target::Refused(..));
        let held = self.held.as_ref().map(|held| held.shard);
        held != Some(self.database.topology.home)
            && !self.database.is_one_shard()
            && (self.is_at_home(statement) || statement.shape.statements.iter().any(unsure))
    }

    /// Does a server have this statement of the session's by the client's name?
    pub(super) fn is_by_name(&self, statement: &Prepared) -> bool {
        statement.by_sql.is_some() || statement.shape.mentions.all
    }

    /// What the held server knows a statement by.
    pub(super) fn name_on_server(&self, statement: &Prepared, named: bool) -> NameOnServer {
        if !named {
            return NameOnServer::Clients(Box::default());
        }
        if let Some(name) = &statement.by_sql {
            return NameOnServer::Clients(name.clone());
        }
        if statement.shape.mentions.all
            && let Some((name, _)) = self.statements.iter().find(|(_, known)| known.id == statement.id)
        {
            return NameOnServer::Clients(name.clone());
        }
        NameOnServer::Shared(PreparedNames::name(statement.id))
    }

    /// Has the held server have, by the client's names, what a text is about, and nothing that is
    /// not the session's. Returns whether anything had to be sent.
    ///
    /// # Errors
    /// A name is pgring's own.
    pub(super) fn bring_names(&mut self, mentions: &Mentions) -> Result<bool, Unattached> {
        let Some(held) = &mut self.held else { return Ok(false) };
        let server = &mut *held.lease;
        if mentions.is_empty() && !server.prepared.has_named() || server.status == TxStatus::Failed {
            return Ok(false);
        }
        let statements = &self.statements;
        let others = server
            .prepared
            .take_named_unless(|name, id| statements.get(name).is_some_and(|statement| statement.id == id));
        for name in &others {
            put_close(server, &mut self.relay, name);
        }
        let mut sent = !others.is_empty();
        let mut all = mentions.all;
        let room = mentions.names.len();
        for name in &mentions.names {
            sent = true;
            match self.statement(name.as_bytes()) {
                Ok(statement) => {
                    all |= statement.shape.mentions.all;
                    self.bring_name(name.as_bytes(), &statement, room)?;
                }
                // It is about to be prepared, or does not exist.
                Err(_) => self.clear_name(name.as_bytes(), room),
            }
        }
        if all {
            sent = true;
            self.bring_all()?;
        }
        Ok(sent)
    }

    /// As [`Session::bring_names`], for those that a string may execute: `SELECT run('EXECUTE p')`.
    /// Several shards do not all have what a statement is about, and a string is not routed by.
    ///
    /// # Errors
    /// As [`Session::read_as_first`].
    pub(super) fn bring_names_in_strings(
        &mut self,
        mentions: &Mentions,
        text: &[u8],
    ) -> Result<(), ClientError> {
        if self.statements.is_empty() || !mentions.is_empty() || !self.database.is_one_shard() {
            return Ok(());
        }
        let says = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        if !text.contains(&b'\'') && !text.contains(&b'$') || !says(b"execute") {
            return Ok(());
        }
        let meant = self.statements.iter().filter(|(name, known)| known.by_sql.is_some() && says(name));
        let meant: Vec<_> = meant.map(|(name, known)| (name.clone(), Rc::clone(known))).collect();
        for (name, statement) in &meant {
            self.bring_name(name, statement, meant.len())?;
        }
        Ok(())
    }

    /// All of the session's statements, by their names, and no others.
    fn bring_all(&mut self) -> Result<(), Unattached> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let server = &mut *held.lease;
        for id in server.prepared.take_shared() {
            put_evicted(server, &mut self.relay, Evicted::Shared(id));
        }
        let names: Vec<Box<[u8]>> = self.statements.keys().cloned().collect();
        let mut executing = Vec::new();
        for name in names {
            if PreparedNames::is_reserved(&name) {
                return Err(ClientError::refused(
                    "a prepared statement has a name that is reserved for pgring",
                    "Use another name.",
                )
                .into());
            }
            let statement = self.statement(&name)?;
            if statement.shape.mentions.execution.is_some() {
                executing.push((name, statement));
            } else {
                self.bring_name(&name, &statement, usize::MAX)?;
            }
        }
        // PostgreSQL looks at what they execute when they are parsed.
        for (name, statement) in executing {
            self.bring_name(&name, &statement, usize::MAX)?;
        }
        Ok(())
    }

    /// Has the held server have a statement by the client's name, in one of at least `room` places.
    /// Returns whether anything had to be sent.
    ///
    /// # Errors
    /// As [`Session::read_as_first`].
    pub(super) fn bring_name(
        &mut self,
        name: &[u8],
        statement: &Prepared,
        room: usize,
    ) -> Result<bool, ClientError> {
        let limit = self.directory.pool.prepared_statements.max(room);
        let Some(held) = &mut self.held else { return Ok(false) };
        let server = &mut *held.lease;
        if server.status == TxStatus::Failed || server.prepared.touch_named(name, statement.id) {
            return Ok(false);
        }
        let behind = self.read_as_first(statement)?;
        let Some(held) = &mut self.held else { return Ok(false) };
        let server = &mut *held.lease;
        for evicted in server.prepared.ask_named(name, statement.id, limit) {
            put_evicted(server, &mut self.relay, evicted);
        }
        put_close(server, &mut self.relay, name);
        self.tally.server_parses.inc();
        if statement.by_sql.is_some() {
            put_run(server, &mut self.relay, &statement.text);
        } else {
            server.put_parse(name, &statement.text, &statement.types);
            self.relay.expect(Expect::Parse { id: 0, shown: false });
        }
        self.run_hidden(&behind);
        Ok(true)
    }

    /// The held server has nothing by this name, and room for what may be prepared by it.
    fn clear_name(&mut self, name: &[u8], room: usize) {
        let limit = self.directory.pool.prepared_statements.max(room);
        let Some(held) = &mut self.held else { return };
        let server = &mut *held.lease;
        for evicted in server.prepared.ask_named(name, 0, limit) {
            put_evicted(server, &mut self.relay, evicted);
        }
        put_close(server, &mut self.relay, name);
    }
}

/// Closes what makes room for another statement.
pub(super) fn put_evicted(server: &mut Server, relay: &mut Relay, evicted: Evicted) {
    match evicted {
        Evicted::Shared(id) => {
            wire::put_close_statement(&mut server.outbox, &PreparedNames::name(id));
            relay.expect(Expect::Close { evicted: Some(id), shown: false });
        }
        Evicted::Named(name) => put_close(server, relay, &name),
    }
}

/// Closes what may be there by a name; PostgreSQL does not mind if nothing is.
pub(super) fn put_close(server: &mut Server, relay: &mut Relay, name: &[u8]) {
    wire::put_close_statement(&mut server.outbox, name);
    relay.expect(Expect::Close { evicted: None, shown: false });
}

/// Runs a `PREPARE` ahead of the client's statement, whose unnamed statement and portal it leaves
/// alone.
pub(super) fn put_run(server: &mut Server, relay: &mut Relay, text: &[u8]) {
    // An error may have left it there.
    put_close(server, relay, AHEAD);
    wire::put_parse(&mut server.outbox, AHEAD, text, &[]);
    relay.expect(Expect::Parse { id: 0, shown: false });
    wire::put_bind_plain(&mut server.outbox, AHEAD, AHEAD);
    relay.expect(Expect::Bind { shown: false });
    wire::put_execute(&mut server.outbox, AHEAD);
    relay.expect(Expect::Execute { note: None, shown: false });
    put_close(server, relay, AHEAD);
    wire::put_close_portal(&mut server.outbox, AHEAD);
    relay.expect(Expect::Close { evicted: None, shown: false });
}

fn unfollowed() -> ClientError {
    ClientError::refused(
        "PREPARE cannot be followed among the other statements of this message",
        "Send the statements one by one.",
    )
}

/// A table made of what is sharded would have a part of the rows on each shard.
fn refuse_derived_table(inner: &Statement) -> Result<(), ClientError> {
    match &inner.target {
        Target::Nothing | Target::Home | Target::Catalog | Target::Reference => Ok(()),
        _ => Err(ClientError::refused(
            "a table filled from sharded tables would hold a part of their rows on each shard",
            "Create it first, and fill it by INSERT.",
        )),
    }
}

/// What an `EXECUTE` executes, as a `Bind` would.
pub(super) struct Executed {
    pub(super) text: Vec<u8>,
    /// What is known of its parameters' types, and 0.
    pub(super) types: Vec<u32>,
    /// Formats and values.
    pub(super) parameters: Vec<u8>,
    /// Those that are written as integers.
    pub(super) integers: Vec<usize>,
}

/// The arguments of an `EXECUTE` as a `Bind` would give them.
struct Arguments {
    body: Vec<u8>,
    types: Vec<u32>,
}

impl Arguments {
    fn of(execution: &Execution, text: &[u8], lexed: &Lexed, types: &[u32]) -> Arguments {
        let count = u16::try_from(execution.arguments.len()).unwrap_or(u16::MAX);
        let mut body = [[0, 0], count.to_be_bytes()].concat();
        let mut declared = types.to_vec();
        declared.resize(usize::from(count), 0);
        for (argument, declared) in execution.arguments.iter().zip(&mut declared) {
            match value(*argument, *declared, text, lexed) {
                Some(Some(value)) => {
                    let len = i32::try_from(value.len()).unwrap_or(-1);
                    body.extend(len.to_be_bytes());
                    body.extend(value);
                }
                Some(None) => body.extend((-1_i32).to_be_bytes()),
                // Of a type that no key has it proves nothing.
                None => {
                    body.extend((-1_i32).to_be_bytes());
                    *declared = Preparation::OTHER_TYPE;
                }
            }
        }
        Arguments { body, types: declared }
    }

    fn parameters(&self) -> Result<Parameters<'_>, ClientError> {
        Ok(Parameters::parse(&self.body, &self.types)?)
    }
}

/// What stands behind `PREPARE name (types) AS`.
fn prepared_text(text: &[u8], strings: bool) -> Option<Vec<u8>> {
    let tokens = tokenize(text, strings).ok()?;
    let is_as = |token: &&crate::sql::Token| {
        let word = text.get(token.span.start as usize..token.span.end as usize);
        token.kind == TokenKind::Word && word.is_some_and(|word| word.eq_ignore_ascii_case(b"as"))
    };
    // The name may be that word, if nothing else is.
    let at = tokens.iter().skip(2).find(is_as)?.span.end as usize;
    Some(text.get(at..)?.to_vec())
}

/// An argument's text form as a parameter's of the declared type, or, where that is 0, of whatever type;
/// `None` if it is not certain.
fn value(argument: Argument, declared: u32, text: &[u8], lexed: &Lexed) -> Option<Option<Vec<u8>>> {
    const INTEGERS: [u32; 3] = [20, 21, 23];
    // `3.0` becomes an integer without being rounded.
    let whole = |digits: &[u8]| {
        let point = digits.iter().position(|byte| *byte == b'.')?;
        let (before, behind) = (&digits[..point], &digits[point + 1..]);
        let whole = INTEGERS.contains(&declared) && behind.iter().all(|byte| *byte == b'0');
        let number = before == b"0" || !before.is_empty() && !before.starts_with(b"0");
        (whole && number && before.iter().all(u8::is_ascii_digit)).then(|| before.to_vec())
    };
    // `007` and `1_000` are numbers of another text form.
    let plain = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    match argument {
        Argument::Null => Some(None),
        Argument::Expression => None,
        Argument::Literal(slot) => {
            let value = lexed.literal_value(text, slot)?;
            match lexed.literal_kind(slot) {
                TokenKind::Integer if plain(&value) || *value == *b"0" => Some(Some(value.into_owned())),
                TokenKind::Decimal => whole(&value).map(Some),
                TokenKind::String
                | TokenKind::EscapeString
                | TokenKind::DollarString
                | TokenKind::UnicodeString => Some(Some(value.into_owned())),
                _ => None,
            }
        }
        Argument::NegatedLiteral(slot) => {
            let value = lexed.literal_value(text, slot)?;
            let number = lexed.literal_kind(slot) == TokenKind::Integer && plain(&value);
            number.then(|| Some([b"-", &*value].concat()))
        }
    }
}
