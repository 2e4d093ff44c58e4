//! `EXPLAIN` of what several shards answer: pgring's own steps, and under them what each shard says
//! of the part that it runs.
//!
//! With `ANALYZE` every shard runs its part as it would otherwise; the plan of the server that
//! finishes the answer comes from doing so. Where that would run a part twice, the statement has to
//! be proven to read only.

use super::ask::{Asked, put_formats, type_bytes};
use super::drive::{Flow, Wants};
use super::gather::{Places, copy_target};
use super::portion::{Keep, Opened};
use super::rows::{malformed, misdescribed};
use super::write::{Texts, sum_of_tags};
use super::{Fault, Session};
use crate::error::ClientError;
use crate::execute::{Branch, Field, put_description};
use crate::merge::order::SortType;
use crate::merge::row;
use crate::ring::ShardId;
use crate::route::Why;
use crate::sql::distribute::{self, Combine, Count, Explain, Gather, Piece, Plan, Replicate};
use crate::sql::{Access, Kind, Lexed};
use crate::wire::{self, Buffer, HEADER_LEN};
use std::time::Instant;

/// A step of pgring's, as it is shown.
#[derive(Default)]
struct Node {
    title: String,
    attributes: Vec<(&'static str, String)>,
    nodes: Vec<Node>,
    /// What a server says.
    said: Vec<String>,
    /// Where that is, if it is a part of a shard's.
    shard: Option<String>,
    rows: Option<u64>,
}

impl Node {
    fn titled(title: impl Into<String>) -> Node {
        Node { title: title.into(), ..Node::default() }
    }
}

/// What some shards run at once.
struct Round {
    title: Option<String>,
    parts: Vec<(ShardId, String)>,
}

impl Session {
    pub(super) async fn explain(
        &mut self,
        asked: &Asked<'_>,
        explain: &Explain,
        shards: &[ShardId],
        why: Why,
    ) -> Result<(), Fault> {
        let began = Instant::now();
        self.started();
        refuse_options(explain)?;
        let context = self.context()?;
        let mut lexed = Lexed::default();
        let strings = self.standard_conforming_strings;
        let shape = self.shape_with(explain.statement.as_bytes(), &mut lexed, context, strings)?;
        let statement = match &shape.statements[..] {
            [only] if matches!(only.kind, Kind::Query | Kind::Write) => only,
            _ => {
                return Err(ClientError::refused(
                    "EXPLAIN over several shards can show queries and changes of rows only",
                    "Add a hint /* pgring: shard=NAME */ for one shard's part in it.",
                )
                .into());
            }
        };
        self.may_cross(statement, explain.analyze)?;
        if explain.analyze {
            self.note_hidden_writes(statement, shards, why).await?;
        }
        let inner = asked.with_text(explain.statement.as_bytes());
        let mut plan = self.plan(statement, &inner, why)?;
        let checked = match &plan {
            Plan::Merge(merge) if !merge.sort.is_empty() => Some(merge.sql.as_bytes()),
            Plan::Combine(combine) => Some(combine.fetch.as_bytes()),
            _ => None,
        };
        let home = self.database.topology.home;
        let first = if matches!(plan, Plan::Gather(_)) { Some(&home) } else { shards.first() };
        let mut members = self.assemble(&[*first.ok_or_else(misdescribed)?]).await?;
        let texts: Vec<&[u8]> = [asked.text].into_iter().chain(checked).collect();
        let described = self.describe_on_first(&mut members, asked, &texts).await;
        self.disband(members);
        let mut described = described?;
        let original = described.pop_front().ok_or_else(misdescribed)?;
        if let Some(run) = described.pop_front()
            && !is_exact(&plan, &run.fields, original.parameters.len())
        {
            let schema = self.schema()?;
            plan = Plan::Gather(distribute::gather(inner.text, &self.analysis_context(&schema))?);
        }
        let twice = matches!(plan, Plan::Combine(_) | Plan::Gather(_)) && statement.access != Access::Read;
        if explain.analyze && twice {
            return Err(ClientError::refused(
                "EXPLAIN ANALYZE would run the statement's parts twice, and they may write",
                "Leave ANALYZE away.",
            )
            .into());
        }
        let mut top = self.top_of(&plan, shards, explain);
        let changes = explain.analyze && statement.kind == Kind::Write;
        let rounds = match &plan {
            Plan::Split(split) => {
                let (shards, _, texts) = self.split_texts(&shape, &inner, split).await?;
                vec![Round { title: None, parts: shards.into_iter().zip(texts).collect() }]
            }
            plan => self.rounds(plan, shards, explain)?,
        };
        for round in rounds {
            let nodes = if changes {
                self.change_explained(asked, explain, round).await?
            } else {
                self.run_explained(asked, &original.parameters, explain, round).await?
            };
            top.nodes.extend(nodes);
        }
        if explain.analyze {
            self.finish_explained(asked, &plan, shards, explain, &mut top).await?;
        }
        let spent = explain.analyze.then(|| began.elapsed().as_secs_f64() * 1e3);
        let lines = if explain.format == "json" { vec![json(&top, spent)] } else { text(&top, spent) };
        self.tell_lines(asked, &original.fields, &lines);
        Ok(())
    }

