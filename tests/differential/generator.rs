//! Random statements that touch several shards: joins, aggregates, groups, orders, sets, sub-queries,
//! windows, and writes. (Those about one shard's rows are in `tests/routing`.)
//!
//! Each has one answer: where there is a `LIMIT` rows are sorted by all of their columns, windows and
//! ordered aggregates by something unique or by what they add up; nothing is divided by something
//! that may be zero, and floating-point sums are exact. Expressions over `numeric` keep what is equal
//! alike (see `schema.sql`).

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Whose a row is.
    Key,
    Int,
    Num,
    Float,
    Text,
    Flag,
    Time,
    Date,
    Span,
    Mood,
}
use Kind::{Date, Flag, Float, Int, Key, Mood, Num, Span, Text, Time};

type Columns = &'static [(&'static str, Kind)];

/// Name, columns; the first ones together are unique. How often they are taken follows from how often
/// they stand here.
const TABLES: &[(&str, Columns)] = &[
    ("users", USERS),
    ("users", USERS),
    ("jobs", JOBS),
    ("jobs", JOBS),
    (
        "job_executions",
        &[
            ("id", Int),
            ("user_id", Key),
            ("job_id", Int),
            ("status", Text),
            ("started_at", Time),
            ("error_message", Text),
        ],
    ),
    (
        "notifications",
        &[("id", Int), ("user_id", Key), ("message", Text), ("is_read", Flag), ("created_at", Time)],
    ),
    ("audit_logs", &[("id", Int), ("user_id", Key), ("entity_type", Text), ("action", Text)]),
    ("readings", READINGS),
    ("readings", READINGS),
    ("readings", READINGS),
    ("items", ITEMS),
    ("items", ITEMS),
    ("ledger", &[("user_id", Key), ("entry", Int), ("amount", Num), ("memo", Text)]),
    ("lonely", &[("x", Int), ("user_id", Key), ("t", Text)]),
    ("empties", &[("x", Int), ("user_id", Key), ("n", Num), ("t", Text)]),
    ("plans", &[("id", Int), ("name", Text), ("monthly_price", Num), ("max_jobs", Int)]),
    ("products", &[("sku", Text), ("title", Text), ("cost", Num), ("mood", Mood), ("added", Time)]),
    ("memos", &[("id", Int), ("body", Text), ("n", Num)]),
];
const USERS: Columns = &[
    ("id", Key),
    ("name", Text),
    ("plan_id", Int),
    ("is_active", Flag),
    ("session_token", Text),
    ("created_at", Time),
];
const JOBS: Columns = &[
    ("id", Int),
    ("user_id", Key),
    ("name", Text),
    ("status", Text),
    ("priority", Int),
    ("created_at", Time),
];
const READINGS: Columns = &[
    ("id", Int),
    ("user_id", Key),
    ("n", Num),
    ("price", Num),
    ("f8", Float),
    ("i2", Int),
    ("i4", Int),
    ("span", Span),
    ("at", Time),
    ("d", Date),
    ("mood", Mood),
    ("flag", Flag),
    ("label", Text),
    ("code", Text),
];
const ITEMS: Columns = &[
    ("user_id", Key),
    ("id", Int),
    ("sku", Text),
    ("qty", Int),
    ("price", Num),
    ("note", Text),
    ("mood", Mood),
];

/// Stands for a key where there is none; a plain number may be a position.
const NO_KEY: &str = "(3 + 4)";

/// A column in scope: its qualified name.
#[derive(Clone)]
struct Column {
    name: String,
    kind: Kind,
}

/// See the module.
pub(crate) struct Generator {
    random: StdRng,
    aliases: usize,
    parameters: usize,
    /// Common table expressions in scope; their columns are `k`, `n`, `t`.
    ctes: Vec<String>,
}

