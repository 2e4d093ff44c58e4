//! `FROM`: what stands in it, and what its joins say.

use std::ops::Range;

use sqlparser::ast::{
    JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableWithJoins,
};

use super::names::{ident, may_name_table, object};
use super::query::{Analyzer, Env, address, rename};
use super::refusals::Refusal;
use super::scope::{Found, Level, Merged, Scope, Side, Source};
use super::tokens::Name;

/// A column is looked up among all of a level's sources: without a bound, in quadratic time.
const MOST_SOURCES: usize = 1000;

/// What a join does with rows that do not match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Inner,
    Left,
    Right,
    Full,
}

impl Analyzer<'_> {
    /// An item of a `FROM` list with its joins.
    pub(super) fn joined(
        &mut self,
        item: &TableWithJoins,
        level: &mut Level,
        outer: Option<&Scope<'_>>,
        env: &Env<'_>,
    ) {
        let start = level.sources.len();
        self.factor(&item.relation, level, outer, env);
        for join in &item.joins {
            let middle = level.sources.len();
            self.factor(&join.relation, level, outer, env);
            let (kind, constraint) = match &join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => (Join::Inner, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    (Join::Left, constraint)
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    (Join::Right, constraint)
                }
                JoinOperator::FullOuter(constraint) => (Join::Full, constraint),
                _ => {
                    self.refusals.unreadable();
                    continue;
                }
            };
            if join.global {
                self.refusals.unreadable();
            }
            self.constraint(kind, constraint, start..middle, level, outer, env);
        }
    }

    fn constraint(
        &mut self,
        kind: Join,
        constraint: &JoinConstraint,
        left: Range<usize>,
        level: &mut Level,
        outer: Option<&Scope<'_>>,
        env: &Env<'_>,
    ) {
        let right = left.end..level.sources.len();
        let both = left.start..right.end;
        let is_sharded =
            |range: &Range<usize>| level.sources[range.clone()].iter().any(|source| source.sharded);
        // A row that has no match is the answer of one owner where all others have one.
        self.apart |= match kind {
            Join::Inner => false,
            Join::Left => is_sharded(&right) && !is_sharded(&left),
            Join::Right => is_sharded(&left) && !is_sharded(&right),
            Join::Full => is_sharded(&both),
        };
        let optional = match kind {
            Join::Inner => 0..0,
            Join::Left => right.clone(),
            Join::Right => left.clone(),
            Join::Full => both.clone(),
        };
        for source in level.sources.get_mut(optional).into_iter().flatten() {
            source.optional = true;
        }
        let restricted = match kind {
            Join::Inner => both.clone(),
            Join::Left => right.clone(),
            Join::Right => left.clone(),
            Join::Full => 0..0,
        };
        match constraint {
            JoinConstraint::None => {}
            JoinConstraint::On(condition) => {
                let scope = Scope { level, visible: both, outer };
                self.walk(condition, &scope, env);
                self.condition(condition, &scope, &restricted);
            }
            JoinConstraint::Using(columns) => {
                for column in columns.iter().take(MOST_SOURCES) {
                    match object(column) {
                        Some(Name { schema: None, name }) => {
                            self.merge(kind, &name, &left, &right, &restricted, level);
                        }
                        _ => self.refusals.unreadable(),
                    }
                }
            }
            JoinConstraint::Natural => {
                // Which columns it joins on is known only if all of both sides are; a join on
                // more than is known here is a join on less than could be used.
                let names = level.column_names(left.clone()).zip(level.column_names(right.clone()));
                if let Some((left_names, right_names)) = names {
                    for name in left_names.iter().filter(|name| right_names.contains(name)) {
                        self.merge(kind, name, &left, &right, &restricted, level);
                    }
                }
            }
        }
    }

    /// One column of `USING`: equal on both sides, and one column from now on.
    fn merge(
        &mut self,
        kind: Join,
        name: &str,
        left: &Range<usize>,
        right: &Range<usize>,
        restricted: &Range<usize>,
        level: &mut Level,
    ) {
        let sides = (level.side(left.clone(), name), level.side(right.clone(), name));
        let merged = match sides {
            (Side::One(mut members, left), Side::One(others, right)) => {
                if let (Some(left), Some(right)) = (left, right) {
                    self.link(left, right, restricted);
                }
                members.extend(others);
                let value: Option<Found> = match kind {
                    Join::Inner => left.or(right),
                    Join::Left => left,
                    Join::Right => right,
                    Join::Full => None,
                };
                Merged { name: name.to_owned(), members, value }
            }
            _ => {
                let members = left.start..right.end;
                Merged { name: name.to_owned(), members: members.collect(), value: None }
            }
        };
        level.merged.retain(|older| {
            older.name != name || !older.members.iter().all(|member| merged.members.contains(member))
        });
        level.merged.push(merged);
    }

    /// One item, pushed onto the level.
    pub(super) fn factor(
        &mut self,
        factor: &TableFactor,
        level: &mut Level,
        outer: Option<&Scope<'_>>,
        env: &Env<'_>,
    ) {
        if level.sources.len() >= MOST_SOURCES || level.merged.len() >= MOST_SOURCES {
            self.refusals.push(Refusal::too_many_tables());
            self.refusals.unreadable();
            return;
        }
        // What stands in `FROM` sees the items before it if it is lateral; functions always are.
        let source = {
            let lateral = Scope { level, visible: 0..level.sources.len(), outer };
            match factor {
                TableFactor::Table { .. } => self.named_factor(factor, &lateral, env),
                TableFactor::Derived { lateral: is_lateral, subquery, alias, sample } => {
                    if sample.is_some() {
                        self.refusals.unreadable();
                    }
                    let output = self.query(subquery, if *is_lateral { Some(&lateral) } else { outer }, env);
                    let columns = self.copied(&output);
                    let source =
                        Source { columns, sharded: output.sharded, solid: output.solid, ..Source::default() };
                    self.aliased(source, alias.as_ref())
                }
                TableFactor::Function { name, args, alias, .. } => {
                    self.walk(args, &lateral, env);
                    self.called(name);
                    self.aliased(function_source(name), alias.as_ref())
                }
                TableFactor::UNNEST { array_exprs, alias, with_offset: false, .. } => {
                    self.walk(array_exprs, &lateral, env);
                    let source = Source { name: Some("unnest".to_owned()), ..Source::default() };
                    self.aliased(source, alias.as_ref())
                }
                TableFactor::TableFunction { expr, alias } => {
                    self.walk(expr, &lateral, env);
                    self.aliased(Source::default(), alias.as_ref())
                }
                TableFactor::JsonTable { json_expr, alias, .. } => {
                    self.walk(json_expr, &lateral, env);
                    self.aliased(Source::default(), alias.as_ref())
                }
                TableFactor::NestedJoin { .. } => None,
                _ => {
                    self.refusals.unreadable();
                    None
                }
            }
        };
        if let Some(source) = source {
            level.sources.push(source);
        } else if let TableFactor::NestedJoin { table_with_joins, alias } = factor {
            let start = level.sources.len();
            self.joined(table_with_joins, level, outer, env);
            if let Some(alias) = alias {
                // The alias hides what is in the parentheses.
                let mut sharded = false;
                for hidden in &mut level.sources[start..] {
                    sharded |= hidden.sharded;
                    *hidden =
                        Source { columns: Some(Vec::new()), sharded: hidden.sharded, ..Source::default() };
                }
                level.merged.retain(|merged| merged.members.iter().all(|member| *member < start));
                let source = Source { sharded, ..Source::default() };
                level.sources.extend(self.aliased(source, Some(alias)));
            }
        }
    }

    /// A table, or a function called like one.
    fn named_factor(&mut self, factor: &TableFactor, lateral: &Scope<'_>, env: &Env<'_>) -> Option<Source> {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            partitions,
            json_path,
            sample,
            index_hints,
            ..
        } = factor
        else {
            return None;
        };
        if !with_hints.is_empty()
            || version.is_some()
            || !partitions.is_empty()
            || json_path.is_some()
            || !index_hints.is_empty()
        {
            self.refusals.unreadable();
        }
        self.walk(sample, lateral, env);
        self.account(name);
        let node = address(name);
        if let Some(args) = args {
            if args.settings.is_some() {
                self.refusals.unreadable();
            }
            self.walk(&args.args, lateral, env);
            self.called(name);
            return self.aliased(function_source(name), alias.as_ref());
        }
        let is_reserved =
            matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)] if !may_name_table(name));
        let Some(name) = object(name).filter(|_| name.0.len() <= 3) else {
            self.refusals.unreadable();
            return None;
        };
        if is_reserved {
            self.refusals.unreadable();
        }
        let (source, met) = self.relation(&name, env);
        self.met.insert(node, met);
        self.aliased(source, alias.as_ref())
    }

    fn called(&mut self, name: &ObjectName) {
        match object(name) {
            Some(name) => self.call(&name),
            None => self.refusals.unreadable(),
        }
    }

    /// Under its alias, if it has one, nothing is known by its own name.
    pub(super) fn aliased(&mut self, source: Source, alias: Option<&TableAlias>) -> Option<Source> {
        let Some(alias) = alias else { return Some(source) };
        if alias.at.is_some() || !may_name_table(&alias.name) {
            self.refusals.unreadable();
        }
        let mut source = Source { name: Some(ident(&alias.name)), schema: None, ..source };
        rename(&mut source.columns, alias.columns.iter().map(|column| ident(&column.name)));
        Some(source)
    }
}

/// A function's result: a row type that is not known here.
fn function_source(name: &ObjectName) -> Source {
    Source { name: object(name).map(|name| name.name), ..Source::default() }
}
