//! Changes for which rows are read first: those that other shards own ([`Supply`]), those that are to
//! be inserted ([`Transfer`]); and queries over what a change returns ([`Fold`]).
//!
//! What is read is held here, up to `gather_memory`, and given to the servers as parameters. Outside of
//! a transaction a [`Supply`] reads and changes in one of its own, as of one moment on each server: a
//! row that somebody changes meanwhile fails it (`40001`) instead of being changed by rows that were
//! read before that.

use super::ask::{Asked, type_bytes};
use super::combine::Collect;
use super::drive::{Flow, tags};
use super::gather::{Places, SNAPSHOT};
use super::portion::Keep;
use super::rows::{Described, Rows, malformed, misdescribed};
use super::team::Member;
use super::write::{FirstOnly, InOrder, Part, Texts, sum_of_tags};
use super::{Destination, Fault, Session};
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, Field};
use crate::merge::array::Column;
use crate::merge::row;
use crate::ring::ShardId;
use crate::route::{self, Parameters, Why};
use crate::sql::distribute::{Fold, Merge, Plan, Replicate, Supplied, Supply, Transfer, Writers, array_type};
use crate::sql::{Access, KeyType, Kind, Lexed, Shape};
use crate::txn::Phase;
use crate::wire::{self, Buffer, Format, HEADER_LEN};
use std::rc::Rc;

/// A statement within the client's, and where it goes.
struct Inner {
    shape: Rc<Shape>,
    shards: Vec<ShardId>,
    /// `None`: one shard does it all.
    why: Option<Why>,
}

impl Session {
    /// A change by rows that are read first.
    pub(super) async fn supply(
        &mut self,
        asked: &Asked<'_>,
        supply: &Supply,
        shards: &[ShardId],
    ) -> Result<(), Fault> {
        if asked.count != supply.parameters {
            return Err(ClientError::refused(
                "the statement has been given more parameters than it has",
                "Prepare it with as many parameter types as it has parameters.",
            )
            .into());
        }
        let original = self.described_at_home(asked).await?;
        let mut answers = Vec::new();
        for table in supply.tables.iter().filter(|table| table.source.is_none()) {
            answers.push(self.read_apart(asked, &original, table).await?);
        }
        let home = self.database.topology.home;
        let places = Places { everywhere: self.database.topology.ids().collect(), owners: shards, home };
        let writers = match supply.writers {
            Writers::Owners => shards.to_vec(),
            Writers::Home => vec![home],
            Writers::Copies => places.everywhere.clone(),
        };
        let mut needed = writers.clone();
        let sources = supply.tables.iter().filter_map(|table| table.source.as_ref());
        needed.extend(sources.clone().flat_map(|source| places.of(source)));
        let reads = sources.count() > 0;
        needed.sort_by_key(|shard| shard.index());
        needed.dedup();
        let mut members = self.assemble(&needed).await?;
        let begun = match self.tx.phase() {
            Phase::Idle if reads => self.run_on_each(&mut members, &SNAPSHOT).await,
            _ => Ok(()),
        };
        let supplied = match begun {
            Ok(()) => self.read_supplies(asked, &original, supply, &places, &mut members).await,
            Err(fault) => Err(fault),
        };
        let members = self.undo_if_failed(members, &supplied).await?;
        let (mut types, mut columns) = supplied?;
        for (answer_types, answer) in answers {
            types.extend(answer_types);
            columns.extend(answer);
        }
        let (mut writing, mut reading): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|member| writers.contains(&member.held.shard));
        if self.tx.phase() == Phase::Idle {
            self.roll_back(&mut reading).await?;
        }
        self.disband(reading);
        let outcome = self.change_by(asked, &original, supply, (&types, &columns), &mut writing).await;
        let members = self.undo_if_failed(writing, &outcome).await?;
        let tag = outcome?;
        let members = match supply.writers {
            Writers::Copies => self.undo_unless_alike(members, &tag).await?,
            Writers::Owners | Writers::Home => members,
        };
        self.end_change(members).await?;
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// The columns of all the tables, and their types.
    async fn read_supplies(
        &mut self,
        asked: &Asked<'_>,
        original: &Described,
        supply: &Supply,
        places: &Places<'_>,
        members: &mut Vec<Member>,
    ) -> Result<(Vec<u32>, Vec<Column>), Fault> {
        let (mut types, mut columns) = (Vec::new(), Vec::new());
        for table in &supply.tables {
            let Some(source) = &table.source else { continue };
            let sources = places.of(source);
            let (mut reading, mut others): (Vec<Member>, Vec<Member>) =
                std::mem::take(members).into_iter().partition(|member| sources.contains(&member.held.shard));
            let mut collected = self.collect(asked, table.columns);
            for member in &mut reading {
                let fetch = table.fetch.as_bytes();
                self.ask_to_run_described(member, fetch, &original.parameters, &collected.bound);
            }
            let outcome = self.drive(&mut reading, &mut collected, false).await;
            let fields = reading.first().and_then(|member| member.branch.fields.last());
            types.extend(fields.into_iter().flatten().map(|field| field.oid));
            members.append(&mut reading);
            members.append(&mut others);
            members.sort_by_key(|member| member.held.shard.index());
            outcome?;
            columns.append(&mut collected.columns);
        }
        if types.len() != columns.len() {
            return Err(misdescribed().into());
        }
        let held: usize = columns.iter().map(Column::bytes).sum();
        if held as u64 > self.directory.routing.gather_memory_bytes {
            return Err(too_much().into());
        }
        Ok((types, columns))
    }

