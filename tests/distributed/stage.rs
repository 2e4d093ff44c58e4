//! The sample over three shards, and the same rows on one.

use std::sync::LazyLock;

use pgring::demo::sample::APP;

use crate::support::{self, Config, Proxy};

pub(crate) struct Stage {
    proxy: Proxy,
    name: String,
}

/// Over three shards.
pub(crate) static SHARDED: LazyLock<Stage> = LazyLock::new(|| Stage::over(3));
/// The oracle.
pub(crate) static ONE: LazyLock<Stage> = LazyLock::new(|| Stage::over(1));

impl Stage {
    fn over(shards: usize) -> Stage {
        let servers = support::servers(shards);
        let name = support::sample_database(&servers);
        let proxy = Proxy::start(Config::new().database(&name, &servers));
        Stage { proxy, name }
    }

    pub(crate) fn dsn(&self) -> String {
        self.proxy.dsn(APP, &self.name)
    }
}
