//! [`Gather`]: the rows a statement needs, copied to one PostgreSQL that runs it.
//!
//! That is a server of the home shard, in a transaction of its own that is rolled back at the end,
//! and the temporary tables with it. Outside a transaction of the client's it is also the one that
//! the home shard's own rows are read on; within one, rows are read where the transaction is, and a
//! second server of the home shard takes the copies: a transaction that has made temporary tables
//! could not be prepared.
//!
//! A binary `DataRow` and a row of binary `COPY` are the same bytes but for the message's type.

use super::Fault;
use super::ask::{Asked, put_formats, type_bytes};
use super::drive::{Discard, Flow, Wants};
use super::rows::{Described, misdescribed};
use super::team::Member;
use crate::backend::{Server, ServerError};
use crate::error::{ClientError, SqlState};
use crate::execute::Branch;
use crate::pool::Caller;
use crate::ring::ShardId;
use crate::session::reads::Servers;
use crate::session::state::Session;
use crate::sql::distribute::{Gather, Shadow, Source};
use crate::txn::{Change, Phase};
use crate::wire::{self, Buffer, Format, HEADER_LEN, TxStatus};
use std::task::{Context, Poll};

/// What waits for the server that takes the copies before its sources have to.
const TO_SINK_HIGH: usize = 256 * 1024;
/// From so many rows on a copy's statistics pay.
const WORTH_ANALYZING: u64 = 5_000;
/// The tables of a server are read one after the other, but as they were at one moment: that of the
/// first query.
pub(super) const SNAPSHOT: [&str; 2] = ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT"];
/// The server that takes the copies may wait for its own session's locks: no deadlock that
/// PostgreSQL would see.
const OWN_LOCKS_MS: u32 = 2_000;

impl Session {
    pub(super) async fn gather(
        &mut self,
        asked: &Asked<'_>,
        gather: &Gather,
        owners: &[ShardId],
    ) -> Result<(), Fault> {
        let home = self.database.topology.home;
        if self.tx.phase() == Phase::Idle {
            // The home shard's server takes the copies: no replica has temporary tables.
            self.source = Servers::Primary;
        }
        let places = Places { everywhere: self.database.topology.ids().collect(), owners, home };
        let mut needed: Vec<ShardId> = vec![home];
        needed.extend(gather.tables.iter().flat_map(|shadow| places.of(&shadow.source)));
        needed.sort_by_key(|shard| shard.index());
        needed.dedup();
        let mut members = self.assemble(&needed).await?;
        // Described where every table is.
        let at_home = members.iter().position(|member| member.held.shard == home).ok_or_else(misdescribed)?;
        members.swap(0, at_home);
        let outcome = match self.describe_on_first(&mut members, asked, &[asked.text]).await {
            Ok(mut described) => match described.pop_front() {
                Some(original) => self.gather_on(asked, gather, &original, &mut members, &places).await,
                None => Err(misdescribed().into()),
            },
            Err(fault) => Err(fault),
        };
        self.disband(members);
        outcome
    }

    async fn gather_on(
        &mut self,
        asked: &Asked<'_>,
        gather: &Gather,
        original: &Described,
        members: &mut Vec<Member>,
        places: &Places<'_>,
    ) -> Result<(), Fault> {
        // A pipeline's transaction is the client's too.
        let open = |member: &Member| member.held.lease.status != TxStatus::Idle;
        let apart = self.tx.phase() != Phase::Idle || members.iter().any(open);
        let home = self.database.topology.home;
        if apart && self.directory.pool.size == 1 {
            // It would wait for the very server that the transaction is on.
            return Err(ClientError::refused(
                "the statement needs a second connection to the home shard in a transaction, and pool.size is 1",
                "Raise pool.size, or read before BEGIN.",
            )
            .into());
        }
        let mut sink = if apart { self.another(home).await? } else { vec![members.remove(0)] };
        let begun = if apart { Ok(()) } else { self.run_on_each(members, &SNAPSHOT).await };
        let outcome = match begun {
            Ok(()) => self.work_over_copies(asked, gather, original, members, &mut sink, places).await,
            Err(fault) => Err(fault),
        };
        let mut undone = self.roll_back(&mut sink).await;
        if apart {
            // What the transaction has set holds on, where it has set it.
            sink.iter_mut().for_each(|member| member.branch.forget_parameters());
            self.disband_apart(sink);
        } else {
            undone = undone.and(self.roll_back(members).await);
            members.splice(0..0, sink);
        }
        outcome.and(undone)
    }

