//! A pgring.toml, put together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use pgring::demo::cluster::{Cluster, free_port};
use pgring::demo::sample::{APP, CONTROL};
use tempfile::TempDir;

/// A configuration: free ports, the role `app` as user and operator, and what a test adds.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) port: u16,
    pub(crate) http_port: u16,
    /// Where proxies of this configuration and of its clones meet.
    pub(crate) runtime: Arc<TempDir>,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    tables: String,
}

impl Config {
    pub(crate) fn new() -> Config {
        let (port, http_port) = (free_port().unwrap(), free_port().unwrap());
        let runtime = Arc::new(tempfile::tempdir().unwrap());
        let (sections, tables) = (BTreeMap::new(), String::new());
        Config { port, http_port, runtime: Arc::clone(&runtime), sections, tables }
            .set("listen", "address", &format!("\"127.0.0.1:{port}\""))
            .set("listen", "runtime_dir", &format!("{:?}", runtime.path().join("peers")))
            .set("http", "address", &format!("\"127.0.0.1:{http_port}\""))
            .set("control", "user", &format!("\"{}\"", CONTROL.name))
            .set("control", "password", &format!("\"{}\"", CONTROL.password))
            .set("admin", "users", &format!("[\"{}\"]", APP.name))
            .append(&format!("[[user]]\nname = \"{}\"\npassword = \"{}\"\n", APP.name, APP.password))
    }

    /// Sets a key of a section; the value is TOML: `.set("pool", "mode", "\"session\"")`.
    pub(crate) fn set(mut self, section: &str, key: &str, value: &str) -> Config {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a database with the sample's keys on servers named `s1`, `s2`, …
    pub(crate) fn database(self, name: &str, shards: &[&Cluster]) -> Config {
        let endpoints: Vec<Vec<String>> = shards.iter().map(|server| vec![server.address()]).collect();
        self.database_at(name, &endpoints)
    }

    /// The same with each shard's endpoints.
    pub(crate) fn database_at(self, name: &str, shards: &[Vec<String>]) -> Config {
        let mut text = format!(
            "[[database]]\nname = \"{name}\"\nkey = \"user_id\"\n\
             \n[[database.table]]\nname = \"users\"\nkey = \"id\"\n\
             \n[[database.table]]\nname = \"plans\"\nreference = true\n"
        );
        for (number, endpoints) in (1..).zip(shards) {
            write!(
                text,
                "\n[[database.shard]]\nname = \"s{number}\"\nendpoints = {endpoints:?}\ntls = \"disable\"\n"
            )
            .unwrap();
        }
        self.append(&text)
    }

    /// Adds arrays of tables as they are to stand in the file.
    pub(crate) fn append(mut self, toml: &str) -> Config {
        self.tables.push('\n');
        self.tables.push_str(toml);
        self
    }

    /// Changes what was appended: users, databases, shards.
    #[track_caller]
    pub(crate) fn replace(mut self, from: &str, to: &str) -> Config {
        assert!(self.tables.contains(from), "{from:?} is not in\n{}", self.tables);
        self.tables = self.tables.replace(from, to);
        self
    }

    pub(crate) fn to_toml(&self) -> String {
        let mut text = "cluster = \"test\"\n".to_owned();
        for (section, keys) in &self.sections {
            write!(text, "\n[{section}]\n").unwrap();
            for (key, value) in keys {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        text + &self.tables
    }
}
