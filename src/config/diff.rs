//! What a reload changed, and what of it may take effect.
//!
//! Two files are compared by meaning, not by text: another order, a default written out or a
//! weight and a node count that multiply to the same ring are no change.

use std::collections::{BTreeMap, BTreeSet};

use super::settings::{Database, Settings, Shard};

/// What is laid down when pgring starts: sockets, and the name that transactions in doubt carry.
pub const NEEDS_RESTART: [&str; 4] = ["cluster", "listen.address", "listen.runtime_dir", "http.address"];

/// What differs between two configurations. Empty lists and `false` mean: nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Keys whose new value takes effect only when pgring is started again.
    pub needs_restart: Vec<&'static str>,
    /// Sections outside of users and databases in which something else changed.
    pub sections: Vec<&'static str>,
    /// Names of users.
    pub users_added: Vec<String>,
    /// Names of users.
    pub users_removed: Vec<String>,
    /// Names of users with another password.
    pub users_changed: Vec<String>,
    /// Names of databases.
    pub databases_added: Vec<String>,
    /// Names of databases.
    pub databases_removed: Vec<String>,
    /// Databases that stay and are not the same.
    pub databases_changed: Vec<DatabaseChange>,
}

impl Changes {
    /// Whether the two configurations mean the same.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// What differs in a database that stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DatabaseChange {
    /// Its name.
    pub database: String,
    /// Shards, weights or virtual nodes differ such that keys would change their owner.
    pub moves_keys: bool,
    /// Tables that are not sharded would be sought on another shard.
    pub moves_home: bool,
    /// Other tables are sharded, or by another column, or reference tables.
    pub moves_tables: bool,
    /// Names of shards whose database on the servers is another.
    pub shards_with_other_dbname: Vec<String>,
    /// Names of shards with other endpoints or TLS, the same rows presumed behind them.
    pub shards_with_other_servers: Vec<String>,
    /// The shards stand in another order, and so have other positions.
    pub reordered: bool,
}

impl DatabaseChange {
    /// Whether rows would be sought where they are not. Such a change must not take effect
    /// while the shards hold rows: see [`keep_placement`].
    pub fn moves_rows(&self) -> bool {
        self.moves_keys || self.moves_home || self.moves_tables || !self.shards_with_other_dbname.is_empty()
    }
}