    async fn work_over_copies(
        &mut self,
        asked: &Asked<'_>,
        gather: &Gather,
        original: &Described,
        members: &mut Vec<Member>,
        sink: &mut Vec<Member>,
        places: &Places<'_>,
    ) -> Result<(), Fault> {
        let home = self.database.topology.home;
        let apart = members.iter().any(|member| member.held.shard == home);
        self.make_tables(gather, sink, apart).await?;
        let mut left = self.directory.routing.gather_limit_bytes;
        for shadow in &gather.tables {
            let sources = places.of(&shadow.source);
            let rows = self.fill(asked, original, shadow, sources, members, sink, &mut left).await?;
            if rows > WORTH_ANALYZING {
                let statement = format!("ANALYZE {}", copy_target(&shadow.copy).0);
                self.run_on_each(sink, &[&statement]).await?;
            }
        }
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, asked.formats.iter().copied());
        for member in sink.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            let mut asking = super::ask::Asking::new(&mut member.held.lease);
            match asked.copy {
                Some(copy) => asking
                    .describe(gather.sql.as_bytes(), &[])
                    .execute(copy.of(&gather.sql).as_bytes(), &[], &bound)
                    .sync(&mut branch),
                None => asking
                    .execute_described(gather.sql.as_bytes(), &type_bytes(&original.parameters), &bound)
                    .sync(&mut branch),
            }
            member.branch = branch;
        }
        if let Some(copy) = asked.copy {
            return self.pass_copy_on(&copy.format, &original.fields, sink).await;
        }
        if let Some(rows) = self.take_answer(asked, &original.fields, sink).await? {
            if apart {
                sink.iter_mut().for_each(|member| member.branch.forget_parameters());
            }
            self.pass_all_asides_on(members, false);
            self.pass_all_asides_on(sink, false);
            rows.complete(&mut self.outbox);
        }
        Ok(())
    }

    async fn make_tables(
        &mut self,
        gather: &Gather,
        sink: &mut Vec<Member>,
        apart: bool,
    ) -> Result<(), Fault> {
        // Whatever the session's default is, tables are made.
        let mut statements = if apart {
            let mut statements = vec!["BEGIN READ WRITE".to_owned()];
            statements.extend(self.tx.changes().iter().map(Change::statement));
            statements.push(format!("SET LOCAL lock_timeout = {OWN_LOCKS_MS}"));
            statements
        } else {
            vec!["BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE".to_owned()]
        };
        for shadow in &gather.tables {
            statements.push(shadow.create.clone());
            if !shadow.constraint.is_empty() {
                statements.push(shadow.constraint.clone());
            }
        }
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        match self.run_on_each(sink, &statements).await {
            Err(Fault::Frame(frame)) if apart && is_lock_timeout(&frame) => Err(ClientError::refused(
                "a table that the statement reads is locked, perhaps by this transaction itself",
                "Rows would have to be copied to a second connection. Read them before LOCK, TRUNCATE or ALTER TABLE, or commit first.",
            )
            .into()),
            outcome => outcome,
        }
    }

    /// Runs statements on each of these servers, for nobody to see.
    pub(super) async fn run_on_each(
        &mut self,
        members: &mut Vec<Member>,
        statements: &[&str],
    ) -> Result<(), Fault> {
        for member in members.iter_mut() {
            let mut branch = std::mem::take(&mut member.branch);
            let mut asking = super::ask::Asking::new(&mut member.held.lease);
            for statement in statements {
                asking.hidden(statement);
            }
            asking.sync(&mut branch);
            member.branch = branch;
        }
        self.drive(members, &mut Discard, false).await
    }

    /// Copies the rows of one table; how many they are.
    #[expect(clippy::too_many_arguments, reason = "one step of work_over_copies, which owns them")]
    async fn fill(
        &mut self,
        asked: &Asked<'_>,
        original: &Described,
        shadow: &Shadow,
        sources: &[ShardId],
        members: &mut Vec<Member>,
        sink: &mut Vec<Member>,
        left: &mut u64,
    ) -> Result<u64, Fault> {
        let home = self.database.topology.home;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, [Format::Binary].into_iter());
        let mut rows = 0;
        // Is the home shard's member the one that takes the copies?
        let apart = members.iter().any(|member| member.held.shard == home);
        if !apart && sources.contains(&home) {
            let (table, columns) = copy_target(&shadow.copy);
            let insert = format!("INSERT INTO {table} {columns} {}", shadow.fetch);
            for member in sink.iter_mut() {
                let mut branch = std::mem::take(&mut member.branch);
                super::ask::Asking::new(&mut member.held.lease)
                    .execute(insert.as_bytes(), &type_bytes(&original.parameters), &bound)
                    .sync(&mut branch);
                member.branch = branch;
            }
            self.drive(sink, &mut Discard, false).await?;
            rows += sink.iter().map(|member| member.branch.count()).sum::<u64>();
        }
        let (mut reading, others): (Vec<Member>, Vec<Member>) =
            std::mem::take(members).into_iter().partition(|member| sources.contains(&member.held.shard));
        *members = others;
        let outcome = if reading.is_empty() {
            Ok(0)
        } else {
            for member in &mut reading {
                self.ask_to_run(member, shadow.fetch.as_bytes(), &original.parameters, &bound);
            }
            self.copy_over(shadow, &mut reading, sink, left).await
        };
        members.append(&mut reading);
        Ok(rows + outcome?)
    }

    async fn copy_over(
        &mut self,
        shadow: &Shadow,
        reading: &mut Vec<Member>,
        sink: &mut Vec<Member>,
        left: &mut u64,
    ) -> Result<u64, Fault> {
        let Some(taker) = sink.first_mut() else { return Err(misdescribed().into()) };
        let mut branch = std::mem::take(&mut taker.branch);
        branch.again(0);
        branch.feeds = true;
        taker.branch = branch;
        let server = &mut *taker.held.lease;
        server.unnamed = 0;
        wire::put_parse(&mut server.outbox, b"", shadow.copy.as_bytes(), &[]);
        wire::put_bind_plain(&mut server.outbox, b"", b"");
        wire::put_execute(&mut server.outbox, b"");
        // Signature, flags and the length of no extension (copyto.c).
        wire::put_frame(&mut server.outbox, b'd', |out| out.put(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"));
        let mut copy = Copy { server, rows: 0, left: *left };
        let outcome = self.drive(reading, &mut copy, false).await;
        let rows = copy.rows;
        *left = copy.left;
        match &outcome {
            Ok(()) => {
                wire::put_frame(&mut copy.server.outbox, b'd', |out| out.put(&[0xff, 0xff]));
                wire::put_frame(&mut copy.server.outbox, b'c', |_| {});
            }
            Err(_) => wire::put_copy_fail(&mut copy.server.outbox, b"a source has failed"),
        }
        wire::put_sync(&mut copy.server.outbox);
        let taken = self.drive(sink, &mut Discard, false).await;
        outcome?;
        taken?;
        Ok(rows)
    }

    /// A server of a shard beside the one that the transaction is on.
    async fn another(&mut self, shard: ShardId) -> Result<Vec<Member>, Fault> {
        let held = self.held.take();
        let (mut same, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|held| held.shard == shard);
        self.parked = others;
        let source = std::mem::take(&mut self.source);
        let asked_as = std::mem::replace(&mut self.asks_as, Caller::Inside);
        let outcome = self.assemble(&[shard]).await;
        (self.source, self.asks_as) = (source, asked_as.max(Caller::Underway));
        self.parked.append(&mut same);
        self.held = held;
        outcome
    }

    /// Gives it back.
    fn disband_apart(&mut self, sink: Vec<Member>) {
        let held = self.held.take();
        let phase_keeps = std::mem::take(&mut self.parked);
        self.disband(sink);
        let kept = self.held.take();
        self.parked.extend(phase_keeps);
        self.parked.extend(kept);
        self.held = held;
    }
}

/// Which shards have a table's rows.
pub(super) struct Places<'a> {
    pub(super) everywhere: Vec<ShardId>,
    pub(super) owners: &'a [ShardId],
    pub(super) home: ShardId,
}

