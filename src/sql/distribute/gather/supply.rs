//! A change over rows that it is given: see [`Supply`](super::super::Supply).
//!
//! As in a gather the statement stays as it is but for its tables' names. A table becomes a sub-query
//! over array parameters, with the columns that are mentioned, under the alias it had.

use std::ops::ControlFlow;

use sqlparser::ast::Visit as _;

use super::super::super::analyze::literals::Literals;
use super::super::super::analyze::opened::Opened;
use super::super::super::analyze::query::Analyzer;
use super::super::super::lexer::TokenKind;
use super::super::super::schema::{Giving, Table};
use super::super::plan::given;
use super::super::{Impossible, Source, Supplied, Writers};
use super::survey::Survey;
use super::{Columns, Copied, Draft, quoted};

/// What is read, the statement over it, and how many parameters of the client's own it has.
pub(in crate::sql::distribute) fn supplied(
    opened: &Opened<'_>,
    writers: Writers,
) -> Result<(Vec<Supplied>, String, u16), Impossible> {
    let (cx, tokens) = (opened.context(), opened.tokens);
    let mut analyzer = Analyzer::new(cx, Literals::new(tokens));
    analyzer.read(opened.tree);
    let findings = analyzer.findings()?;
    let mut survey = Survey::new(cx, tokens, opened.range.clone(), &findings);
    survey.modification(opened.tree)?;
    if let ControlFlow::Break(impossible) = opened.tree.visit(&mut survey) {
        return Err(impossible);
    }
    let references = survey.finish()?;
    if !references.views.is_empty() {
        return Err(Impossible::to_gather(
            "a view whose rows several shards make together cannot be given to them",
        ));
    }
    let number = |at: usize| std::str::from_utf8(tokens.raw(at)).ok()?.strip_prefix('$')?.parse().ok();
    let numbers = opened.range.clone().filter(|at| tokens.kind(*at) == Some(TokenKind::Param));
    let parameters: u16 = numbers.filter_map(number).max().unwrap_or(0);
    let draft = Draft { tokens, range: opened.range.clone(), references, expanded: false };
    let mut edits = draft.references.edits.clone();
    let mut tables = Vec::new();
    let mut before = usize::from(parameters);
    let lacks = |copy: &Copied<'_, '_>| match copy.source {
        Source::EachShard | Source::Owners(_) => true,
        Source::Home => writers != Writers::Home,
        Source::AnyShard => false,
    };
    for copy in draft.copies().iter().filter(|copy| lacks(copy)) {
        if copy.references.iter().any(|reference| reference.grouped) {
            return Err(Impossible::to_gather(format!(
                "what depends on the primary key of \"{}\" cannot be told of rows of it",
                copy.table.name
            )));
        }
        let (selected, shown) = columns(copy.table, &draft.columns(copy)?)?;
        let relation = given("pgring_given", shown.len(), before);
        let relation = format!("(SELECT {} FROM {relation})", shown.join(", "));
        before += shown.len();
        for reference in &copy.references {
            draft.replace(&mut edits, &reference.name, reference.bare, &relation);
        }
        let (alias, conditions) = draft.conditions(copy)?;
        let only = if copy.only { "ONLY " } else { "" };
        let from = format!("{only}{}.{}", quoted(&copy.table.schema), quoted(&copy.table.name));
        tables.push(Supplied {
            fetch: format!("SELECT {} FROM {from} AS {alias}{conditions}", selected.join(", ")),
            columns: shown.len(),
            source: draft.source(copy),
        });
    }
    if tables.is_empty() {
        return Err(Impossible::to_gather("which rows change cannot be told by each shard alone"));
    }
    Ok((tables, draft.edited(edits)?, parameters))
}

/// What is selected of a table, and what stands for it where it is given.
fn columns(table: &Table, columns: &Columns<'_>) -> Result<(Vec<String>, Vec<String>), Impossible> {
    let cannot = |name: &str| {
        Impossible::to_gather(format!(
            "column \"{name}\" of table \"{}\" cannot be given to other shards as a parameter",
            table.name
        ))
    };
    let Some(columns) = &columns.0 else { return Err(cannot("*")) };
    let (mut selected, mut shown) = (Vec::new(), Vec::new());
    for column in columns {
        let at =
            table.columns.iter().position(|name| name == column.name).ok_or_else(|| cannot(column.name))?;
        let detail = table.detail.columns.get(at).filter(|detail| detail.default_collation);
        let detail = detail.ok_or_else(|| cannot(column.name))?;
        let bare = detail.builtin && !detail.type_name.ends_with(']');
        let name = quoted(column.name);
        selected.push(match table.detail.giving.get(at) {
            Some(Giving::Bare) => name.clone(),
            None if bare => name.clone(),
            Some(Giving::Label) => format!("{name}::pg_catalog.text"),
            Some(Giving::Never) | None => return Err(cannot(column.name)),
        });
        shown.push(format!("pgring_given.c{}::{} AS {name}", shown.len() + 1, detail.type_name));
    }
    Ok((selected, shown))
}