    /// The answer to a sub-query, by columns, and their types.
    async fn read_apart(
        &mut self,
        asked: &Asked<'_>,
        original: &Described,
        table: &Supplied,
    ) -> Result<(Vec<u32>, Vec<Column>), Fault> {
        let refused = || {
            ClientError::refused(
                "a sub-query that may choose differently on each shard cannot be answered once for all of them",
                "Run the sub-query first, and give what it finds as a parameter.",
            )
        };
        let types = type_bytes(&original.parameters);
        let keep = Keep::whole();
        let query = Asked {
            types: &types,
            formats: vec![Format::Binary],
            keep: Some(&keep),
            ..asked.with_text(table.fetch.as_bytes())
        };
        // One that names something of the statement around it is none by itself.
        match self.described_at_home(&query).await {
            Err(Fault::Frame(_)) => return Err(refused().into()),
            described => drop(described?),
        }
        let inner = self.inner(&query, original, Kind::Query).await?;
        self.read_inner(&query, &inner).await?;
        let opened = keep.take().ok_or_else(misdescribed)?;
        let types: Vec<u32> = opened.fields.iter().map(|field| field.oid).collect();
        if types.len() != table.columns || types.iter().any(|oid| array_type(*oid).is_none()) {
            return Err(refused().into());
        }
        let mut columns = vec![Column::default(); types.len()];
        for frame in frames(opened.ahead()) {
            let body = frame?.get(HEADER_LEN..).ok_or_else(misdescribed)?;
            for (column, value) in columns.iter_mut().zip(row::values(body).map_err(malformed)?) {
                column.push(value.map_err(malformed)?);
            }
        }
        Ok((types, columns))
    }

    /// Has the servers make the change; its command tag.
    async fn change_by(
        &mut self,
        asked: &Asked<'_>,
        original: &Described,
        supply: &Supply,
        (types, columns): (&[u32], &[Column]),
        members: &mut Vec<Member>,
    ) -> Result<String, Fault> {
        let (types, bound) = given(asked, original, types, columns)?;
        let parts: Vec<Part<'_>> =
            members.iter().map(|_| Part { text: &supply.sql, types: &types, bound: &bound }).collect();
        let alike = supply.writers == Writers::Copies;
        let (mut all, mut first) = (Rows::unordered(), FirstOnly);
        let flow: &mut dyn Flow = if alike { &mut first } else { &mut all };
        self.run_parts(asked, original, &parts, flow, members).await?;
        self.pass_all_asides_on(members, alike);
        Ok(if alike { tags(members).next().unwrap_or_default().to_owned() } else { sum_of_tags(members) })
    }

