//! [`Merge`]: the shards' rows are the answer's.

use super::ask::{Asked, put_formats, type_bytes};
use super::drive::{Discard, Flow, Wants, tags};
use super::team::Member;
use super::{Fault, Inexact};
use crate::error::{ClientError, SqlState};
use crate::execute::{Branch, Field, ResultShape, put_description};
use crate::merge::order::SortType;
use crate::merge::{Merger, Next, row};
use crate::ring::ShardId;
use crate::session::state::Session;
use crate::sql::distribute::{Count, Merge, SortKey};
use crate::wire::{self, Buffer, Format, HEADER_LEN};
use std::collections::VecDeque;

/// What a server says of a statement.
pub(super) struct Described {
    pub parameters: Vec<u32>,
    pub fields: Vec<Field>,
}

impl Described {
    /// As [`Prepared::result`](crate::session::prepared::Prepared::result) has it.
    pub(super) fn result_shape(&self) -> Option<u64> {
        if self.fields.is_empty() {
            return Some(ResultShape::NONE);
        }
        let mut told = Buffer::new();
        put_description(&mut told, &self.fields, &[]);
        wire::result_shape(told.filled().get(HEADER_LEN..)?)
    }
}

impl Session {
    /// What the first of the servers says of these texts; the first one is the client's own. So its
    /// errors are PostgreSQL's, with their positions.
    pub(super) async fn describe_on_first(
        &mut self,
        members: &mut Vec<Member>,
        asked: &Asked<'_>,
        texts: &[&[u8]],
    ) -> Result<VecDeque<Described>, Fault> {
        if asked.count == 0 {
            return self.describe_all(members, asked, texts, asked.types).await;
        }
        // The others may not use each of the parameters: their types are those of the client's text.
        let mut described = self.describe_all(members, asked, &texts[..1], asked.types).await?;
        if texts.len() > 1 {
            let types = type_bytes(&described[0].parameters);
            described.extend(self.describe_all(members, asked, &texts[1..], &types).await?);
        }
        Ok(described)
    }

    async fn describe_all(
        &mut self,
        members: &mut Vec<Member>,
        asked: &Asked<'_>,
        texts: &[&[u8]],
        types: &[u8],
    ) -> Result<VecDeque<Described>, Fault> {
        if members.is_empty() {
            return Err(super::super::simple::lost_at_once().into());
        }
        let mut first = vec![members.remove(0)];
        {
            let member = &mut first[0];
            let mut branch = std::mem::take(&mut member.branch);
            let mut asking = self.asking(member);
            for text in texts {
                asking.describe(text, types);
            }
            asking.sync(&mut branch);
            member.branch = branch;
        }
        let outcome = self.drive(&mut first, &mut Discard, false).await;
        let described = first.first_mut().map(|member| {
            let branch = &mut member.branch;
            let parameters = std::mem::take(&mut branch.parameters).into_iter();
            let fields = std::mem::take(&mut branch.fields).into_iter();
            parameters.zip(fields).map(|(parameters, fields)| Described { parameters, fields }).collect()
        });
        members.splice(0..0, first);
        outcome?;
        let described: VecDeque<Described> = described.unwrap_or_default();
        if described.len() != texts.len() {
            return Err(misdescribed().into());
        }
        if described[0].parameters.len() != usize::from(asked.count) {
            let words = format!(
                "bind message supplies {} parameters, but prepared statement \"\" requires {}",
                asked.count,
                described[0].parameters.len()
            );
            return Err(ClientError::error(SqlState::PROTOCOL, words).into());
        }
        if texts.first() == Some(&asked.text) {
            self.need_shape_as_told(asked, &described[0])?;
        }
        Ok(described)
    }

    /// A statement goes on having the result that its client was told, or is refused, as by
    /// PostgreSQL (`RevalidateCachedQuery`).
    fn need_shape_as_told(&self, asked: &Asked<'_>, described: &Described) -> Result<(), ClientError> {
        let Some(statement) = asked.prepared else { return Ok(()) };
        let told = statement.result.get();
        if told.is_none() || told == described.result_shape() {
            return Ok(());
        }
        // Whoever prepares it from now on gets to know the new one.
        self.worker.interner.borrow_mut().forget(statement);
        let error = ClientError::error(SqlState::REFUSED, "cached plan must not change result type");
        Err(ClientError { routine: Some("RevalidateCachedQuery"), ..error })
    }

