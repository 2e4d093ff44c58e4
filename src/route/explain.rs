//! A decision in words: for `SHOW pgring.route`, and for what is refused.

use super::{Decision, Route, ShardSet};
use crate::error::{ClientError, SqlState};
use crate::ring::{ShardId, Topology};
use crate::sql::distribute::{self, Each, Plan, Replicate, Source, Writers};
use crate::sql::{Context, Kind, Shape, Target};
use std::fmt;

/// A key as it can be shown without a copy: texts may be long, or secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShownKey {
    /// The number.
    Integer(i64),
    /// The uuid.
    Uuid([u8; 16]),
    /// Some text.
    Text,
}

impl fmt::Display for ShownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShownKey::Integer(value) => write!(f, "key {value}"),
            ShownKey::Text => f.write_str("the key is known"),
            ShownKey::Uuid(bytes) => {
                f.write_str("key ")?;
                for (index, byte) in bytes.iter().enumerate() {
                    let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{hyphen}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// What led to a route. Statements are counted from 0, as in [`Shape::statements`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// There is only one.
    OneShard,
    /// No table at all.
    NoTable,
    /// System catalogs only.
    Catalog,
    /// Reference tables are read.
    Reference,
    /// Tables that are not sharded.
    Home,
    /// One owner; its key, if there is but one.
    Key {
        /// The key.
        key: Option<ShownKey>,
    },
    /// Every key is NULL: no row can match.
    NullKey,
    /// The keys have several owners.
    SeveralOwners {
        /// Whose keys.
        statement: u32,
        /// Whether the owners can answer apart.
        colocated: bool,
    },
    /// Tables of the home shard beside keys of another shard.
    BesideHome {
        /// Whose keys.
        statement: u32,
    },
    /// A value does not denote a key for certain.
    NotProven {
        /// Whose key.
        statement: u32,
        /// Which of its keys.
        key: u32,
    },
    /// A NULL that may be about to be stored as a key.
    NullStored {
        /// Whose key.
        statement: u32,
        /// Which of its keys.
        key: u32,
    },
    /// A sharded table's key is not known.
    KeyUnknown {
        /// Whose key.
        statement: u32,
    },
    /// `WHERE CURRENT OF` a cursor that is on one shard.
    CurrentRow,
    /// Reference tables are written.
    ReferenceWrite,
    /// Schema changes and maintenance.
    EachShard,
    /// `shard=…` in a comment.
    CommentShard,
    /// `SET pgring.shard`
    SessionShard,
    /// `key=…` in a comment, or `SET pgring.key`.
    HintedKey,
    /// A hint that cannot be followed.
    BadHint,
    /// Two statements belong on different shards.
    Disagree {
        /// The one.
        first: u32,
        /// The other.
        second: u32,
    },
    /// Analysis refused it.
    Refused {
        /// Which.
        statement: u32,
    },
}

impl Why {
    /// The reason alone: `key 42`; `the key user_id of table jobs is not known`.
    pub fn explain(&self, shape: &Shape) -> String {
        match *self {
            Why::OneShard => "the database has one shard".to_owned(),
            Why::NoTable => "no table".to_owned(),
            Why::Catalog => "system catalogs only".to_owned(),
            Why::Reference => "reference tables only".to_owned(),
            Why::Home => "tables that are not sharded".to_owned(),
            Why::Key { key: Some(key) } => key.to_string(),
            Why::Key { key: None } => "one shard owns all its keys".to_owned(),
            Why::NullKey => "the key is NULL, which no row has".to_owned(),
            Why::SeveralOwners { .. } => "its keys have several owners".to_owned(),
            Why::BesideHome { .. } => "sharded tables beside tables of the home shard".to_owned(),
            Why::NotProven { .. } => "a value is not certain to denote a key".to_owned(),
            Why::NullStored { .. } => "the key is NULL".to_owned(),
            Why::KeyUnknown { statement } => match unknown_key(shape, statement) {
                Some((table, column)) => format!("the key {column} of table {table} is not known"),
                None => "a key is not known".to_owned(),
            },
            Why::CurrentRow => "the row of a cursor, which is on that shard".to_owned(),
            Why::ReferenceWrite => "reference tables are the same on every shard".to_owned(),
            Why::EachShard => "every shard has the schema".to_owned(),
            Why::CommentShard => "hint shard in a comment".to_owned(),
            Why::SessionShard => "setting pgring.shard".to_owned(),
            Why::HintedKey => "hinted key".to_owned(),
            Why::BadHint => "a hint that cannot be followed".to_owned(),
            Why::Disagree { first, second } => {
                format!("statements {} and {} belong on different shards", first + 1, second + 1)
            }
            Why::Refused { statement } => match shape.statements.get(statement as usize).map(|s| &s.target) {
                Some(Target::Refused(message, _)) => message.clone(),
                _ => "not possible across shards".to_owned(),
            },
        }
    }
}

impl Decision {
    /// The route and the reason: `shard s2: key 42`; `home shard s1: tables that are not sharded`;
    /// `all shards: the key user_id of table jobs is not known`.
    pub fn explain(&self, shape: &Shape, topology: &Topology) -> String {
        let route = match &self.route {
            Route::Any => "any shard".to_owned(),
            Route::Shard(shard) if self.why == Why::Home => format!("home shard {}", topology.name(*shard)),
            Route::Shard(shard) => format!("shard {}", topology.name(*shard)),
            Route::Several(ShardSet::All) => "all shards".to_owned(),
            Route::Several(ShardSet::Subset(shards)) => {
                let names: Vec<&str> = shards.iter().map(|&shard| topology.name(shard)).collect();
                format!("shards {}", names.join(", "))
            }
            Route::Refused(_) => "refused".to_owned(),
        };
        format!("{route}: {}", self.why.explain(shape))
    }
}

/// How several shards answer a text together, step by step; nothing where one does.
///
/// # Errors
/// It is refused.
pub fn steps(
    shape: &Shape,
    decision: &Decision,
    text: &str,
    cx: &Context<'_>,
) -> Result<Vec<String>, ClientError> {
    match decision.route {
        Route::Any | Route::Shard(_) => return Ok(Vec::new()),
        Route::Refused(_) => return Err(refusal(shape, decision)),
        Route::Several(_) => {}
    }
    let strings = cx.standard_conforming_strings;
    let carried = distribute::explain(text.as_bytes(), strings).map(|explain| explain.statement);
    let declared = || distribute::declared(text.as_bytes(), strings).map(|declared| declared.query);
    let inner = carried.or_else(declared);
    let text = inner.as_deref().unwrap_or(text).trim();
    let kind = match &shape.statements[..] {
        [only] if shape.mentions.execution.is_none() => &only.kind,
        _ => return Err(refusal(shape, decision)),
    };
    let told = matches!(decision.why, Why::CommentShard | Why::SessionShard);
    let plan = match kind {
        Kind::Query | Kind::Declare(_) if told => {
            return Ok(vec!["merged: each shard's rows are rows of the answer".to_owned(), each(text)]);
        }
        Kind::Write | Kind::Ddl | Kind::Maintenance | Kind::Other
            if told || decision.why == Why::EachShard =>
        {
            Plan::Each(Each { sql: text.to_owned(), returns: false })
        }
        Kind::Query | Kind::Write | Kind::Declare(_) | Kind::Ddl | Kind::Maintenance | Kind::Other => {
            distribute::plan(text.as_bytes(), cx).map_err(refused)?
        }
        Kind::CopyIn if told => return Err(copied_everywhere()),
        Kind::CopyIn => {
            let copy = distribute::copy_in(text.as_bytes(), cx).map_err(refused)?;
            return Ok(vec![match copy.key {
                Some(_) => format!("split: each row goes to the owner of its {}", copy.column),
                None => "replicated: every shard is given the rows".to_owned(),
            }]);
        }
        Kind::CopyOut => {
            let copy = distribute::copy_out(text.as_bytes(), cx).map_err(refused)?;
            match &copy.query {
                Some(query) if !told => match distribute::plan(query.as_bytes(), cx).map_err(refused)? {
                    Plan::Merge(merge) if merge.is_in_any_order() => Plan::Merge(merge),
                    Plan::Merge(_) | Plan::Combine(_) => {
                        Plan::Gather(distribute::gather(query.as_bytes(), cx).map_err(refused)?)
                    }
                    plan @ Plan::Gather(_) => plan,
                    _ => return Err(copied_change()),
                },
                _ => {
                    return Ok(vec![
                        "merged: each shard's rows are rows of the answer".to_owned(),
                        each(text),
                    ]);
                }
            }
        }
        _ => return Err(refusal(shape, decision)),
    };
    Ok(steps_of(&plan))
}

fn refused(impossible: distribute::Impossible) -> ClientError {
    ClientError::refused(impossible.message, impossible.hint)
}

/// `COPY … FROM STDIN` to all shards, by a hint.
pub fn copied_everywhere() -> ClientError {
    ClientError::refused(
        "COPY FROM cannot put the same rows on all shards",
        "Leave the hint out, or name one shard.",
    )
}

/// `COPY (INSERT … RETURNING …) TO STDOUT` of several shards.
pub fn copied_change() -> ClientError {
    ClientError::refused(
        "COPY of what a change returns cannot touch several shards",
        "Make the change first, then copy a SELECT.",
    )
}

fn each(sql: &str) -> String {
    format!("each shard runs: {sql}")
}

fn steps_of(plan: &Plan) -> Vec<String> {
    let step = |words: &str| words.to_owned();
    match plan {
        Plan::Merge(merge) => {
            let order = if merge.sort.is_empty() { "" } else { ", merged in order" };
            vec![format!("merged: each shard's rows are rows of the answer{order}"), each(&merge.sql)]
        }
        Plan::Combine(combine) => {
            vec![step("combined: one shard folds the partial results of all"), each(&combine.fetch)]
        }
        Plan::Gather(gather) => {
            let mut steps = vec![step("gathered: the home shard runs it over copies of the rows it needs")];
            for shadow in &gather.tables {
                let whose = match shadow.source {
                    Source::EachShard => "each shard",
                    Source::Owners(_) => "each owner of its keys",
                    Source::Home | Source::AnyShard => "the home shard",
                };
                steps.push(format!("{whose} runs: {}", shadow.fetch));
            }
            steps.push(format!("the home shard runs: {}", gather.sql));
            steps
        }
        Plan::Each(change) | Plan::Replicate(Replicate::Same(change)) => {
            vec![step("each: every shard changes what it has"), each(&change.sql)]
        }
        Plan::Split(split) => {
            let (first, count) = (split.text([0]), split.rows.len());
            vec![format!("split: each of the {count} rows goes to its owner"), format!("as in: {first}")]
        }
        Plan::Supply(supply) => {
            let mut steps = vec![step("supplied: who changes rows is given what other shards have")];
            steps.extend(supply.tables.iter().map(|table| format!("read first: {}", table.fetch)));
            steps.push(format!("{}: {}", writers(supply.writers), supply.sql));
            steps
        }
        Plan::Transfer(transfer) => vec![
            step("transferred: the query is answered, then its rows are inserted where they belong"),
            format!("read first: {}", transfer.query),
        ],
        Plan::Fold(fold) => vec![
            step("folded: a change is made, then one shard runs the query over what it returns"),
            format!("changed first: {}", fold.change),
        ],
        Plan::Replicate(Replicate::Insert { first, .. }) => vec![
            step("replicated: one shard inserts, the others are given its rows"),
            format!("one shard runs: {first}"),
        ],
    }
}

fn writers(writers: Writers) -> &'static str {
    match writers {
        Writers::Owners | Writers::Copies => "each shard runs",
        Writers::Home => "the home shard runs",
    }
}

