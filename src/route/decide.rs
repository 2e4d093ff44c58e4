//! The decision itself: each statement of the text finds its place, then the places must agree.

use super::explain::{ShownKey, Why};
use super::hint::{Hint, KeyReading, SessionHints};
use super::key::{Found, Reading};
use super::{Parameters, Value, explain};
use crate::error::ClientError;
use crate::ring::{ShardId, Topology};
use crate::sql::{Access, KeySlot, KeySource, KeyType, Kind, Lexed, ReadHint, Shape, Statement, Target};

/// Everything a decision depends on.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What analysis made of the text.
    pub shape: &'a Shape,
    /// The text, for its literals and hints.
    pub text: &'a [u8],
    /// The same, read.
    pub lexed: &'a Lexed,
    /// The `Bind`'s parameters.
    pub parameters: &'a Parameters<'a>,
    /// Who owns which keys.
    pub topology: &'a Topology,
    /// The type of the database's keys: how a hinted key is read.
    pub key_type: KeyType,
    /// Whether the client's encoding is the servers'. If not, a text key that is not ASCII is
    /// stored as other bytes than those seen here.
    pub same_encoding: bool,
    /// `SET pgring.…`
    pub session_hints: &'a SessionHints,
    /// Where the open transaction is, if it is anywhere yet.
    pub transaction_shard: Option<ShardId>,
}

/// More than one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardSet {
    /// Each of the topology's.
    All,
    /// These, in order.
    Subset(Vec<ShardId>),
}

/// Where a text runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// On whichever shard.
    Any,
    /// On this one.
    Shard(ShardId),
    /// On several.
    Several(ShardSet),
    /// Nowhere.
    Refused(ClientError),
}

/// A route and what led to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// Where to.
    pub route: Route,
    /// Why there.
    pub why: Why,
    /// Whether any of the statements may write.
    pub access: Access,
    /// Which server may answer a read: the comment's hint before the session's.
    pub read: Option<ReadHint>,
}

/// The highest `$n` that a key depends on: a `Bind` has to be here up to it.
pub fn needs_parameters(shape: &Shape) -> Option<u16> {
    let keys = shape.statements.iter().flat_map(|statement| match &statement.target {
        Target::Keys { keys, .. } => keys.as_slice(),
        _ => &[],
    });
    keys.filter_map(|key| match key.slot {
        KeySlot::Param(number) | KeySlot::ParamArray(number) => Some(number),
        _ => None,
    })
    .max()
}

/// Where a text runs. Allocates nothing where it is one shard.
pub fn route(request: &Request<'_>) -> Decision {
    let (route, why) = decide(request).unwrap_or_else(|error| (Route::Refused(error), Why::BadHint));
    let writes = request.shape.statements.iter().any(|statement| statement.access == Access::Write);
    Decision {
        route,
        why,
        access: if writes { Access::Write } else { Access::Read },
        read: request.lexed.hints().read.or(request.session_hints.read),
    }
}

/// Where one statement may run.
enum Place {
    /// It touches no data.
    Free,
    /// Any shard answers rightly; this one, if any, is preferred.
    Flexible(Option<ShardId>),
    Shard(ShardId),
    Several(ShardSet),
    Refused(ClientError),
}