    pub(super) async fn merge(
        &mut self,
        asked: &Asked<'_>,
        merge: &Merge,
        shards: &[ShardId],
    ) -> Result<Option<Inexact>, Fault> {
        let mut members = self.assemble(shards).await?;
        let outcome = self.merge_on(asked, merge, &mut members).await;
        self.disband(members);
        outcome
    }

    async fn merge_on(
        &mut self,
        asked: &Asked<'_>,
        merge: &Merge,
        members: &mut Vec<Member>,
    ) -> Result<Option<Inexact>, Fault> {
        let own = asked.text == merge.sql.as_bytes();
        let texts: &[&[u8]] = if own { &[asked.text] } else { &[asked.text, merge.sql.as_bytes()] };
        let mut described = self.describe_on_first(members, asked, texts).await?;
        let original = described.pop_front().ok_or_else(misdescribed)?;
        let run = described.pop_front();
        let run_fields = run.as_ref().map_or(&original.fields, |run| &run.fields);
        let shown = original.fields.len();
        let hidden = merge.sort.len();
        if run_fields.len() != shown + hidden {
            return Err(misdescribed().into());
        }
        let mut keys = Vec::with_capacity(hidden);
        for (key, field) in merge.sort.iter().zip(&run_fields[shown..]) {
            match SortType::of(field.oid, key.bytewise) {
                Some(kind) => keys.push((kind, *key)),
                None => return Ok(Some(Inexact)),
            }
        }
        let limit = self.row_count(asked, merge.limit, &original, "LIMIT")?;
        let offset = self.row_count(asked, merge.offset, &original, "OFFSET")?.unwrap_or(0);
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        let formats = (0..shown).map(|column| asked.format(column));
        let formats: Vec<Format> = formats.chain((0..hidden).map(|_| Format::Binary)).collect();
        put_formats(&mut bound, formats.iter().copied());
        let mut rows = Rows::new(keys, members.len(), offset, limit);
        if let Some(keep) = asked.keep.filter(|keep| !keep.whole) {
            let asked_for = (&*merge.sql, &*original.parameters, &bound);
            self.open_portals(keep, asked_for, (rows, original.fields), members).await?;
            return Ok(None);
        }
        let types = type_bytes(&original.parameters);
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            self.asking(member).execute(merge.sql.as_bytes(), &types, &bound).sync(&mut branch);
            member.branch = branch;
        }
        if asked.describes && shown > 0 {
            put_description(&mut self.outbox, &original.fields, &[]);
        }
        // Within a transaction a cancel would fail it.
        let hasty = self.tx.phase() == crate::txn::Phase::Idle;
        if let Some(keep) = asked.keep {
            self.keep_rows(keep, rows, &original.fields, members, hasty).await?;
            return Ok(None);
        }
        self.drive(members, &mut rows, hasty).await?;
        self.pass_all_asides_on(members, false);
        let plain = merge.sort.is_empty() && merge.limit.is_none() && merge.offset.is_none();
        match &members[..] {
            // It need not be a SELECT.
            [member] if plain => {
                let tag = tags(std::slice::from_ref(member)).next().unwrap_or_default().to_owned();
                wire::put_complete(&mut self.outbox, &tag);
            }
            _ => rows.complete(&mut self.outbox),
        }
        Ok(None)
    }

    /// What a `LIMIT` or `OFFSET` comes to.
    fn row_count(
        &self,
        asked: &Asked<'_>,
        count: Option<Count>,
        described: &Described,
        what: &str,
    ) -> Result<Option<u64>, Fault> {
        let number = match count {
            None => return Ok(None),
            Some(Count::Literal(count)) => return Ok(Some(count)),
            Some(Count::Param(number)) => number,
        };
        let Some((value, format)) = asked.parameter(number) else { return Ok(None) };
        let kind = described.parameters.get(usize::from(number).wrapping_sub(1));
        let read = match format {
            Format::Text => std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<i64>().ok()),
            Format::Binary => match (kind, value.len()) {
                (Some(20 | 21 | 23), 1..=8) => {
                    let sign = if value[0] & 0x80 == 0 { 0 } else { 0xff };
                    let mut bytes = [sign; 8];
                    bytes[8 - value.len()..].copy_from_slice(value);
                    Some(i64::from_be_bytes(bytes))
                }
                _ => None,
            },
        };
        match read {
            Some(count) if count >= 0 => Ok(Some(count.unsigned_abs())),
            Some(_) => {
                Err(ClientError::error(SqlState::new("2201W"), format!("{what} must not be negative")).into())
            }
            None => Err(ClientError::refused(
                format!("the parameter of {what} is not an integer"),
                "Give it as a bigint.",
            )
            .into()),
        }
    }
}