    fn tell_lines(&mut self, asked: &Asked<'_>, fields: &[Field], lines: &[String]) {
        let mut kept = Buffer::new();
        if asked.describes {
            put_description(&mut self.outbox, fields, &[]);
        }
        let out = if asked.keep.is_some() { &mut kept } else { &mut self.outbox };
        for line in lines {
            wire::put_data_row(out, [Some(line.as_str())].into_iter());
        }
        match asked.keep {
            Some(keep) => keep.put(Opened::whole(kept, fields.to_vec(), Some("EXPLAIN"))),
            None => wire::put_complete(&mut self.outbox, "EXPLAIN"),
        }
    }

    /// The root of the tree, without what servers say.
    fn top_of(&self, plan: &Plan, shards: &[ShardId], explain: &Explain) -> Node {
        let topology = &self.database.topology;
        let count = shards.len();
        let name = |shard: Option<&ShardId>| shard.map_or("", |shard| topology.name(*shard)).to_owned();
        match plan {
            Plan::Merge(merge) => {
                let mut node = Node::titled(format!("Merge ({count} shards)"));
                let strings = self.standard_conforming_strings;
                let order = distribute::order_of(explain.statement.as_bytes(), strings);
                if let Some(order) = order.filter(|_| !merge.sort.is_empty()) {
                    node.attributes.push(("Sort Key", order));
                }
                for (what, count) in [("Limit", merge.limit), ("Offset", merge.offset)] {
                    node.attributes.extend(count.map(|count| (what, counted(count))));
                }
                node
            }
            Plan::Combine(_) => Node::titled(format!("Combine on shard {}", name(shards.first()))),
            Plan::Gather(_) => Node::titled(format!("Gather on shard {}", name(Some(&topology.home)))),
            Plan::Each(_) => Node::titled(format!("Each ({count} shards)")),
            Plan::Split(_) => Node::titled("Split by the owners of the rows"),
            Plan::Supply(_) => Node::titled(format!("Supply ({count} shards)")),
            Plan::Transfer(_) => Node::titled("Transfer to the owners of the rows"),
            Plan::Fold(_) => Node::titled(format!("Fold what {count} shards return")),
            Plan::Replicate(Replicate::Same(_)) => Node::titled(format!("Replicate ({count} shards)")),
            Plan::Replicate(Replicate::Insert { .. }) => {
                Node::titled(format!("Insert on shard {}, copy to the others", name(shards.first())))
            }
        }
    }

    /// What the shards run.
    fn rounds(&self, plan: &Plan, shards: &[ShardId], explain: &Explain) -> Result<Vec<Round>, Fault> {
        let all = |sql: &str| {
            let parts = shards.iter().map(|shard| (*shard, sql.to_owned())).collect();
            vec![Round { title: None, parts }]
        };
        Ok(match plan {
            Plan::Merge(merge) => all(&merge.sql),
            Plan::Combine(combine) => all(&combine.fetch),
            Plan::Each(each) | Plan::Replicate(Replicate::Same(each)) => all(&each.sql),
            Plan::Gather(gather) => {
                let topology = &self.database.topology;
                let places =
                    Places { everywhere: topology.ids().collect(), owners: shards, home: topology.home };
                let round = |shadow: &distribute::Shadow| Round {
                    title: Some(format!("Copy to {}", copy_target(&shadow.copy).0)),
                    parts: places.of(&shadow.source).iter().map(|s| (*s, shadow.fetch.clone())).collect(),
                };
                gather.tables.iter().map(round).collect()
            }
            Plan::Split(_) => return Err(misdescribed().into()),
            Plan::Supply(_) | Plan::Transfer(_) | Plan::Fold(_) => {
                return Err(ClientError::refused(
                    "EXPLAIN of a change for which rows are read first is not possible",
                    "Explain the query that reads them: pgring explain shows it.",
                )
                .into());
            }
            Plan::Replicate(Replicate::Insert { .. }) if explain.analyze => {
                return Err(ClientError::refused(
                    "EXPLAIN ANALYZE of an INSERT whose rows one shard gives to the others is not possible",
                    "Leave ANALYZE away.",
                )
                .into());
            }
            Plan::Replicate(Replicate::Insert { first, .. }) => {
                let parts = shards.iter().take(1).map(|shard| (*shard, first.clone())).collect();
                vec![Round { title: None, parts }]
            }
        })
    }

