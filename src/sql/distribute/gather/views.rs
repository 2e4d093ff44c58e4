//! Views: which can be copied like tables, and which have to be put in place.
//!
//! A view reads with its owner's rights. Copied from each shard it still does. Put in place it reads
//! with the user's own: who lacks a right is told so, but where a row security policy applies to the
//! user and not to the owner, rows would be missing silently. So a view is put in place only if all
//! that it reads is [transparent](super::super::super::schema::TableDetail::transparent).

use super::super::super::analyze::Context;
use super::super::super::analyze::bridge::{self, Depth};
use super::super::super::analyze::literals::Literals;
use super::super::super::analyze::query::{Analyzer, Met};
use super::super::super::analyze::refusals::Refusal;
use super::super::super::analyze::tokens::Tokens;
use super::super::super::lexer::tokenize;
use super::super::super::schema::{Table, TableKind};
use super::super::super::shape::Target;
use super::super::{Impossible, Source};

/// What becomes of a view's name.
pub(super) enum Treatment<'a> {
    /// It means the same wherever the statement runs.
    Left,
    /// Its rows are copied from there.
    Copied(Source),
    /// This stands in its place.
    Replaced(&'a str),
}

/// What becomes of this view's name.
pub(super) fn treatment<'a>(view: &'a Table, cx: &Context<'_>) -> Result<Treatment<'a>, Impossible> {
    let TableKind::View { definition } = &view.kind else {
        return Ok(Treatment::Copied(super::source_of(view)));
    };
    let nothing = Tokens::new(b"", Vec::new());
    match Analyzer::new(cx, Literals::new(&nothing)).alone(view) {
        Target::Nothing | Target::Catalog => Ok(Treatment::Left),
        Target::Home => Ok(Treatment::Copied(Source::Home)),
        Target::Reference => Ok(Treatment::Copied(Source::AnyShard)),
        Target::Everywhere { colocated: true, home: false, .. }
        | Target::Keys { colocated: true, home: false, .. } => Ok(Treatment::Copied(Source::EachShard)),
        Target::Refused(message, hint) => Err(Impossible { message, hint }),
        _ => {
            may_be_replaced(view, definition, cx)?;
            Ok(Treatment::Replaced(definition))
        }
    }
}

fn may_be_replaced(view: &Table, definition: &str, cx: &Context<'_>) -> Result<(), Impossible> {
    let unreadable = || Impossible::from(Refusal::unreadable());
    let opaque = |table: &str| {
        Impossible::to_gather(format!(
            "view \"{}\" cannot be answered over several shards: what its owner sees of \"{table}\" may not \
             be what you see of it",
            view.name
        ))
    };
    if !view.detail.transparent {
        return Err(Impossible::to_gather(format!(
            "view \"{}\" is materialized: what each shard has of it is not a part of the whole",
            view.name
        )));
    }
    // It is spelt for a session in which a backslash is a character like any other.
    if !cx.standard_conforming_strings && definition.contains('\\') {
        return Err(unreadable());
    }
    let text = definition.trim().trim_end_matches(';').as_bytes();
    let tokens = Tokens::new(text, tokenize(text, true).map_err(|_| unreadable())?);
    let everything = 0..tokens.len();
    let depth = Depth::of(&tokens, everything.clone());
    if depth.is_too_deep() {
        return Err(Refusal::too_deep().into());
    }
    // Read with an empty path, only catalogs are unqualified.
    let own = Context { search_path: &[], ..*cx };
    bridge::with_stack(depth, || {
        let tree = bridge::parse(&tokens, everything, &[]).map_err(|_| unreadable())?;
        let mut analyzer = Analyzer::new(&own, Literals::new(&tokens));
        analyzer.read(&tree);
        for met in analyzer.findings()?.met.values() {
            match met {
                Met::Table(table, _) if table.detail.transparent || table.kind == TableKind::Sequence => {}
                Met::Table(table, _) => return Err(opaque(&table.name)),
                Met::Query => {}
                // A name of the statement's own `WITH` could hide it.
                Met::Catalog | Met::Unknown => return Err(unreadable()),
            }
        }
        Ok(())
    })
}
