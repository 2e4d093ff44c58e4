//! Queries that fold the rows of all shards: grouped ones, those with aggregates, and `DISTINCT`.
//!
//! What a shard runs groups its rows as the query does, and yields the groups' values and what each
//! aggregate is made of. The query's own select list, `HAVING` and `ORDER BY` then run over that, an
//! aggregate replaced by the fold of its parts and a group's expression by its column. Whether
//! everything has been replaced is seen by reading the outcome: no name of the client's may be left.
//!
//! An aggregate of distinct values (`count(DISTINCT x)`) makes `x` one more thing to group by, and
//! then folds the groups' values.

use std::fmt::Write as _;
use std::ops::{ControlFlow, Range};

use sqlparser::ast::{Expr, Query, Visit, Visitor};

use super::super::{Combine, Partial, Piece};
use super::Question;
use super::calls::calls;
use super::clauses::split;
use super::merge::{Collation, Order, bounds, collation, columns, follows_columns, order, pushed};
use super::names::Output;
use super::units::{Unit, UnitKind, Wavering, wavering};
use crate::sql::analyze::bridge::{self, Depth};
use crate::sql::analyze::tokens::Tokens;
use crate::sql::lexer::{TokenKind, tokenize};
use crate::sql::schema::TextOrder;

/// `None`: it does not fold, or not in a way that is known to be exact.
pub(super) fn plan(question: &Question<'_>) -> Option<Combine> {
    let Question { select, query, clauses, .. } = question;
    let parts = [
        calls(question, &select.projection),
        calls(question, &select.having),
        calls(question, &query.order_by),
        calls(question, &select.group_by),
    ];
    let aggregates: usize = parts.iter().map(|part| part.aggregates).sum();
    let folds = aggregates > 0 || !clauses.group.is_empty() || select.having.is_some();
    if !folds && !clauses.distinct {
        return None;
    }
    // The items of a mere `DISTINCT` are each shard's to evaluate.
    let apart = parts.iter().any(|part| part.windows + part.queries > 0) || !select.named_window.is_empty();
    if folds && apart
        || parts.iter().any(|part| part.unclear)
        || question.outputs.contains(&Output::Star)
        || clauses.items.is_empty()
        || !clauses.locks.is_empty()
    {
        return None;
    }
    let mut folder = Folder { question, folds, partials: Vec::new(), groups: Vec::new(), aggregates: 0 };
    if folds {
        for range in question.groups()? {
            folder.group(&range)?;
        }
    } else {
        for item in 0..clauses.items.len() {
            folder.group(&super::unwrapped(question.tokens, question.expression(item)?))?;
        }
    }
    let own_groups = folder.groups.len();
    let whole = folds && own_groups == 0;
    let finish = folder.finish(own_groups)?;
    // Each aggregate that the tree has must have been met, and nothing else taken for one.
    if folds && folder.aggregates != aggregates || folder.partials.is_empty() {
        return None;
    }
    let finish = if whole && folder.groups.len() > own_groups { counted(finish, &folder) } else { finish };
    checked(&finish)?;
    let fetch = folder.fetch()?;
    let columns = folder.partials.into_iter().map(|partial| partial.holds).collect();
    Some(Combine { fetch, columns, finish })
}

/// A column of what the shards run.
struct Column {
    sql: String,
    holds: Partial,
    /// It counts: of no groups at all it is 0, not NULL.
    counts: bool,
}

/// Something that is grouped by.
struct Group {
    /// Its units' texts.
    units: Vec<String>,
    form: Form,
    partial: usize,
    /// `COLLATE …`, which the column alone has lost.
    collation: Option<String>,
}

/// Within what else an expression can be recognized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Nothing binds closer than its parts do.
    Atom,
    /// Only a type's further words do.
    Cast,
    /// It is recognized where it stands for itself.
    Other,
}

struct Folder<'f, 'q> {
    question: &'f Question<'q>,
    /// Or else it is a mere `DISTINCT`.
    folds: bool,
    partials: Vec<Column>,
    groups: Vec<Group>,
    /// How many have been replaced.
    aggregates: usize,
}

impl Folder<'_, '_> {
    fn partial(&mut self, sql: String, holds: Partial, counts: bool) -> usize {
        if let Some(known) = self.partials.iter().position(|partial| partial.sql == sql) {
            return known;
        }
        self.partials.push(Column { sql, holds, counts });
        self.partials.len() - 1
    }