/// What a client is told where several shards would be needed and that is not possible.
pub fn refusal(shape: &Shape, decision: &Decision) -> ClientError {
    if let Route::Refused(error) = &decision.route {
        return error.clone();
    }
    let touches = match &decision.route {
        Route::Several(ShardSet::Subset(shards)) => format!("statement touches {} shards", shards.len()),
        _ => "statement touches all shards".to_owned(),
    };
    match decision.why {
        Why::KeyUnknown { statement } => match unknown_key(shape, statement) {
            Some((table, column)) => ClientError::refused(
                format!("{touches}: the key of table \"{table}\" is not known"),
                format!("add a condition {column} = … or a hint /* pgring: shard=NAME */"),
            ),
            None => ClientError::refused(
                format!("{touches}: a key is not known"),
                "add a condition on the key or a hint /* pgring: shard=NAME */",
            ),
        },
        Why::NotProven { .. } => not_proven(),
        Why::SeveralOwners { .. } => ClientError::refused(
            format!("{touches}: its keys have several owners"),
            "send one statement for each key",
        ),
        Why::BesideHome { .. } => ClientError::refused(
            format!("{touches}: it joins sharded tables with tables of the home shard"),
            "make the tables that are not sharded reference tables, or send one statement for each",
        ),
        Why::ReferenceWrite => ClientError::refused(
            format!("{touches}: it writes to reference tables"),
            "send it to each shard with a hint /* pgring: shard=NAME */",
        ),
        Why::EachShard => ClientError::refused(
            format!("{touches}: every shard has the schema"),
            "send it to each shard with a hint /* pgring: shard=NAME */",
        ),
        _ => ClientError::refused(touches, "name one shard with a hint /* pgring: shard=NAME */"),
    }
}

