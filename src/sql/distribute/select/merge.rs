//! Queries whose rows are the shards' rows.
//!
//! What rows are ordered by becomes hidden columns behind the select list, and each shard orders by
//! those. `LIMIT` and `OFFSET` are pushed down as their sum.

use std::fmt::Write as _;
use std::ops::Range;

use super::super::{Count, Merge, SortKey};
use super::calls::calls;
use super::clauses::Bound;
use super::inputs::{Column, Look};
use super::names::{Output, star_of};
use super::units::{Unit, UnitKind, Wavering, column_name, wavering};
use super::{Place, Question};
use crate::sql::lexer::TokenKind;
use crate::sql::schema::{ColumnDetail, Schema, TextOrder};

/// How the hidden columns are called.
const KEY: &str = "pgring_key";

/// `None`: rows of several shards become one, or it is not known that they do not.
pub(super) fn plan(question: &Question<'_>) -> Option<Merge> {
    let Question { select, query, clauses, .. } = question;
    let listed = calls(question, &select.projection);
    let ordered = calls(question, &query.order_by);
    if listed.unclear || ordered.unclear || calls(question, &select.having).unclear {
        return None;
    }
    if clauses.group.is_empty() {
        if listed.aggregates + ordered.aggregates > 0 || select.having.is_some() {
            return None;
        }
    } else if !question.groups()?.iter().any(|group| question.is_key(group)) {
        return None;
    }
    if clauses.distinct && !lists_key(question) {
        return None;
    }
    let (limit, offset) = bounds(clauses.limit, clauses.offset)?;
    if !clauses.locks.is_empty() && (limit.is_some() || offset.is_some()) {
        // Each shard would lock as many rows.
        return None;
    }
    let mut sort = Vec::new();
    let mut hidden = Vec::new();
    for range in &clauses.order {
        let (key, expression) = sort_key(question, range)?;
        sort.push(key);
        hidden.push(expression);
    }
    let mut sql = String::new();
    if !clauses.with.is_empty() {
        sql += question.written(&clauses.with)?;
        sql.push(' ');
    }
    sql += question.written(&clauses.head)?;
    for (number, expression) in hidden.iter().enumerate() {
        let comma = if number == 0 && clauses.items.is_empty() { "" } else { "," };
        let _ = write!(sql, "{comma} {expression} AS {KEY}{}", number + 1);
    }
    sql.push(' ');
    sql += question.written(&clauses.body)?;
    for (number, key) in sort.iter().enumerate() {
        let start = if number == 0 { " ORDER BY" } else { "," };
        let _ = write!(sql, "{start} {KEY}{}{}", number + 1, key.suffix());
    }
    sql += &pushed(limit, offset);
    for lock in &clauses.locks {
        sql.push(' ');
        sql += question.written(lock)?;
    }
    Some(Merge { sql, sort, limit, offset })
}

impl SortKey {
    fn suffix(self) -> String {
        let direction = if self.descending { " DESC" } else { "" };
        let nulls = match (self.descending, self.nulls_first) {
            (false, true) => " NULLS FIRST",
            (true, false) => " NULLS LAST",
            _ => "",
        };
        format!("{direction}{nulls}")
    }
}

/// The limit and the offset of the whole. `None`: they are not known by their numbers alone.
pub(super) fn bounds(limit: Bound, offset: Bound) -> Option<(Option<Count>, Option<Count>)> {
    let count = |bound| match bound {
        Bound::None => Some(None),
        Bound::Count(count) => Some(Some(count)),
        Bound::Other => None,
    };
    Some((count(limit)?, count(offset)?))
}

/// As many rows as may be needed of each shard.
pub(super) fn pushed(limit: Option<Count>, offset: Option<Count>) -> String {
    let bigint = |count: u64| i64::try_from(count).ok();
    match (limit, offset) {
        (None, _) => String::new(),
        (Some(Count::Literal(limit)), None) => format!(" LIMIT {limit}"),
        (Some(Count::Param(limit)), None) => format!(" LIMIT ${limit}"),
        (Some(Count::Literal(limit)), Some(Count::Literal(offset))) => {
            match limit.checked_add(offset).and_then(bigint) {
                Some(sum) => format!(" LIMIT {sum}"),
                None => String::new(),
            }
        }
        (Some(limit), Some(offset)) => {
            let term = |count| match count {
                Count::Literal(count) => format!("{count}::pg_catalog.numeric"),
                Count::Param(number) => format!("${number}::pg_catalog.numeric"),
            };
            // `least` leaves out NULL, which is no limit. An offset of NULL is none.
            let (limit, offset) = (term(limit), term(offset));
            format!(" LIMIT least({limit} + coalesce({offset}, 0), {})::pg_catalog.int8", i64::MAX)
        }
    }
}

fn lists_key(question: &Question<'_>) -> bool {
    question.select.projection.iter().enumerate().any(|(index, item)| match star_of(item) {
        Some(source) => question.inputs.star_holds_key(source.as_deref()),
        None => question.expression(index).is_some_and(|range| question.is_key(&range)),
    })
}