    /// One more thing to group by; its number among the groups.
    fn group(&mut self, range: &Range<usize>) -> Option<usize> {
        let question = self.question;
        let units = question.units(range);
        if !super::is_one(question.tokens, range) {
            return None;
        }
        // Several shards' clocks would make several groups of one.
        let aggregate = self.folds && units.iter().any(|unit| self.is_aggregate(unit));
        if wavering(&units) != Wavering::None || aggregate {
            return None;
        }
        let texts: Vec<String> = units.iter().map(|unit| unit.text.clone()).collect();
        if let Some(known) = self.groups.iter().position(|group| group.units == texts) {
            return Some(known);
        }
        for unit in columns(&units) {
            let detail = unit.column.and_then(|column| question.inputs.detail(column));
            if detail.is_some_and(|detail| detail.text_order == TextOrder::Nondeterministic) {
                return None;
            }
        }
        let (collation, holds) = self.order_of(range, &units)?;
        let sql = question.written(range)?.to_owned();
        let holds = Partial::Group { ordered: holds.0, default_collation: holds.1 };
        self.partials.push(Column { sql, holds, counts: false });
        let partial = self.partials.len() - 1;
        self.groups.push(Group { form: form(question, &units), units: texts, partial, collation });
        Some(self.groups.len() - 1)
    }

    /// The collation to attach to the values of an expression; whether they are compared, and whether
    /// their collation is the default one.
    fn order_of(&self, range: &Range<usize>, units: &[Unit]) -> Option<(Option<String>, (bool, bool))> {
        let question = self.question;
        match collation(question, range) {
            Collation::Explicit { name, bytewise: true } => Some((Some(name.to_owned()), (true, true))),
            // It may be one under which different texts are equal.
            Collation::Explicit { .. } | Collation::Unclear => None,
            Collation::None => {
                let default = follows_columns(question, range)
                    && columns(units).all(|unit| {
                        let detail = unit.column.and_then(|column| question.inputs.detail(column));
                        detail.is_some_and(|detail| detail.default_collation)
                    });
                Some((None, (true, default)))
            }
        }
    }

    fn is_aggregate(&self, unit: &Unit) -> bool {
        let name = unit.text.trim_start();
        unit.kind == UnitKind::Call && self.question.folds(name.rsplit('.').next().unwrap_or(name))
    }

    /// What the shards run.
    fn fetch(&self) -> Option<String> {
        let Question { clauses, .. } = self.question;
        let mut sql = String::new();
        if !clauses.with.is_empty() {
            sql += self.question.written(&clauses.with)?;
            sql.push(' ');
        }
        sql += if self.folds { "SELECT " } else { "SELECT DISTINCT " };
        let columns: Vec<&str> = self.partials.iter().map(|partial| partial.sql.as_str()).collect();
        sql += &columns.join(", ");
        sql.push(' ');
        sql += self.question.written(if self.folds { &clauses.from } else { &clauses.body })?;
        if self.folds {
            for (number, group) in self.groups.iter().enumerate() {
                let start = if number == 0 { " GROUP BY" } else { "," };
                let _ = write!(sql, "{start} {}", group.partial + 1);
            }
        } else if let Some((limit, offset)) = bounds(clauses.limit, clauses.offset)
            && limit.is_some()
        {
            // Of the first rows of all shards, each is among the first ones of its own.
            let mut orders = Vec::new();
            for range in &clauses.order {
                let Order { expression, suffix, .. } = order(self.question, range)?;
                let group = self.group_of(&expression)?;
                let suffix = self.question.written(&suffix).unwrap_or_default();
                orders.push(format!("{} {suffix}", group.partial + 1));
            }
            if !orders.is_empty() {
                let _ = write!(sql, " ORDER BY {}", orders.join(", "));
            }
            sql += &pushed(limit, offset);
        }
        Some(sql)
    }

    fn group_of(&self, expression: &Range<usize>) -> Option<&Group> {
        let expression = super::unwrapped(self.question.tokens, expression.clone());
        let units = self.question.units(&expression);
        self.groups.iter().find(|group| group.units.iter().eq(units.iter().map(|unit| &unit.text)))
    }