fn unknown_key(shape: &Shape, statement: u32) -> Option<(&str, &str)> {
    match &shape.statements.get(usize::try_from(statement).ok()?)?.target {
        Target::Everywhere { table, column, .. } => Some((table, column)),
        _ => None,
    }
}

pub(super) fn disagreement() -> ClientError {
    ClientError::refused("statements of one query string belong on different shards", "send them one by one")
}

pub(super) fn not_proven() -> ClientError {
    ClientError::refused(
        "the value given for the shard key is not certain to denote a key",
        "write it plainly, as a value of the key's own type (PREPARE can declare it), or add a hint /* pgring: key=… */",
    )
}

pub(super) fn null_key() -> ClientError {
    ClientError::refused("the shard key is NULL: the row would belong to no shard", "give the key a value")
}

pub(super) fn contradiction(topology: &Topology, hinted: ShardId, owner: Option<ShardId>) -> ClientError {
    let keys = match owner {
        Some(owner) => format!("the statement's key belongs to shard \"{}\"", topology.name(owner)),
        None => "the statement's keys belong to several shards".to_owned(),
    };
    let message = format!("the hint says shard \"{}\", but {keys}", topology.name(hinted));
    ClientError::error(SqlState::BAD_VALUE, message)
        .with_hint("drop the hint, or RESET pgring.key and pgring.shard; the statement's own key is enough")
}
