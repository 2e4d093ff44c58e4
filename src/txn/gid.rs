//! The names of two-phase commit: of a transaction, of a participant, and of what is prepared.
//!
//! A participant is named by what it *is*, a server's system identifier and a database, never by
//! its place in the configuration: that may have changed when somebody has to ask it. A name is
//! taken for ours only if it is written exactly as we write it. Everything else belongs to
//! somebody else and is left alone.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A transaction over several shards: a UUIDv7, so that its rows lie together in an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Xid(u128);

impl Xid {
    const LEN: usize = 36;

    /// Of a transaction that decides now; of `random` 74 bits are taken.
    pub fn new(now: SystemTime, random: u128) -> Xid {
        // A clock before 1970 costs the order, not the uniqueness.
        let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let (version, variant) = (7, 0b10);
        let (high, low) = (random >> 64 & 0xfff, random & (u128::MAX >> 66));
        Xid((millis & 0xffff_ffff_ffff) << 80 | version << 76 | high << 64 | variant << 62 | low)
    }

    /// As it is printed, and only so: lower case, with hyphens.
    pub fn parse(text: &str) -> Option<Xid> {
        if text.len() != Xid::LEN {
            return None;
        }
        let mut value = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit = match (at, byte) {
                (8 | 13 | 18 | 23, b'-') => continue,
                (8 | 13 | 18 | 23, _) => return None,
                (_, b'0'..=b'9') => byte - b'0',
                (_, b'a'..=b'f') => byte - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u128::from(digit);
        }
        Some(Xid(value))
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |shift: u32, bits: u32| self.0 >> shift & ((1 << bits) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 32),
            part(80, 16),
            part(64, 16),
            part(48, 16),
            part(0, 48)
        )
    }
}

/// A database of a server, whatever its address and whoever is its primary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Participant {
    /// What `pg_control_system()` says; standbys have their primary's.
    pub system: u64,
    /// The database's name, which may contain anything.
    pub database: String,
}

impl Participant {
    /// As it is printed, and only so.
    pub fn parse(text: &str) -> Option<Participant> {
        let (digits, database) = text.split_once('/')?;
        let canonical = digits == "0" || !digits.starts_with(['0', '+']);
        if !canonical || database.is_empty() {
            return None;
        }
        Some(Participant { system: digits.parse().ok()?, database: database.to_owned() })
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.database)
    }
}

/// What a prepared transaction of ours is called, less the cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gid {
    /// The transaction it is part of.
    pub xid: Xid,
    /// A server takes a name once, whatever the database: where several participants are on one, which of
    /// them it is; 0 is the first, and is not printed.
    pub part: u16,
    /// Who knows how it ends.
    pub decider: Participant,
}

impl Gid {
    /// PostgreSQL's `GIDSIZE`, less the terminating zero.
    pub const MAX_BYTES: usize = 199;

    /// Its name in `cluster`; none where that is longer than PostgreSQL takes.
    pub fn print(&self, cluster: &str) -> Option<String> {
        let part = if self.part == 0 { String::new() } else { format!("#{}", self.part) };
        let name = format!("pgring:{cluster}:{}{part}:{}", self.xid, self.decider);
        (name.len() <= Gid::MAX_BYTES && !name.contains('\0')).then_some(name)
    }