/// Compares what runs with what a file now says.
pub fn changes(old: &Settings, new: &Settings) -> Changes {
    let (users_removed, users_added, users) = pair(&old.users, &new.users, |user| &user.name);
    let (databases_removed, databases_added, databases) =
        pair(&old.databases, &new.databases, |database| &database.name);

    let [cluster, listen, runtime_dir, http] = NEEDS_RESTART;
    let needs_restart = [
        (cluster, old.cluster != new.cluster),
        (listen, set(&old.listen.addresses) != set(&new.listen.addresses)),
        (runtime_dir, old.listen.runtime_dir != new.listen.runtime_dir),
        (http, old.http != new.http),
    ];
    let (a, b) = (&old.listen, &new.listen);
    let listen_changed = (a.max_clients, a.login_timeout, a.drain_timeout, &a.tls)
        != (b.max_clients, b.login_timeout, b.drain_timeout, &b.tls);
    let sections = [
        ("listen", listen_changed),
        ("tcp", old.tcp != new.tcp),
        ("control", (&old.control.user, &old.control.password) != (&new.control.user, &new.control.password)),
        ("auth", old.auth != new.auth),
        (
            "admin",
            (set(&old.admin.users), set(&old.admin.stats_users))
                != (set(&new.admin.users), set(&new.admin.stats_users)),
        ),
        ("pool", old.pool != new.pool),
        ("health", old.health != new.health),
        ("routing", old.routing != new.routing),
    ];
    let chosen = |list: &[(&'static str, bool)]| {
        list.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
    };
    Changes {
        needs_restart: chosen(&needs_restart),
        sections: chosen(&sections),
        users_added,
        users_removed,
        users_changed: users
            .into_iter()
            .filter(|(old, new)| old != new)
            .map(|(old, _)| old.name.clone())
            .collect(),
        databases_added,
        databases_removed,
        databases_changed: databases
            .into_iter()
            .map(|(old, new)| database_change(old, new))
            .filter(|change| {
                *change != DatabaseChange { database: change.database.clone(), ..Default::default() }
            })
            .collect(),
    }
}

/// Compares two versions of one database.
pub fn database_change(old: &Database, new: &Database) -> DatabaseChange {
    let (_, _, shards) = pair(&old.shards, &new.shards, |shard| &shard.name);
    let names = |differs: fn(&Shard, &Shard) -> bool| -> Vec<String> {
        shards.iter().filter(|(old, new)| differs(old, new)).map(|(old, _)| old.name.clone()).collect()
    };
    let order = |database: &Database| -> Vec<String> {
        database.shards.iter().map(|shard| shard.name.clone()).collect()
    };
    DatabaseChange {
        database: old.name.clone(),
        moves_keys: ring(old) != ring(new),
        moves_home: home(old) != home(new),
        moves_tables: old.key != new.key || tables(old) != tables(new),
        shards_with_other_dbname: names(|old, new| old.dbname != new.dbname),
        shards_with_other_servers: names(|old, new| {
            set(&old.endpoints) != set(&new.endpoints)
                || set(&old.analytics) != set(&new.analytics)
                || old.tls != new.tls
        }),
        reordered: order(old) != order(new) && ring(old) == ring(new),
    }
}

/// The new version of a database with its rows left where the active one has them: shards,
/// ring, home, keys and tables are the active one's, and only what a shard of the same name
/// and `dbname` says of its servers is taken from the new one.
pub fn keep_placement(active: &Database, new: &Database) -> Database {
    let servers = |shard: &Shard| {
        let same = |other: &&Shard| other.name == shard.name && other.dbname == shard.dbname;
        match new.shards.iter().find(same) {
            Some(found) => Shard { weight: shard.weight, ..found.clone() },
            None => shard.clone(),
        }
    };
    Database { shards: active.shards.iter().map(servers).collect(), reads: new.reads, ..active.clone() }
}

/// The names of the tables that one version says something of and the other does not, or something else, if
/// nothing but that moves rows.
pub fn tables_said_otherwise<'d>(old: &'d Database, new: &'d Database) -> Option<BTreeSet<&'d str>> {
    let change = database_change(old, new);
    let only_tables = DatabaseChange { moves_tables: false, ..change };
    if only_tables.moves_rows() || old.key != new.key {
        return None;
    }
    Some(tables(old).symmetric_difference(&tables(new)).map(|(name, ..)| *name).collect())
}

/// Each shard's number of virtual nodes, which is all the ring depends on.
fn ring(database: &Database) -> BTreeMap<&str, u64> {
    let nodes = |shard: &Shard| u64::from(shard.weight) * u64::from(database.virtual_nodes);
    match database.shards.as_slice() {
        // The only shard owns every key, however many nodes it has.
        [only] => BTreeMap::from([(only.name.as_str(), 0)]),
        shards => shards.iter().map(|shard| (shard.name.as_str(), nodes(shard))).collect(),
    }
}

/// Where a database's rows are, a line for each thing that says so: two versions move no rows between them
/// if they have the same text, whatever servers they name.
pub fn placement(database: &Database) -> String {
    let mut lines = vec!["version\t1".to_owned()];
    lines.extend(database.key.iter().map(|key| format!("key\t{}", key.escape_debug())));
    lines.extend(home(database).map(|home| format!("home\t{home}")));
    lines.extend(ring(database).iter().map(|(shard, nodes)| format!("nodes\t{shard}\t{nodes}")));
    lines.extend(tables(database).iter().map(|(name, key, reference)| {
        let rule = if *reference { "reference".to_owned() } else { key.unwrap_or_default().to_owned() };
        let kind = if *reference { "" } else { "key\t" };
        format!("table\t{}\t{kind}{}", name.escape_debug(), rule.escape_debug())
    }));
    lines.join("\n")
}

/// The names of the tables of which alone two placements speak differently; `None` if of more. A name that
/// stands there in other letters than it has is more.
pub fn tables_placed_otherwise<'p>(one: &'p str, other: &'p str) -> Option<BTreeSet<&'p str>> {
    let (one, other): (BTreeSet<&str>, BTreeSet<&str>) = (one.lines().collect(), other.lines().collect());
    let name = |line: &&'p str| {
        let (kind, rest) = line.split_once('\t')?;
        let (name, _) = rest.split_once('\t')?;
        (kind == "table" && !name.contains('\\')).then_some(name)
    };
    one.symmetric_difference(&other).map(name).collect()
}

fn home(database: &Database) -> Option<&str> {
    database.shards.get(database.home).map(|shard| shard.name.as_str())
}

fn tables(database: &Database) -> BTreeSet<(&str, Option<&str>, bool)> {
    database.tables.iter().map(|table| (table.name.as_str(), table.key.as_deref(), table.reference)).collect()
}

fn set<T: ToString>(items: &[T]) -> BTreeSet<String> {
    items.iter().map(ToString::to_string).collect()
}