fn decide(request: &Request<'_>) -> Result<(Route, Why), ClientError> {
    let statements = &request.shape.statements;
    let hint = if statements.iter().all(is_control) { Hint::None } else { hint(request)? };
    if request.topology.len() == 1 {
        return Ok((Route::Shard(ShardId(0)), Why::OneShard));
    }
    let mut settled: Option<(u32, Place, Why)> = None;
    let mut flexible: Option<(Option<ShardId>, Why)> = None;
    for (number, statement) in (0u32..).zip(statements) {
        let (place, why) = place(request, number, statement, hint);
        match (place, &settled) {
            (Place::Free, _) => {}
            (Place::Flexible(preferred), _) => _ = flexible.get_or_insert((preferred, why)),
            (Place::Refused(error), _) => return Ok((Route::Refused(error), why)),
            (place, None) => settled = Some((number, place, why)),
            (Place::Shard(one), Some((_, Place::Shard(other), _))) if one == *other => {}
            (_, Some((first, _, _))) => {
                let why = Why::Disagree { first: *first, second: number };
                return Ok((Route::Refused(explain::disagreement()), why));
            }
        }
    }
    let somewhere =
        |preferred: Option<ShardId>| request.transaction_shard.or(preferred).map_or(Route::Any, Route::Shard);
    Ok(match (settled, flexible) {
        (Some((_, Place::Shard(shard), why)), _) => (Route::Shard(shard), why),
        (Some((_, Place::Several(set), why)), _) => (Route::Several(set), why),
        (_, Some((preferred, why))) => (somewhere(preferred), why),
        (_, None) => (somewhere(None), Why::NoTable),
    })
}

fn hint(request: &Request<'_>) -> Result<Hint, ClientError> {
    let reading = KeyReading {
        topology: request.topology,
        key_type: request.key_type,
        same_encoding: request.same_encoding,
    };
    reading.hint(request.text, request.lexed.hints(), request.session_hints)
}

/// What hints leave alone: a transaction is wherever it is.
fn is_control(statement: &Statement) -> bool {
    matches!(
        statement.kind,
        Kind::Begin
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::Release(_)
            | Kind::SetTransaction
    )
}

fn place(request: &Request<'_>, number: u32, statement: &Statement, hint: Hint) -> (Place, Why) {
    if is_control(statement) {
        return (Place::Free, Why::NoTable);
    }
    match hint {
        Hint::ThisShard(shard) => return (Place::Shard(shard), Why::CommentShard),
        Hint::ThisAll => return (Place::Several(ShardSet::All), Why::CommentShard),
        _ => {}
    }
    let all = || Place::Several(ShardSet::All);
    match &statement.target {
        Target::Nothing => (Place::Free, Why::NoTable),
        Target::Home => (Place::Shard(request.topology.home), Why::Home),
        Target::Catalog => match hint {
            Hint::SessionShard(shard) => (Place::Shard(shard), Why::SessionShard),
            _ => (Place::Flexible(Some(request.topology.home)), Why::Catalog),
        },
        Target::Reference if statement.access == Access::Read => match hint {
            Hint::SessionShard(shard) | Hint::Key(shard) => (Place::Flexible(Some(shard)), Why::Reference),
            _ => (Place::Flexible(None), Why::Reference),
        },
        Target::Reference => (all(), Why::ReferenceWrite),
        Target::EachShard => match hint {
            Hint::SessionShard(shard) => (Place::Shard(shard), Why::SessionShard),
            _ => (all(), Why::EachShard),
        },
        Target::Everywhere { column, .. } if column.is_empty() => (all(), Why::ReferenceWrite),
        Target::Everywhere { .. } => {
            hinted(hint).unwrap_or_else(|| (all(), Why::KeyUnknown { statement: number }))
        }
        Target::Refused(message, advice) => hinted(hint).unwrap_or_else(|| {
            let error = ClientError::refused(message.clone(), advice.clone());
            (Place::Refused(error), Why::Refused { statement: number })
        }),
        Target::Keys { keys, colocated, home } => {
            let owners = owners(request, statement.access, keys);
            keyed(request, number, statement.access, hint, owners, *colocated, *home)
        }
    }
}

/// Where a hint sends what analysis could not place.
fn hinted(hint: Hint) -> Option<(Place, Why)> {
    match hint {
        Hint::ThisShard(shard) => Some((Place::Shard(shard), Why::CommentShard)),
        Hint::ThisAll => Some((Place::Several(ShardSet::All), Why::CommentShard)),
        Hint::SessionShard(shard) => Some((Place::Shard(shard), Why::SessionShard)),
        Hint::SessionAll => Some((Place::Several(ShardSet::All), Why::SessionShard)),
        Hint::Key(shard) => Some((Place::Shard(shard), Why::HintedKey)),
        Hint::None => None,
    }
}