/// Something to say.
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) writes: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { random: StdRng::seed_from_u64(seed), aliases: 0, parameters: 0, ctes: Vec::new() }
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.random).unwrap().clone()
    }

    pub(crate) fn statement(&mut self) -> Said {
        self.aliases = 0;
        self.parameters = 0;
        self.ctes.clear();
        let writes = self.chance(10);
        let text = if writes { self.write() } else { self.query() };
        Said { text: renumbered(&text), writes }
    }

    fn query(&mut self) -> String {
        let with = if self.chance(12) { self.with_clause() } else { String::new() };
        let query = match self.below(12) {
            0..3 => self.rows(),
            3..5 => self.totals(),
            5..8 => self.groups(),
            8 => self.set(),
            9 => self.windows(),
            10 => self.distinct_on(),
            _ => self.over_a_query(),
        };
        format!("{with}{query}")
    }

    fn with_clause(&mut self) -> String {
        let mut parts = Vec::new();
        for number in 1..=1 + self.below(2) {
            let query = self.shaped(1);
            let how = self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            parts.push(format!("c{number} AS {how}({query})"));
            self.ctes.push(format!("c{number}"));
        }
        format!("WITH {} ", parts.join(", "))
    }

    // Whole queries.

    fn rows(&mut self) -> String {
        let (from, columns) = self.from(1, &[]);
        let condition = self.filter(1, &columns);
        let width = 1 + self.below(4);
        let mut list: Vec<String> = (0..width).map(|_| self.any_value(&columns)).collect();
        if self.chance(15) {
            list.push(self.scalar(&columns));
        }
        let distinct = if self.chance(15) { "DISTINCT " } else { "" };
        if distinct.is_empty() && self.chance(20) {
            // By what is not selected; what is unique comes last.
            let hidden = self.any_value(&columns);
            let direction = self.direction();
            let all: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
            let limit = self.limit();
            return format!(
                "SELECT {} FROM {from}{condition} ORDER BY {hidden}{direction}, {}{limit}",
                list.join(", "),
                all.join(", ")
            );
        }
        let order = self.order(list.len());
        format!("SELECT {distinct}{} FROM {from}{condition}{order}", named(&list))
    }

    fn totals(&mut self) -> String {
        let (from, columns) = self.from(1, &[]);
        let condition = self.filter(1, &columns);
        let list: Vec<String> = (0..=self.below(3)).map(|_| self.folded(&columns)).collect();
        let having =
            if self.chance(12) { format!(" HAVING {}", self.having(&columns)) } else { String::new() };
        format!("SELECT {} FROM {from}{condition}{having}", named(&list))
    }

    fn groups(&mut self) -> String {
        let (from, columns) = self.from(1, &[]);
        let condition = self.filter(1, &columns);
        let groups: Vec<String> = (0..=self.below(2)).map(|_| self.any_value(&columns)).collect();
        let mut list = groups.clone();
        list.extend((0..=self.below(2)).map(|_| self.folded(&columns)));
        let by = match self.below(4) {
            0 => (1..=groups.len()).map(|position| position.to_string()).collect(),
            1 => (1..=groups.len()).map(|position| format!("c{position}")).collect(),
            _ => groups.clone(),
        };
        let by = match self.below(25) {
            0 => format!("ROLLUP ({})", groups.join(", ")),
            1 => format!("GROUPING SETS (({}), ())", groups.join(", ")),
            _ => by.join(", "),
        };
        let having =
            if self.chance(25) { format!(" HAVING {}", self.having(&columns)) } else { String::new() };
        if self.chance(10) {
            // What is grouped by is not shown.
            let folded: Vec<String> = list.split_off(groups.len());
            return format!(
                "SELECT {} FROM {from}{condition} GROUP BY {}{having}",
                named(&folded),
                groups.join(", ")
            );
        }
        let order = self.order(list.len());
        format!("SELECT {} FROM {from}{condition} GROUP BY {by}{having}{order}", named(&list))
    }

    fn set(&mut self) -> String {
        let mut text = self.shaped(0);
        for _ in 0..=self.below(2) {
            let operation = self.pick(&[
                "UNION",
                "UNION ALL",
                "UNION ALL",
                "EXCEPT",
                "EXCEPT ALL",
                "INTERSECT",
                "INTERSECT ALL",
            ]);
            text = format!("({text}) {operation} ({})", self.shaped(0));
        }
        let order = self.order(3);
        format!("{text}{order}")
    }

    fn windows(&mut self) -> String {
        let (from, columns) = self.table();
        let condition = self.filter(0, &columns);
        let unique = unique(&columns);
        let mut list = vec![self.any_value(&columns)];
        for _ in 0..=self.below(2) {
            let partition = match self.below(4) {
                0 => String::new(),
                1 | 2 => key_of(&columns).map_or(String::new(), |key| format!("PARTITION BY {key}")),
                _ => format!("PARTITION BY {}", self.any_value(&columns)),
            };
            let sorted =
                format!("{partition} ORDER BY {}{}, {unique}", self.any_value(&columns), self.direction());
            let function = match self.below(6) {
                0 => format!("row_number() OVER ({sorted})"),
                1 => format!("rank() OVER ({sorted})"),
                2 => format!("lag({}) OVER ({sorted})", self.any_value(&columns)),
                3 => format!("sum({}) OVER ({sorted})", self.value(Int, &columns, 1)),
                4 => format!("count(*) OVER ({partition})"),
                _ => format!("max({}) OVER ({partition})", self.value(Text, &columns, 1)),
            };
            list.push(function);
        }
        let order = self.order(list.len());
        format!("SELECT {} FROM {from}{condition}{order}", named(&list))
    }

    fn distinct_on(&mut self) -> String {
        let (from, columns) = self.table();
        let condition = self.filter(0, &columns);
        let unique = unique(&columns);
        let by = self.any_value(&columns);
        let list: Vec<String> = (0..=self.below(2)).map(|_| self.any_value(&columns)).collect();
        let direction = self.direction();
        format!(
            "SELECT DISTINCT ON ({by}) {} FROM {from}{condition} ORDER BY {by}{direction}, {unique}",
            named(&list)
        )
    }

    fn over_a_query(&mut self) -> String {
        let query = self.shaped(1);
        let columns = shape("q");
        let condition = self.filter(0, &columns);
        match self.below(3) {
            0 => {
                let list: Vec<String> = (0..=self.below(2)).map(|_| self.folded(&columns)).collect();
                format!("SELECT {} FROM ({query}) q{condition}", named(&list))
            }
            1 => {
                let group = self.any_value(&columns);
                let folded = self.folded(&columns);
                let order = self.order(2);
                format!(
                    "SELECT {group} AS c1, {folded} AS c2 FROM ({query}) q{condition} GROUP BY {group}{order}"
                )
            }
            _ => {
                let order = self.order(3);
                format!("SELECT q.k, q.n, q.t FROM ({query}) q{condition}{order}")
            }
        }
    }

    /// A query of the columns `k`, `n` and `t`.
    fn shaped(&mut self, depth: usize) -> String {
        let (from, columns) = self.from(depth, &[]);
        let condition = self.filter(depth, &columns);
        let key = key_of(&columns).unwrap_or(NO_KEY.to_owned());
        if self.chance(30) {
            let text = self.value(Text, &columns, 1);
            return match self.below(3) {
                0 => format!(
                    "SELECT {key}::bigint AS k, count(*)::bigint AS n, min({text}) AS t FROM {from}{condition} GROUP BY {key}"
                ),
                1 => format!(
                    "SELECT max({key})::bigint AS k, count(*)::bigint AS n, {text} AS t FROM {from}{condition} GROUP BY {text}"
                ),
                _ => format!(
                    "SELECT DISTINCT {key}::bigint AS k, 1::bigint AS n, {text} AS t FROM {from}{condition}"
                ),
            };
        }
        let (number, text) = (self.value(Int, &columns, 1), self.value(Text, &columns, 1));
        // Sometimes what looks like the key is something else.
        let key = if self.chance(10) { self.value(Int, &columns, 0) } else { key };
        let limit = match self.below(8) {
            0 => format!(" ORDER BY 1, 2, 3 LIMIT {}", 1 + self.below(30)),
            1 => format!(" ORDER BY 3 DESC, 2, 1 LIMIT {} OFFSET {}", 1 + self.below(30), self.below(9)),
            _ => String::new(),
        };
        format!(
            "SELECT {key}::bigint AS k, ({number})::bigint AS n, {text} AS t FROM {from}{condition}{limit}"
        )
    }

    // FROM.

    fn table(&mut self) -> (String, Vec<Column>) {
        let (name, columns) = self.pick(TABLES);
        self.aliases += 1;
        let alias = format!("r{}", self.aliases);
        let columns = columns
            .iter()
            .map(|(column, kind)| Column { name: format!("{alias}.{column}"), kind: *kind })
            .collect();
        (format!("{name} {alias}"), columns)
    }

    fn relation(&mut self, depth: usize) -> (String, Vec<Column>) {
        if !self.ctes.is_empty() && self.chance(50) {
            self.aliases += 1;
            let (cte, alias) = (self.pick(&self.ctes.clone()), format!("r{}", self.aliases));
            return (format!("{cte} {alias}"), shape(&alias));
        }
        if depth > 0 && self.chance(15) {
            let query = self.shaped(depth - 1);
            self.aliases += 1;
            let alias = format!("r{}", self.aliases);
            return (format!("({query}) {alias}"), shape(&alias));
        }
        self.table()
    }

    fn from(&mut self, depth: usize, outer: &[Column]) -> (String, Vec<Column>) {
        let (mut text, mut columns) = self.relation(depth);
        for _ in 0..self.pick(&[0, 0, 0, 1, 1, 2]) {
            let (right, more) = self.relation(depth);
            let kind =
                self.pick(&["JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let on = self.join_condition(&columns, &more);
            columns.extend(more);
            let extra = if kind != "FULL JOIN" && self.chance(20) {
                format!(" AND {}", self.predicate(&columns, 0))
            } else {
                String::new()
            };
            text = format!("{text} {kind} {right} ON {on}{extra}");
        }
        if !outer.is_empty() {
            columns.extend_from_slice(outer);
        }
        (text, columns)
    }

    fn join_condition(&mut self, left: &[Column], right: &[Column]) -> String {
        let of = |columns: &[Column], kinds: &[Kind]| -> Vec<String> {
            columns
                .iter()
                .filter(|column| kinds.contains(&column.kind))
                .map(|column| column.name.clone())
                .collect()
        };
        let (mine, theirs) = (of(left, &[Key]), of(right, &[Key]));
        if !mine.is_empty() && !theirs.is_empty() && self.chance(75) {
            return format!("{} = {}", self.pick(&mine), self.pick(&theirs));
        }
        let (mine, theirs) = (of(left, &[Key, Int]), of(right, &[Key, Int]));
        if !mine.is_empty() && !theirs.is_empty() {
            return format!("{} = {}", self.pick(&mine), self.pick(&theirs));
        }
        format!("{} = {}", self.pick(&of(left, &[Text])), self.pick(&of(right, &[Text])))
    }

    // Conditions.

    fn filter(&mut self, depth: usize, columns: &[Column]) -> String {
        let parts: Vec<String> =
            (0..self.pick(&[0, 1, 1, 2])).map(|_| self.predicate(columns, depth)).collect();
        if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) }
    }

    fn predicate(&mut self, columns: &[Column], depth: usize) -> String {
        if depth > 0 {
            match self.below(12) {
                0 => return format!("({} OR {})", self.predicate(columns, 0), self.predicate(columns, 0)),
                1 => return format!("NOT ({})", self.predicate(columns, 0)),
                2 | 3 => return self.sub_query(columns),
                _ => {}
            }
        }
        let column = self.pick(columns);
        let name = column.name;
        let number = self.random.random_range(0..12);
        match column.kind {
            Key => match self.below(7) {
                0 => format!("{name} IN ({}, {}, {})", self.key(), self.key(), self.key()),
                1 => format!("{name} <= {}", self.key()),
                2 => format!("{name} % 4 = {}", number % 4),
                3 => format!("{name} = {}", self.key()),
                4 => format!("{name} BETWEEN 20 AND {}", self.key()),
                _ => format!("{name} > {}", self.key()),
            },
            Int => match self.below(5) {
                0 => format!("{name} = {}", self.literal(&number.to_string())),
                1 => format!("{name} IS NULL"),
                2 => format!("{name} IN (1, 2, 3, {number})"),
                3 => format!("{name} % 3 = 1"),
                _ => format!("{name} > {}", self.literal(&number.to_string())),
            },
            Num => format!("{name} {} {number}.5", self.pick(&["<", ">", ">="])),
            Float => format!("{name} {} {number}.25", self.pick(&["<", ">", "<>"])),
            Text => match self.below(6) {
                0 => format!("{name} IS NOT NULL"),
                1 => format!("{name} LIKE '%{}%'", self.pick(&["a", "e", "o", "1"])),
                2 => format!("{name} < {}", self.literal("'m'")),
                3 => format!("{name} IN ('done', 'failed', 'pending', 'sku1', 'login', 'apple')"),
                4 => format!("length({name}) > {number}"),
                _ => format!("coalesce({name}, '') <> {}", self.literal("'done'")),
            },
            Flag => self.pick(&[name.clone(), format!("NOT {name}"), format!("{name} IS NOT TRUE")]),
            Time => format!("{name} > timestamptz '2025-02-0{} 00:00:00+00'", 1 + number % 9),
            Date => format!("{name} <= date '2025-02-1{}'", number % 10),
            Span => format!("{name} > interval '{number} hours'"),
            Mood => format!("{name} {} 'ok'", self.pick(&["=", ">", "<="])),
        }
    }

    fn key(&mut self) -> String {
        let key = self.random.random_range(1..=152).to_string();
        self.literal(&key)
    }

    /// A literal, or a parameter of that value.
    fn literal(&mut self, text: &str) -> String {
        if self.chance(60) {
            return text.to_owned();
        }
        self.parameters += 1;
        format!("${}{{{text}}}", self.parameters)
    }

    fn sub_query(&mut self, columns: &[Column]) -> String {
        let (from, inner) = self.from(0, &[]);
        let mut condition = self.filter(0, &inner);
        let join = |condition: &mut String, more: String| {
            *condition = if condition.is_empty() {
                format!(" WHERE {more}")
            } else {
                format!("{condition} AND {more}")
            };
        };
        let not = if self.chance(30) { "NOT " } else { "" };
        let ints: Vec<Column> =
            columns.iter().filter(|column| matches!(column.kind, Key | Int)).cloned().collect();
        let theirs: Vec<Column> =
            inner.iter().filter(|column| matches!(column.kind, Key | Int)).cloned().collect();
        if ints.is_empty() || theirs.is_empty() {
            return format!("{not}EXISTS (SELECT FROM {from}{condition})");
        }
        let (mut mine, mut other) = (self.pick(&ints).name, self.pick(&theirs).name);
        if self.chance(60)
            && let (Some(a), Some(b)) = (key_of(columns), key_of(&inner))
        {
            (mine, other) = (a, b);
        }
        match self.below(4) {
            0 => format!(
                "{mine} {not}IN (SELECT {other} FROM {from}{condition}{})",
                if condition.is_empty() {
                    format!(" WHERE {other} IS NOT NULL")
                } else {
                    format!(" AND {other} IS NOT NULL")
                }
            ),
            1 => {
                join(&mut condition, format!("{other} = {mine}"));
                format!("{} < (SELECT count(*) FROM {from}{condition})", self.pick(&["0", "1", "2"]))
            }
            2 => format!("{mine} > (SELECT avg({other}) FROM {from}{condition})"),
            _ => {
                join(&mut condition, format!("{other} = {mine}"));
                format!("{not}EXISTS (SELECT FROM {from}{condition})")
            }
        }
    }

    fn scalar(&mut self, columns: &[Column]) -> String {
        let (from, inner) = self.table();
        let condition = self.filter(0, &inner);
        let folded = self.aggregate(&inner);
        match (key_of(columns), key_of(&inner)) {
            (Some(mine), Some(other)) if self.chance(70) => {
                let glue = if condition.is_empty() { " WHERE" } else { " AND" };
                format!("(SELECT {folded} FROM {from}{condition}{glue} {other} = {mine})")
            }
            _ => format!("(SELECT {folded} FROM {from}{condition})"),
        }
    }

    // Expressions.

    fn any_value(&mut self, columns: &[Column]) -> String {
        let kind = self.pick(columns).kind;
        let depth = self.below(2);
        self.value(kind, columns, depth)
    }

    fn value(&mut self, kind: Kind, columns: &[Column], depth: usize) -> String {
        let fitting: Vec<Column> = columns
            .iter()
            .filter(|column| column.kind == kind || kind == Int && column.kind == Key)
            .cloned()
            .collect();
        if fitting.is_empty() {
            return match kind {
                Text => "'x'::text".to_owned(),
                Int | Key => NO_KEY.to_owned(),
                _ => "NULL::text".to_owned(),
            };
        }
        let name = self.pick(&fitting).name;
        if depth == 0 || self.chance(50) {
            return name;
        }
        let number = 1 + self.below(9);
        match kind {
            Int | Key => match self.below(6) {
                0 => format!("{name} + {}", self.literal(&number.to_string())),
                1 => format!("{name} * {number}"),
                2 => format!("{name} % {}", number + 1),
                3 => format!("coalesce({name}, -{number})"),
                4 => format!("abs({name})"),
                _ => format!("CASE WHEN {} THEN {name} ELSE {number} END", self.predicate(columns, 0)),
            },
            Num => match self.below(3) {
                0 => format!("{name} * {number}"),
                1 => format!("round({name}, 1)"),
                _ => format!("-{name}"),
            },
            Float => match self.below(2) {
                0 => format!("{name} * {number}"),
                _ => format!("{name} + 0.5"),
            },
            Text => match self.below(6) {
                0 => format!("upper({name})"),
                1 => format!("coalesce({name}, '-')"),
                2 => format!("substr({name}, 1, {number})"),
                3 => format!("{name} || '-'"),
                4 => format!("CASE WHEN {} THEN {name} END", self.predicate(columns, 0)),
                _ => format!("length({name})::text"),
            },
            Flag => self.pick(&[format!("NOT {name}"), format!("{name} IS NULL")]),
            Time => match self.below(3) {
                0 => format!("date_trunc('day', {name})"),
                1 => format!("{name}::date"),
                _ => format!("extract(hour FROM {name})"),
            },
            Date => format!("{name} + {number}"),
            Span => format!("{name} * 2"),
            Mood => format!("{name}::text"),
        }
    }

    fn aggregate(&mut self, columns: &[Column]) -> String {
        let kinds: Vec<Kind> = columns.iter().map(|column| column.kind).collect();
        let kind = self.pick(&kinds);
        let value = self.value(kind, columns, 1);
        let plain = self.value(kind, columns, 0);
        let call = match (kind, self.below(10)) {
            (_, 0 | 1) => "count(*)".to_owned(),
            (_, 2) => format!("count({value})"),
            (_, 3) => format!("count(DISTINCT {value})"),
            (Key | Int, 4) => format!("avg({value})"),
            (Key | Int, 5) => format!("bit_or({plain})"),
            (Key | Int, 6) => format!("stddev({plain})"),
            (Key | Int, 7) if self.chance(30) => {
                return format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {value})");
            }
            (Key | Int, 8) if self.chance(50) => return format!("array_agg({value} ORDER BY {value})"),
            (Key | Int, 9) => format!("sum(DISTINCT {value})"),
            (Num, 4 | 5) => format!("avg({value})"),
            (Num, 6) => format!("var_pop({plain})"),
            (Num | Float | Span, 7..) => format!("sum({plain})"),
            (Float, 4..) => format!("avg({plain})"),
            (Text, 4) => format!("string_agg({value}, ',' ORDER BY {value})"),
            (Flag, 4..7) => format!("bool_and({plain})"),
            (Flag, _) => format!("bool_or({plain})"),
            (Key | Int, _) => format!("sum({value})"),
            (_, 5 | 6) => format!("max({plain})"),
            _ => format!("min({plain})"),
        };
        if self.chance(12) { format!("{call} FILTER (WHERE {})", self.predicate(columns, 0)) } else { call }
    }

    /// An expression over aggregates.
    fn folded(&mut self, columns: &[Column]) -> String {
        let call = self.aggregate(columns);
        match self.below(9) {
            0 if call.starts_with("count") || call.starts_with("sum(DISTINCT") => {
                format!("{call} + {}", self.literal("1"))
            }
            1 => format!("coalesce(({call})::text, 'none')"),
            2 => format!("{call} IS NULL"),
            3 if call.starts_with("avg") && !call.contains("f8") => format!("round({call}, 2)"),
            4 => format!("CASE WHEN count(*) > 20 THEN {call} END"),
            5 if call.starts_with("count") => format!("{call} * 100 / (count(*) + 1)"),
            6 => format!("{call} = {call}"),
            _ => call,
        }
    }

    fn having(&mut self, columns: &[Column]) -> String {
        match self.below(3) {
            0 => format!("count(*) > {}", 1 + self.below(60)),
            1 => format!("{} IS NOT NULL", self.aggregate(columns)),
            _ => format!("count(DISTINCT {}) < {}", self.any_value(columns), 2 + self.below(40)),
        }
    }

    // ORDER BY and LIMIT.

    fn direction(&mut self) -> &'static str {
        self.pick(&["", "", " DESC", " ASC", " NULLS FIRST", " DESC NULLS LAST"])
    }

    fn limit(&mut self) -> String {
        match self.below(5) {
            0 => format!(" LIMIT {}", self.below(40)),
            1 => format!(" LIMIT {} OFFSET {}", 1 + self.below(40), self.below(30)),
            2 => {
                let (limit, offset) = (self.below(40).to_string(), self.below(10).to_string());
                format!(" LIMIT {} OFFSET {}", self.literal(&limit), self.literal(&offset))
            }
            _ => String::new(),
        }
    }

    /// By some columns of the answer, or by all of them and limited.
    fn order(&mut self, width: usize) -> String {
        if self.chance(40) {
            return String::new();
        }
        let mut positions: Vec<usize> = (1..=width).collect();
        for at in (1..width).rev() {
            let other = self.below(at + 1);
            positions.swap(at, other);
        }
        let all = self.chance(70);
        if !all {
            positions.truncate(1 + self.below(width));
        }
        let keys: Vec<String> =
            positions.iter().map(|position| format!("{position}{}", self.direction())).collect();
        let limit = if all { self.limit() } else { String::new() };
        format!(" ORDER BY {}{limit}", keys.join(", "))
    }

    // Writes.

    fn write(&mut self) -> String {
        let items: Vec<Column> =
            ITEMS.iter().map(|(column, kind)| Column { name: format!("i.{column}"), kind: *kind }).collect();
        let condition = self.filter(1, &items);
        let and = if condition.is_empty() { " WHERE " } else { " AND " };
        let returning = self.pick(&["", "", " RETURNING i.user_id, i.id, i.qty + 1 AS q", " RETURNING *"]);
        match self.below(12) {
            0 => format!("UPDATE items i SET qty = qty + {}{condition}{returning}", self.below(9)),
            1 => {
                let number = self.value(Int, &items, 1);
                format!(
                    "UPDATE items i SET qty = abs({number}), note = {}{condition}{returning}",
                    self.value(Text, &items, 1)
                )
            }
            2 => format!("UPDATE items i SET qty = u.plan_id FROM users u{condition}{and}u.id = i.user_id"),
            3 => format!(
                "UPDATE items i SET price = p.cost FROM products p{condition}{and}p.sku = i.sku RETURNING i.user_id, i.id, p.title"
            ),
            4 => format!("DELETE FROM items i{condition}{returning}"),
            5 => {
                format!("DELETE FROM items i USING users u{condition}{and}u.id = i.user_id AND u.plan_id = 2")
            }
            6 => {
                let rows: Vec<String> = (0..=self.below(5))
                    .map(|row| format!("({}, {}, {})", self.key(), 100 + row, self.literal("'new'")))
                    .collect();
                let returning = self.pick(&["", " RETURNING user_id, id, sku, qty, mood", " RETURNING *"]);
                format!("INSERT INTO items (user_id, id, sku) VALUES {}{returning}", rows.join(", "))
            }
            7 => {
                let rows: Vec<String> = (0..=self.below(4))
                    .map(|row| format!("({}, {}, 'new', {})", self.key(), 1 + row, self.below(9)))
                    .collect();
                let action = self.pick(&[
                    "NOTHING",
                    "UPDATE SET qty = items.qty + excluded.qty",
                    "UPDATE SET sku = excluded.sku WHERE items.qty > 3",
                ]);
                format!(
                    "INSERT INTO items (user_id, id, sku, qty) VALUES {} ON CONFLICT (user_id, id) DO {action} RETURNING user_id, id, qty",
                    rows.join(", ")
                )
            }
            8 => format!("INSERT INTO empties (user_id, x, t) SELECT k, n, t FROM ({}) q", self.shaped(0)),
            9 => {
                let (from, columns) = self.table();
                let (key, text) = (key_of(&columns).unwrap_or("9".to_owned()), self.value(Text, &columns, 1));
                let condition = self.filter(0, &columns);
                format!("INSERT INTO empties (user_id, x, t) SELECT {key}, 1, {text} FROM {from}{condition}")
            }
            10 => self
                .pick(&[
                    "UPDATE plans SET max_jobs = max_jobs + 1 WHERE id < 3 RETURNING id, max_jobs",
                    "UPDATE products SET cost = cost * 2 WHERE cost > 2",
                    "DELETE FROM products WHERE mood = 'ok'",
                    "INSERT INTO plans VALUES (11, 'eleven', 1.5, 11) RETURNING *",
                    "UPDATE memos SET n = n + 1 WHERE id > 4",
                ])
                .to_owned(),
            _ => format!(
                "WITH d AS (DELETE FROM items i{condition} RETURNING i.user_id AS k, i.qty AS n) SELECT count(*), sum(n) FROM d"
            ),
        }
    }
}

/// What makes rows of one table different.
fn unique(columns: &[Column]) -> String {
    columns[..2].iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
}

fn key_of(columns: &[Column]) -> Option<String> {
    columns.iter().find(|column| column.kind == Key).map(|column| column.name.clone())
}

fn shape(alias: &str) -> Vec<Column> {
    [("k", Key), ("n", Int), ("t", Text)]
        .into_iter()
        .map(|(name, kind)| Column { name: format!("{alias}.{name}"), kind })
        .collect()
}

/// A select list, its columns called `c1`, `c2` …
fn named(list: &[String]) -> String {
    let items: Vec<String> =
        (1..).zip(list).map(|(number, item): (usize, _)| format!("{item} AS c{number}")).collect();
    items.join(", ")
}

/// The parameters that are left, counted from 1.
fn renumbered(text: &str) -> String {
    let mut numbers = BTreeMap::new();
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let next = numbers.len() + 1;
        let number = numbers.entry(part[..digits].to_owned()).or_insert(next);
        out.push_str(&format!("${number}{}", &part[digits..]));
    }
    out
}
