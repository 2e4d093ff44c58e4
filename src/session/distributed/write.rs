//! Changes that each shard makes to its own rows, or to its own schema.

use super::Fault;
use super::ask::{Asked, put_formats, type_bytes};
use super::drive::{Discard, Flow, Wants, tags};
use super::rows::{Described, Rows, misdescribed};
use super::team::Member;
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, put_description};
use crate::ring::ShardId;
use crate::route::{self, Parameters, Request};
use crate::session::state::Session;
use crate::sql::distribute::{
    Combine, Each, Replicate, RowKey, Split, array_type, made_table, tells_the_time,
};
use crate::sql::{Kind, Lexed, Shape, Statement};
use crate::txn::Phase;
use crate::wire::{self, Buffer, Format};
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// What each of the servers runs.
pub(super) enum Texts<'t> {
    /// All of them the same.
    Same(&'t str),
    /// One for each.
    Own(Vec<String>),
}

impl Texts<'_> {
    fn of(&self, member: usize) -> &str {
        match self {
            Texts::Same(text) => text,
            Texts::Own(texts) => texts.get(member).map_or("", String::as_str),
        }
    }
}

/// What one server runs.
pub(super) struct Part<'p> {
    pub text: &'p str,
    /// The types of its parameters.
    pub types: &'p [u8],
    /// What its `Bind` has behind its names.
    pub bound: &'p Buffer,
}

/// Who takes part in a split `INSERT`, who owns each row, and what each of the first runs.
type Parts = (Vec<ShardId>, Vec<ShardId>, Vec<String>);

impl Session {
    pub(super) async fn change_each(
        &mut self,
        statement: &Statement,
        asked: &Asked<'_>,
        each: &Each,
        shards: &[ShardId],
        one_by_one: bool,
    ) -> Result<(), Fault> {
        if one_by_one && self.tx.phase() == Phase::Idle {
            return self.change_one_by_one(asked, each, shards).await;
        }
        let mut rows = Rows::unordered();
        let mut members = self.change(asked, &Texts::Same(&each.sql), &mut rows, shards).await?;
        let tag = sum_of_tags(&members);
        // What each says of the same change of the schema is said once.
        let alike = matches!(statement.kind, Kind::Ddl | Kind::Maintenance | Kind::Other);
        self.pass_all_asides_on(&mut members, alike);
        self.end_change(members).await?;
        if statement.kind == Kind::Ddl {
            self.batch.schema_changed = true;
            self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
            if self.tx.phase() != Phase::Idle {
                self.tx.rebuild();
                let made = made_table(asked.text, self.standard_conforming_strings);
                // What is configured is known before it is there.
                let known = self.schema()?;
                self.made.extend(made.filter(|name| known.named(name).next().is_none()));
            }
        }
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// An `INSERT` split by the owners of its rows.
    pub(super) async fn split(
        &mut self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        split: &Split,
    ) -> Result<(), Fault> {
        let (shards, owners, texts) = self.split_texts(shape, asked, split).await?;
        if let ([_, _, ..], [statement]) = (&shards[..], &shape.statements[..]) {
            self.may_cross(statement, true)?;
        }
        let texts = Texts::Own(texts);
        let members = if split.returns && split.returns_each {
            let at = |owner: &ShardId| shards.iter().position(|shard| shard == owner).unwrap_or_default();
            let order = owners.iter().map(at).collect();
            self.change(asked, &texts, &mut InOrder::of(order), &shards).await?
        } else {
            self.change(asked, &texts, &mut Rows::unordered(), &shards).await?
        };
        let tag = sum_of_tags(&members);
        self.end_change(members).await?;
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// The shards that have a part in it, the owner of each row, and what each of the shards runs.
    pub(super) async fn split_texts(
        &mut self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        split: &Split,
    ) -> Result<Parts, Fault> {
        Ok(parts(self.row_owners(shape, asked, split).await?, split))
    }

    /// Who owns each of the rows.
    async fn row_owners(
        &mut self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        split: &Split,
    ) -> Result<Vec<ShardId>, Fault> {
        let known = self.known_owners(shape, asked, split)?;
        if known.iter().all(Option::is_some) {
            return Ok(known.into_iter().flatten().collect());
        }
        let mut computed = self.computed_owners(asked, split, known.iter().copied().flatten().next()).await?;
        let owners = known.into_iter().map(|known| known.or_else(|| computed.pop_front()));
        Ok(owners.collect::<Option<_>>().ok_or_else(misdescribed)?)
    }

    /// Who owns the rows whose key stands in the text or is a parameter.
    fn known_owners(
        &self,
        shape: &Rc<Shape>,
        asked: &Asked<'_>,
        split: &Split,
    ) -> Result<Vec<Option<ShardId>>, Fault> {
        let mut lexed = Lexed::default();
        lexed
            .lex(asked.text, self.standard_conforming_strings)
            .map_err(|error| ClientError::error(SqlState::SYNTAX, format!("syntax error: {error}")))?;
        let oids: Vec<u32> =
            asked.types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid)).collect();
        let parameters = Parameters::parse(asked.parameters, &oids).map_err(ClientError::from)?;
        let request = Request {
            shape,
            text: asked.text,
            lexed: &lexed,
            parameters: &parameters,
            topology: &self.database.topology,
            key_type: self.key_type,
            same_encoding: self.same_encoding,
            session_hints: &self.own.hints,
            transaction_shard: None,
        };
        let owners = split.rows.iter().map(|(_, key)| match key {
            RowKey::Known(source) => route::owner(&request, source).map(Some),
            RowKey::Computed { .. } => Ok(None),
        });
        Ok(owners.collect::<Result<_, ClientError>>()?)
    }

