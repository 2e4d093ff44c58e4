//! What Patroni says about a shard, as a rumour.
//!
//! Patroni knows of a failover before the servers show it: the leader's key in its store runs out,
//! another member takes it and promotes itself. Its REST interface (`GET /cluster`, of any member)
//! says so. That is never believed: who is primary is what the servers say, and Patroni may be wrong
//! about a server pgring sees, or talk about another cluster. It only has the shard's endpoints probed
//! at once and often, so that what the servers say is known sooner. A Patroni that does not answer
//! changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::board::ShardBoard;
use crate::config::Endpoint;

/// The interface is asked so many times as often as an endpoint: it is what is to be faster.
const AS_OFTEN: u32 = 4;
/// But not more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// A description of a cluster is far shorter.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Where a shard's Patroni is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct PatroniSpec {
    /// The configured database's name.
    pub database: String,
    /// The shard's name.
    pub shard: String,
    /// REST interfaces of any of its members; the first that answers is asked.
    pub members: Vec<Endpoint>,
}

/// Who leads, as far as it is told: name, host and timeline, in Patroni's words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Leader(Option<String>);

/// Asks until it is dropped.
pub(super) async fn listen(spec: PatroniSpec, board: Arc<ShardBoard>, interval: Duration, limit: Duration) {
    let mut known: Option<Leader> = None;
    let mut silent = false;
    let mut at = 0;
    let pause = (interval / AS_OFTEN).max(LEAST_PAUSE).min(interval.max(LEAST_PAUSE));
    loop {
        let mut heard = None;
        for _ in 0..spec.members.len() {
            let Some(member) = spec.members.get(at) else { return };
            match timeout(limit, ask(member)).await.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(leader) => {
                    heard = Some(leader);
                    break;
                }
                Err(why) => {
                    tracing::debug!(
                        database = spec.database,
                        "shard {}: Patroni at {member} does not tell: {why}",
                        spec.shard
                    );
                    at = (at + 1) % spec.members.len();
                }
            }
        }
        match heard {
            Some(leader) => {
                if std::mem::take(&mut silent) {
                    tracing::info!(database = spec.database, "shard {}: Patroni answers again", spec.shard);
                }
                if known.as_ref().is_some_and(|known| *known != leader) {
                    let who = leader.0.as_deref().unwrap_or("nobody");
                    tracing::info!(
                        database = spec.database,
                        "shard {}: by Patroni its leader is now {who}",
                        spec.shard
                    );
                    board.rumour();
                }
                known = Some(leader);
            }
            None if !silent => {
                silent = true;
                tracing::warn!(
                    database = spec.database,
                    "shard {}: Patroni does not answer; probes go on without it",
                    spec.shard
                );
            }
            None => {}
        }
        sleep(pause).await;
    }
}

/// One question, on a connection of its own.
async fn ask(member: &Endpoint) -> Result<Leader, String> {
    let Endpoint::Tcp { host, port } = member else { return Err("not an address of HTTP".to_owned()) };
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((host.as_str(), *port)).await.map_err(said)?;
    // HTTP/1.0: the answer is not chunked, and ends with the connection.
    let request = format!("GET /cluster HTTP/1.0\r\nHost: {member}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(said)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await.map_err(said)?;
    read(&answer)
}

/// An answer to `GET /cluster`.
fn read(answer: &[u8]) -> Result<Leader, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "not a text".to_owned())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| "not HTTP".to_owned())?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("{:?}", head.lines().next().unwrap_or_default()));
    }
    let cluster: serde_json::Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let members = cluster["members"].as_array().ok_or_else(|| "no members".to_owned())?;
    // "standby_leader" leads a cluster that takes no writes.
    let leader = members.iter().find(|member| matches!(member["role"].as_str(), Some("leader" | "master")));
    let field = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(Leader(leader.map(|leader| {
        let [name, host, port, timeline, state] =
            ["name", "host", "port", "timeline", "state"].map(|key| field(&leader[key]));
        format!("{name} ({host}:{port}, {state}, timeline {timeline})")
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let ok = "HTTP/1.0 200 OK\r\nServer: BaseHTTP/0.6\r\n\r\n";
        let members = r#"{"members": [
            {"name": "b", "role": "replica", "state": "running", "host": "10.0.0.2", "port": 5432, "timeline": 3, "lag": 0},
            {"name": "a", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 3}]}"#;
        let told = Some("a (10.0.0.1:5432, running, timeline 3)");
        for (answer, expect) in [
            (format!("{ok}{members}"), Ok(told)),
            (format!("{ok}{}", members.replace("leader", "standby_leader")), Ok(None)),
            (format!("{ok}{{\"members\": []}}"), Ok(None)),
            // a leader that has just taken the key
            (
                format!("{ok}{}", members.replace(", \"timeline\": 3}]", "}]")),
                Ok(Some("a (10.0.0.1:5432, running, timeline null)")),
            ),
            (format!("{ok}{{}}"), Err("no members")),
            (format!("{ok}["), Err("EOF")),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\n{}".to_owned(), Err("503")),
            ("SSH-2.0-OpenSSH_9.2".to_owned(), Err("not HTTP")),
            (String::new(), Err("not HTTP")),
        ] {
            match (read(answer.as_bytes()), expect) {
                (Ok(Leader(leader)), Ok(expect)) => assert_eq!(leader.as_deref(), expect, "{answer}"),
                (Err(why), Err(words)) => assert!(why.contains(words), "{answer}: {why}"),
                (found, expect) => panic!("{answer}: {found:?} and not {expect:?}"),
            }
        }
        assert!(read(&[0xff]).is_err());
    }
}