    async fn run_explained(
        &mut self,
        asked: &Asked<'_>,
        types: &[u32],
        explain: &Explain,
        round: Round,
    ) -> Result<Vec<Node>, Fault> {
        let shards: Vec<ShardId> = round.parts.iter().map(|(shard, _)| *shard).collect();
        let mut bound = Buffer::new();
        bound.put(asked.parameters);
        put_formats(&mut bound, [].into_iter());
        let mut members = self.assemble(&shards).await?;
        for (member, (_, part)) in members.iter_mut().zip(&round.parts) {
            let mut branch = std::mem::take(&mut member.branch);
            let sql = format!("{} {part}", explain.prefix);
            self.asking(member).execute(sql.as_bytes(), &type_bytes(types), &bound).sync(&mut branch);
            member.branch = branch;
        }
        let mut lines = Lines::of(members.len());
        let outcome = self.drive(&mut members, &mut lines, false).await;
        self.disband(members);
        outcome?;
        Ok(self.said(round, lines))
    }

    /// The same of a change that is made.
    async fn change_explained(
        &mut self,
        asked: &Asked<'_>,
        explain: &Explain,
        round: Round,
    ) -> Result<Vec<Node>, Fault> {
        let shards: Vec<ShardId> = round.parts.iter().map(|(shard, _)| *shard).collect();
        let texts = round.parts.iter().map(|(_, part)| format!("{} {part}", explain.prefix)).collect();
        let mut lines = Lines::of(shards.len());
        let quiet = Asked { formats: Vec::new(), ..asked.with_text(asked.text) };
        let members = self.change(&quiet, &Texts::Own(texts), &mut lines, &shards).await?;
        debug_assert_eq!(sum_of_tags(&members), "EXPLAIN");
        self.end_change(members).await?;
        Ok(self.said(round, lines))
    }

    fn said(&self, round: Round, lines: Lines) -> Vec<Node> {
        let topology = &self.database.topology;
        let nodes = round.parts.iter().zip(lines.said).map(|((shard, _), said)| {
            let name = topology.name(*shard);
            Node {
                rows: actual_rows(&said),
                said,
                shard: Some(name.to_owned()),
                ..Node::titled(format!("Shard {name}"))
            }
        });
        let nodes: Vec<Node> = nodes.collect();
        match round.title {
            None => nodes,
            Some(title) => vec![Node { nodes, ..Node::titled(title) }],
        }
    }

