//! [`Combine`]: the shards' partial results, folded by one of them.

use super::ask::{Asked, put_formats, type_bytes};
use super::drive::{Flow, Wants};
use super::rows::{Described, Rows, malformed, misdescribed};
use super::team::Member;
use super::{Fault, Inexact};
use crate::error::{ClientError, SqlState};
use crate::execute::Branch;
use crate::merge::array::Column;
use crate::merge::row;
use crate::ring::ShardId;
use crate::session::state::Session;
use crate::sql::distribute::{Combine, array_type};
use crate::wire::{Buffer, Format, HEADER_LEN};

impl Session {
    pub(super) async fn combine(
        &mut self,
        asked: &Asked<'_>,
        combine: &Combine,
        shards: &[ShardId],
    ) -> Result<Option<Inexact>, Fault> {
        let mut members = self.assemble(shards).await?;
        let outcome = self.combine_on(asked, combine, &mut members).await;
        self.disband(members);
        outcome
    }

    async fn combine_on(
        &mut self,
        asked: &Asked<'_>,
        combine: &Combine,
        members: &mut Vec<Member>,
    ) -> Result<Option<Inexact>, Fault> {
        let texts = [asked.text, combine.fetch.as_bytes()];
        let mut described = self.describe_on_first(members, asked, &texts).await?;
        let (original, fetch) = match (described.pop_front(), described.pop_front()) {
            (Some(original), Some(fetch)) => (original, fetch),
            _ => return Err(misdescribed().into()),
        };
        let types: Vec<u32> = fetch.fields.iter().map(|field| field.oid).collect();
        let Some(finish) = combine.render(&types, original.parameters.len()) else {
            return Ok(Some(Inexact));
        };
        let mut collected = self.collect(asked, types.len());
        for member in members.iter_mut() {
            self.ask_to_run(member, combine.fetch.as_bytes(), &original.parameters, &collected.bound);
        }
        self.drive(members, &mut collected, false).await?;
        let columns = &collected.columns;
        let rows = self.finish_on_first(asked, &original, &finish, &types, columns, members).await?;
        if let Some(rows) = rows {
            self.pass_all_asides_on(members, false);
            rows.complete(&mut self.outbox);
        }
        Ok(None)
    }

    /// A flow that keeps all rows, and the `Bind` by which they are asked for.
    pub(super) fn collect(&self, asked: &Asked<'_>, columns: usize) -> Collect {
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, [Format::Binary].into_iter());
        let limit = self.directory.routing.gather_memory_bytes;
        Collect { columns: vec![Column::default(); columns], rows: 0, bytes: 0, limit, bound }
    }

    /// Has a server run a text whose parameters have these types.
    pub(super) fn ask_to_run(&mut self, member: &mut Member, sql: &[u8], types: &[u32], bound: &Buffer) {
        let mut branch = std::mem::take(&mut member.branch);
        self.asking(member).execute(sql, &type_bytes(types), bound).sync(&mut branch);
        member.branch = branch;
    }

    /// Runs the text that folds the columns on the first of the servers, for the client.
    pub(super) async fn finish_on_first(
        &mut self,
        asked: &Asked<'_>,
        original: &Described,
        finish: &str,
        element_types: &[u32],
        columns: &[Column],
        members: &mut Vec<Member>,
    ) -> Result<Option<Rows>, Fault> {
        let mut types = original.parameters.clone();
        let mut arrays = Vec::with_capacity(columns.len());
        for (column, element) in columns.iter().zip(element_types) {
            types.push(array_type(*element).ok_or_else(misdescribed)?);
            arrays.push(column.array(*element));
        }
        let bound = asked.bound_with(&arrays).ok_or_else(misdescribed)?;
        let mut rest = members.split_off(1.min(members.len()));
        for member in members.iter_mut() {
            self.ask_to_run_described(member, finish.as_bytes(), &types, &bound);
        }
        let outcome = self.take_answer(asked, &original.fields, members).await;
        members.append(&mut rest);
        outcome
    }

    /// As [`Session::ask_to_run`]; the result is described before its first row.
    pub(super) fn ask_to_run_described(
        &mut self,
        member: &mut Member,
        sql: &[u8],
        types: &[u32],
        bound: &Buffer,
    ) {
        let mut branch = std::mem::take(&mut member.branch);
        let types = type_bytes(types);
        self.asking(member).execute_described(sql, &types, bound).sync(&mut branch);
        member.branch = branch;
    }
}

/// All rows, by column.
pub(super) struct Collect {
    pub(super) columns: Vec<Column>,
    pub(super) rows: u64,
    bytes: u64,
    limit: u64,
    pub(super) bound: Buffer,
}

impl Flow for Collect {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, _: usize, _: &Branch, frame: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        self.bytes += frame.len() as u64;
        if self.bytes > self.limit {
            return Err(ClientError::error(
                SqlState::LIMIT,
                "the shards' partial results do not fit into routing.gather_memory",
            )
            .with_hint("Group by fewer values, add a condition, or raise routing.gather_memory."));
        }
        let values = row::values(&frame[HEADER_LEN..]).map_err(malformed)?;
        if usize::from(values.left()) != self.columns.len() {
            return Err(misdescribed());
        }
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(value.map_err(malformed)?);
        }
        self.rows += 1;
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}
