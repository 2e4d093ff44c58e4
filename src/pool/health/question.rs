//! The one query of a probe, and reading its answer.
//!
//! One statement, so that one snapshot of the server answers all of it; sent as a simple query,
//! so that nothing is prepared and all of it comes as text. A function the control role may not
//! call fails the whole statement (rights are checked even in a `CASE` branch not taken), so
//! what is forbidden is found out piece by piece, said once, and left out from then on.

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::state::{Lsn, Probe, ProbeFailure, ServerVersion};

/// A part of the query that may be forbidden to the control role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Tells clusters apart.
    System,
    /// The timeline of the last checkpoint: all a replica may know of it.
    ControlTimeline,
    /// The timeline a replica receives now. (NULL without the rights of `pg_monitor`.)
    ReceivedTimeline,
    /// A primary's timeline. The control file still names the old one until the checkpoint
    /// after a promotion is done; the name of the segment being written does not.
    WrittenTimeline,
    /// Written or replayed so far.
    Position,
    /// What a replica says about its lag.
    Replay,
}

impl Piece {
    const ALL: [Piece; 6] = [
        Piece::System,
        Piece::ControlTimeline,
        Piece::ReceivedTimeline,
        Piece::WrittenTimeline,
        Piece::Position,
        Piece::Replay,
    ];

    /// Columns of a query over `s(recovering)`.
    fn columns(self) -> &'static [&'static str] {
        match self {
            Piece::System => &["(SELECT system_identifier FROM pg_catalog.pg_control_system())"],
            Piece::ControlTimeline => &["(SELECT GREATEST(c.timeline_id, \
                 CASE WHEN s.recovering THEN r.min_recovery_end_timeline END) \
                 FROM pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_control_recovery() r)"],
            Piece::ReceivedTimeline => &["(SELECT max(received_tli) FROM pg_catalog.pg_stat_wal_receiver)"],
            Piece::WrittenTimeline => &["CASE WHEN NOT s.recovering THEN \
                 pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END"],
            Piece::Position => &["CASE WHEN s.recovering THEN pg_catalog.pg_last_wal_replay_lsn() \
                 ELSE pg_catalog.pg_current_wal_lsn() END"],
            Piece::Replay => &[
                "CASE WHEN s.recovering THEN \
                 pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() END",
                "CASE WHEN s.recovering THEN date_part('epoch', \
                 pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) END",
            ],
        }
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Piece::System => "pg_control_system()",
            Piece::ControlTimeline => "pg_control_checkpoint() and pg_control_recovery()",
            Piece::ReceivedTimeline => "pg_stat_wal_receiver",
            Piece::WrittenTimeline => "pg_walfile_name(pg_current_wal_lsn())",
            Piece::Position => "pg_last_wal_replay_lsn() and pg_current_wal_lsn()",
            Piece::Replay => "pg_last_wal_receive_lsn() and pg_last_xact_replay_timestamp()",
        })
    }
}

/// `recovering` is asked once, below the columns: a promotion in the middle of the statement
/// must not have one of them take the server for a replica and another for a primary.
const FROM: &str = " FROM (SELECT pg_catalog.pg_is_in_recovery() OFFSET 0) AS s(recovering)";

const SETTINGS: [&str; 5] = [
    "s.recovering",
    "pg_catalog.current_setting('default_transaction_read_only')",
    "pg_catalog.current_setting('server_version_num')",
    "pg_catalog.current_setting('max_prepared_transactions')",
    "pg_catalog.current_setting('server_encoding')",
];

/// The query, less what a server has refused. One for each connection: rights may change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    allowed: Vec<Piece>,
    forbidden: Vec<Piece>,
    text: String,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask::with(Piece::ALL.to_vec(), Vec::new())
    }
}

impl Ask {
    fn with(allowed: Vec<Piece>, forbidden: Vec<Piece>) -> Ask {
        let pieces = allowed.iter().flat_map(|piece| piece.columns());
        let columns: Vec<&str> = SETTINGS.iter().chain(pieces).copied().collect();
        let text = format!("SELECT {}{FROM}", columns.join(", "));
        Ask { allowed, forbidden, text }
    }