    /// An `INSERT` of what a query yields.
    pub(super) async fn transfer(&mut self, asked: &Asked<'_>, transfer: &Transfer) -> Result<(), Fault> {
        let original = self.described_at_home(asked).await?;
        let types = type_bytes(&original.parameters);
        let keep = Keep::whole();
        let query = Asked {
            types: &types,
            formats: vec![Format::Binary],
            keep: Some(&keep),
            ..asked.with_text(transfer.query.as_bytes())
        };
        let inner = self.inner(&query, &original, Kind::Query).await?;
        self.read_inner(&query, &inner).await?;
        let opened = keep.take().ok_or_else(misdescribed)?;
        let types: Vec<u32> = opened.fields.iter().map(|field| field.oid).collect();
        if types.iter().any(|oid| array_type(*oid).is_none()) {
            return Err(ClientError::refused(
                "rows with columns of user-defined types or arrays cannot be given to other shards",
                "Read the rows first, and insert them with values of their own.",
            )
            .into());
        }
        let key = transfer.key.map(|(at, kind)| KeyColumn::of(at, kind, &types)).transpose()?;
        let topology = std::sync::Arc::clone(&self.database.topology);
        let (home, everywhere): (ShardId, Vec<ShardId>) = (topology.home, topology.ids().collect());
        let mut shares: Vec<Vec<Column>> =
            everywhere.iter().map(|_| vec![Column::default(); types.len()]).collect();
        let mut order = Vec::new();
        for frame in frames(opened.ahead()) {
            let body = frame?.get(HEADER_LEN..).ok_or_else(misdescribed)?;
            let owner = match &key {
                None => home,
                Some(key) => {
                    let key_type = transfer.key.map_or(KeyType::Integer, |(_, key_type)| key_type);
                    let text = key.text(body)?;
                    route::computed_owner(&topology, key_type, self.same_encoding, text.as_deref())?
                }
            };
            let share = shares.get_mut(owner.index()).ok_or_else(misdescribed)?;
            for (column, value) in share.iter_mut().zip(row::values(body).map_err(malformed)?) {
                column.push(value.map_err(malformed)?);
            }
            order.push(owner);
        }
        let writers = match transfer.writers {
            Writers::Copies => everywhere,
            // Also of no rows there may be something to say.
            _ if order.is_empty() => vec![home],
            _ => {
                let mut owners = order.clone();
                owners.sort_by_key(|shard| shard.index());
                owners.dedup();
                owners
            }
        };
        let mut bounds = Vec::with_capacity(writers.len());
        for writer in &writers {
            let from = if transfer.writers == Writers::Copies { home } else { *writer };
            let share = shares.get(from.index()).ok_or_else(misdescribed)?;
            bounds.push(given(asked, &original, &types, share)?);
        }
        drop(shares);
        let text = transfer.text(types.len(), original.parameters.len());
        let parts: Vec<Part<'_>> =
            bounds.iter().map(|(types, bound)| Part { text: &text, types, bound }).collect();
        let alike = transfer.writers == Writers::Copies;
        let place = |owner: &ShardId| writers.iter().position(|shard| shard == owner).unwrap_or_default();
        let (mut first, mut all) = (FirstOnly, Rows::unordered());
        let mut in_order = InOrder::of(order.iter().map(place).collect());
        let flow: &mut dyn Flow = match (alike, transfer.returns_each) {
            (true, _) => &mut first,
            (false, true) => &mut in_order,
            (false, false) => &mut all,
        };
        let mut members = self.assemble(&writers).await?;
        let outcome = self.run_parts(asked, &original, &parts, flow, &mut members).await;
        let mut members = self.undo_if_failed(members, &outcome).await?;
        outcome?;
        self.pass_all_asides_on(&mut members, alike);
        let mut tag = sum_of_tags(&members);
        if alike {
            tag = tags(&members).next().unwrap_or_default().to_owned();
            members = self.undo_unless_alike(members, &tag).await?;
        }
        self.end_change(members).await?;
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// A query over what a change returns.
    pub(super) async fn fold(&mut self, asked: &Asked<'_>, fold: &Fold) -> Result<(), Fault> {
        let original = self.described_at_home(asked).await?;
        let types = type_bytes(&original.parameters);
        let change =
            Asked { types: &types, formats: vec![Format::Binary], ..asked.with_text(fold.change.as_bytes()) };
        let returned = self.described_at_home(&change).await?.fields;
        let types: Vec<u32> = returned.iter().map(|field| field.oid).collect();
        if types.iter().any(|oid| array_type(*oid).is_none()) {
            return Err(ClientError::refused(
                "what a change returns cannot be folded if it has columns of user-defined types or arrays",
                "Leave them out, or cast them to text.",
            )
            .into());
        }
        let inner = self.inner(&change, &original, Kind::Write).await?;
        let mut collected = self.collect(&change, types.len());
        let mut members = self.change_inner(&change, &inner, &mut collected).await?;
        let names: Vec<String> = returned.iter().map(Field::name).collect();
        let finish = fold.text(&names, original.parameters.len());
        let columns = &collected.columns;
        let outcome = self.finish_on_first(asked, &original, &finish, &types, columns, &mut members).await;
        let mut members = self.undo_if_failed(members, &outcome).await?;
        let rows = outcome?;
        self.pass_all_asides_on(&mut members, false);
        self.end_change(members).await?;
        if let Some(rows) = rows {
            rows.complete(&mut self.outbox);
        }
        Ok(())
    }

    /// What the client's statement is, by the server that has all tables.
    pub(super) async fn described_at_home(&mut self, asked: &Asked<'_>) -> Result<Described, Fault> {
        let mut members = self.assemble(&[self.database.topology.home]).await?;
        let described = self.describe_on_first(&mut members, asked, &[asked.text]).await;
        self.disband(members);
        Ok(described?.pop_front().ok_or_else(misdescribed)?)
    }

    /// Where a part of the client's statement goes, if it is of this kind.
    async fn inner(&mut self, asked: &Asked<'_>, original: &Described, kind: Kind) -> Result<Inner, Fault> {
        let context = self.context()?;
        let mut lexed = Lexed::default();
        let shape = self.shape_with(asked.text, &mut lexed, context, self.standard_conforming_strings)?;
        let access = if kind == Kind::Query { Access::Read } else { Access::Write };
        match &shape.statements[..] {
            [only] if only.kind == kind && only.access == access && only.pin.is_none() => {}
            _ => {
                return Err(ClientError::refused(
                    "a part of the statement would have to be run apart from it, and does more than that",
                    "Run it as a statement of its own first.",
                )
                .into());
            }
        }
        let parameters =
            Parameters::parse(asked.parameters, &original.parameters).map_err(ClientError::from)?;
        // What the client hears of its route is its own statement's.
        let (last, access) = (std::mem::take(&mut self.last_route), self.access_kind);
        let destination = self.route(&shape, asked.text, &lexed, &parameters);
        (self.last_route, self.access_kind) = (last, access);
        Ok(match destination? {
            Destination::One(shard) => Inner { shape, shards: vec![shard], why: None },
            Destination::Several(shards, why) => Inner { shape, shards, why: Some(why) },
        })
    }

    async fn read_inner(&mut self, asked: &Asked<'_>, inner: &Inner) -> Result<(), Fault> {
        let [statement] = &inner.shape.statements[..] else { return Err(misdescribed().into()) };
        let plan = match inner.why {
            Some(why) => self.plan(statement, asked, why)?,
            None => {
                let sql = String::from_utf8_lossy(asked.text).into_owned();
                Plan::Merge(Merge { sql, sort: Vec::new(), limit: None, offset: None })
            }
        };
        Box::pin(self.run_query(asked, &plan, &inner.shards)).await
    }

    async fn change_inner(
        &mut self,
        asked: &Asked<'_>,
        inner: &Inner,
        flow: &mut Collect,
    ) -> Result<Vec<Member>, Fault> {
        let [statement] = &inner.shape.statements[..] else { return Err(misdescribed().into()) };
        let Some(why) = inner.why else {
            let text = String::from_utf8_lossy(asked.text);
            return self.change(asked, &Texts::Same(&text), flow, &inner.shards).await;
        };
        match self.plan(statement, asked, why)? {
            Plan::Each(each) => self.change(asked, &Texts::Same(&each.sql), flow, &inner.shards).await,
            Plan::Split(split) => {
                let (shards, _, texts) = self.split_texts(&inner.shape, asked, &split).await?;
                self.change(asked, &Texts::Own(texts), flow, &shards).await
            }
            Plan::Replicate(Replicate::Same(each)) => {
                super::write::refuse_clocks(asked, 1..=asked.count)?;
                let mut first = OfFirst(flow);
                let members = self.change(asked, &Texts::Same(&each.sql), &mut first, &inner.shards).await?;
                let tag = tags(&members).next().unwrap_or_default().to_owned();
                self.undo_unless_alike(members, &tag).await
            }
            _ => Err(ClientError::refused(
                "a change that needs rows of other shards cannot be folded in the same statement",
                "Return the rows themselves (RETURNING), and fold or sort them in the application.",
            )
            .into()),
        }
    }
}

/// The types of a statement's parameters and its `Bind`: the client's own, then columns.
fn given(
    asked: &Asked<'_>,
    original: &Described,
    types: &[u32],
    columns: &[Column],
) -> Result<(Vec<u8>, Buffer), Fault> {
    let mut parameters = original.parameters.clone();
    let mut arrays = Vec::with_capacity(columns.len());
    for (column, element) in columns.iter().zip(types) {
        parameters.push(array_type(*element).ok_or_else(misdescribed)?);
        arrays.push(column.array(*element));
    }
    let bound = asked.bound_with(&arrays).ok_or_else(misdescribed)?;
    Ok((type_bytes(&parameters), bound))
}

fn too_much() -> ClientError {
    ClientError::error(
        SqlState::LIMIT,
        "the rows that other shards need do not fit into routing.gather_memory",
    )
    .with_hint("Add conditions, join on the key, or raise routing.gather_memory.")
}

/// Messages that lie one behind the other.
fn frames<'b>(
    buffers: impl Iterator<Item = &'b [u8]>,
) -> impl Iterator<Item = Result<&'b [u8], ClientError>> {
    buffers.flat_map(|mut rest| {
        std::iter::from_fn(move || {
            let head = wire::header(rest).map_err(|_| misdescribed()).transpose()?;
            Some(head.and_then(|head| {
                let (frame, behind) = rest.split_at_checked(head.len).ok_or_else(misdescribed)?;
                rest = behind;
                Ok(frame)
            }))
        })
    })
}

