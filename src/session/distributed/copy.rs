//! `COPY` on several shards.
//!
//! **In**: every shard is sent the statement; once all of them wait for data the client is asked for
//! its own. Then it is as in a `COPY` of one server's, until `CopyDone`: what the client sends is cut
//! into records, and each goes to its key's owner as it lies. Nothing else of the client's is worked on
//! meanwhile, and nothing is read from it while a shard has [`TO_SHARD_HIGH`] waiting for it.
//! Whatever fails, fails it everywhere: each shard is told `CopyFail`, answers, and is rolled back.
//!
//! **Out**: the shards' rows follow one another as they come, behind one header; a query whose rows
//! are not those of its shards is run over copies ([`super::gather`]).

use super::Fault;
use super::ask::{Asked, put_formats};
use super::drive::{Discard, Flow, Wants, tags};
use super::rows::misdescribed;
use super::team::Member;
use super::write::sum_of_tags;
use crate::backend::ServerError;
use crate::error::{ClientError, SqlState};
use crate::execute::copy::{CopyFault, CopyOutMerger, LineMap, Part, Splitter};
use crate::execute::{Branch, Field, Step};
use crate::ring::ShardId;
use crate::route::explain::{copied_change, copied_everywhere};
use crate::route::{self, Value, Why};
use crate::session::attach::Unattached;
use crate::session::directory::Database;
use crate::session::state::{End, Session};
use crate::sql::distribute::{self, CopyFormat, CopyIn, CopyKind, Plan};
use crate::wire::{self, Buffer, HEADER_LEN};
use std::sync::Arc;
use std::task::{Context, Poll};

/// What may wait for a shard before the client has to.
const TO_SHARD_HIGH: usize = 128 * 1024;

/// A `COPY … FROM STDIN` that the client is sending data for.
pub(in crate::session) struct Copying {
    members: Vec<Member>,
    rows: Rows,
    /// What of a `CopyData` has not come yet.
    left: usize,
    /// The shards have been told that no more comes.
    ended: bool,
    /// The client waits for a `ReadyForQuery` without a `Sync`.
    simple: bool,
}

/// Records on their way to their owners.
struct Rows {
    database: Arc<Database>,
    copy: CopyIn,
    same_encoding: bool,
    splitter: Splitter,
    lines: LineMap,
    /// Which member a shard is, by its index.
    members: Vec<Option<usize>>,
    /// What each member is sent next.
    pending: Vec<Vec<u8>>,
}

/// What is wrong with what the client sends, and on which of its lines.
struct Bad {
    error: Box<ClientError>,
    line: Option<u64>,
}

impl From<CopyFault> for Bad {
    fn from(fault: CopyFault) -> Bad {
        let line = fault.line();
        Bad { error: Box::new(ClientError { detail: None, ..fault.into() }), line }
    }
}

/// Why moving data has stopped.
enum News {
    /// `CopyDone`
    Done,
    /// Every shard waits for data.
    Waiting,
    Bad(Bad),
    /// A shard has answered with an error, or without waiting for the end.
    Failed(usize),
    Lost(usize, ServerError),
    Client(End),
}

impl Rows {
    /// Where errors are said to have come up.
    fn place(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.copy.table)
    }

    fn feed(&mut self, portion: Option<&[u8]>) -> Result<(), Bad> {
        let Rows { database, copy, same_encoding, splitter, lines, members, pending } = self;
        let binary = copy.format.kind == CopyKind::Binary;
        let mut take = |part: Part<'_>| {
            let record = match part {
                Part::Everyone { bytes, lines: count } => {
                    if count > 0 {
                        lines.header(count);
                    }
                    pending.iter_mut().for_each(|pending| pending.extend_from_slice(bytes));
                    return Ok(());
                }
                Part::Record(record) => record,
            };
            let (Some(kept), Some(key)) = (&copy.key, record.key) else {
                for (member, pending) in pending.iter_mut().enumerate() {
                    lines.record(member, &record);
                    pending.extend_from_slice(record.bytes);
                }
                return Ok(());
            };
            let value = if binary { Value::Binary(key) } else { Value::Text(key) };
            let owner = route::copied_owner(&database.topology, kept.key_type, *same_encoding, value);
            let member = owner.and_then(|owner| members.get(owner.index()).copied().flatten());
            let Some((member, pending)) = member.and_then(|m| pending.get_mut(m).map(|p| (m, p))) else {
                let error = ClientError::refused(
                    format!("the value of the key, column \"{}\", cannot be read for certain", copy.column),
                    "Write integers in decimal digits, and texts without trailing spaces.",
                );
                return Err(Bad { error: Box::new(error), line: Some(record.line) });
            };
            lines.record(member, &record);
            pending.extend_from_slice(record.bytes);
            Ok(())
        };
        match portion {
            Some(portion) => splitter.feed(portion, &mut take),
            None => splitter.finish(&mut take),
        }
    }
}