/// Names only in the old list, names only in the new one, and what is in both.
fn pair<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: fn(&T) -> &String,
) -> (Vec<String>, Vec<String>, Vec<(&'a T, &'a T)>) {
    let by_name = |list: &'a [T]| -> BTreeMap<&'a str, &'a T> {
        list.iter().map(|item| (name(item).as_str(), item)).collect()
    };
    let (old_names, new_names) = (by_name(old), by_name(new));
    let only = |list: &[T], other: &BTreeMap<&str, &T>| -> Vec<String> {
        let names = list.iter().map(name);
        names.filter(|name| !other.contains_key(name.as_str())).cloned().collect()
    };
    let both = |item: &'a T| new_names.get(name(item).as_str()).map(|found| (item, *found));
    (only(old, &new_names), only(new, &old_names), old.iter().filter_map(both).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    const BASE: &str = r#"
        [[user]]
        name = "app"
        password = "secret"
        [[user]]
        name = "ops"
        password = "secret"
        [[database]]
        name = "shop"
        key = "user_id"
        virtual_nodes = 512
        [[database.table]]
        name = "plans"
        reference = true
        [[database.shard]]
        name = "s1"
        weight = 2
        endpoints = ["a:1", "b:1"]
        [[database.shard]]
        name = "s2"
        weight = 4
        endpoints = ["c:1"]
        [[database]]
        name = "plain"
        [[database.shard]]
        name = "only"
        endpoints = ["d:1"]
    "#;

    fn settings(text: &str) -> Settings {
        parse(text, Path::new("/etc/pgring/pgring.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// What replacing each text by another in the base file changes.
    fn after(replacements: &[(&str, &str)]) -> Changes {
        let mut text = BASE.to_owned();
        for (from, to) in replacements {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        changes(&settings(BASE), &settings(&text))
    }

    fn database(change: DatabaseChange) -> Changes {
        Changes { databases_changed: vec![change], ..Changes::default() }
    }

    fn shop() -> DatabaseChange {
        DatabaseChange { database: "shop".into(), ..DatabaseChange::default() }
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        for replacements in [
            &[][..],
            &[("[[user]]", "[pool]\nsize = 20\n[[user]]")],
            &[(r#"["a:1", "b:1"]"#, r#"["b:1", "a:1"]"#)],
            &[
                ("virtual_nodes = 512", "virtual_nodes = 1024"),
                ("weight = 2", "weight = 1"),
                ("weight = 4", "weight = 2"),
            ],
            &[("key = \"user_id\"", "key = \"user_id\"\nhome = \"s1\"")],
            &[(r#"name = "plain""#, "name = \"plain\"\nvirtual_nodes = 7")],
            &[(r#"name = "only""#, "name = \"only\"\nweight = 3")],
        ] {
            assert!(after(replacements).is_empty(), "{replacements:?}: {:?}", after(replacements));
        }
    }

    #[test]
    fn what_moves_rows() {
        let moves_keys = || DatabaseChange { moves_keys: true, ..shop() };
        let moves_tables = || DatabaseChange { moves_tables: true, ..shop() };
        for (from, to, expected) in [
            ("weight = 2", "weight = 3", moves_keys()),
            ("virtual_nodes = 512", "virtual_nodes = 1024", moves_keys()),
            (r#"name = "s2""#, r#"name = "s3""#, moves_keys()),
            (
                "[[database]]\n        name = \"plain\"",
                "[[database.shard]]\nname = \"s3\"\nendpoints = [\"e\"]\n[[database]]\nname = \"plain\"",
                moves_keys(),
            ),
            (
                "key = \"user_id\"",
                "key = \"user_id\"\nhome = \"s2\"",
                DatabaseChange { moves_home: true, ..shop() },
            ),
            ("key = \"user_id\"", "key = \"account_id\"", moves_tables()),
            ("reference = true", "key = \"owner\"", moves_tables()),
            (
                r#"name = "s2""#,
                "name = \"s2\"\ndbname = \"other\"",
                DatabaseChange { shards_with_other_dbname: vec!["s2".into()], ..shop() },
            ),
        ] {
            assert!(expected.moves_rows());
            assert_eq!(after(&[(from, to)]), database(expected), "{from} -> {to}");
        }
    }

    #[test]
    fn what_may_change_at_once() {
        let servers = |name: &str| {
            database(DatabaseChange { shards_with_other_servers: vec![name.to_owned()], ..shop() })
        };
        let sections = |name| Changes { sections: vec![name], ..Changes::default() };
        for (from, to, expected) in [
            (r#""b:1""#, r#""b:2""#, servers("s1")),
            (r#"endpoints = ["c:1"]"#, "endpoints = [\"c:1\"]\nanalytics = [\"f\"]", servers("s2")),
            (r#"endpoints = ["c:1"]"#, "endpoints = [\"c:1\"]\ntls = \"require\"", servers("s2")),
            ("[[user]]", "[pool]\nsize = 21\n[[user]]", sections("pool")),
            ("[[user]]", "[listen]\nmax_clients = 5\n[[user]]", sections("listen")),
            ("[[user]]", "[tcp]\nuser_timeout = \"9s\"\n[[user]]", sections("tcp")),
            ("[[user]]", "[admin]\nusers = [\"ops\"]\n[[user]]", sections("admin")),
            ("[[user]]", "[routing]\nreads = \"replica\"\n[[user]]", sections("routing")),
            ("[[user]]", "[health]\nfailures = 5\n[[user]]", sections("health")),
            ("[[user]]", "[control]\nuser = \"watch\"\n[[user]]", sections("control")),
            (
                r#"name = "ops""#,
                r#"name = "sue""#,
                Changes {
                    users_added: vec!["sue".into()],
                    users_removed: vec!["ops".into()],
                    ..Changes::default()
                },
            ),
            (
                r#"password = "secret""#,
                r#"password = "other""#,
                Changes { users_changed: vec!["app".into()], ..Changes::default() },
            ),
            (
                r#"name = "plain""#,
                r#"name = "fancy""#,
                Changes {
                    databases_added: vec!["fancy".into()],
                    databases_removed: vec!["plain".into()],
                    ..Changes::default()
                },
            ),
        ] {
            assert_eq!(after(&[(from, to)]), expected, "{from} -> {to}");
        }
        for (to, key) in [
            ("cluster = \"b\"\n[[user]]", "cluster"),
            ("[listen]\naddress = \"127.0.0.1:7\"\n[[user]]", "listen.address"),
            ("[listen]\nruntime_dir = \"off\"\n[[user]]", "listen.runtime_dir"),
            ("[http]\naddress = \"off\"\n[[user]]", "http.address"),
        ] {
            let changes = after(&[("[[user]]", to)]);
            assert_eq!(changes, Changes { needs_restart: vec![key], ..Changes::default() });
        }
    }

    #[test]
    fn a_placement_says_what_moves_rows() {
        let text = |replacements: &[(&str, &str)]| {
            let changed =
                replacements.iter().fold(BASE.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
            placement(&settings(&changed).databases[0])
        };
        let base = text(&[]);
        assert_eq!(
            base,
            "version\t1\nkey\tuser_id\nhome\ts1\nnodes\ts1\t1024\nnodes\ts2\t2048\ntable\tplans\treference"
        );
        let same = [
            ("virtual_nodes = 512", "virtual_nodes = 1024"),
            ("weight = 2", ""),
            ("weight = 4", "weight = 2"),
        ];
        assert_eq!(text(&same), base);
        assert_eq!(text(&[(r#""b:1""#, r#""b:2""#)]), base);
        for (from, to, tables) in [
            ("weight = 2", "weight = 3", None),
            ("key = \"user_id\"", "key = \"user_id\"\nhome = \"s2\"", None),
            ("key = \"user_id\"", "key = \"account_id\"", None),
            ("reference = true", "key = \"owner\"", Some(BTreeSet::from(["plans"]))),
            (r#"name = "plans""#, r#"name = "s.x""#, Some(BTreeSet::from(["plans", "s.x"]))),
        ] {
            let other = text(&[(from, to)]);
            assert_ne!(other, base, "{to}");
            assert_eq!(tables_placed_otherwise(&base, &other), tables, "{to}");
        }
    }

    #[test]
    fn another_order_of_shards_is_told() {
        let mut new = settings(BASE);
        new.databases[0].shards.reverse();
        new.databases[0].home = 1;
        let change = database_change(&settings(BASE).databases[0], &new.databases[0]);
        assert_eq!(change, DatabaseChange { reordered: true, ..shop() });
        assert!(!change.moves_rows());
    }

    #[test]
    fn placement_is_kept_and_servers_are_not() {
        let active = settings(BASE).databases.swap_remove(0);
        let mut new = active.clone();
        new.virtual_nodes = 9;
        new.home = 1;
        new.key = Some("other".into());
        new.tables.clear();
        new.shards[0].weight = 7;
        new.shards[0].endpoints.pop();
        new.shards[1].dbname = "elsewhere".into();
        new.shards[1].endpoints.clear();
        new.shards.reverse();
        let kept = keep_placement(&active, &new);
        assert!(!database_change(&active, &kept).moves_rows());
        assert_eq!(kept.shards[0].endpoints, active.shards[0].endpoints[..1]);
        assert_eq!(kept.shards[0].weight, 2);
        assert_eq!(kept.shards[1], active.shards[1], "its new servers hold another database");
        assert_eq!((kept.home, kept.virtual_nodes, kept.key), (0, 512, active.key.clone()));
    }
}