pub(super) fn misdescribed() -> ClientError {
    ClientError::error(SqlState::INTERNAL, "a shard describes the statement otherwise than it should")
}

/// Rows on their way to the client: merged by their keys, or as they come.
pub(super) struct Rows {
    merger: Option<Merger>,
    hidden: usize,
    offset: u64,
    limit: Option<u64>,
    /// The types its columns have to be of.
    expected: Vec<u32>,
    pub(super) emitted: u64,
}

impl Rows {
    /// As they come.
    pub(super) fn unordered() -> Rows {
        Rows::new(Vec::new(), 0, 0, None)
    }

    fn new(keys: Vec<(SortType, SortKey)>, members: usize, offset: u64, limit: Option<u64>) -> Rows {
        let hidden = keys.len();
        let merger = (hidden > 0).then(|| Merger::new(keys, members, offset, limit));
        Rows { merger, hidden, offset, limit, expected: Vec::new(), emitted: 0 }
    }

    /// As they come from a server whose columns have to be of these types.
    pub(super) fn like(fields: &[Field]) -> Rows {
        let mut rows = Rows::unordered();
        rows.expected = fields.iter().map(|field| field.oid).collect();
        rows
    }

    /// Says how it ended.
    pub(super) fn complete(&self, out: &mut Buffer) {
        wire::put_complete(out, &format!("SELECT {}", self.emitted));
    }

    /// A row as it came, or without its keys.
    fn emit(&mut self, frame: &[u8], out: &mut Buffer) -> Result<(), ClientError> {
        self.emitted += 1;
        if self.hidden == 0 {
            out.put(frame);
            return Ok(());
        }
        let body = &frame[HEADER_LEN..];
        let (count, end) = row::split(body, self.hidden).map_err(malformed)?;
        wire::put_frame(out, b'D', |out| {
            out.put(&count.to_be_bytes());
            out.put(&body[2..end]);
        });
        Ok(())
    }
}

impl Flow for Rows {
    fn wants(&self) -> Wants {
        match &self.merger {
            Some(merger) => match merger.next() {
                Next::Offer(member) | Next::Take(member) | Next::Skip(member) => Wants::Of(member),
                Next::Done => Wants::Nothing,
            },
            None if self.limit == Some(self.emitted) => Wants::Nothing,
            None => Wants::Any,
        }
    }

    fn row(
        &mut self,
        member: usize,
        branch: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<bool, ClientError> {
        if self.emitted == 0 && !self.expected.is_empty() {
            let found = branch.fields.last().map(|fields| fields.iter().map(|field| field.oid));
            if !found.is_some_and(|found| found.eq(self.expected.iter().copied())) {
                return Err(ClientError::refused(
                    "the statement's result would have other types than on one server",
                    "Add a condition on the key, or a hint /* pgring: shard=NAME */.",
                ));
            }
        }
        let Some(merger) = &mut self.merger else {
            if self.limit == Some(self.emitted) {
                return Ok(true);
            }
            if self.offset > 0 {
                self.offset -= 1;
            } else {
                self.emit(frame, out)?;
            }
            return Ok(true);
        };
        match merger.next() {
            Next::Offer(wanted) if wanted == member => {
                let body = &frame[HEADER_LEN..];
                let (_, at) = row::split(body, self.hidden).map_err(malformed)?;
                merger.offer(member, &body[at..]).map_err(malformed)?;
                Ok(false)
            }
            Next::Take(first) if first == member => {
                merger.taken();
                self.emit(frame, out)?;
                Ok(true)
            }
            Next::Skip(first) if first == member => {
                merger.taken();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn end(&mut self, member: usize) {
        if let Some(merger) = &mut self.merger {
            merger.end(member);
        }
    }
}

pub(super) fn malformed(error: row::Malformed) -> ClientError {
    ClientError::error(SqlState::INTERNAL, format!("a shard has sent {error}"))
}