impl Copying {
    /// Sends what waits for the shards, and looks at what they say.
    fn poll_shards(&mut self, cx: &mut Context<'_>) -> Result<(), News> {
        for (at, member) in self.members.iter_mut().enumerate() {
            let server = &mut *member.held.lease;
            if let Poll::Ready(Err(error)) = server.poll_drain(cx)
                && !matches!(server.poll_read(cx), Poll::Ready(Ok(())))
            {
                return Err(News::Lost(at, error));
            }
            loop {
                match member.branch.advance(server).map_err(|error| News::Lost(at, error))? {
                    Step::CopyIn => {}
                    Step::Row(head) | Step::Data(head) => server.inbox.consume(head.len),
                    Step::Ready => break,
                    Step::Read => match server.poll_read(cx) {
                        Poll::Ready(read) => read.map_err(|error| News::Lost(at, error))?,
                        Poll::Pending => break,
                    },
                }
            }
            if member.branch.outcome.is_some() {
                return Err(News::Failed(at));
            }
        }
        Ok(())
    }

    fn is_crowded(&self) -> bool {
        self.members.iter().any(|member| member.held.lease.outbox.len() >= TO_SHARD_HIGH)
    }

    /// Works off what the client has sent, as far as there is room for it.
    fn take_from(&mut self, inbox: &mut Buffer) -> Result<(), News> {
        let outcome = self.take_messages(inbox);
        for (pending, member) in self.rows.pending.iter_mut().zip(&mut self.members) {
            if !pending.is_empty() {
                wire::put_frame(&mut member.held.lease.outbox, b'd', |out| out.put(pending));
                pending.clear();
            }
        }
        if let Err(News::Done) = outcome {
            self.ended = true;
            for member in &mut self.members {
                wire::put_frame(&mut member.held.lease.outbox, b'c', |_| {});
                wire::put_sync(&mut member.held.lease.outbox);
            }
        }
        outcome
    }

    fn take_messages(&mut self, inbox: &mut Buffer) -> Result<(), News> {
        let wrong = |error: wire::FrameError| News::Client(error.into());
        loop {
            if self.left > 0 {
                let n = self.left.min(inbox.len());
                if n == 0 {
                    return Ok(());
                }
                self.left -= n;
                let fed = self.rows.feed(inbox.filled().get(..n)).map_err(News::Bad);
                inbox.consume(n);
                fed?;
                continue;
            }
            let Some(head) = wire::client_header(inbox.filled()).map_err(wrong)? else { return Ok(()) };
            match head.tag {
                b'd' => {
                    self.left = head.len - HEADER_LEN;
                    inbox.consume(HEADER_LEN);
                    continue;
                }
                _ if inbox.len() < head.len => return Ok(()),
                // PostgreSQL ignores them here (`CopyGetData`).
                b'S' | b'H' => inbox.consume(head.len),
                b'c' => {
                    inbox.consume(head.len);
                    self.rows.feed(None).map_err(News::Bad)?;
                    return Err(News::Done);
                }
                b'f' => {
                    let body = inbox.filled().get(HEADER_LEN..head.len).unwrap_or(&[]);
                    let words = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body));
                    let message = format!("COPY from stdin failed: {words}");
                    inbox.consume(head.len);
                    let error = ClientError::error(SqlState::CANCELED, message);
                    let line = Some(self.rows.splitter.line());
                    return Err(News::Bad(Bad { error: Box::new(error), line }));
                }
                b'X' => return Err(News::Client(End::Terminated)),
                _ => {
                    let words = "unexpected message type during COPY from stdin";
                    return Err(News::Client(End::Fatal(ClientError::protocol(words))));
                }
            }
        }
    }

    /// A shard's error, with the client's line.
    fn in_clients_lines(&self, frame: &[u8], shard: ShardId) -> Box<[u8]> {
        let body = frame.get(HEADER_LEN..).unwrap_or(&[]);
        let Some(context) = wire::error_field(body, b'W').map(String::from_utf8_lossy) else {
            return frame.into();
        };
        if !context.lines().any(|line| line.starts_with("COPY ") && line.contains(", line ")) {
            return frame.into();
        }
        let member = self.rows.members.get(shard.index()).copied().flatten();
        let context = member.and_then(|member| self.rows.lines.context(member, &context));
        told_where(frame, context.as_deref())
    }
}

