//! The status page: one self-contained document, no scripts, nothing fetched.
//!
//! Names come from the configuration and from clients, errors from servers; all of it passes
//! through [`Escaped`].

use std::fmt::{Display, Formatter, Result, Write};
use std::time::Duration;

use super::Readiness;
use crate::telemetry::Snapshot;
use crate::telemetry::snapshot::{ClientState, ServerState, ShardRow};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--soft:#60646c;--line:#e0e1e6;--back:#fcfcfd;--card:#fff;\
--good:#18794e;--bad:#cd2b31;--warn:#ad5700;--bar:#3e63dd}\
@media(prefers-color-scheme:dark){:root{--ink:#edeef0;--soft:#b0b4ba;--line:#363a3f;--back:#111113;\
--card:#18191b;--good:#3dd68c;--bad:#ff9592;--warn:#ffa057;--bar:#849dff}}\
body{margin:0 auto;max-width:72rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif;color:var(--ink);\
background:var(--back)}\
header{display:flex;flex-wrap:wrap;gap:.25rem 1rem;align-items:baseline}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}\
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin-top:1.25rem}\
.card{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .9rem}\
.card b{display:block;font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}\
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:.5rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.4rem .9rem;text-align:left;white-space:nowrap;border-top:1px solid var(--line)}\
thead th{border-top:0;font-weight:500;color:var(--soft);font-size:.85rem}\
td.n,th.n{text-align:right}td.why{white-space:normal;min-width:12rem}\
.bar{display:inline-block;width:6rem;height:.5rem;border-radius:.25rem;background:var(--line);\
margin-right:.5rem;overflow:hidden}.bar i{display:block;height:100%;background:var(--bar)}\
.notice{margin:1rem 0 0;padding:.6rem .9rem;border-left:3px solid var(--warn);background:var(--card)}\
footer{margin-top:2rem;color:var(--soft);font-size:.85rem}a{color:inherit}";

/// Text that is text in HTML, inside elements and quoted attributes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page.
pub(super) fn render(snapshot: &Snapshot, readiness: &Readiness) -> String {
    let mut page = String::with_capacity(16 * 1024);
    write_page(&mut page, snapshot, readiness).expect("a String takes all that is written to it");
    page
}

fn write_page(page: &mut String, snapshot: &Snapshot, readiness: &Readiness) -> Result {
    let cluster = Escaped(&snapshot.cluster);
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"5\"><title>{cluster} · pgring</title>\
         <style>{STYLE}</style></head><body>"
    )?;
    write_header(page, snapshot, readiness)?;
    write_cards(page, snapshot)?;
    write_ring(page, snapshot)?;
    write_shards(page, snapshot)?;
    write_pools(page, snapshot)?;
    page.write_str(
        "<footer>Refreshed every 5 seconds · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/readyz\">readiness</a> · more on the console: <code>SHOW HELP</code></footer>\
         </body></html>\n",
    )
}

fn write_header(page: &mut String, snapshot: &Snapshot, readiness: &Readiness) -> Result {
    let (class, word) = if snapshot.shutting_down {
        ("warn", "shutting down")
    } else if snapshot.paused {
        ("warn", "paused")
    } else if readiness.ready {
        ("good", "ready")
    } else {
        ("bad", "not ready")
    };
    write!(
        page,
        "<header><h1>{}</h1><strong class=\"{class}\">{word}</strong>\
         <span class=\"soft\">pgring {} · up {}</span></header>",
        Escaped(&snapshot.cluster),
        Escaped(snapshot.version),
        Age(snapshot.uptime),
    )?;
    for reason in &readiness.reasons {
        write!(page, "<p class=\"notice\">{}</p>", Escaped(reason))?;
    }
    Ok(())
}

fn write_cards(page: &mut String, snapshot: &Snapshot) -> Result {
    let clients = |wanted: &[ClientState]| {
        snapshot.clients.iter().filter(|client| wanted.contains(&client.state)).count()
    };
    let servers = |wanted| snapshot.servers.iter().filter(|server| server.state == wanted).count();
    let up = snapshot.shards.iter().filter(|endpoint| endpoint.up).count();
    page.write_str("<div class=\"cards\">")?;
    card(page, "clients", snapshot.clients.len())?;
    card(page, "clients active", clients(&[ClientState::Active, ClientState::IdleInTransaction]))?;
    card(page, "clients waiting", clients(&[ClientState::Waiting]))?;
    card(page, "servers active", servers(ServerState::Active))?;
    card(page, "servers idle", servers(ServerState::Idle))?;
    card(page, "endpoints up", format_args!("{up} of {}", snapshot.shards.len()))?;
    card(page, "in doubt", snapshot.transactions.len())?;
    page.write_str("</div>")
}

fn card(page: &mut String, what: &str, value: impl Display) -> Result {
    write!(page, "<div class=\"card\"><b>{value}</b><span class=\"soft\">{what}</span></div>")
}

fn write_ring(page: &mut String, snapshot: &Snapshot) -> Result {
    if snapshot.ring.is_empty() {
        return Ok(());
    }
    open_table(page, "Ring", &["database", "shard", "keys", "weight#", "nodes#"])?;
    for row in &snapshot.ring {
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            Escaped(&row.database),
            Escaped(&row.shard),
            Bar(row.share),
            row.weight,
            row.virtual_nodes,
        )?;
    }
    close_table(page)?;
    let mut said = "";
    for row in &snapshot.ring {
        let Some(moves) = row.pending_moves else { continue };
        if said != row.database {
            write!(
                page,
                "<p class=\"notice\">The ring in the file for {} would move {:.1} % of its keys; it is not \
                 active while shards hold rows that would have to move.</p>",
                Escaped(&row.database),
                moves * 100.0,
            )?;
            said = &row.database;
        }
    }
    Ok(())
}