impl Places<'_> {
    pub(super) fn of(&self, source: &Source) -> &[ShardId] {
        match source {
            Source::EachShard => &self.everywhere,
            // More than a table's own owners do no harm: they have no rows that matter.
            Source::Owners(_) => self.owners,
            Source::Home | Source::AnyShard => std::slice::from_ref(&self.home),
        }
    }
}

fn is_lock_timeout(error: &[u8]) -> bool {
    error.get(HEADER_LEN..).is_some_and(|body| wire::error_field(body, b'C') == Some(b"55P03"))
}

/// `pg_temp."pgring_1"` and `("a", "b")` of `COPY pg_temp."pgring_1" ("a", "b") FROM STDIN …`.
pub(super) fn copy_target(copy: &str) -> (&str, &str) {
    let target = copy.strip_prefix("COPY ").unwrap_or(copy);
    let target = target.rsplit_once(" FROM STDIN").map_or(target, |(target, _)| target);
    match target.find(" (") {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, ""),
    }
}

/// Rows on their way into a `COPY`.
struct Copy<'s> {
    server: &'s mut Server,
    rows: u64,
    left: u64,
}

impl Flow for Copy<'_> {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, _: usize, _: &Branch, frame: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        self.left = self.left.checked_sub(frame.len() as u64).ok_or_else(|| {
            ClientError::error(
                SqlState::LIMIT,
                "the statement would copy more than routing.gather_limit into temporary tables",
            )
            .with_hint("Add conditions, join on the key, or raise routing.gather_limit.")
        })?;
        self.server.outbox.put(b"d");
        self.server.outbox.put(&frame[1..HEADER_LEN]);
        self.server.outbox.put(&frame[HEADER_LEN..]);
        self.rows += 1;
        Ok(true)
    }

    fn end(&mut self, _: usize) {}

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ServerError>> {
        if self.server.outbox.len() < TO_SINK_HIGH {
            return Poll::Ready(Ok(()));
        }
        self.server.poll_drain(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::copy_target;

    #[test]
    fn where_a_copy_goes() {
        let copy = r#"COPY pg_temp."pgring_1" ("a", "b") FROM STDIN (FORMAT binary)"#;
        assert_eq!(copy_target(copy), (r#"pg_temp."pgring_1""#, r#"("a", "b")"#));
        assert_eq!(copy_target("COPY t FROM STDIN (FORMAT binary)"), ("t", ""));
    }
}