/// What an item of `ORDER BY` means.
pub(super) struct Order {
    pub(super) expression: Range<usize>,
    /// It stands for this item of the select list.
    pub(super) item: Option<usize>,
    /// It stands for this column of a `*`.
    pub(super) of_star: Option<Column>,
    /// Behind the expression.
    pub(super) suffix: Range<usize>,
    pub(super) key: SortKey,
}

pub(super) fn order(question: &Question<'_>, range: &Range<usize>) -> Option<Order> {
    let tokens = question.tokens;
    let mut end = range.end;
    let mut nulls_first = None;
    if end - range.start > 2
        && tokens.is_word(end - 2, "nulls")
        && tokens.is_one_of(end - 1, &["first", "last"])
    {
        nulls_first = Some(tokens.is_word(end - 1, "first"));
        end -= 2;
    }
    let mut descending = false;
    if end - range.start > 1 && tokens.is_one_of(end - 1, &["asc", "desc"]) {
        descending = tokens.is_word(end - 1, "desc");
        end -= 1;
    }
    // `USING` is reserved: no expression has the word outside parentheses.
    if range.is_empty() || tokens.find_word(range.start..end, &["using"]).is_some() {
        return None;
    }
    let key = SortKey { descending, nulls_first: nulls_first.unwrap_or(descending), bytewise: false };
    let (expression, suffix) = (range.start..end, end..range.end);
    let (mut item, mut of_star) = (None, None);
    // PostgreSQL's grammar drops parentheses: `(1)` is a position, `(n)` may be a name of the list.
    let inner = super::unwrapped(tokens, expression.clone());
    if inner.len() == 1 {
        let at = inner.start;
        if let Some(name) = column_name(tokens, at) {
            item = named_item(question, &name)?;
        } else if tokens.kind(at) == Some(TokenKind::Integer) {
            match question.place(at)? {
                Place::Item(place) => item = Some(place),
                Place::OfStar(column) => of_star = Some(column),
            }
        } else if tokens.kind(at)?.is_literal() {
            return None;
        }
    }
    let expression = match item {
        Some(item) => question.expression(item)?,
        None => expression,
    };
    Some(Order { expression, item, of_star, suffix, key })
}

/// The item that a name in `ORDER BY` stands for; `Some(None)`: none, or a column of `*` that is what
/// the name means in an expression, too. `None`: that is not known.
fn named_item(question: &Question<'_>, name: &str) -> Option<Option<usize>> {
    let is_star = |output: &Output| *output == Output::Star;
    if !question.outputs.iter().any(is_star) {
        return question.named(name);
    }
    let explicit: Vec<usize> = question
        .outputs
        .iter()
        .enumerate()
        .filter(|(_, output)| !is_star(output) && output.may_be(name))
        .map(|(index, _)| index)
        .collect();
    let stars: Vec<Option<String>> = question.select.projection.iter().filter_map(star_of).collect();
    if stars.len() != question.outputs.iter().filter(|output| is_star(output)).count() {
        return None;
    }
    if explicit.is_empty() {
        // Of one source, and of all of them, `*` has the columns that a name in an expression means.
        let same = question.inputs.len() == 1
            || stars.iter().all(|star| match star {
                None => true,
                Some(source) => question.inputs.has(source, name) == Some(false),
            });
        return same.then_some(None);
    }
    // A column that is listed beside its table's `*` is the same one.
    let plain =
        |index: &usize| matches!(question.outputs.get(*index), Some(Output::Named { plain: true, .. }));
    let same = question.inputs.len() == 1 && explicit.iter().all(plain);
    let apart = || {
        stars.iter().all(|star| match star {
            None => question.inputs.look_up(None, name) == Look::Absent,
            Some(source) => question.inputs.has(source, name) == Some(false),
        })
    };
    match explicit.as_slice() {
        [item] if apart() && matches!(question.outputs.get(*item), Some(Output::Named { .. })) => {
            Some(Some(*item))
        }
        _ if same => Some(None),
        _ => None,
    }
}

/// An item of `ORDER BY` as a hidden column.
fn sort_key(question: &Question<'_>, range: &Range<usize>) -> Option<(SortKey, String)> {
    let Order { expression, item, of_star, key, .. } = order(question, range)?;
    if let Some(column) = of_star {
        let detail = question.inputs.detail(column);
        let bytewise = detail.is_some_and(is_bytes);
        return Some((SortKey { bytewise, ..key }, question.inputs.spelled(column)?));
    }
    if question.clauses.distinct && item.is_none() && !lists(question, &expression) {
        // Another column would make other rows distinct: PostgreSQL refuses it.
        return None;
    }
    let units = question.units(&expression);
    match wavering(&units) {
        Wavering::None => {}
        // Rows of several shards would be compared by several clocks.
        Wavering::Server => return None,
        // What is shown and what is sorted by would be two calls.
        Wavering::Call => {
            let listed = |range: &Range<usize>| wavering(&question.units(range)) == Wavering::Call;
            if item.is_some() || question.clauses.items.iter().any(listed) {
                return None;
            }
        }
    }
    let key = SortKey { bytewise: is_bytewise(question, &expression), ..key };
    Some((key, question.written(&expression)?.to_owned()))
}

