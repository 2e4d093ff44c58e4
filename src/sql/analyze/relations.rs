//! Relations by name: tables, views, and the queries of `WITH`.

use std::rc::Rc;

use sqlparser::ast::Statement;

use super::super::lexer::tokenize;
use super::super::schema::{Table, TableKind};
use super::super::shape::Target;
use super::bridge::{self, Depth};
use super::names::{Named, resolve};
use super::query::{Analyzer, Env, Met, Output};
use super::scope::{Column, Source};
use super::tokens::{Name, Tokens};

/// Views may stand on views; PostgreSQL sees to it that they are no circle.
const MOST_VIEWS_DEEP: usize = 16;

impl<'a> Analyzer<'a> {
    /// What a name in `FROM` stands for, without an alias.
    pub(super) fn relation(&mut self, name: &Name, env: &Env<'_>) -> (Source, Met<'a>) {
        if name.schema.is_none()
            && let Some(cte) = env.find(&name.name)
        {
            return (self.cte_reference(cte, &name.name), Met::Query);
        }
        let path;
        let search_path = if self.views_deep > 0 {
            // Read with an empty path, only catalogs are unqualified.
            path = Vec::new();
            &path
        } else {
            self.cx.search_path
        };
        let mut source = Source { name: Some(name.name.clone()), ..Source::default() };
        match resolve(self.cx, search_path, name) {
            Named::Catalog => {
                self.touched.catalog = true;
                (source, Met::Catalog)
            }
            Named::Unknown => {
                if self.views_deep > 0 && name.schema.is_none() {
                    self.refusals.unreadable();
                }
                self.touched.home = true;
                (source, Met::Unknown)
            }
            Named::Table(table) => {
                source = self.table(table);
                source.name = Some(name.name.clone());
                let node = table.key_position().and_then(|key| source.columns.as_ref()?.get(key)?.node);
                (source, Met::Table(table, node))
            }
        }
    }

    /// Where a query of nothing but this table or view may run.
    pub(in crate::sql) fn alone(mut self, table: &Table) -> Target {
        let source = self.table(table);
        self.outermost_sharded = source.sharded;
        self.target()
    }

    /// A table of the snapshot.
    pub(super) fn table(&mut self, table: &Table) -> Source {
        let mut columns: Vec<Column> =
            table.columns.iter().map(|name| Column { name: Some(name.clone()), node: None }).collect();
        let (mut sharded, mut solid) = (false, true);
        self.at_primary |= table.detail.unlogged;
        match &table.kind {
            TableKind::Sharded { key, key_type } => {
                sharded = true;
                let column = table.columns.get(*key).map_or("", String::as_str);
                let node = self.facts.table(&table.name, column, *key_type);
                if let Some(column) = columns.get_mut(*key) {
                    column.node = Some(node);
                }
            }
            TableKind::Reference => self.touched.reference = true,
            TableKind::Home | TableKind::Sequence => self.touched.home = true,
            TableKind::View { definition } => {
                let output = self.view(definition);
                (sharded, solid) = (output.sharded, output.solid);
                for (column, copy) in columns.iter_mut().zip(self.copied(&output).into_iter().flatten()) {
                    column.node = copy.node;
                }
            }
        }
        Source {
            schema: Some(table.schema.clone()),
            columns: Some(columns),
            sharded,
            solid,
            ..Source::default()
        }
    }

    /// A view is the query it is defined by.
    fn view(&mut self, definition: &str) -> Output {
        if self.views_deep >= MOST_VIEWS_DEEP {
            self.refusals.unreadable();
            return Output::default();
        }
        self.writes |= self.cx.schema.volatility().is_hidden_in_definition(definition);
        let Some((statement, depth)) = definition_tree(definition) else {
            self.refusals.unreadable();
            return Output::default();
        };
        // Kept until the analysis is over: the tree's addresses must stay its own.
        self.views.push((Rc::clone(&statement), depth));
        let Statement::Query(query) = &*statement else {
            self.refusals.unreadable();
            return Output::default();
        };
        self.views_deep += 1;
        let output = bridge::with_stack(depth, || {
            let output = self.query(query, None, &Env::EMPTY);
            self.cross_check(&statement);
            output
        });
        self.views_deep -= 1;
        output
    }

    /// The columns of a query in `FROM`, as copies; conditions on them reach into it if they may.
    pub(super) fn copied(&mut self, output: &Output) -> Option<Vec<Column>> {
        self.apart |= output.sharded && !output.plain && !output.own;
        let columns = output.columns.as_ref()?;
        let copies = columns.iter().map(|column| {
            let node = column.node.map(|original| {
                let copy = self.facts.copy(original);
                if output.plain {
                    self.facts.edge(copy, original);
                }
                copy
            });
            Column { name: column.name.clone(), node }
        });
        Some(copies.collect())
    }

    fn cte_reference(&mut self, id: usize, name: &str) -> Source {
        self.ctes[id].references += 1;
        let mut source = Source { name: Some(name.to_owned()), ..Source::default() };
        if let Some(output) = self.ctes[id].output.clone() {
            source.sharded = output.sharded;
            source.solid = output.solid;
            source.columns = output.columns.map(|columns| {
                let copies = columns.into_iter().map(|column| {
                    let node = column.node.map(|original| {
                        let copy = self.facts.copy(original);
                        self.ctes[id].copies.push((copy, original));
                        copy
                    });
                    Column { node, ..column }
                });
                copies.collect()
            });
        }
        source
    }
}

/// The tree of a view's definition, and how deep it may be.
fn definition_tree(definition: &str) -> Option<(Rc<Statement>, Depth)> {
    let definition = definition.trim_end().trim_end_matches(';').as_bytes();
    let tokens = Tokens::new(definition, tokenize(definition, true).ok()?);
    let everything = 0..tokens.len();
    let depth = Depth::of(&tokens, everything.clone());
    if depth.is_too_deep() {
        return None;
    }
    let tree = bridge::with_stack(depth, || bridge::parse(&tokens, everything, &[]).ok().map(Rc::new))?;
    Some((tree, depth))
}