    /// Of a name that `cluster` has given; none of anybody else's.
    pub fn parse(name: &str, cluster: &str) -> Option<Gid> {
        // What follows a shorter cluster's name is no xid where the cluster's is longer.
        let rest = name.strip_prefix("pgring:")?.strip_prefix(cluster)?.strip_prefix(':')?;
        let (xid, rest) = (rest.get(..Xid::LEN)?, rest.get(Xid::LEN..)?);
        let (part, decider) = match rest.strip_prefix('#') {
            Some(rest) => {
                let (part, decider) = rest.split_once(':')?;
                (part.parse().ok().filter(|number: &u16| *number > 0 && number.to_string() == part)?, decider)
            }
            None => (0, rest.strip_prefix(':')?),
        };
        Some(Gid { xid: Xid::parse(xid)?, part, decider: Participant::parse(decider)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const XID: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

    #[test]
    fn xids() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0190_163d_8694);
        assert_eq!(Xid::new(now, 0).to_string(), "0190163d-8694-7000-8000-000000000000");
        assert_eq!(Xid::new(now, u128::MAX).to_string(), "0190163d-8694-7fff-bfff-ffffffffffff");
        assert!(Xid::new(now, u128::MAX) < Xid::new(now + Duration::from_millis(1), 0));
        assert_eq!(Xid::parse(XID).unwrap().to_string(), XID);
        for wrong in [
            "",
            "0190163D-8694-739b-aea5-966c26f8ad91",
            "0190163d8694739baea5966c26f8ad91",
            "0190163d-8694-739b-aea5-966c26f8ad9",
            "0190163d-8694-739b-aea5-966c26f8ad911",
            "0190163d-8694-739b-aea5_966c26f8ad91",
            "0190163d-8694-739b-aea5-966c26f8ad9g",
            "é190163d-8694-739b-aea5-966c26f8ad9",
        ] {
            assert_eq!(Xid::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn participants() {
        for text in ["7380000000000000001/app", "0/a", "18446744073709551615/a:b/c \"d'é", "1//"] {
            assert_eq!(Participant::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "/a", "1/", "1", "+1/a", "01/a", "-1/a", " 1/a", "18446744073709551616/a", "x/a"] {
            assert_eq!(Participant::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_foreign_gid_is_not_ours() {
        let ours = format!("pgring:main:{XID}:1/app");
        let gid = Gid::parse(&ours, "main").unwrap();
        assert_eq!((gid.xid.to_string().as_str(), gid.decider.to_string().as_str()), (XID, "1/app"));
        assert_eq!(gid.print("main").as_deref(), Some(ours.as_str()));
        // The longest names there are, and any bytes in them.
        for (cluster, decider) in [("", "1/a"), ("a:b", "1/x:y"), ("é", "2/pgring:main:"), (XID, "3/ ")] {
            let name = format!("pgring:{cluster}:{XID}:{decider}");
            assert_eq!(Gid::parse(&name, cluster).unwrap().print(cluster), Some(name));
        }
        let second = format!("pgring:main:{XID}#2:1/app");
        assert_eq!(Gid::parse(&second, "main").map(|gid| gid.part), Some(2));
        assert_eq!(Gid::parse(&second, "main").unwrap().print("main"), Some(second));
        for (name, cluster) in [
            (&*format!("pgring:main:{XID}#0:1/app"), "main"),
            (&format!("pgring:main:{XID}#02:1/app"), "main"),
            (&format!("pgring:main:{XID}#+2:1/app"), "main"),
            (&format!("pgring:main:{XID}#:1/app"), "main"),
            (&format!("pgring:main:{XID}#2/app"), "main"),
            (ours.as_str(), "other"),
            (ours.as_str(), "mai"),
            (ours.as_str(), "main:"),
            (ours.as_str(), ""),
            (&format!("pgring:a:b:{XID}:1/app"), "a"),
            (&format!("pgring:main:{XID}"), "main"),
            (&format!("pgring:main:{XID}:"), "main"),
            (&format!("pgring:main:{XID}:app"), "main"),
            (&format!("pgring:main:{XID}/1/app"), "main"),
            (&format!("PGRING:main:{XID}:1/app"), "main"),
            (&format!("xpgring:main:{XID}:1/app"), "main"),
            (&format!("pgring:main:{}:1/app", XID.to_uppercase()), "main"),
            ("pgring:main:short", "main"),
            ("by hand", "main"),
            ("", "main"),
        ] {
            assert_eq!(Gid::parse(name, cluster), None, "{name} in {cluster}");
        }
    }

    #[test]
    fn a_gid_fits() {
        let gid = Gid {
            xid: Xid::parse(XID).unwrap(),
            part: 0,
            decider: Participant { system: u64::MAX, database: "d".repeat(63) },
        };
        let name = gid.print(&"c".repeat(70)).unwrap();
        assert_eq!(name.len(), Gid::MAX_BYTES);
        assert_eq!(gid.print(&"c".repeat(71)), None);
    }
}
