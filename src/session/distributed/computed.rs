//! Keys that a server computes before it is known where their rows belong.
//!
//! The row is then stored as the client wrote it: its expression comes to the same there (or
//! analysis has refused it), and whatever PostgreSQL says against a value or its type, it says.

use super::Fault;
use super::ask::{Asked, put_formats};
use super::drive::{Flow, Wants};
use super::rows::{malformed, misdescribed};
use super::team::Member;
use super::write::refuse_clocks;
use crate::error::ClientError;
use crate::execute::Branch;
use crate::merge::row;
use crate::ring::ShardId;
use crate::route;
use crate::session::state::Session;
use crate::sql::distribute::{RowKey, Split};
use crate::wire::{Buffer, Format, HEADER_LEN, TxStatus};
use std::collections::VecDeque;

impl Session {
    /// Who owns those of the rows whose key has to be computed. A transaction of the client's does it
    /// where it is already, or on `likely`, which it will come to.
    pub(super) async fn computed_owners(
        &mut self,
        asked: &Asked<'_>,
        split: &Split,
        likely: Option<ShardId>,
    ) -> Result<VecDeque<ShardId>, Fault> {
        let mut values = Vec::new();
        for (_, key) in &split.rows {
            let RowKey::Computed { sql, parameters } = key else { continue };
            refuse_clocks(asked, parameters.iter().copied())?;
            // A line of its own: nothing in the expression can reach beyond it.
            values.push(format!("(CAST((\n{sql}\n) AS {})::text)", split.key_column));
        }
        let text = format!("VALUES {}", values.join(", "));
        let open = self.held.iter().chain(&self.parked).find(|held| held.lease.status != TxStatus::Idle);
        let shard = open.map(|held| held.shard).or(likely).unwrap_or(self.favourite);
        let mut members = self.assemble(&[shard]).await?;
        let outcome = self.compute(asked, &text, &mut members).await;
        self.disband(members);
        let keys = outcome?;
        if keys.len() != values.len() {
            return Err(misdescribed().into());
        }
        let topology = &self.database.topology;
        let owner = |key: &Option<Box<[u8]>>| {
            route::computed_owner(topology, split.key_type, self.same_encoding, key.as_deref())
        };
        Ok(keys.iter().map(owner).collect::<Result<_, ClientError>>()?)
    }

    async fn compute(
        &mut self,
        asked: &Asked<'_>,
        text: &str,
        members: &mut Vec<Member>,
    ) -> Result<Vec<Option<Box<[u8]>>>, Fault> {
        // The parameters' types are those that they have in the client's own statement.
        let described = self.describe_on_first(members, asked, &[asked.text]).await?.pop_front();
        let described = described.ok_or_else(misdescribed)?;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, [Format::Text].into_iter());
        for member in members.iter_mut() {
            self.ask_to_run(member, text.as_bytes(), &described.parameters, &bound);
        }
        let mut keys = Keys(Vec::new());
        self.drive(members, &mut keys, false).await?;
        Ok(keys.0)
    }
}

/// The only column's values.
struct Keys(Vec<Option<Box<[u8]>>>);

impl Flow for Keys {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, _: usize, _: &Branch, frame: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        let mut values = row::values(&frame[HEADER_LEN..]).map_err(malformed)?;
        let value = values.next().ok_or_else(misdescribed)?.map_err(malformed)?;
        self.0.push(value.map(Into::into));
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}
