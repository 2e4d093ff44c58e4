//! Random statements over the sample's tables. Most of them are valid SQL; what they mean is the
//! oracle's business.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::oracle::Users;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Key,
    Number,
    Text,
    Flag,
    Time,
}

type Columns = &'static [(&'static str, Type)];

/// Name, key column, columns.
const TABLES: &[(&str, &str, Columns)] = &[
    (
        "users",
        "id",
        &[
            ("id", Type::Key),
            ("name", Type::Text),
            ("plan_id", Type::Number),
            ("is_active", Type::Flag),
            ("session_token", Type::Text),
        ],
    ),
    (
        "jobs",
        "user_id",
        &[
            ("id", Type::Number),
            ("user_id", Type::Key),
            ("name", Type::Text),
            ("status", Type::Text),
            ("priority", Type::Number),
        ],
    ),
    (
        "job_executions",
        "user_id",
        &[
            ("id", Type::Number),
            ("job_id", Type::Number),
            ("user_id", Type::Key),
            ("status", Type::Text),
            ("ended_at", Type::Time),
        ],
    ),
    (
        "notifications",
        "user_id",
        &[("id", Type::Number), ("user_id", Type::Key), ("message", Type::Text), ("is_read", Type::Flag)],
    ),
    ("audit_logs", "user_id", &[("id", Type::Number), ("user_id", Type::Key), ("action", Type::Text)]),
    ("plans", "", &[("id", Type::Number), ("name", Type::Text), ("max_jobs", Type::Number)]),
    ("app_settings", "", &[("key", Type::Text), ("value", Type::Text)]),
];

/// A column in scope: its qualified name.
#[derive(Clone)]
struct Column {
    name: String,
    kind: Type,
}