    /// A write to every copy of a reference table.
    pub(super) async fn replicate(
        &mut self,
        asked: &Asked<'_>,
        replicate: &Replicate,
        shards: &[ShardId],
    ) -> Result<(), Fault> {
        let tag = match replicate {
            Replicate::Same(each) => {
                refuse_clocks(asked, 1..=asked.count)?;
                let mut rows = FirstOnly;
                let mut members = self.change(asked, &Texts::Same(&each.sql), &mut rows, shards).await?;
                self.pass_all_asides_on(&mut members, true);
                let tag = tags(&members).next().unwrap_or_default().to_owned();
                let members = self.undo_unless_alike(members, &tag).await?;
                self.end_change(members).await?;
                tag
            }
            Replicate::Insert { .. } => {
                let mut members = self.assemble(shards).await?;
                // Sequences are the home shard's.
                let home = self.database.topology.home;
                if let Some(at) = members.iter().position(|member| member.held.shard == home) {
                    members.swap(0, at);
                }
                let outcome = self.replicate_rows(asked, replicate, &mut members).await;
                let members = self.undo_if_failed(members, &outcome).await?;
                let tag = outcome?;
                self.end_change(members).await?;
                tag
            }
        };
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// The copies of a reference table have all been changed in the same way: each has this tag.
    pub(super) async fn undo_unless_alike(
        &mut self,
        members: Vec<Member>,
        tag: &str,
    ) -> Result<Vec<Member>, Fault> {
        if tags(&members).all(|other| other == tag) {
            return Ok(members);
        }
        self.undo_change(members).await?;
        Err(ClientError::refused(
            "the shards' copies of the reference table are not alike",
            "Compare the table's rows on each shard, with a hint /* pgring: shard=NAME */.",
        )
        .into())
    }

    /// One server inserts, the others are given its rows.
    async fn replicate_rows(
        &mut self,
        asked: &Asked<'_>,
        replicate: &Replicate,
        members: &mut Vec<Member>,
    ) -> Result<String, Fault> {
        let Replicate::Insert { first, others_head, others_tail, columns, returning } = replicate else {
            return Err(misdescribed().into());
        };
        let texts = [asked.text, first.as_bytes()];
        let mut described = self.describe_on_first(members, asked, &texts).await?;
        let (original, run) = match (described.pop_front(), described.pop_front()) {
            (Some(original), Some(run)) if run.fields.len() == *columns => (original, run),
            _ => return Err(misdescribed().into()),
        };
        let types: Vec<u32> = run.fields.iter().map(|field| field.oid).collect();
        let arrays: Option<Vec<u32>> = types.iter().map(|oid| array_type(*oid)).collect();
        let Some(array_types) = arrays else {
            return Err(ClientError::refused(
                "rows with columns of user-defined types cannot be given to every shard alike",
                "Give constants for all columns, so that every shard can run the same INSERT.",
            )
            .into());
        };
        self.begin_implicitly(members).await?;
        let mut collected = self.collect(asked, *columns);
        let mut rest = members.split_off(1.min(members.len()));
        for member in members.iter_mut() {
            self.ask_to_run(member, first.as_bytes(), &original.parameters, &collected.bound);
        }
        let inserted = self.drive(members, &mut collected, false).await;
        let tag = tags(members).next().unwrap_or_default().to_owned();
        if inserted.is_ok() && collected.rows > 0 {
            let arguments: Vec<String> = (1..=*columns).map(|number| format!("${number}")).collect();
            let text = format!("{others_head}{}{others_tail}", arguments.join(", "));
            let values: Vec<Vec<u8>> =
                collected.columns.iter().zip(&types).map(|(column, oid)| column.array(*oid)).collect();
            let bound = Asked::simple(b"").bound_with(&values).ok_or_else(misdescribed)?;
            for member in &mut rest {
                self.ask_to_run(member, text.as_bytes(), &array_types, &bound);
            }
            let copied = self.drive(&mut rest, &mut Discard, false).await;
            members.append(&mut rest);
            copied?;
        }
        members.append(&mut rest);
        inserted?;
        if !returning.is_empty() {
            let combine = Combine { fetch: String::new(), columns: Vec::new(), finish: returning.clone() };
            let finish = combine.render_pieces(&types, original.parameters.len()).ok_or_else(misdescribed)?;
            let columns = &collected.columns;
            self.finish_on_first(asked, &original, &finish, &types, columns, members).await?;
        }
        Ok(tag)
    }

    /// Has each of the servers run its text, in one transaction each; the servers, which have all
    /// done so.
    pub(super) async fn change(
        &mut self,
        asked: &Asked<'_>,
        texts: &Texts<'_>,
        flow: &mut dyn Flow,
        shards: &[ShardId],
    ) -> Result<Vec<Member>, Fault> {
        let mut members = self.assemble(shards).await?;
        let outcome = self.change_on(asked, texts, flow, &mut members).await;
        let members = self.undo_if_failed(members, &outcome).await?;
        outcome.map(|()| members)
    }

    async fn change_on(
        &mut self,
        asked: &Asked<'_>,
        texts: &Texts<'_>,
        flow: &mut dyn Flow,
        members: &mut Vec<Member>,
    ) -> Result<(), Fault> {
        let described = self.describe_on_first(members, asked, &[asked.text]).await?.pop_front();
        let described = described.ok_or_else(misdescribed)?;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        let formats: Vec<Format> = (0..described.fields.len()).map(|column| asked.format(column)).collect();
        put_formats(&mut bound, formats.iter().copied());
        let types = type_bytes(&described.parameters);
        let part = |at| Part { text: texts.of(at), types: &types, bound: &bound };
        let parts: Vec<Part<'_>> = (0..members.len()).map(part).collect();
        self.run_parts(asked, &described, &parts, flow, members).await
    }

    /// Has each of the servers run its part, in a transaction each.
    pub(super) async fn run_parts(
        &mut self,
        asked: &Asked<'_>,
        described: &Described,
        parts: &[Part<'_>],
        flow: &mut dyn Flow,
        members: &mut Vec<Member>,
    ) -> Result<(), Fault> {
        self.enlist(members).await?;
        for (member, part) in members.iter_mut().zip(parts) {
            let mut branch = std::mem::take(&mut member.branch);
            let mut asking = self.asking_to_change(member);
            asking.execute(part.text.as_bytes(), part.types, part.bound).sync(&mut branch);
            member.branch = branch;
        }
        if asked.describes && !described.fields.is_empty() {
            put_description(&mut self.outbox, &described.fields, &[]);
        }
        self.drive(members, flow, false).await
    }

    /// Opens a transaction on each of the servers, if the client has none, for what changes them all.
    async fn begin_implicitly(&mut self, members: &mut Vec<Member>) -> Result<(), Fault> {
        self.enlist(members).await?;
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            self.asking_to_change(member).sync(&mut branch);
            member.branch = branch;
        }
        self.drive(members, &mut Discard, false).await
    }

    /// The change stands: outside a transaction of the client's it is committed.
    pub(super) async fn end_change(&mut self, mut members: Vec<Member>) -> Result<(), Fault> {
        let outcome = if self.tx.phase() == Phase::Idle { self.commit(&mut members).await } else { Ok(()) };
        self.disband(members);
        outcome
    }

    /// As [`Session::end_change`], of a `COPY`: of a pipeline's the end is the `Sync` behind its data.
    pub(super) async fn end_copied(&mut self, members: Vec<Member>) -> Result<(), Fault> {
        if self.batch.is_begun() {
            self.disband(members);
            return Ok(());
        }
        self.end_change(members).await
    }

    pub(super) async fn undo_change(&mut self, mut members: Vec<Member>) -> Result<(), Fault> {
        let outcome = if self.tx.phase() == Phase::Idle {
            self.tx.forget_writers();
            self.roll_back(&mut members).await
        } else {
            Ok(())
        };
        self.disband(members);
        outcome
    }

    pub(super) async fn undo_if_failed<T>(
        &mut self,
        members: Vec<Member>,
        outcome: &Result<T, Fault>,
    ) -> Result<Vec<Member>, Fault> {
        if outcome.is_ok() {
            return Ok(members);
        }
        self.undo_change(members).await?;
        Ok(Vec::new())
    }

    /// What cannot run in a transaction: one shard after the other. What is done stays done.
    async fn change_one_by_one(
        &mut self,
        asked: &Asked<'_>,
        each: &Each,
        shards: &[ShardId],
    ) -> Result<(), Fault> {
        let mut done: Vec<&str> = Vec::new();
        let mut tag = String::new();
        let database = std::sync::Arc::clone(&self.database);
        for shard in shards {
            let name = database.topology.name(*shard);
            let mut members = self.assemble(&[*shard]).await?;
            let mut bound = Buffer::new();
            bound.put(&[0; 6]);
            for member in &mut members {
                let mut branch = std::mem::take(&mut member.branch);
                self.asking(member).execute(each.sql.as_bytes(), asked.types, &bound).sync(&mut branch);
                member.branch = branch;
            }
            let mut rows = Rows::unordered();
            let outcome = self.drive(&mut members, &mut rows, false).await;
            tag = sum_of_tags(&members);
            self.disband(members);
            match outcome {
                Ok(()) => done.push(name),
                Err(fault) => return Err(self.unfinished(fault, name, &done, shards)),
            }
        }
        self.batch.schema_changed = true;
        self.database.schema_changes.fetch_add(1, Ordering::SeqCst);
        wire::put_complete(&mut self.outbox, &tag);
        Ok(())
    }

    /// Which shards have run it, and how to go on.
    fn unfinished(&self, fault: Fault, failed: &str, done: &[&str], shards: &[ShardId]) -> Fault {
        let topology = &self.database.topology;
        let left = shards.iter().skip(done.len() + 1).map(|shard| topology.name(*shard));
        let left: Vec<&str> = left.collect();
        let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let detail = format!(
            "It failed on shard {failed}. It has run on: {}. It has not been tried on: {}.",
            list(done),
            list(&left)
        );
        let hint = "Mend the cause, then run it on the shards that lack it, each with a hint \
                    /* pgring: shard=NAME */.";
        match fault {
            Fault::End(end) => Fault::End(end),
            Fault::Own(error) => {
                Fault::Own(ClientError { detail: Some(detail.into()), hint: Some(hint.into()), ..error })
            }
            Fault::Frame(frame) => Fault::Frame(told_with(&frame, &detail, hint)),
        }
    }
}

/// `UPDATE 3` and `UPDATE 4` are `UPDATE 7`; a tag without a number is the first one's.
pub(super) fn sum_of_tags(members: &[Member]) -> String {
    let Some(first) = tags(members).next() else { return String::new() };
    let counts: u64 = members.iter().map(|member| member.branch.count()).sum();
    match first.rsplit_once(' ') {
        Some((words, number)) if number.bytes().all(|b| b.is_ascii_digit()) => format!("{words} {counts}"),
        _ => first.to_owned(),
    }
}

fn parts(owners: Vec<ShardId>, split: &Split) -> Parts {
    let mut shards = owners.clone();
    shards.sort_by_key(|shard| shard.index());
    shards.dedup();
    let rows_of = |shard: &ShardId| {
        let own = owners.iter().enumerate().filter(|(_, owner)| *owner == shard);
        own.map(|(row, _)| row).collect::<Vec<usize>>()
    };
    let texts = shards.iter().map(|shard| split.text(rows_of(shard))).collect();
    (shards, owners, texts)
}

/// A server's error with another detail and hint.
fn told_with(frame: &[u8], detail: &str, hint: &str) -> Box<[u8]> {
    let fields = frame.get(wire::HEADER_LEN..).unwrap_or_default().split(|byte| *byte == 0);
    let kept = fields.filter(|field| !matches!(field.first(), None | Some(b'D' | b'H')));
    let mut told = Buffer::new();
    wire::put_frame(&mut told, b'E', |out| {
        kept.for_each(|field| wire::put_cstr(out, field));
        for (code, text) in [(b'D', detail), (b'H', hint)] {
            out.put(&[code]);
            wire::put_cstr(out, text.as_bytes());
        }
        out.put(&[0]);
    });
    told.filled().into()
}

/// A parameter such as `'now'` is another moment on each shard.
pub(super) fn refuse_clocks(
    asked: &Asked<'_>,
    mut parameters: impl Iterator<Item = u16>,
) -> Result<(), ClientError> {
    let told = |number| matches!(asked.parameter(number), Some((text, Format::Text)) if tells_the_time(text));
    if parameters.any(told) {
        return Err(ClientError::refused(
            "a parameter that stands for the current time may be another moment on each shard",
            "Give the time itself.",
        ));
    }
    Ok(())
}

/// Rows that `INSERT … RETURNING` gives back, in the order of `VALUES`.
pub(super) struct InOrder {
    /// Whose each row is.
    order: Vec<usize>,
    next: usize,
}

impl InOrder {
    /// By the members whose each row is.
    pub(super) fn of(order: Vec<usize>) -> InOrder {
        InOrder { order, next: 0 }
    }
}

impl Flow for InOrder {
    fn wants(&self) -> Wants {
        self.order.get(self.next).map_or(Wants::Any, |member| Wants::Of(*member))
    }

    fn row(
        &mut self,
        member: usize,
        _: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<bool, ClientError> {
        if self.order.get(self.next) != Some(&member) {
            return Err(misdescribed());
        }
        out.put(frame);
        self.next += 1;
        Ok(true)
    }

    fn end(&mut self, member: usize) {
        // An error, or a rule of the table's: the others need not wait.
        if self.order[self.next..].contains(&member) {
            self.next = self.order.len();
        }
    }
}

/// Every shard returns the same rows.
pub(super) struct FirstOnly;

impl Flow for FirstOnly {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(
        &mut self,
        member: usize,
        _: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<bool, ClientError> {
        if member == 0 {
            out.put(frame);
        }
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}