/// Who owns a statement's keys.
enum Owners {
    /// All keys are NULL.
    Nobody,
    One(ShardId, Option<ShownKey>),
    /// By shard; `true` for an owner.
    Many(Vec<bool>),
    /// This key's value is not proven to be one.
    Unproven(u32),
    /// A NULL in what may be an `INSERT`.
    NullStored(u32),
}

fn keyed(
    request: &Request<'_>,
    number: u32,
    access: Access,
    hint: Hint,
    owners: Owners,
    colocated: bool,
    home: bool,
) -> (Place, Why) {
    let topology = request.topology;
    match owners {
        Owners::Unproven(key) => hinted(hint).unwrap_or_else(|| {
            let why = Why::NotProven { statement: number, key };
            match access {
                Access::Read => (Place::Several(ShardSet::All), why),
                // It may be an INSERT, whose row belongs on one shard.
                Access::Write => (Place::Refused(explain::not_proven()), why),
            }
        }),
        Owners::NullStored(key) => hinted(hint).unwrap_or_else(|| {
            (Place::Refused(explain::null_key()), Why::NullStored { statement: number, key })
        }),
        Owners::Nobody if home => (Place::Shard(topology.home), Why::Home),
        Owners::Nobody => (Place::Flexible(None), Why::NullKey),
        Owners::One(owner, key) => {
            if home && owner != topology.home {
                let set = subset(topology, |shard| shard == owner || shard == topology.home);
                return (Place::Several(set), Why::BesideHome { statement: number });
            }
            let place = (Place::Shard(owner), Why::Key { key });
            agreed(topology, access, hint, Some(owner)).unwrap_or(place)
        }
        Owners::Many(mut owners) => {
            let why = if home {
                owners[topology.home.index()] = true;
                Why::BesideHome { statement: number }
            } else {
                Why::SeveralOwners { statement: number, colocated }
            };
            agreed(topology, access, hint, None)
                .unwrap_or_else(|| (Place::Several(subset(topology, |shard| owners[shard.index()])), why))
        }
    }
}

/// Keys that are proven outweigh a hint: it either agrees, or there is a mistake somewhere. Only
/// who names a shard for a session may look at rows where they do not belong.
fn agreed(topology: &Topology, access: Access, hint: Hint, owner: Option<ShardId>) -> Option<(Place, Why)> {
    match hint {
        Hint::SessionShard(shard) if owner != Some(shard) => Some(match access {
            Access::Read => (Place::Shard(shard), Why::SessionShard),
            Access::Write => (Place::Refused(explain::contradiction(topology, shard, owner)), Why::BadHint),
        }),
        Hint::Key(shard) if owner != Some(shard) => {
            Some((Place::Refused(explain::contradiction(topology, shard, owner)), Why::BadHint))
        }
        _ => None,
    }
}

fn subset(topology: &Topology, belongs: impl Fn(ShardId) -> bool) -> ShardSet {
    let shards: Vec<ShardId> = topology.ids().filter(|&shard| belongs(shard)).collect();
    if shards.len() == topology.len() { ShardSet::All } else { ShardSet::Subset(shards) }
}

/// The owner of the row whose key stands there.
///
/// # Errors
/// The key is NULL, or its value is not proven to denote one.
pub fn owner(request: &Request<'_>, source: &KeySource) -> Result<ShardId, ClientError> {
    match owners(request, Access::Write, std::slice::from_ref(source)) {
        Owners::One(owner, _) => Ok(owner),
        Owners::Nobody | Owners::NullStored(_) => Err(explain::null_key()),
        Owners::Many(_) | Owners::Unproven(_) => Err(explain::not_proven()),
    }
}