    /// What runs over the columns of all shards.
    fn finish(&mut self, own_groups: usize) -> Option<Vec<Piece>> {
        let question = self.question;
        let clauses = &question.clauses;
        let mut finish = Finish::default();
        finish.text(if clauses.distinct { "SELECT DISTINCT " } else { "SELECT " });
        for item in 0..clauses.items.len() {
            if item > 0 {
                finish.text(", ");
            }
            self.fold(&question.expression(item)?, &mut finish)?;
        }
        finish.text(" FROM ");
        finish.pieces.push(Piece::Source);
        if self.folds {
            for number in 0..own_groups {
                finish.text(if number == 0 { " GROUP BY " } else { ", " });
                finish.text(&self.groups.get(number)?.column());
            }
        }
        if let Some(having) = &clauses.having {
            finish.text(" HAVING ");
            self.fold(having, &mut finish)?;
        }
        for (number, range) in clauses.order.iter().enumerate() {
            finish.text(if number == 0 { " ORDER BY " } else { ", " });
            let Order { expression, item, suffix, .. } = order(question, range)?;
            let item = item.or_else(|| self.item_like(&expression));
            match item {
                Some(item) => finish.text(&(item + 1).to_string()),
                None if clauses.distinct => return None,
                None => self.fold(&expression, &mut finish)?,
            }
            if !suffix.is_empty() {
                finish.text(" ");
                finish.text(question.written(&suffix)?);
            }
        }
        if !clauses.tail.is_empty() {
            finish.text(" ");
            finish.text(question.written(&clauses.tail)?);
        }
        Some(finish.pieces)
    }

    /// The item of the select list that is this expression. It is folded with the list.
    fn item_like(&mut self, expression: &Range<usize>) -> Option<usize> {
        let question = self.question;
        let texts = |range: &Range<usize>| {
            let units = question.units(&super::unwrapped(question.tokens, range.clone()));
            units.into_iter().map(|unit| unit.text).collect::<Vec<_>>()
        };
        let wanted = texts(expression);
        let items = 0..question.clauses.items.len();
        let item = items
            .into_iter()
            .find(|item| question.expression(*item).is_some_and(|expression| texts(&expression) == wanted))?;
        self.aggregates += question.units(expression).iter().filter(|unit| self.is_aggregate(unit)).count();
        Some(item)
    }

    /// An expression with its groups and aggregates replaced.
    fn fold(&mut self, range: &Range<usize>, finish: &mut Finish) -> Option<()> {
        let question = self.question;
        let units = question.units(range);
        if wavering(&units) == Wavering::Call {
            return None;
        }
        let mut at = 0;
        while let Some(unit) = units.get(at) {
            if at > 0 {
                finish.text(" ");
            }
            if let Some((group, width)) = self.group_at(&units, at) {
                finish.text(&group.column());
                at += width;
            } else if self.is_aggregate(unit) {
                at = self.aggregate(&units, at, finish)?;
            } else {
                finish.text(question.written(&unit.tokens)?);
                at += 1;
            }
        }
        Some(())
    }

    /// The longest group that stands here.
    fn group_at(&self, units: &[Unit], at: usize) -> Option<(&Group, usize)> {
        let candidates = self.groups.iter().filter(|group| group.stands_at(units, at));
        candidates.map(|group| (group, group.units.len())).max_by_key(|(_, width)| *width)
    }