impl Session {
    /// Has each shard wait for data, and the client asked for them.
    pub(super) async fn begin_copy_in(
        &mut self,
        asked: &Asked<'_>,
        shards: &[ShardId],
        why: Why,
    ) -> Result<(), Fault> {
        if matches!(why, Why::CommentShard | Why::SessionShard) {
            return Err(copied_everywhere().into());
        }
        let copy = {
            let schema = self.schema()?;
            distribute::copy_in(asked.text, &self.analysis_context(&schema))?
        };
        let longest = usize::try_from(self.directory.routing.gather_memory_bytes).unwrap_or(usize::MAX);
        let mut members = self.assemble(shards).await?;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, asked.formats.iter().copied());
        if let Err(fault) = self.enlist(&members).await {
            self.undo_change(members).await?;
            return Err(fault);
        }
        for member in &mut members {
            let mut branch = std::mem::take(&mut member.branch);
            let mut asking = self.asking_to_change(member);
            asking.copy_in(asked.text, asked.types, &bound, &mut branch);
            member.branch = branch;
        }
        let mut places = vec![None; self.database.topology.len()];
        for (at, shard) in shards.iter().enumerate() {
            if let Some(place) = places.get_mut(shard.index()) {
                *place = Some(at);
            }
        }
        let rows = Rows {
            database: Arc::clone(&self.database),
            splitter: Splitter::new(&copy, longest),
            copy,
            same_encoding: self.same_encoding,
            lines: LineMap::new(shards.len()),
            members: places,
            pending: vec![Vec::new(); shards.len()],
        };
        let mut copying = Copying { members, rows, left: 0, ended: false, simple: asked.describes };
        self.team_up(&copying.members);
        match self.move_data(&mut copying, false).await {
            Ok(()) => {}
            Err(Fault::End(end)) => return Err(Fault::End(end)),
            Err(fault) => {
                self.abandon_copy(copying).await?;
                return Err(fault);
            }
        }
        let response = copying.members.first().and_then(|member| member.branch.copy_response.as_ref());
        self.outbox.put(response.ok_or_else(misdescribed)?);
        self.copying = Some(Box::new(copying));
        Ok(())
    }

    /// From the client's first message after that to the answer.
    pub(in crate::session) async fn copy_in(&mut self, mut copying: Copying) -> Result<(), End> {
        let moved = match self.move_data(&mut copying, true).await {
            Ok(()) => self.copy_ended(&mut copying).await,
            Err(fault) => Err(fault),
        };
        if copying.left > 0 && self.passing == 0 {
            self.passing = copying.left;
            self.passing_nowhere = true;
        }
        let simple = copying.simple;
        let outcome = match moved {
            Ok(tag) => {
                let members = std::mem::take(&mut copying.members);
                self.end_copied(members).await.map(|()| wire::put_complete(&mut self.outbox, &tag))
            }
            Err(Fault::End(end)) => return Err(end),
            Err(fault) => self.abandon_copy(copying).await.and(Err(fault)),
        };
        match outcome {
            Ok(()) => {}
            Err(Fault::End(end)) => return Err(end),
            Err(fault) => {
                match fault {
                    Fault::Frame(frame) => self.outbox.put(&frame),
                    Fault::Own(error) => wire::put_error(&mut self.outbox, &error),
                    Fault::End(_) => {}
                }
                self.refused();
                if !simple {
                    self.batch.skip();
                    self.batch.failed = true;
                }
            }
        }
        if simple && let Err(Unattached::End(end)) = self.finish_distributed().await {
            return Err(end);
        }
        Ok(())
    }

    /// Until the client has sent all; or until all shards wait for data, if nothing is `wanted` of the
    /// client yet.
    async fn move_data(&mut self, copying: &mut Copying, wanted: bool) -> Result<(), Fault> {
        let limit = self.directory.pool.query_timeout;
        let deadline = limit.and_then(|limit| self.asked_since.map(|since| since + limit));
        let moving = std::future::poll_fn(|cx| self.poll_data(cx, copying, wanted));
        let news = match deadline {
            None => moving.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), moving).await {
                Ok(news) => news,
                Err(_) => {
                    let words = "canceling statement due to query_timeout";
                    return Err(ClientError::error(SqlState::CANCELED, words).into());
                }
            },
        };
        match news {
            News::Done | News::Waiting => Ok(()),
            News::Client(end) => Err(Fault::End(end)),
            News::Lost(at, error) => Err(self.member_lost(copying.members.remove(at), &error).into()),
            News::Failed(at) => {
                let Some(member) = copying.members.get(at) else { return Err(misdescribed().into()) };
                let frame = member.branch.error().ok_or_else(misdescribed)?;
                match self.registration.control.verdict_on(frame) {
                    Some(error) => Err(error.into()),
                    None => Err(Fault::Frame(copying.in_clients_lines(frame, member.held.shard))),
                }
            }
            News::Bad(Bad { error, line: None }) => Err((*error).into()),
            News::Bad(Bad { error, line: Some(line) }) => {
                let mut frame = Buffer::new();
                wire::put_error(&mut frame, &error);
                Err(Fault::Frame(told_where(frame.filled(), Some(&copying.rows.place(line)))))
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>, copying: &mut Copying, wanted: bool) -> Poll<News> {
        if let Err(news) = copying.poll_shards(cx) {
            return Poll::Ready(news);
        }
        if !wanted && copying.members.iter().all(|member| member.branch.copying_in) {
            return Poll::Ready(News::Waiting);
        }
        if wanted && !copying.is_crowded() {
            if let Err(news) = copying.take_from(&mut self.inbox) {
                return Poll::Ready(news);
            }
            // What has been given to the shards is on its way before more comes.
            if let Err(news) = copying.poll_shards(cx) {
                return Poll::Ready(news);
            }
        }
        if let Err(end) = self.poll_client(cx) {
            return Poll::Ready(News::Client(end));
        }
        Poll::Pending
    }

    /// The shards' answers to `CopyDone`.
    async fn copy_ended(&mut self, copying: &mut Copying) -> Result<String, Fault> {
        match self.drive(&mut copying.members, &mut Discard, false).await {
            Ok(()) => {}
            Err(Fault::Frame(frame)) => {
                let failed = copying.members.iter().find(|m| m.branch.error() == Some(&*frame));
                let shard = failed.map(|member| member.held.shard);
                return Err(Fault::Frame(match shard {
                    Some(shard) => copying.in_clients_lines(&frame, shard),
                    None => frame,
                }));
            }
            Err(fault) => return Err(fault),
        }
        if copying.rows.copy.key.is_some() {
            return Ok(sum_of_tags(&copying.members));
        }
        let mut counted = tags(&copying.members);
        let tag = counted.next().unwrap_or_default().to_owned();
        if counted.any(|other| other != tag) {
            return Err(ClientError::refused(
                "the shards' copies of the reference table would not be alike",
                "Compare the table's rows on each shard, with a hint /* pgring: shard=NAME */.",
            )
            .into());
        }
        Ok(tag)
    }

    /// Nothing of it stays.
    async fn abandon_copy(&mut self, mut copying: Copying) -> Result<(), Fault> {
        if !copying.ended {
            for member in &mut copying.members {
                wire::put_copy_fail(&mut member.held.lease.outbox, b"the COPY has failed elsewhere");
                wire::put_sync(&mut member.held.lease.outbox);
            }
        }
        // Each of them says so, in words that nobody needs.
        if let Err(Fault::End(end)) = self.drive(&mut copying.members, &mut Discard, false).await {
            return Err(Fault::End(end));
        }
        self.undo_change(copying.members).await
    }

    pub(super) async fn copy_out(
        &mut self,
        asked: &Asked<'_>,
        shards: &[ShardId],
        why: Why,
    ) -> Result<(), Fault> {
        let told = matches!(why, Why::CommentShard | Why::SessionShard);
        let text = String::from_utf8_lossy(asked.text);
        let (copy, plan, gather) = {
            let schema = self.schema()?;
            let cx = self.analysis_context(&schema);
            let copy = distribute::copy_out(asked.text, &cx)?;
            match &copy.query {
                Some(query) if !told => match distribute::plan(query.as_bytes(), &cx)? {
                    Plan::Merge(merge) if merge.is_in_any_order() => {
                        let sql = if merge.sql == *query { text.into_owned() } else { copy.of(&merge.sql) };
                        (copy, sql, None)
                    }
                    Plan::Merge(_) | Plan::Combine(_) => {
                        let gather = distribute::gather(query.as_bytes(), &cx)?;
                        (copy, String::new(), Some(gather))
                    }
                    Plan::Gather(gather) => (copy, String::new(), Some(gather)),
                    _ => return Err(copied_change().into()),
                },
                _ => (copy, text.into_owned(), None),
            }
        };
        if let Some(gather) = gather {
            let query = copy.query_in_place().unwrap_or_default();
            let asked = Asked { describes: false, copy: Some(&copy), ..Asked::simple(query.as_bytes()) };
            return self.gather(&asked, &gather, shards).await;
        }
        let mut members = self.assemble(shards).await?;
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, asked.formats.iter().copied());
        for member in &mut members {
            let mut branch = std::mem::take(&mut member.branch);
            self.asking(member).execute(plan.as_bytes(), asked.types, &bound).sync(&mut branch);
            member.branch = branch;
        }
        let outcome = self.pass_copy_on(&copy.format, &[], &mut members).await;
        self.disband(members);
        outcome
    }

    /// The members copy out, all of them columns of these types if there are any.
    pub(super) async fn pass_copy_on(
        &mut self,
        format: &CopyFormat,
        fields: &[Field],
        members: &mut Vec<Member>,
    ) -> Result<(), Fault> {
        let merger = CopyOutMerger::new(format, members.len());
        let types = fields.iter().map(|field| field.oid).collect();
        let mut out = Out { merger, types, begun: false };
        self.drive(members, &mut out, false).await?;
        if !out.begun {
            let response = members.first().and_then(|member| member.branch.copy_response.as_ref());
            self.outbox.put(response.ok_or_else(misdescribed)?);
        }
        let end = out.merger.end();
        if !end.is_empty() {
            wire::put_frame(&mut self.outbox, b'd', |frame| frame.put(end));
        }
        wire::put_frame(&mut self.outbox, b'c', |_| {});
        wire::put_complete(&mut self.outbox, &sum_of_tags(members));
        Ok(())
    }
}