/// The column of a query that says whose a row is.
struct KeyColumn {
    at: usize,
    oid: u32,
}

impl KeyColumn {
    fn of(at: usize, key_type: KeyType, types: &[u32]) -> Result<KeyColumn, ClientError> {
        let oid = types.get(at).copied().ok_or_else(|| {
            ClientError::refused(
                "the query of the INSERT does not yield the table's key",
                "Name the columns, the key among them.",
            )
        })?;
        let fits = match key_type {
            KeyType::Integer => matches!(oid, 20 | 21 | 23),
            KeyType::Text => matches!(oid, 19 | 25 | 1043),
            KeyType::Uuid => oid == 2950,
        };
        if fits {
            return Ok(KeyColumn { at, oid });
        }
        Err(ClientError::refused(
            "the key that the query of the INSERT yields is of another type than the table's",
            "Cast it to the type of the key column.",
        ))
    }

    /// A row's key as a text; `None` is NULL.
    fn text(&self, body: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        let value = row::values(body).map_err(malformed)?.nth(self.at).ok_or_else(misdescribed)?;
        let Some(value) = value.map_err(malformed)? else { return Ok(None) };
        let integer = |number: i64| number.to_string().into_bytes();
        let text = match self.oid {
            20 => value.try_into().ok().map(i64::from_be_bytes).map(integer),
            21 => value.try_into().ok().map(i16::from_be_bytes).map(|number| integer(number.into())),
            23 => value.try_into().ok().map(i32::from_be_bytes).map(|number| integer(number.into())),
            2950 => Some(value.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()),
            _ => Some(value.to_vec()),
        };
        text.map(Some).ok_or_else(misdescribed)
    }
}

/// All servers return the same rows.
struct OfFirst<'f>(&'f mut Collect);

impl Flow for OfFirst<'_> {
    fn wants(&self) -> super::drive::Wants {
        self.0.wants()
    }

    fn row(
        &mut self,
        at: usize,
        branch: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<bool, ClientError> {
        if at == 0 { self.0.row(at, branch, frame, out) } else { Ok(true) }
    }

    fn end(&mut self, at: usize) {
        self.0.end(at);
    }
}