    /// What the control role may not ask of this server.
    pub fn forbidden(&self) -> &[Piece] {
        &self.forbidden
    }

    /// Asks. Dropped half-way, the connection is still in order: tokio-postgres reads the
    /// answer to its end.
    pub async fn ask(&mut self, client: &Client) -> Result<Probe, ProbeFailure> {
        let row = match row(client, &self.text).await? {
            Some(row) => row,
            None => {
                self.find_forbidden(client).await?;
                let unexplained =
                    || ProbeFailure::Nonsense("permission denied to read the settings".to_owned());
                row(client, &self.text).await?.ok_or_else(unexplained)?
            }
        };
        let values: Vec<Option<&str>> = (0..row.len()).map(|index| row.get(index)).collect();
        read(&self.allowed, &values)
    }

    async fn find_forbidden(&mut self, client: &Client) -> Result<(), ProbeFailure> {
        let mut allowed = Vec::new();
        let mut forbidden = self.forbidden.clone();
        for piece in &self.allowed {
            let text = format!("SELECT {}{FROM}", piece.columns().join(", "));
            match row(client, &text).await? {
                Some(_) => allowed.push(*piece),
                None => forbidden.push(*piece),
            }
        }
        *self = Ask::with(allowed, forbidden);
        Ok(())
    }
}

/// The answer's row; `None` where the control role lacks a right.
async fn row(client: &Client, text: &str) -> Result<Option<SimpleQueryRow>, ProbeFailure> {
    match client.simple_query(text).await {
        Ok(messages) => {
            let row = messages.into_iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            });
            row.map(Some).ok_or_else(|| ProbeFailure::Nonsense("an answer without a row".to_owned()))
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(super::connector::lost(&error)),
    }
}