/// Rows that are copied out, on their way to the client.
struct Out {
    merger: CopyOutMerger,
    types: Vec<u32>,
    /// The client has the `CopyOutResponse`.
    begun: bool,
}

impl Flow for Out {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, _: usize, _: &Branch, _: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        Err(misdescribed())
    }

    fn data(
        &mut self,
        member: usize,
        branch: &Branch,
        frame: &[u8],
        out: &mut Buffer,
    ) -> Result<(), ClientError> {
        if !self.begun {
            let found = branch.fields.last().map(|fields| fields.iter().map(|field| field.oid));
            if !self.types.is_empty() && !found.is_some_and(|found| found.eq(self.types.iter().copied())) {
                return Err(ClientError::refused(
                    "the query's result would have other types than on one server",
                    "Add a condition on the key, or a hint /* pgring: shard=NAME */.",
                ));
            }
            out.put(branch.copy_response.as_ref().ok_or_else(misdescribed)?);
            self.begun = true;
        }
        let body = frame.get(HEADER_LEN..).unwrap_or(&[]);
        let passed = self.merger.pass(member, body)?;
        if passed.len() == body.len() {
            out.put(frame);
        } else if !passed.is_empty() {
            wire::put_frame(out, b'd', |out| out.put(passed));
        }
        Ok(())
    }

    fn end(&mut self, _: usize) {}
}