    /// An aggregate at a unit; the unit behind it.
    fn aggregate(&mut self, units: &[Unit], at: usize, finish: &mut Finish) -> Option<usize> {
        let question = self.question;
        let tokens = question.tokens;
        let call = units.get(at)?;
        let end = units.last()?.tokens.end;
        let name = call.text.trim_start();
        let name = match name.rsplit_once('.') {
            None => name,
            Some(("pg_catalog", name)) => name,
            Some(_) => return None,
        };
        if !question.cx.schema.functions_named(name).is_empty() {
            return None;
        }
        let open = call.tokens.end;
        let close = tokens.behind_parenthesis(open, end);
        let mut arguments = open + 1..close.checked_sub(1)?;
        let mut behind = close;
        let mut filter = None;
        if tokens.is_word(close, "filter") && close < end && tokens.is_mark(close + 1, "(") {
            behind = tokens.behind_parenthesis(close + 1, end);
            filter = Some(close..behind);
        }
        if behind < end && tokens.is_one_of(behind, &["over", "within", "filter"]) {
            return None;
        }
        let distinct = tokens.is_word(arguments.start, "distinct");
        if distinct || tokens.is_word(arguments.start, "all") {
            arguments.start += 1;
        }
        if tokens.find_word(arguments.clone(), &["order", "variadic"]).is_some()
            || split(tokens, &arguments)?.len() != 1
        {
            return None;
        }
        let inner = question.units(&(arguments.start..behind));
        if inner.iter().any(|unit| self.is_aggregate(unit)) || wavering(&inner) == Wavering::Call {
            return None;
        }
        let argument = question.units(&arguments);
        // A condition on the clock is one in `WHERE`; a value by it is several shards' values.
        if wavering(&argument) != Wavering::None {
            return None;
        }
        self.aggregates += 1;
        let next = units.iter().position(|unit| unit.tokens.start >= behind).unwrap_or(units.len());
        if distinct
            && !matches!(name, "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or")
        {
            self.distinct(name, &arguments, filter, finish)?;
            return Some(next);
        }
        let filter = match &filter {
            Some(range) => format!(" {}", question.written(range)?),
            None => String::new(),
        };
        let argument_sql = question.written(&arguments)?;
        let partial = |name: &str| format!("{name}({argument_sql}){filter}");
        let exact = Partial::Aggregate { ordered: false, default_collation: true };
        match name {
            "count" => {
                let column = self.partial(partial("count"), exact, true);
                finish.pieces.push(Piece::SumOf(column));
            }
            "sum" => {
                let column = self.partial(partial("sum"), exact, false);
                finish.pieces.push(Piece::SumOf(column));
            }
            "avg" => {
                let sum = self.partial(partial("sum"), exact, false);
                let count = self.partial(partial("count"), exact, true);
                finish.pieces.push(Piece::Quotient { sum, count });
            }
            "variance" | "var_samp" | "var_pop" | "stddev" | "stddev_samp" | "stddev_pop" => {
                let sum = self.partial(partial("sum"), exact, false);
                let count = self.partial(partial("count"), exact, true);
                let number = format!("({argument_sql})::pg_catalog.numeric");
                let squares = format!("sum({number} * {number}){filter}");
                let squares = self.partial(squares, exact, false);
                let (sample, root) = (!name.ends_with("_pop"), name.starts_with("stddev"));
                finish.text("(");
                finish.pieces.push(Piece::Spread { count, sum, squares, sample, root });
                finish.text(")");
            }
            "min" | "max" => {
                let (collation, (ordered, default_collation)) = self.order_of(&arguments, &argument)?;
                let holds = Partial::Aggregate { ordered, default_collation };
                let column = self.partial(partial(name), holds, false);
                let collation = collation.map_or(String::new(), |collation| format!(" {collation}"));
                finish.text(&format!("pg_catalog.{name}({}{collation})", column_name(column)));
            }
            "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" => {
                let column = self.partial(partial(name), exact, false);
                finish.text(&format!("pg_catalog.{name}({})", column_name(column)));
            }
            _ => return None,
        }
        Some(next)
    }

    /// An aggregate of distinct values: they are fetched, and folded then.
    fn distinct(
        &mut self,
        name: &str,
        arguments: &Range<usize>,
        filter: Option<Range<usize>>,
        finish: &mut Finish,
    ) -> Option<()> {
        if !matches!(name, "count" | "sum" | "avg") || self.question.tokens.is_mark(arguments.start, "*") {
            return None;
        }
        let argument = super::unwrapped(self.question.tokens, arguments.clone());
        let group = self.group(&argument)?;
        let column = self.groups.get(group)?.column();
        finish.text(&format!("pg_catalog.{name}(DISTINCT {column})"));
        if let Some(filter) = filter {
            // FILTER ( WHERE condition )
            let condition = filter.start + 3..filter.end.checked_sub(1)?;
            if !self.question.tokens.is_word(filter.start + 2, "where") {
                return None;
            }
            let group = self.group(&super::unwrapped(self.question.tokens, condition))?;
            let column = self.groups.get(group)?.column();
            finish.text(&format!(" FILTER (WHERE {column})"));
        }
        Some(())
    }
}

impl Group {
    fn column(&self) -> String {
        let column = column_name(self.partial);
        match &self.collation {
            None => column,
            Some(collation) => format!("({column} {collation})"),
        }
    }