/// Whether texts that this yields are known to be ordered by their bytes.
fn is_bytewise(question: &Question<'_>, expression: &Range<usize>) -> bool {
    let tokens = question.tokens;
    let expression = super::unwrapped(tokens, expression.clone());
    match collation(question, &expression) {
        Collation::Explicit { bytewise, .. } => return bytewise,
        Collation::Unclear => return false,
        Collation::None => {}
    }
    let units = question.units(&expression);
    if let [unit] = units.as_slice()
        && let Some(detail) = unit.column.and_then(|column| question.inputs.detail(column))
    {
        return is_bytes(detail);
    }
    default_order(question.cx.schema) == Some(TextOrder::Bytes)
        && follows_columns(question, &expression)
        && columns(&units).all(|unit| {
            let detail = unit.column.and_then(|column| question.inputs.detail(column));
            detail.is_some_and(|detail| is_bytes(detail) && detail.builtin)
        })
}

fn is_bytes(detail: &ColumnDetail) -> bool {
    matches!(detail.text_order, TextOrder::Bytes | TextOrder::ByType)
}

/// Whether the select list has this expression.
fn lists(question: &Question<'_>, expression: &Range<usize>) -> bool {
    let texts = |range: &Range<usize>| {
        let units = question.units(&super::unwrapped(question.tokens, range.clone()));
        units.into_iter().map(|unit| unit.text).collect::<Vec<_>>()
    };
    let wanted = texts(expression);
    let column = question.column(expression);
    question.select.projection.iter().enumerate().any(|(item, selected)| match star_of(selected) {
        None => question.expression(item).is_some_and(|range| texts(&range) == wanted),
        Some(source) => column.is_some_and(|column| {
            question.inputs.star(source.as_deref()).is_some_and(|columns| columns.contains(&column))
        }),
    })
}

/// The names in an expression but for those of types.
pub(super) fn columns(units: &[Unit]) -> impl Iterator<Item = &Unit> {
    let is_type = |index: usize| {
        let before = index.checked_sub(1).and_then(|before| units.get(before));
        before.is_some_and(|before| matches!(before.text.as_str(), "::" | "as"))
    };
    let names = units.iter().enumerate().filter(|(_, unit)| unit.kind == UnitKind::Name);
    names.filter(move |(index, _)| !is_type(*index)).map(|(_, unit)| unit)
}

/// What an expression says of its collation itself.
pub(super) enum Collation<'q> {
    None,
    /// `… COLLATE name` at its end.
    Explicit {
        name: &'q str,
        bytewise: bool,
    },
    /// Somewhere within.
    Unclear,
}

pub(super) fn collation<'q>(question: &Question<'q>, expression: &Range<usize>) -> Collation<'q> {
    let tokens = question.tokens;
    let mut words = expression.clone().filter(|at| tokens.is_word(*at, "collate"));
    let Some(at) = words.next() else { return Collation::None };
    let named = tokens.name(at + 1, expression.end);
    let depth_zero = tokens.find_word(expression.clone(), &["collate"]) == Some(at);
    match named {
        Some((name, end)) if end == expression.end && depth_zero && words.next().is_none() => {
            let bytewise = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
                && matches!(name.name.as_str(), "C" | "POSIX" | "ucs_basic");
            match question.written(&(at..end)) {
                Some(name) => Collation::Explicit { name, bytewise },
                None => Collation::Unclear,
            }
        }
        _ => Collation::Unclear,
    }
}

/// Whether the collation of what this yields is the default one if all its columns' are: PostgreSQL's
/// own functions and types only, and no sub-query.
pub(super) fn follows_columns(question: &Question<'_>, expression: &Range<usize>) -> bool {
    let units = question.units(expression);
    units.iter().enumerate().all(|(index, unit)| match unit.kind {
        UnitKind::Call => {
            let name = unit.text.trim_start();
            !name.contains('.') && question.cx.schema.functions_named(name).is_empty()
        }
        UnitKind::Word => unit.text != "select",
        // A domain may have a collation of its own.
        UnitKind::Name => {
            let before = index.checked_sub(1).and_then(|before| units.get(before));
            let is_type = before.is_some_and(|before| matches!(before.text.as_str(), "::" | "as"));
            !is_type || BUILTIN_TYPES.contains(&unit.text.trim_start())
        }
        UnitKind::Other => true,
    })
}

/// Types that texts are cast to or from.
const BUILTIN_TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bytea",
    "date",
    "float",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
];

/// How the database's default collation orders texts, as far as a column tells.
fn default_order(schema: &Schema) -> Option<TextOrder> {
    schema
        .tables()
        .flat_map(|table| &table.detail.columns)
        .find(|column| column.builtin && column.default_collation && column.text_order != TextOrder::ByType)
        .map(|column| column.text_order)
}