    /// What the rows came to: the plan of the server that finishes the answer, or how many were
    /// merged.
    async fn finish_explained(
        &mut self,
        asked: &Asked<'_>,
        plan: &Plan,
        shards: &[ShardId],
        explain: &Explain,
        top: &mut Node,
    ) -> Result<(), Fault> {
        let keep = Keep::new(0);
        let kept = Asked { keep: Some(&keep), ..asked.with_text(asked.text) };
        match plan {
            Plan::Merge(merge) => {
                let fixed = |count: Option<Count>| match count {
                    None => Some(None),
                    Some(Count::Literal(count)) => Some(Some(count)),
                    Some(Count::Param(_)) => None,
                };
                let rows: Option<u64> = top.nodes.iter().map(|node| node.rows).sum();
                if let (Some(rows), Some(limit), Some(offset)) =
                    (rows, fixed(merge.limit), fixed(merge.offset))
                {
                    let rows = rows.saturating_sub(offset.unwrap_or(0));
                    top.rows = Some(limit.map_or(rows, |limit| rows.min(limit)));
                }
                return Ok(());
            }
            Plan::Combine(combine) => {
                let mut finish = vec![Piece::Text(format!("{} ", explain.prefix))];
                finish.extend(combine.finish.iter().cloned());
                let combine = Combine { finish, ..combine.clone() };
                if self.combine(&kept, &combine, shards).await?.is_some() {
                    return Err(misdescribed().into());
                }
            }
            Plan::Gather(gather) => {
                let sql = format!("{} {}", explain.prefix, gather.sql);
                self.gather(&kept, &Gather { sql, tables: gather.tables.clone() }, shards).await?;
            }
            _ => return Ok(()),
        }
        let opened = keep.take().ok_or_else(misdescribed)?;
        let mut lines = Lines::of(1);
        for mut rows in opened.ahead() {
            while let Some(head) = wire::header(rows).map_err(|_| misdescribed())? {
                let Some((frame, rest)) = rows.split_at_checked(head.len) else { break };
                lines.put(0, frame)?;
                rows = rest;
            }
        }
        let said = lines.said.pop().unwrap_or_default();
        top.rows = actual_rows(&said);
        top.nodes.insert(0, Node { said, ..Node::titled("Finish") });
        Ok(())
    }
}

fn refuse_options(explain: &Explain) -> Result<(), ClientError> {
    if !matches!(explain.format.as_str(), "text" | "json") {
        return Err(ClientError::refused(
            format!("EXPLAIN over several shards has no format {}", explain.format),
            "Use FORMAT TEXT or FORMAT JSON.",
        ));
    }
    if explain.generic {
        return Err(ClientError::refused(
            "EXPLAIN (GENERIC_PLAN) cannot touch several shards",
            "Give the parameters, or a hint /* pgring: shard=NAME */.",
        ));
    }
    Ok(())
}

/// Do the types of its columns let the plan stand?
fn is_exact(plan: &Plan, fields: &[Field], parameters: usize) -> bool {
    match plan {
        Plan::Merge(merge) => {
            let keys = fields.len().checked_sub(merge.sort.len()).and_then(|at| fields.get(at..));
            keys.is_some_and(|keys| {
                merge
                    .sort
                    .iter()
                    .zip(keys)
                    .all(|(key, field)| SortType::of(field.oid, key.bytewise).is_some())
            })
        }
        Plan::Combine(combine) => {
            let types: Vec<u32> = fields.iter().map(|field| field.oid).collect();
            combine.render(&types, parameters).is_some()
        }
        _ => true,
    }
}

fn counted(count: Count) -> String {
    match count {
        Count::Literal(count) => count.to_string(),
        Count::Param(number) => format!("${number}"),
    }
}

/// What each member says, by lines.
struct Lines {
    said: Vec<Vec<String>>,
}

impl Lines {
    fn of(members: usize) -> Lines {
        Lines { said: vec![Vec::new(); members] }
    }

    fn put(&mut self, member: usize, frame: &[u8]) -> Result<(), ClientError> {
        let body = frame.get(HEADER_LEN..).unwrap_or_default();
        let value = row::values(body).map_err(malformed)?.next().ok_or_else(misdescribed)?;
        let value = value.map_err(malformed)?.unwrap_or_default();
        let said = self.said.get_mut(member).ok_or_else(misdescribed)?;
        said.extend(String::from_utf8_lossy(value).lines().map(str::to_owned));
        Ok(())
    }
}

impl Flow for Lines {
    fn wants(&self) -> Wants {
        Wants::Any
    }

    fn row(&mut self, member: usize, _: &Branch, frame: &[u8], _: &mut Buffer) -> Result<bool, ClientError> {
        self.put(member, frame)?;
        Ok(true)
    }