/// The owner of a row that is copied in with this key; `None` if the value is not proven to denote
/// one.
pub fn copied_owner(
    topology: &Topology,
    key_type: KeyType,
    same_encoding: bool,
    value: Value<'_>,
) -> Option<ShardId> {
    match (Reading { key_type, same_encoding, stored: true }).parameter(value, 0)? {
        Found::Key(hash, _) => Some(topology.owner(hash)),
        Found::Null => None,
    }
}

/// Linear in the number of keys; allocates from the second owner on.
fn owners(request: &Request<'_>, access: Access, keys: &[KeySource]) -> Owners {
    let topology = request.topology;
    let mut owners = Owners::Nobody;
    let mut null = false;
    for (number, source) in (0u32..).zip(keys) {
        let mut add = |found: Found| match found {
            Found::Null => null = true,
            Found::Key(hash, key) => {
                let owner = topology.owner(hash);
                match &mut owners {
                    Owners::One(known, shown) if *known == owner => {
                        if *shown != Some(key) {
                            *shown = None;
                        }
                    }
                    Owners::One(known, _) => {
                        let mut many = vec![false; topology.len()];
                        many[known.index()] = true;
                        many[owner.index()] = true;
                        owners = Owners::Many(many);
                    }
                    Owners::Many(many) => many[owner.index()] = true,
                    _ => owners = Owners::One(owner, Some(key)),
                }
            }
        };
        if find(request, access, source, &mut add).is_none() {
            return Owners::Unproven(number);
        }
        // A parameter for one value may be stored; an array or a written NULL is only compared,
        // or analysis has refused it.
        if null && access == Access::Write && matches!(source.slot, KeySlot::Param(_)) {
            return Owners::NullStored(number);
        }
        null = false;
    }
    owners
}

/// As [`owner`], of a key that a server has computed: the text of its value in the column's type.
///
/// # Errors
/// As [`owner`].
pub fn computed_owner(
    topology: &Topology,
    key_type: KeyType,
    same_encoding: bool,
    key: Option<&[u8]>,
) -> Result<ShardId, ClientError> {
    let key = key.ok_or_else(explain::null_key)?;
    copied_owner(topology, key_type, same_encoding, Value::Text(key)).ok_or_else(explain::not_proven)
}

/// Calls `add` with each key of a source; `None` if one is not proven.
fn find(
    request: &Request<'_>,
    access: Access,
    source: &KeySource,
    add: &mut impl FnMut(Found),
) -> Option<()> {
    let reading = Reading {
        key_type: source.key_type,
        same_encoding: request.same_encoding,
        stored: access == Access::Write,
    };
    let literal =
        |slot| Some((request.lexed.literal_kind(slot), request.lexed.literal_value(request.text, slot)?));
    let parameter =
        |number| Some((request.parameters.get(number)?, request.parameters.declared_type(number)));
    match source.slot {
        KeySlot::Literal(slot) => {
            let (kind, value) = literal(slot)?;
            add(reading.literal(kind, &value)?);
        }
        KeySlot::NegatedLiteral(slot) => {
            let (kind, value) = literal(slot)?;
            add(reading.negated(kind, &value)?);
        }
        KeySlot::LiteralArray(slot) => {
            let (kind, value) = literal(slot)?;
            reading.literal_array(kind, &value, add)?;
        }
        KeySlot::Param(number) => {
            let (value, declared) = parameter(number)?;
            if declared == 0 && is_loose(request, number) {
                return None;
            }
            add(reading.parameter(value, declared)?);
        }
        KeySlot::ParamArray(number) => {
            let (value, declared) = parameter(number)?;
            if declared == 0 && is_loose(request, number) {
                return None;
            }
            reading.parameter_array(value, declared, add)?;
        }
        KeySlot::Null => add(Found::Null),
    }
    Some(())
}

/// See [`Statement::loose`].
fn is_loose(request: &Request<'_>, number: u16) -> bool {
    request.shape.statements.iter().any(|statement| statement.loose.contains(&number))
}

#[cfg(test)]
mod tests;