fn write_shards(page: &mut String, snapshot: &Snapshot) -> Result {
    open_table(
        page,
        "Shards",
        &["database", "shard", "endpoint", "role", "state", "lag#", "active#", "idle#", "last error"],
    )?;
    for row in &snapshot.shards {
        let servers = |wanted: ServerState| {
            let here = |at: &&crate::telemetry::snapshot::ServerRow| {
                at.state == wanted
                    && at.endpoint == row.endpoint
                    && at.shard == row.shard
                    && at.database == row.database
            };
            snapshot.servers.iter().filter(here).count()
        };
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td>{}<td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"why\">{}</td></tr>",
            Escaped(&row.database),
            Escaped(&row.shard),
            Escaped(&row.endpoint),
            Escaped(row.role),
            state(row),
            Lag(row.lag_seconds),
            servers(ServerState::Active),
            servers(ServerState::Idle),
            Escaped(row.last_error.as_deref().unwrap_or_default()),
        )?;
    }
    close_table(page)
}

fn state(row: &ShardRow) -> &'static str {
    if row.up { "<td class=\"good\">up</td>" } else { "<td class=\"bad\">down</td>" }
}

fn write_pools(page: &mut String, snapshot: &Snapshot) -> Result {
    open_table(
        page,
        "Pools",
        &[
            "database",
            "user",
            "shard",
            "endpoint",
            "clients#",
            "waiting#",
            "longest wait#",
            "active#",
            "idle#",
            "logging in#",
        ],
    )?;
    for row in &snapshot.shard_pools {
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.3} s</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            Escaped(&row.database),
            Escaped(&row.user),
            Escaped(&row.shard),
            Escaped(&row.endpoint),
            row.cl_active,
            row.cl_waiting,
            Duration::from_micros(row.maxwait_us).as_secs_f64(),
            row.sv_active,
            row.sv_idle,
            row.sv_login,
        )?;
    }
    close_table(page)
}

/// A column whose name ends in `#` holds numbers.
fn open_table(page: &mut String, title: &str, columns: &[&str]) -> Result {
    write!(page, "<h2>{title}</h2><div class=\"scroll\"><table><thead><tr>")?;
    for column in columns {
        match column.strip_suffix('#') {
            Some(name) => write!(page, "<th class=\"n\">{name}</th>")?,
            None => write!(page, "<th>{column}</th>")?,
        }
    }
    page.write_str("</tr></thead><tbody>")
}

fn close_table(page: &mut String) -> Result {
    page.write_str("</tbody></table></div>")
}

/// A part of the whole, drawn and in figures.
struct Bar(f64);

impl Display for Bar {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let percent = self.0.clamp(0.0, 1.0) * 100.0;
        write!(f, "<span class=\"bar\"><i style=\"width:{percent:.1}%\"></i></span>{percent:.1} %")
    }
}

struct Lag(Option<f64>);

impl Display for Lag {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Some(lag) => write!(f, "{lag:.3} s"),
            None => Ok(()),
        }
    }
}

/// The two largest units.
struct Age(Duration);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        if days > 0 {
            write!(f, "{days} d {} h", hours % 24)
        } else if hours > 0 {
            write!(f, "{hours} h {} min", minutes % 60)
        } else if minutes > 0 {
            write!(f, "{minutes} min {} s", seconds % 60)
        } else {
            write!(f, "{seconds} s")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::telemetry::snapshot::{PoolRow, RingRow};

    #[test]
    fn ages() {
        for (seconds, expect) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(Age(Duration::from_secs(seconds)).to_string(), expect);
        }
    }

    /// A name that comes from outside is never markup, wherever it stands.
    #[test]
    fn everything_is_escaped() {
        let evil = || "<script>\"'&".to_owned();
        let mut snapshot = Snapshot::empty(evil(), UNIX_EPOCH);
        snapshot.shards.push(ShardRow {
            database: evil(),
            shard: evil(),
            endpoint: evil(),
            role: "<b>",
            last_error: Some(evil()),
            ..ShardRow::default()
        });
        snapshot.shard_pools.push(PoolRow {
            database: evil(),
            user: evil(),
            shard: evil(),
            endpoint: evil(),
            ..PoolRow::default()
        });
        snapshot.ring.push(RingRow {
            database: evil(),
            shard: evil(),
            pending_moves: Some(0.25),
            ..RingRow::default()
        });
        let page = render(&snapshot, &Readiness::not_ready([evil()]));
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<b></td>"), "{page}");
        assert_eq!(page.matches("&lt;script&gt;&quot;&#39;&amp;").count(), 14, "{page}");
        assert!(page.contains("25.0 % of its keys"));
    }

    #[test]
    fn what_it_says_of_itself() {
        let mut snapshot = Snapshot::empty("c", UNIX_EPOCH);
        assert!(render(&snapshot, &Readiness::ready()).contains("<strong class=\"good\">ready<"));
        assert!(render(&snapshot, &Readiness::not_ready(["no shard"])).contains(">not ready<"));
        snapshot.paused = true;
        assert!(render(&snapshot, &Readiness::ready()).contains(">paused<"));
        snapshot.shutting_down = true;
        assert!(render(&snapshot, &Readiness::ready()).contains(">shutting down<"));
        assert!(!render(&snapshot, &Readiness::ready()).contains("src="), "nothing is fetched");
    }

    #[test]
    fn a_bar_stays_in_its_frame() {
        for (share, expect) in [(0.333_33, "33.3 %"), (7.0, "100.0 %"), (-1.0, "0.0 %")] {
            assert!(Bar(share).to_string().ends_with(expect));
        }
    }
}