/// Reads an answer to [`SETTINGS`] and the columns of `pieces`.
fn read(pieces: &[Piece], values: &[Option<&str>]) -> Result<Probe, ProbeFailure> {
    let mut values = values.iter().copied();
    let mut next = |name: &str| {
        values.next().ok_or_else(|| ProbeFailure::Nonsense(format!("an answer without its column {name}")))
    };
    let mut probe = Probe {
        in_recovery: boolean(required("pg_is_in_recovery", next("pg_is_in_recovery")?)?)?,
        read_only: required("default_transaction_read_only", next("default_transaction_read_only")?)? == "on",
        server_version: ServerVersion(number(required("server_version_num", next("server_version_num")?)?)?),
        max_prepared_transactions: number(required(
            "max_prepared_transactions",
            next("max_prepared_transactions")?,
        )?)?,
        server_encoding: required("server_encoding", next("server_encoding")?)?.to_owned(),
        timeline: None,
        system_identifier: None,
        lsn: None,
        replayed_all: false,
        replay_age: None,
        stranger: None,
    };
    for piece in pieces {
        match piece {
            Piece::System => {
                // A bigint to PostgreSQL, an unsigned number in the control file.
                let identifier: Option<i64> = next("system_identifier")?.map(number).transpose()?;
                probe.system_identifier = identifier.map(i64::cast_unsigned);
            }
            Piece::ControlTimeline => {
                let timeline: Option<u32> = next("timeline_id")?.map(number).transpose()?;
                if probe.in_recovery {
                    probe.timeline = probe.timeline.max(timeline);
                }
            }
            Piece::ReceivedTimeline => {
                let timeline: Option<u32> = next("received_tli")?.map(number).transpose()?;
                if probe.in_recovery {
                    probe.timeline = probe.timeline.max(timeline);
                }
            }
            Piece::WrittenTimeline => {
                if let Some(digits) = next("pg_walfile_name")? {
                    let timeline = u32::from_str_radix(digits, 16).map_err(|_| nonsense(digits))?;
                    probe.timeline = Some(timeline);
                }
            }
            Piece::Position => {
                let lsn: Option<Lsn> = next("lsn")?.map(number).transpose()?;
                probe.lsn = lsn;
            }
            Piece::Replay => {
                probe.replayed_all = next("replayed_all")?.map(boolean).transpose()?.unwrap_or(false);
                let age: Option<f64> = next("replay_age")?.map(number).transpose()?;
                // Clocks differ: a negative age is none.
                probe.replay_age = age.and_then(|age| Duration::try_from_secs_f64(age.max(0.0)).ok());
            }
        }
    }
    Ok(probe)
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, ProbeFailure> {
    value.ok_or_else(|| ProbeFailure::Nonsense(format!("{name} is null")))
}

fn nonsense(text: &str) -> ProbeFailure {
    ProbeFailure::Nonsense(format!("{text:?}"))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, ProbeFailure> {
    text.parse().map_err(|_| nonsense(text))
}

fn boolean(text: &str) -> Result<bool, ProbeFailure> {
    match text {
        "t" => Ok(true),
        "f" => Ok(false),
        other => Err(nonsense(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: [Option<&str>; 5] = [Some("f"), Some("off"), Some("150018"), Some("10"), Some("UTF8")];
    const REPLICA: [Option<&str>; 5] = [Some("t"), Some("off"), Some("120003"), Some("0"), Some("SQL_ASCII")];

    fn all(head: [Option<&'static str>; 5], tail: [Option<&'static str>; 7]) -> Result<Probe, ProbeFailure> {
        let values: Vec<Option<&str>> = head.into_iter().chain(tail).collect();
        read(&Piece::ALL, &values)
    }

    #[test]
    fn a_just_promoted_primary_is_on_the_timeline_it_writes_not_the_one_of_its_checkpoint() {
        let tail = [Some("-1"), Some("1"), None, Some("00000002"), Some("16/B374D848"), None, None];
        let probe = all(HEAD, tail).unwrap();
        assert_eq!(probe.timeline, Some(2));
        assert_eq!(probe.system_identifier, Some(u64::MAX));
        assert_eq!(probe.lsn, Some(Lsn(0x16_B374_D848)));
        assert_eq!(probe.server_version.to_string(), "15.18");
    }

    #[test]
    fn a_replica_is_on_the_highest_timeline_it_knows_of() {
        for (control, received, expect) in
            [(Some("1"), Some("2"), Some(2)), (Some("3"), None, Some(3)), (None, None, None)]
        {
            let tail = [Some("7"), control, received, None, Some("0/1"), Some("t"), Some("-0.25")];
            let probe = all(REPLICA, tail).unwrap();
            assert_eq!(probe.timeline, expect);
            assert!(probe.replayed_all);
            assert_eq!(probe.replay_age, Some(Duration::ZERO));
        }
        let tail = [Some("7"), Some("1"), None, None, None, None, Some("12.5")];
        let probe = all(REPLICA, tail).unwrap();
        assert_eq!((probe.lsn, probe.replayed_all), (None, false));
        assert_eq!(probe.replay_age, Some(Duration::from_millis(12_500)));
    }

    #[test]
    fn what_is_forbidden_stays_unknown() {
        let probe = read(&[], &HEAD).unwrap();
        assert_eq!((probe.timeline, probe.system_identifier, probe.lsn), (None, None, None));
        // a primary's control file is no proof of what it writes
        let control = read(&[Piece::ControlTimeline], &[&HEAD[..], &[Some("1")]].concat()).unwrap();
        assert_eq!(control.timeline, None);
    }

    #[test]
    fn nonsense_is_a_failure() {
        let bad = |head: [Option<&'static str>; 5]| read(&[], &head).unwrap_err();
        assert!(matches!(bad([None; 5]), ProbeFailure::Nonsense(_)));
        assert!(matches!(bad([Some("yes"), HEAD[1], HEAD[2], HEAD[3], HEAD[4]]), ProbeFailure::Nonsense(_)));
        assert!(matches!(bad([HEAD[0], HEAD[1], Some("15.1"), HEAD[3], HEAD[4]]), ProbeFailure::Nonsense(_)));
        assert!(read(&[], &HEAD[..4]).is_err());
        assert!(read(&Piece::ALL, &HEAD).is_err());
    }
}