    /// Whether the units from `at` on are this expression, and an operand of whatever is around it.
    fn stands_at(&self, units: &[Unit], at: usize) -> bool {
        let end = at + self.units.len();
        let Some(here) = units.get(at..end) else { return false };
        if !here.iter().map(|unit| &unit.text).eq(&self.units) {
            return false;
        }
        let word = |index: Option<usize>| index.and_then(|at| units.get(at)).map(|unit| unit.text.as_str());
        let (before, behind) = (word(at.checked_sub(1)), word(Some(end)));
        let string = |unit: &Unit| unit.text.ends_with('\'') || unit.text.ends_with('$');
        let opens = matches!(before, None | Some("(" | "," | "when" | "then" | "else" | "case"));
        let closes = matches!(behind, None | Some(")" | "," | "when" | "then" | "else" | "end"));
        let operand = !matches!(before, Some("::" | "as" | "collate" | "." | ":"))
            && !matches!(behind, Some("(" | "." | "=>" | ":=" | "over" | "filter" | "within"))
            && !units.get(end).is_some_and(string);
        match self.form {
            Form::Other => opens && closes,
            Form::Atom => operand,
            Form::Cast => {
                operand
                    && !matches!(behind, Some("[" | "array" | "with" | "to"))
                    && units.get(end).is_none_or(|unit| unit.kind != UnitKind::Name)
            }
        }
    }
}

fn form(question: &Question<'_>, units: &[Unit]) -> Form {
    let tokens = question.tokens;
    // An atom's length.
    let atom = match units {
        [Unit { kind: UnitKind::Name, .. }, ..] => 1,
        [first @ Unit { kind: UnitKind::Call, .. }, .., last] => {
            let behind = tokens.behind_parenthesis(first.tokens.end, last.tokens.end);
            units.iter().take_while(|unit| unit.tokens.start < behind).count()
        }
        _ => return Form::Other,
    };
    let rest = units.get(atom..).unwrap_or(&[]);
    let is_cast =
        |pair: &[Unit]| matches!(pair, [mark, name] if mark.text == "::" && name.kind == UnitKind::Name);
    match rest {
        [] => Form::Atom,
        rest if rest.chunks(2).all(is_cast) => Form::Cast,
        _ => Form::Other,
    }
}

fn column_name(partial: usize) -> String {
    format!("pgring_partial.c{}", partial + 1)
}

/// The finish, adjacent texts in one piece.
#[derive(Default)]
struct Finish {
    pieces: Vec<Piece>,
}

impl Finish {
    fn text(&mut self, text: &str) {
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }
}

/// A query without groups has one row even if the shards, who group by distinct values, have none:
/// its counts are 0 then.
fn counted(pieces: Vec<Piece>, folder: &Folder<'_, '_>) -> Vec<Piece> {
    let mut finish = Finish::default();
    for piece in pieces {
        match piece {
            Piece::Text(text) => finish.text(&text),
            Piece::SumOf(column) if folder.partials.get(column).is_some_and(|partial| partial.counts) => {
                finish.text("coalesce(");
                finish.pieces.push(Piece::SumOf(column));
                finish.text(", 0)");
            }
            other => finish.pieces.push(other),
        }
    }
    finish.pieces
}

/// Reads the finish again. `None`: a name of the client's is left, so that something has not been
/// replaced.
fn checked(pieces: &[Piece]) -> Option<()> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text += piece,
            Piece::Source => text += "pgring_partial",
            Piece::SumOf(column) => text += &format!("pg_catalog.sum({})", column_name(*column)),
            Piece::Quotient { sum, .. } | Piece::Spread { sum, .. } => {
                text += &format!("pg_catalog.avg({})", column_name(*sum));
            }
        }
    }
    let tokens = Tokens::new(text.as_bytes(), tokenize(text.as_bytes(), true).ok()?);
    if tokens_of_unicode(&tokens) {
        return None;
    }
    let range = 0..tokens.len();
    let depth = Depth::of(&tokens, range.clone());
    if depth.is_too_deep() {
        return None;
    }
    bridge::with_stack(depth, || {
        let tree = bridge::parse(&tokens, range, &[]).ok()?;
        tree.visit(&mut Strangers { queries: 0 }).is_continue().then_some(())
    })
}

fn tokens_of_unicode(tokens: &Tokens<'_>) -> bool {
    (0..tokens.len()).any(|at| tokens.kind(at) == Some(TokenKind::UnicodeString))
}

/// Stops at a name that is no column of the partial results.
struct Strangers {
    queries: usize,
}

impl Visitor for Strangers {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        if self.queries > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(_) | Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => ControlFlow::Break(()),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] if table.value == "pgring_partial" && column.value.starts_with('c') => {
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}