    fn end(&mut self, _: usize) {}
}

/// How many rows the topmost node of a plan has yielded.
fn actual_rows(said: &[String]) -> Option<u64> {
    let in_json = said.iter().find_map(|line| line.trim_start().strip_prefix("\"Actual Rows\": "));
    let digits = match in_json {
        Some(rest) => rest,
        None => said.first()?.split_once("(actual ")?.1.split_once("rows=")?.1,
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn text(top: &Node, spent: Option<f64>) -> Vec<String> {
    let mut lines = Vec::new();
    put_text(top, 0, &mut lines);
    lines.extend(spent.map(|spent| format!("Execution Time: {spent:.3} ms")));
    lines
}

fn put_text(node: &Node, depth: usize, lines: &mut Vec<String>) {
    let arrow = if depth == 0 { "" } else { "->  " };
    let pad = " ".repeat((6 * depth).saturating_sub(4));
    let rows = node.rows.filter(|_| node.said.is_empty());
    let rows = rows.map_or(String::new(), |rows| format!("  (actual rows={rows})"));
    lines.push(format!("{pad}{arrow}{}{rows}", node.title));
    let pad = " ".repeat(6 * depth + 2);
    lines.extend(node.attributes.iter().map(|(name, value)| format!("{pad}{name}: {value}")));
    lines.extend(node.said.iter().map(|line| format!("{pad}{line}")));
    node.nodes.iter().for_each(|node| put_text(node, depth + 1, lines));
}

fn json(top: &Node, spent: Option<f64>) -> String {
    let mut members = vec![("Plan".to_owned(), json_node(top))];
    members.extend(spent.map(|spent| ("Execution Time".to_owned(), format!("{spent:.3}"))));
    list(&[object(&members)])
}

fn json_node(node: &Node) -> String {
    let mut members = vec![("Node Type".to_owned(), quoted(&node.title))];
    members.extend(node.shard.iter().map(|shard| ("Shard".to_owned(), quoted(shard))));
    members.extend(node.attributes.iter().map(|(name, value)| ((*name).to_owned(), quoted(value))));
    members.extend(node.rows.map(|rows| ("Actual Rows".to_owned(), rows.to_string())));
    let mut plans: Vec<String> = node.nodes.iter().map(json_node).collect();
    if !node.said.is_empty() {
        let said = node.said.join("\n");
        match split_plan(&said) {
            Some((plan, others)) => {
                plans.push(plan);
                members.extend(others);
            }
            None => members.push(("Explain".to_owned(), said)),
        }
    }
    if !plans.is_empty() {
        members.push(("Plans".to_owned(), list(&plans)));
    }
    object(&members)
}

/// `[{"Plan": …, …}]` as the plan and what stands beside it. `None`: it is no one plan.
fn split_plan(said: &str) -> Option<(String, Vec<(String, String)>)> {
    let [only] = elements(said, ('[', ']'))?[..] else { return None };
    let mut plan = None;
    let mut others = Vec::new();
    for member in elements(only, ('{', '}'))? {
        let (name, value) = member.split_once("\": ")?;
        let name = name.strip_prefix('"')?;
        // As deep as it stood there.
        let value = value.trim().replace("\n    ", "\n");
        if name == "Plan" { plan = Some(value) } else { others.push((name.to_owned(), value)) }
    }
    Some((plan?, others))
}

/// What stands between the commas of a list or an object.
fn elements(text: &str, (open, close): (char, char)) -> Option<Vec<&str>> {
    let inner = text.trim().strip_prefix(open)?.strip_suffix(close)?;
    let (mut depth, mut quoted, mut escaped, mut start) = (0usize, false, false, 0);
    let mut found = Vec::new();
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                found.push(inner.get(start..at)?.trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(inner.get(start..)?.trim());
    Some(found)
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}: {}", quoted(name), deeper(value))).collect();
    format!("{{\n  {}\n}}", members.join(",\n  "))
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| deeper(value)).collect();
    format!("[\n  {}\n]", values.join(",\n  "))
}

/// No string of JSON has a line's end in it.
fn deeper(value: &str) -> String {
    value.replace('\n', "\n  ")
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if u32::from(c) < 0x20 => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_text() {
        let shard = Node {
            said: vec!["Seq Scan on t".to_owned(), "  Filter: x".to_owned()],
            ..Node::titled("Shard s1")
        };
        let copy = Node { nodes: vec![shard], ..Node::titled("Copy") };
        let top = Node { nodes: vec![copy], rows: Some(3), ..Node::titled("Gather") };
        let expect = [
            "Gather  (actual rows=3)",
            "  ->  Copy",
            "        ->  Shard s1",
            "              Seq Scan on t",
            "                Filter: x",
            "Execution Time: 1.000 ms",
        ];
        assert_eq!(text(&top, Some(1.0)), expect);
    }

    #[test]
    fn a_plan_in_json_is_taken_out() {
        let said = "[\n  {\n    \"Plan\": {\n      \"Filter\": \"a, \\\"]}\"\n    },\n    \"Planning Time\": 0.1\n  }\n]";
        let (plan, others) = split_plan(said).unwrap();
        assert_eq!(plan, "{\n  \"Filter\": \"a, \\\"]}\"\n}");
        assert_eq!(others, [("Planning Time".to_owned(), "0.1".to_owned())]);
        assert_eq!(split_plan("[\n  \"Utility Statement\"\n]"), None);
    }

    #[test]
    fn rows_of_the_topmost_node() {
        let rows = |line: &str| actual_rows(&[line.to_owned()]);
        assert_eq!(
            rows("Sort  (cost=1..2 rows=9 width=8) (actual time=0.1..0.2 rows=12.00 loops=1)"),
            Some(12)
        );
        assert_eq!(rows("Sort  (actual rows=7 loops=1)"), Some(7));
        assert_eq!(rows("    \"Actual Rows\": 5.00,"), Some(5));
        assert_eq!(rows("Sort  (cost=1..2 rows=9 width=8)"), None);
    }
}