/// See the module.
pub(crate) struct Generator {
    random: StdRng,
    users: Users,
    /// The user that this statement is about, most of the time, and one of the same shard.
    theme: [i64; 2],
    aliases: u32,
    /// Common table expressions in scope: name and columns.
    ctes: Vec<(String, Vec<(String, Type)>)>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            users: Users::of_three_shards(),
            theme: [1, 2],
            aliases: 0,
            ctes: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of.choose(&mut self.random).unwrap().clone()
    }

    /// The next statement. Writes name a user's key in most cases.
    pub(crate) fn statement(&mut self) -> String {
        let shard = self.below(3);
        let n = self.below(5);
        self.theme = [self.users.on(shard, n), self.users.on(shard, n + 1)];
        self.aliases = 0;
        self.ctes.clear();
        match self.below(10) {
            0 => self.update(),
            1 => self.delete(),
            2 => self.insert(),
            _ => self.select(),
        }
    }

    /// A query of any columns.
    fn select(&mut self) -> String {
        let width = 1 + self.below(3);
        let query = self.query(2, &[], width);
        let with = self.with_clause(40);
        if with.is_empty() { query } else { format!("{with} {}", self.query(1, &[], 2)) }
    }

    /// The users that the last statement is about.
    pub(crate) fn theme(&self) -> [i64; 2] {
        self.theme
    }

    fn with_clause(&mut self, percent: u32) -> String {
        if !self.chance(percent) {
            return String::new();
        }
        let mut parts = Vec::new();
        for _ in 0..=self.below(2) {
            // Some shadow a table.
            let name = self.pick(&["c1", "c2", "users", "jobs", "plans"]).to_owned();
            if self.ctes.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let (query, columns) = self.keyed_query(1);
            let materialized = self.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            parts.push(format!("{name} AS {materialized}({query})"));
            self.ctes.push((name, columns));
        }
        if parts.is_empty() { String::new() } else { format!("WITH {}", parts.join(", ")) }
    }

    /// A query whose columns are `k` (a key), `n` and `t`.
    fn keyed_query(&mut self, depth: u32) -> (String, Vec<(String, Type)>) {
        let (from, columns) = self.from(depth, &[]);
        let list = self.shaped_list(&columns);
        let condition = self.condition(depth, &columns, &[]);
        let distinct = if self.chance(15) { "DISTINCT " } else { "" };
        let mut query = format!("SELECT {distinct}{list} FROM {from} WHERE {condition}");
        if self.chance(15) {
            let (other, _) =
                if depth > 0 { self.keyed_query(depth - 1) } else { (query.clone(), Vec::new()) };
            let operation =
                self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT", "INTERSECT ALL", "EXCEPT ALL"]);
            query = format!("({query}) {operation} ({other})");
        } else if self.chance(10) {
            query += " ORDER BY 1, 2, 3 LIMIT 3";
        }
        (query, vec![("k".into(), Type::Key), ("n".into(), Type::Number), ("t".into(), Type::Text)])
    }

    fn shaped_list(&mut self, columns: &[Column]) -> String {
        let mut item = |kind: Type, name: &str, fallback: &str| {
            let fitting: Vec<&Column> = columns.iter().filter(|column| column.kind == kind).collect();
            match fitting.choose(&mut self.random) {
                Some(column) if kind == Type::Key => format!("{} AS {name}", column.name),
                Some(column) if kind == Type::Number => format!("{}::bigint AS {name}", column.name),
                Some(column) => format!("{}::text AS {name}", column.name),
                None => format!("{fallback} AS {name}"),
            }
        };
        let (key, number, text) = (
            item(Type::Key, "k", "7::bigint"),
            item(Type::Number, "n", "7::bigint"),
            item(Type::Text, "t", "'x'::text"),
        );
        // Sometimes the key is what only looks like one.
        let key = if self.chance(10) { key.replace(" AS k", " + 0 AS k") } else { key };
        format!("{key}, {number}, {text}")
    }

    fn query(&mut self, depth: u32, outer: &[Column], width: usize) -> String {
        let (from, columns) = self.from(depth, outer);
        let condition = self.condition(depth, &columns, outer);
        let filter = if self.chance(93) { format!(" WHERE {condition}") } else { String::new() };
        match self.below(10) {
            0 => {
                let column = self.pick(&columns).name;
                format!("SELECT count(*), count(DISTINCT {column}), min({column}::text) FROM {from}{filter}")
            }
            1 => {
                let column = self.pick(&columns).name;
                format!("SELECT {column}, count(*) FROM {from}{filter} GROUP BY {column}")
            }
            2 if depth > 0 => {
                let column = self.pick(&columns).name;
                let inner = self.scalar(depth - 1, &columns);
                format!("SELECT {column}, {inner} FROM {from}{filter}")
            }
            3 => {
                let column = self.pick(&columns).name;
                let (a, b) = (self.pick(&columns).name, self.pick(&columns).name);
                format!(
                    "SELECT DISTINCT {column}, {a} AS a, {b} AS b FROM {from}{filter} ORDER BY 1, 2, 3 LIMIT 5"
                )
            }
            4 if depth > 0 => {
                let (one, _) = self.keyed_query(depth - 1);
                let (other, _) = self.keyed_query(depth - 1);
                let operation = self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                format!("({one}) {operation} ({other})")
            }
            5 => {
                let column = self.pick(&columns).name;
                format!("SELECT count(*), {column} FROM {from}{filter} GROUP BY 2 HAVING count(*) > 1")
            }
            _ => {
                let list: Vec<String> = (0..width).map(|_| self.pick(&columns).name).collect();
                format!("SELECT {} FROM {from}{filter}", list.join(", "))
            }
        }
    }

    /// One value.
    fn scalar(&mut self, depth: u32, outer: &[Column]) -> String {
        let (from, columns) = self.from(depth, outer);
        let condition = self.condition(depth, &columns, outer);
        let column = self.pick(&columns).name;
        format!("(SELECT max({column}::text) FROM {from} WHERE {condition})")
    }

    fn relation(&mut self, depth: u32) -> (String, Vec<Column>) {
        self.aliases += 1;
        // Aliases that are tables' names, now and then.
        let alias = if self.chance(10) {
            format!(
                "{}{}",
                self.pick(&["users", "jobs", "plans"]),
                if self.aliases < 2 { String::new() } else { self.aliases.to_string() }
            )
        } else {
            format!("r{}", self.aliases)
        };
        let columns = |columns: &[(String, Type)]| {
            columns
                .iter()
                .map(|(name, kind)| Column { name: format!("{alias}.{name}"), kind: *kind })
                .collect()
        };
        if !self.ctes.is_empty() && self.chance(50) {
            let ctes = self.ctes.clone();
            let (name, made) = self.pick(&ctes);
            return (format!("{name} {alias}"), columns(&made));
        }
        if depth > 0 && self.chance(25) {
            let (query, made) = self.keyed_query(depth - 1);
            return (format!("({query}) {alias}"), columns(&made));
        }
        if self.chance(4) {
            let key = self.key();
            let made = vec![("k".to_owned(), Type::Key)];
            return (format!("(VALUES ({key}::bigint)) {alias} (k)"), columns(&made));
        }
        let which = if self.chance(85) { self.below(5) } else { 5 + self.below(2) };
        let (name, _, table) = TABLES[which];
        let qualified =
            if self.ctes.iter().any(|(cte, _)| cte == name) || self.chance(10) { "public." } else { "" };
        let table: Vec<(String, Type)> =
            table.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
        // Columns renamed, so that what is called like a key may be none.
        if name == "jobs" && self.chance(8) {
            let renamed: Vec<(String, Type)> = ["user_id", "id", "name"]
                .iter()
                .zip(&table)
                .map(|(name, (_, kind))| ((*name).to_owned(), *kind))
                .collect();
            return (format!("{qualified}{name} {alias} (user_id, id, name)"), columns(&renamed));
        }
        (format!("{qualified}{name} {alias}"), columns(&table))
    }

    fn from(&mut self, depth: u32, outer: &[Column]) -> (String, Vec<Column>) {
        let (mut text, mut columns) = self.relation(depth);
        for _ in 0..self.pick(&[0, 0, 1, 1, 1, 2]) {
            let (right, more) = self.relation(depth.saturating_sub(1));
            let both: Vec<Column> = columns.iter().chain(&more).cloned().collect();
            let kind = self.pick(&[
                "JOIN",
                "JOIN",
                "JOIN",
                "LEFT JOIN",
                "LEFT JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
                ",",
            ]);
            let on = self.join_condition(
                depth.saturating_sub(1),
                &columns,
                &more,
                &both,
                kind == "FULL JOIN",
                outer,
            );
            text = if kind == "," && !text.contains(" JOIN ") {
                format!("{text} CROSS JOIN {right}")
            } else {
                let kind = if kind == "," { "JOIN" } else { kind };
                format!("{text} {kind} {right} ON {on}")
            };
            columns = both;
        }
        (text, columns)
    }

    fn join_condition(
        &mut self,
        depth: u32,
        left: &[Column],
        right: &[Column],
        both: &[Column],
        plain: bool,
        outer: &[Column],
    ) -> String {
        let keys = |columns: &[Column]| -> Vec<String> {
            columns
                .iter()
                .filter(|column| column.kind == Type::Key)
                .map(|column| column.name.clone())
                .collect()
        };
        let (mine, theirs) = (keys(left), keys(right));
        let mut parts = Vec::new();
        if !mine.is_empty() && !theirs.is_empty() && (plain || self.chance(80)) {
            let (a, b) = (self.pick(&mine), self.pick(&theirs));
            parts.push(if self.chance(50) { format!("{a} = {b}") } else { format!("{b} = {a}") });
        } else {
            let numbers: Vec<String> = right
                .iter()
                .filter(|column| column.kind == Type::Number)
                .map(|column| column.name.clone())
                .collect();
            let others: Vec<String> = left
                .iter()
                .filter(|column| matches!(column.kind, Type::Number | Type::Key))
                .map(|column| column.name.clone())
                .collect();
            if !numbers.is_empty() && !others.is_empty() {
                parts.push(format!("{} = {}", self.pick(&others), self.pick(&numbers)));
            }
        }
        if !plain && self.chance(35) {
            parts.push(self.atom(depth, both, outer));
        }
        if parts.is_empty() { "true".into() } else { parts.join(" AND ") }
    }

    /// A condition: mostly keys that are known, and what may undo that.
    fn condition(&mut self, depth: u32, columns: &[Column], outer: &[Column]) -> String {
        let mut parts = Vec::new();
        let keys: Vec<Column> = columns.iter().filter(|column| column.kind == Type::Key).cloned().collect();
        for key in &keys {
            if self.chance(if keys.len() == 1 { 90 } else { 60 }) {
                parts.push(self.key_atom(&key.name));
            }
        }
        for _ in 0..self.below(3) {
            parts.push(self.atom(depth, columns, outer));
        }
        if parts.is_empty() {
            return "true".into();
        }
        // Any order, mostly AND.
        for at in (1..parts.len()).rev() {
            let other = self.below(at + 1);
            parts.swap(at, other);
        }
        let mut text = parts.remove(0);
        for part in parts {
            text = match self.below(20) {
                0 => format!("{text} OR {part}"),
                1 => format!("({text} OR {part})"),
                2 => format!("NOT ({text}) AND {part}"),
                3 => format!("({text}) AND {part}"),
                4 => format!("{text} AND ({part}) IS TRUE"),
                5 => format!("{text} AND ({part}) IS NOT FALSE"),
                6 => format!("CASE WHEN {text} THEN {part} ELSE false END"),
                7 => format!("({text}) = ({part})"),
                _ => format!("{text} AND {part}"),
            };
        }
        text
    }

    fn key(&mut self) -> i64 {
        match self.below(30) {
            0 => self.random.random_range(1..=600),
            1 => 100_000,
            2 => -1,
            3..7 => self.theme[1],
            _ => self.theme[0],
        }
    }

    fn key_text(&mut self) -> String {
        let key = self.key();
        match self.below(12) {
            0 => format!("'{key}'"),
            1 => format!("{key}::bigint"),
            2 => format!("'{key}'::int8"),
            3 => format!("CAST({key} AS integer)"),
            4 => format!("({key})"),
            5 => format!("$${key}$$"),
            6 => format!("{key} /* {} */", self.theme[1]),
            _ => key.to_string(),
        }
    }

    /// What makes a key known, or seems to.
    fn key_atom(&mut self, key: &str) -> String {
        let value = self.key_text();
        match self.below(24) {
            0 => format!("{value} = {key}"),
            1 => format!("{key} IN ({value}, {})", self.key_text()),
            2 => format!("{key} = ANY (ARRAY[{}, {}])", self.key(), self.key()),
            3 => format!("{key} = ANY ('{{{},{}}}')", self.key(), self.key()),
            4 => format!("({key} = {value} OR {key} = {})", self.key_text()),
            5 => format!("{key} <> {value}"),
            6 => format!("NOT {key} <> {value}"),
            7 => format!("{key} + 0 = {}", self.key()),
            8 => format!("{key} <= {} AND {key} >= {}", self.theme[0], self.theme[0]),
            9 => format!("{key} IS NOT DISTINCT FROM {value}"),
            10 => format!("({key}, 1) = ({value}, 1)"),
            11 => format!("({key} = {value}) IS TRUE"),
            _ => format!("{key} = {value}"),
        }
    }

    fn atom(&mut self, depth: u32, columns: &[Column], outer: &[Column]) -> String {
        if depth > 0 && self.chance(30) {
            return self.sub_query_atom(depth - 1, columns);
        }
        if !outer.is_empty() && self.chance(40) {
            let keys = |columns: &[Column]| -> Vec<String> {
                columns
                    .iter()
                    .filter(|column| column.kind == Type::Key)
                    .map(|column| column.name.clone())
                    .collect()
            };
            let (mine, theirs) = (keys(columns), keys(outer));
            if !mine.is_empty() && !theirs.is_empty() {
                return format!("{} = {}", self.pick(&mine), self.pick(&theirs));
            }
        }
        let column = self.pick(columns);
        let name = column.name;
        match column.kind {
            Type::Key => self.key_atom(&name),
            Type::Number => match self.below(4) {
                0 => format!("{name} = {}", self.random.random_range(1..10)),
                1 => format!("{name} > {}", self.random.random_range(0..900)),
                2 => format!("{name} IN (1, 2, 3)"),
                _ => format!("{name} % 2 = 0"),
            },
            Type::Text => match self.below(5) {
                0 => format!("{name} IS NULL"),
                1 => format!("{name} IS NOT NULL"),
                2 => format!("{name} <> 'user_id = {}'", self.theme[0]),
                3 => format!("{name} IN ('pending', 'done', 'failed', 'success', 'login', 'free')"),
                _ => format!("length({name}) > 6"),
            },
            Type::Flag => self.pick(&[name.clone(), format!("NOT {name}"), format!("{name} IS TRUE")]),
            Type::Time => format!("{name} IS NOT NULL"),
        }
    }

    fn sub_query_atom(&mut self, depth: u32, columns: &[Column]) -> String {
        let (from, inner) = self.from(depth, columns);
        let condition = self.condition(depth, &inner, columns);
        let not = if self.chance(30) { "NOT " } else { "" };
        let numbers = |columns: &[Column]| -> Vec<String> {
            columns
                .iter()
                .filter(|column| matches!(column.kind, Type::Number | Type::Key))
                .map(|column| column.name.clone())
                .collect()
        };
        let (mine, theirs) = (numbers(columns), numbers(&inner));
        match self.below(4) {
            0 | 1 if !mine.is_empty() && !theirs.is_empty() => {
                let (a, b) = (self.pick(&mine), self.pick(&theirs));
                format!("{a} {not}IN (SELECT {b} FROM {from} WHERE {condition})")
            }
            2 if !mine.is_empty() => {
                format!("{} > (SELECT count(*) FROM {from} WHERE {condition})", self.pick(&mine))
            }
            _ => format!("{not}EXISTS (SELECT FROM {from} WHERE {condition})"),
        }
    }

    fn sharded(&mut self) -> (&'static str, &'static str, Vec<Column>) {
        let which = self.below(5);
        let (name, key, columns) = TABLES[which];
        let columns = columns
            .iter()
            .map(|(column, kind)| Column { name: format!("w.{column}"), kind: *kind })
            .collect();
        (name, key, columns)
    }

    fn update(&mut self) -> String {
        let (name, _, columns) = self.sharded();
        let with = self.with_clause(15);
        let target = match name {
            "users" => ("name", "w.name || '!'"),
            "jobs" => ("priority", "w.priority + 1"),
            "job_executions" => ("error_message", "'e'"),
            "notifications" => ("is_read", "NOT w.is_read"),
            _ => ("action", "'a'"),
        };
        let value = if self.chance(15) && matches!(name, "users" | "job_executions" | "audit_logs") {
            format!("coalesce({}, 'x')", self.scalar(0, &columns))
        } else {
            target.1.to_owned()
        };
        let mut condition = self.condition(1, &columns, &[]);
        let mut from = String::new();
        if self.chance(25) {
            let (right, more) = self.relation(0);
            from = format!(" FROM {right}");
            let both: Vec<Column> = columns.iter().chain(&more).cloned().collect();
            condition =
                format!("{} AND ({condition})", self.join_condition(0, &columns, &more, &both, true, &[]));
        }
        let qualified = if with.is_empty() { name.to_owned() } else { format!("public.{name}") };
        format!("{with} UPDATE {qualified} w SET {} = {value}{from} WHERE {condition}", target.0)
    }

    fn delete(&mut self) -> String {
        let (name, _, columns) = self.sharded();
        let mut condition = self.condition(1, &columns, &[]);
        let mut using = String::new();
        if self.chance(25) {
            let (right, more) = self.relation(0);
            using = format!(" USING {right}");
            let both: Vec<Column> = columns.iter().chain(&more).cloned().collect();
            condition =
                format!("{} AND ({condition})", self.join_condition(0, &columns, &more, &both, true, &[]));
        }
        let returning = if self.chance(40) { " RETURNING w.id" } else { "" };
        format!("DELETE FROM {name} w{using} WHERE {condition}{returning}")
    }

    fn insert(&mut self) -> String {
        let with = self.with_clause(15);
        let qualified = if with.is_empty() { "" } else { "public." };
        let id = 10_000_000 + self.below(1000);
        match self.below(5) {
            0 => {
                let rows: Vec<String> = (0..=self.below(3))
                    .map(|row| format!("({}, {}, 'm')", id + row, self.key_text()))
                    .collect();
                format!(
                    "{with} INSERT INTO {qualified}notifications (id, user_id, message) VALUES {}",
                    rows.join(", ")
                )
            }
            1 => format!(
                "{with} INSERT INTO {qualified}audit_logs VALUES ({id}, {}, 'e', 'a')",
                self.key_text()
            ),
            2 => format!(
                "INSERT INTO users (email, id, name) VALUES ('e', {}, 'n') \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name || users.id RETURNING id, name",
                self.key_text()
            ),
            _ => {
                let (query, _) = self.keyed_query(1);
                format!(
                    "{with} INSERT INTO {qualified}notifications (id, user_id, message) \
                     SELECT {id} + row_number() OVER (ORDER BY k, n, t), k, t FROM ({query}) q \
                     WHERE k = {} AND t IS NOT NULL",
                    self.key_text()
                )
            }
        }
    }
}
