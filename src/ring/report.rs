//! What `pgring ring` prints: plain text, made from topologies alone.

use std::fmt::Write as _;

use super::{Key, Topology};

/// Each shard's weight of the ring, a line a shard.
pub fn describe_ring(database: &str, topology: &Topology) -> String {
    let count = topology.len();
    let mut text = format!(
        "database {database}: {count} {}, {} virtual nodes\n",
        if count == 1 { "shard" } else { "shards" },
        topology.ring.node_count()
    );
    let width = topology.shards.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for ((id, name), share) in topology.ids().zip(&topology.shards).zip(topology.ring.shares()) {
        let home = if id == topology.home { "  home" } else { "" };
        line(&mut text, format_args!("  {name:width$}  {:6.2} % of the keys{home}", share * 100.0));
    }
    text
}

/// Where a key lives. What is typed on a command line has no type, and an integer, a text and
/// a uuid that look alike hash differently, so every reading that is possible gets a line.
pub fn describe_key(database: &str, topology: &Topology, key: &str) -> String {
    let mut text = format!("database {database}: key {key}\n");
    let readings = [
        ("integer", key.trim().parse().ok().map(Key::Integer)),
        ("uuid", parse_uuid(key.trim()).map(Key::Uuid)),
        ("text", Some(Key::Text(key.as_bytes()))),
    ];
    for (kind, key) in readings {
        if let Some(hash) = key.map(|key| key.hash()) {
            let owner = topology.name(topology.owner(hash));
            line(&mut text, format_args!("  as {kind:7}  {owner}  (hash {:016x})", hash.0));
        }
    }
    text
}

/// What would move if `new` took the place of `old`.
pub fn describe_moves(database: &str, old: &Topology, new: &Topology) -> String {
    let moves = old.ring.moves_to(&new.ring);
    let (old_home, new_home) = (old.name(old.home), new.name(new.home));
    let mut text = if moves.is_empty() {
        format!("database {database}: no key would move\n")
    } else {
        let total: f64 = moves.iter().map(|moved| moved.share).sum();
        format!("database {database}: {:.2} % of the keys would move\n", total * 100.0)
    };
    for moved in &moves {
        line(&mut text, format_args!("  {} -> {}  {:6.2} %", moved.from, moved.to, moved.share * 100.0));
    }
    if old_home != new_home {
        line(
            &mut text,
            format_args!("  {old_home} -> {new_home}  every table that is not sharded (home changes)"),
        );
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes whatever is written to it");
}

/// The forms PostgreSQL reads: upper or lower case, in braces or not, hyphens after any group
/// of four digits or none.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut digits = Vec::with_capacity(32);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'-' if digits.len() % 4 == 0
                && !digits.is_empty()
                && digits.len() < 32
                && text.as_bytes()[index - 1] != b'-' => {}
            _ => digits.push(u8::try_from(char::from(byte).to_digit(16)?).ok()?),
        }
    }
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::ShardId;

    fn topology(names: &[&str], home: u16) -> Topology {
        let shards: Vec<(String, u32)> = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        Topology::new(&shards, 1024, ShardId(home))
    }

    #[test]
    fn shares() {
        let text = describe_ring("novacron", &topology(&["s1", "s2", "berlin"], 2));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "database novacron: 3 shards, 3072 virtual nodes");
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with("  s1       3"), "{text}");
        assert!(lines[3].starts_with("  berlin   3") && lines[3].ends_with("% of the keys  home"), "{text}");
        assert_eq!(
            describe_ring("d", &topology(&["s1"], 0)),
            "database d: 1 shard, 1024 virtual nodes\n  s1  100.00 % of the keys  home\n"
        );
    }

    #[test]
    fn a_key_is_read_in_every_possible_way() {
        let topology = topology(&["s1", "s2", "s3"], 0);
        let kinds = |key| -> Vec<String> {
            let text = describe_key("d", &topology, key);
            text.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(kinds("42"), ["integer", "text"]);
        assert_eq!(kinds("-42"), ["integer", "text"]);
        assert_eq!(kinds("9223372036854775808"), ["text"]);
        assert_eq!(kinds("alice"), ["text"]);
        assert_eq!(kinds("9C0bf2de-9c0b-42de-8c0b-42de9c0b42de"), ["uuid", "text"]);
        assert_eq!(kinds(""), ["text"]);
        assert!(describe_key("d", &topology, "42").contains("(hash "));
    }

    #[test]
    fn uuids_as_postgresql_reads_them() {
        let value =
            [0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11];
        for good in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(parse_uuid(good), Some(value), "{good}");
        }
        for bad in [
            "",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a111",
            "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "a0ee--bc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn moves() {
        let old = topology(&["s1", "s2"], 0);
        assert_eq!(describe_moves("d", &old, &old), "database d: no key would move\n");
        let text = describe_moves("d", &old, &topology(&["s1", "s2", "s3"], 2));
        assert!(text.contains("s1 -> s3") && text.contains("s2 -> s3"), "{text}");
        assert!(!text.contains("s1 -> s2") && !text.contains("s2 -> s1"), "{text}");
        assert!(text.ends_with("s1 -> s3  every table that is not sharded (home changes)\n"), "{text}");
    }
}
