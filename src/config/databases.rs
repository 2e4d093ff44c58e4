//! Every key of `[[database]]`, its tables and its shards.

use super::CONSOLE_DATABASE;
use super::section::{Item, Section, Unique};
use super::settings::{Database, Endpoint, Reads, ServerTls, Shard, TableSetting, TlsMode};
use super::values::{self, Wrong, wrong};

/// More would make the ring larger than a look-up's cache locality is worth.
const MOST_NODES: u64 = 1 << 22;
/// What hints and shard sets can name.
const MOST_SHARDS: usize = 1024;
/// The word that stands for every shard in a hint.
const ALL_SHARDS: &str = "all";

pub(super) fn databases(root: &mut Section<'_>) -> Vec<Database> {
    let sections = root.tables("database");
    if sections.is_empty() && (!root.has("database") || root.is_empty_list("database")) {
        root.report(
            "database",
            wrong("is missing", "add a [[database]] with a name and a [[database.shard]]"),
        );
    }
    let mut names = Unique::new("a database's name");
    sections.into_iter().map(|section| database(section, &mut names)).collect()
}

fn database<'d>(mut section: Section<'d>, names: &mut Unique<&'d str>) -> Database {
    let name = section.required_item("name", "app", "set it to what clients put in their DSN");
    if let Some(item) = &name {
        item.parse(database_name);
        names.check(item.text, item);
    }
    let name = name.map(|item| item.text.to_owned()).unwrap_or_default();
    let key = section.parsed("key", "user_id", column_name);
    let virtual_nodes = section.number("virtual_nodes", 1..=65_536, 1024);
    let reads = section.choice("reads", &Reads::CHOICES);
    let reads = section.has("reads").then_some(reads);
    let tables = tables(&mut section);
    let shards = shards(&mut section, &name);

    if shards.len() > 1 && !section.has("key") {
        section.report(
            "key",
            wrong(
                format!("is missing, and the database has {} shards", shards.len()),
                "set it to the column that tables are sharded by, such as key = \"user_id\"",
            ),
        );
    }
    let weights: u64 = shards.iter().map(|shard| u64::from(shard.weight)).sum();
    if weights * u64::from(virtual_nodes) > MOST_NODES {
        section.report(
            "virtual_nodes",
            wrong(
                format!("times the sum of the weights, {weights}, must be at most {MOST_NODES}"),
                "lower it, or the weights",
            ),
        );
    }
    let home = section.parsed("home", "s1", |home| {
        shards.iter().position(|shard| shard.name == home).ok_or_else(|| {
            let names: Vec<String> = shards.iter().map(|shard| format!("\"{}\"", shard.name)).collect();
            let remedy = format!("name one of {}", names.join(", "));
            wrong(format!("\"{home}\" is no shard of this database"), remedy)
        })
    });
    Database { name, key, virtual_nodes, home: home.unwrap_or(0), reads, tables, shards }
}

fn database_name(name: &str) -> Result<(), Wrong> {
    if name == CONSOLE_DATABASE {
        return Err(wrong(format!("\"{name}\" is the console's name"), "choose another one"));
    }
    values::catalog_name(name)
}

fn column_name(name: &str) -> Result<String, Wrong> {
    values::catalog_name(name).map(|()| name.to_owned())
}

fn tables(section: &mut Section<'_>) -> Vec<TableSetting> {
    let mut names = Unique::new("a table's name");
    section.tables("table").into_iter().map(|section| table(section, &mut names)).collect()
}

fn table<'d>(mut section: Section<'d>, names: &mut Unique<&'d str>) -> TableSetting {
    let name = section.required_item("name", "users", "set it to the table's name");
    if let Some(item) = &name {
        item.parse(table_name);
        names.check(item.text, item);
    }
    let reference = section.boolean("reference", false);
    let key = section.parsed("key", "id", column_name);
    match (section.has("key"), reference) {
        (true, true) => section.report(
            "reference",
            wrong(
                "a reference table has the same rows on every shard and no key",
                "remove this line or the key",
            ),
        ),
        (false, false) => section.report(
            "key",
            wrong(
                "is missing, and the table is no reference table",
                "set key to a column, or reference = true, or remove the table",
            ),
        ),
        _ => {}
    }
    TableSetting { name: name.map(|item| item.text.to_owned()).unwrap_or_default(), key, reference }
}

fn table_name(name: &str) -> Result<(), Wrong> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > 2 {
        return Err(wrong(
            format!("\"{name}\" is not a table's name"),
            "write \"table\" or \"schema.table\"",
        ));
    }
    parts.into_iter().try_for_each(values::catalog_name)
}

fn shards(section: &mut Section<'_>, database: &str) -> Vec<Shard> {
    let sections = section.tables("shard");
    if sections.is_empty() && (!section.has("shard") || section.is_empty_list("shard")) {
        section.report("shard", wrong("is missing", "add a [[database.shard]] with a name and endpoints"));
    }
    if sections.len() > MOST_SHARDS {
        let message = format!("a database has at most {MOST_SHARDS} shards");
        section.report("shard", wrong(message, "use fewer"));
    }
    let mut names = Unique::new("a shard's name");
    // One server may hold several shards, in databases of its own.
    let mut servers = Unique::new("an endpoint with the same dbname");
    sections.into_iter().map(|section| shard(section, database, &mut names, &mut servers)).collect()
}

fn shard<'d>(
    mut section: Section<'d>,
    database: &str,
    names: &mut Unique<&'d str>,
    servers: &mut Unique<(Endpoint, String)>,
) -> Shard {
    let name = section.required_item("name", "s1", "set it to a name that stays: keys are placed by it");
    if let Some(item) = &name {
        item.parse(shard_name);
        names.check(item.text, item);
    }
    let dbname = section.parsed("dbname", database, column_name).unwrap_or_else(|| database.to_owned());
    let weight = section.number("weight", 1..=1000, 1);

    if !section.has("endpoints") || section.is_empty_list("endpoints") {
        section.report(
            "endpoints",
            wrong("must name at least one server", "write one such as [\"127.0.0.1:5432\"]"),
        );
    }
    let mut addresses = |key| {
        let items = section.items(key, "127.0.0.1:5432").unwrap_or_default();
        let endpoint = |item: &Item<'_>| {
            let endpoint = item.parse(|text| values::endpoint(text, item.base()))?;
            servers.check((endpoint.clone(), dbname.clone()), item);
            Some(endpoint)
        };
        items.iter().filter_map(endpoint).collect::<Vec<Endpoint>>()
    };
    let endpoints = addresses("endpoints");
    let analytics = addresses("analytics");
    let patroni = section.items("patroni", "http://127.0.0.1:8008").unwrap_or_default();
    let patroni = patroni.iter().filter_map(|item| item.parse(values::patroni)).collect();
    let mode = section.choice(
        "tls",
        &[
            ("prefer", TlsMode::Prefer),
            ("disable", TlsMode::Disable),
            ("require", TlsMode::Require),
            ("verify-full", TlsMode::VerifyFull),
        ],
    );
    let ca = section.pem_file("tls_ca", "ca.crt", "CERTIFICATE", None);
    Shard {
        name: name.map(|item| item.text.to_owned()).unwrap_or_default(),
        dbname,
        weight,
        endpoints,
        analytics,
        patroni,
        tls: ServerTls { mode, ca },
    }
}

fn shard_name(name: &str) -> Result<(), Wrong> {
    if name.eq_ignore_ascii_case(ALL_SHARDS) {
        return Err(wrong(format!("\"{name}\" stands for every shard in hints"), "choose another name"));
    }
    values::plain_name(name)
}