/// An error whose `CONTEXT` is this instead.
fn told_where(frame: &[u8], context: Option<&str>) -> Box<[u8]> {
    let mut told = Buffer::new();
    wire::put_frame(&mut told, b'E', |out| {
        let mut rest = frame.get(HEADER_LEN..).unwrap_or(&[]);
        while let Some((&kind, tail)) = rest.split_first()
            && kind != 0
        {
            let len = tail.iter().position(|byte| *byte == 0).unwrap_or(tail.len());
            let (value, tail) = tail.split_at(len);
            rest = tail.get(1..).unwrap_or(&[]);
            if kind != b'W' {
                out.put_u8(kind);
                wire::put_cstr(out, value);
            }
        }
        if let Some(context) = context {
            out.put_u8(b'W');
            wire::put_cstr(out, context.as_bytes());
        }
        out.put_u8(0);
    });
    told.filled().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_elsewhere() {
        let mut frame = Buffer::new();
        wire::put_error(&mut frame, &ClientError::error(SqlState::BAD_COPY, "bad").with_hint("good"));
        let told = told_where(frame.filled(), Some("COPY t, line 7"));
        let again = told_where(&told, Some("COPY t, line 8"));
        let field = |frame: &[u8], field| {
            let value = wire::error_field(&frame[HEADER_LEN..], field);
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        assert_eq!(field(&told, b'W').as_deref(), Some("COPY t, line 7"));
        assert_eq!(field(&again, b'W').as_deref(), Some("COPY t, line 8"));
        assert_eq!(field(&again, b'H').as_deref(), Some("good"));
        assert_eq!(&*told_where(&again, None), frame.filled());
        let head = wire::header(&again).unwrap().unwrap();
        assert_eq!((head.tag, head.len), (b'E', again.len()));
    }
}
