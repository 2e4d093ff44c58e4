//! Durations, sizes, addresses and password forms as they are written in a file.
//!
//! Each function takes the text and says what is wrong with it and what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::settings::{Endpoint, FunctionName, ListenAddress};

/// The port of PostgreSQL, where an endpoint names none.
const POSTGRESQL_PORT: u16 = 5432;
/// The port of Patroni's REST interface.
const PATRONI_PORT: u16 = 8008;
/// The port of pgring, where a socket directory stands without a TCP address.
const PGRING_PORT: u16 = 6432;
/// The longest path of a Unix socket that every system takes (`sun_path`, with its NUL).
const LONGEST_SOCKET_PATH: usize = 103;

/// What is wrong with a text, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) remedy: String,
}

pub(super) fn wrong(message: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), remedy: remedy.into() }
}

/// `"5s"`, `"200ms"`; `"0"` needs no unit.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const REMEDY: &str = "write a whole number and ms, s, m, h or d, such as \"5s\" or \"200ms\"";
    let (number, unit) =
        number_and_unit(text).ok_or_else(|| wrong(format!("\"{text}\" is not a duration"), REMEDY))?;
    let milliseconds: u64 = match unit {
        "" if number == 0 => 1,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => {
            return Err(wrong(format!("\"{text}\" has no unit"), format!("write \"{number}s\" for seconds")));
        }
        _ => return Err(wrong(format!("\"{unit}\" is not a unit of time"), REMEDY)),
    };
    let limit = Duration::from_secs(365 * 86_400);
    match number.checked_mul(milliseconds).map(Duration::from_millis) {
        Some(duration) if duration <= limit => Ok(duration),
        _ => Err(wrong("must be at most 365d", "set it to a shorter time")),
    }
}

/// `"64MiB"`.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    const REMEDY: &str = "write a whole number and B, KiB, MiB, GiB or TiB, such as \"64MiB\"";
    let (number, unit) =
        number_and_unit(text).ok_or_else(|| wrong(format!("\"{text}\" is not a size"), REMEDY))?;
    let shift = match unit {
        "" if number == 0 => 0,
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "" => return Err(wrong(format!("\"{text}\" has no unit"), format!("write \"{number}B\" for bytes"))),
        "k" | "K" | "kB" | "KB" | "M" | "MB" | "G" | "GB" | "T" | "TB" => {
            let binary = format!("{number}{}iB", unit[..1].to_uppercase());
            return Err(wrong(
                format!("\"{unit}\" may mean thousands or powers of 1024"),
                format!("write \"{binary}\""),
            ));
        }
        _ => return Err(wrong(format!("\"{unit}\" is not a unit of size"), REMEDY)),
    };
    number
        .checked_mul(1_u64 << shift)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| wrong("is more than any machine has", "set it to a smaller size"))
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// `"127.0.0.1:6432"`, `"[::]:6432"`: an address of this machine.
/// The advice names `default_port`.
pub(super) fn socket_address(text: &str, default_port: u16) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default_port);
    Err(match text.parse::<IpAddr>() {
        Ok(ip) => {
            let example = SocketAddr::new(ip, default_port);
            wrong(format!("\"{text}\" has no port"), format!("write \"{example}\""))
        }
        Err(_) if text.starts_with("localhost") => {
            wrong(format!("\"{text}\" is not an IP address and port"), format!("write \"127.0.0.1:{port}\""))
        }
        Err(_) if text.starts_with('*') || text.starts_with(':') => wrong(
            format!("\"{text}\" is not an IP address and port"),
            format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\""),
        ),
        Err(_) => wrong(
            format!("\"{text}\" is not an IP address and port"),
            format!("write one such as \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        ),
    })
}

/// Where to listen: as [`socket_address`], or `"unix:DIRECTORY"` with an optional `:PORT`.
/// A directory without a port takes `default_port`.
pub(super) fn listen_address(
    text: &str,
    base: &Path,
    default_port: Option<u16>,
) -> Result<ListenAddress, Wrong> {
    match text.strip_prefix("unix:") {
        Some(rest) => {
            let (dir, port) = socket_directory(rest, base, default_port.unwrap_or(PGRING_PORT))?;
            Ok(ListenAddress::Unix { dir, port })
        }
        None if text.starts_with('/') => Err(wrong(
            format!("\"{text}\" is not an address"),
            format!("write \"unix:{text}\" for a socket directory"),
        )),
        None => socket_address(text, PGRING_PORT).map(ListenAddress::Tcp),
    }
}

/// A PostgreSQL server: `"host:5432"`, `"10.0.0.1:5432"`, `"[::1]:5432"`,
/// `"unix:/run/postgresql:5432"`; 5432 may be left out.
pub(super) fn endpoint(text: &str, base: &Path) -> Result<Endpoint, Wrong> {
    const REMEDY: &str = "write one such as \"10.0.0.1:5432\", \"db1:5432\" or \"unix:/run/postgresql:5432\"";
    if let Some(rest) = text.strip_prefix("unix:") {
        let (dir, port) = socket_directory(rest, base, POSTGRESQL_PORT)?;
        return Ok(Endpoint::Unix { dir, port });
    }
    if text.starts_with('/') {
        return Err(wrong(
            format!("\"{text}\" is not an address"),
            format!("write \"unix:{text}\" for a socket directory"),
        ));
    }
    if let Ok(IpAddr::V6(ip)) = text.parse() {
        return Err(wrong(
            format!("\"{text}\" may or may not end with a port"),
            format!("write \"[{ip}]:{POSTGRESQL_PORT}\" if all of it is the address"),
        ));
    }
    let not_an_address = || wrong(format!("\"{text}\" is not an address"), REMEDY);
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(not_an_address)?;
            if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                return Err(wrong(format!("\"{host}\" is not an IPv6 address"), REMEDY));
            }
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or_else(not_an_address)?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(POSTGRESQL_PORT), self::port)?;
    let bracketed = text.starts_with('[');
    let named = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    if !bracketed && (host.is_empty() || host.len() > 253 || !host.chars().all(named)) {
        return Err(not_an_address());
    }
    Ok(Endpoint::Tcp { host: host.to_ascii_lowercase(), port })
}

/// A member of Patroni by its REST interface: `"http://10.0.0.1:8008"`; 8008 may be left out.
pub(super) fn patroni(text: &str) -> Result<Endpoint, Wrong> {
    const REMEDY: &str = "write one such as \"http://10.0.0.1:8008\"";
    if text.starts_with("https://") {
        // What is heard is only a reason to look; a server behind TLS is looked at all the same.
        return Err(wrong(
            "Patroni is asked without TLS only",
            "leave it out: probes find a new primary too",
        ));
    }
    let address = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    let address = address.ok_or_else(|| wrong(format!("\"{text}\" is not an address of HTTP"), REMEDY))?;
    let unusable = || wrong(format!("\"{text}\" is not the address of a Patroni"), REMEDY);
    match endpoint(address, Path::new("")) {
        Ok(Endpoint::Tcp { host, port }) => {
            let named =
                address.strip_prefix('[').map_or(address, |rest| rest.split_once(']').map_or("", |at| at.1));
            Ok(Endpoint::Tcp { host, port: if named.contains(':') { port } else { PATRONI_PORT } })
        }
        Ok(Endpoint::Unix { .. }) | Err(_) => Err(unusable()),
    }
}

fn port(text: &str) -> Result<u16, Wrong> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => {
            Err(wrong(format!("\"{text}\" is not a port"), "write a number from 1 to 65535 after the colon"))
        }
    }
}

fn socket_directory(text: &str, base: &Path, default_port: u16) -> Result<(PathBuf, u16), Wrong> {
    let (dir, port) = match text.rsplit_once(':') {
        Some((dir, port)) => (dir, self::port(port)?),
        None => (text, default_port),
    };
    if dir.is_empty() {
        return Err(wrong("names no directory", "write one such as \"unix:/run/postgresql\""));
    }
    let dir = base.join(dir);
    let longest = LONGEST_SOCKET_PATH - "/.s.PGSQL.65535".len();
    if dir.as_os_str().len() > longest {
        return Err(wrong(
            format!("the path of a socket directory must be at most {longest} bytes long"),
            "choose a shorter one",
        ));
    }
    Ok((dir, port))
}

/// `"schema.function"`: each a name that needs no quotes, so that there is one way to read it.
pub(super) fn function_name(text: &str) -> Result<FunctionName, Wrong> {
    const REMEDY: &str = "write one such as \"pgring.user_lookup\": a schema and a function, each of letters \
                          in lower case, digits and \"_\"";
    let plain = |name: &str| {
        let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_');
        let goes_on = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        begins && name.len() <= 63 && name.bytes().all(goes_on)
    };
    match text.split_once('.') {
        Some((schema, name)) if plain(schema) && plain(name) => {
            Ok(FunctionName { schema: schema.to_owned(), name: name.to_owned() })
        }
        Some(_) => Err(wrong(format!("\"{text}\" is not the name of a function"), REMEDY)),
        None => Err(wrong(format!("\"{text}\" does not name its schema"), REMEDY)),
    }
}

/// How a user's password is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PasswordForm {
    Plain,
    /// From which the password cannot be had back.
    Hash,
}

/// Tells a hash from a plain password; what begins like a hash must be one, because as a
/// plain password it could only be a mistake in copying.
pub(super) fn password_form(text: &str) -> Result<PasswordForm, Wrong> {
    if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
        return match scram_verifier(rest) {
            Some(()) => Ok(PasswordForm::Hash),
            None => Err(wrong(
                "begins like a SCRAM verifier and is none",
                "copy rolpassword from pg_authid whole: \"SCRAM-SHA-256$4096:salt$stored:server\"",
            )),
        };
    }
    match text.strip_prefix("md5") {
        Some(digits) if digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(PasswordForm::Hash)
        }
        _ => Ok(PasswordForm::Plain),
    }
}

fn scram_verifier(text: &str) -> Option<()> {
    let (iterations_and_salt, keys) = text.split_once('$')?;
    let (iterations, salt) = iterations_and_salt.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let decoded = |text: &str| BASE64.decode(text).ok();
    let good = iterations.parse::<u32>().ok()? > 0
        && !decoded(salt)?.is_empty()
        && decoded(stored)?.len() == 32
        && decoded(server)?.len() == 32;
    good.then_some(())
}

/// A name that goes into gids, labels, hints and the names of virtual nodes.
pub(super) fn plain_name(text: &str) -> Result<(), Wrong> {
    catalog_name(text)?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    match text.chars().find(|letter| !allowed(*letter)) {
        Some(letter) => Err(wrong(
            format!("must not contain {letter:?}"),
            "use letters of ASCII, digits, \"_\", \"-\" and \".\" only",
        )),
        None => Ok(()),
    }
}

/// A name that PostgreSQL takes for a role, a database or a column.
pub(super) fn catalog_name(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        Err(wrong("must not be empty", "give it a name"))
    } else if text.len() > 63 {
        Err(wrong("must be at most 63 bytes long, as names in PostgreSQL are", "shorten it"))
    } else if text.contains('\0') {
        Err(wrong("must not contain a NUL", "remove it"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000),
            ("200ms", 200),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("5 s", 5_000),
            ("365d", 365 * 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "-5s",
            "5x",
            "1.5s",
            "5S",
            "5min",
            "366d",
            "99999999999999999999s",
            "18446744073709551615h",
            "5s5s",
            "٣s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("5").unwrap_err().remedy.contains("\"5s\""));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1B", 1),
            ("2KiB", 2048),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("3TiB", 3 << 40),
            ("1 MiB", 1 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64", "64MB", "64mib", "MiB", "-1MiB", "1.5GiB", "9999999999TiB", "8388608TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("64MB").unwrap_err().remedy, "write \"64MiB\"");
    }

    #[test]
    fn patronis() {
        for (text, expect) in [
            ("http://10.0.0.1:8008", Some("10.0.0.1:8008")),
            ("http://db1", Some("db1:8008")),
            ("http://db1:80/", Some("db1:80")),
            ("http://[::1]", Some("[::1]:8008")),
            ("http://[::1]:9", Some("[::1]:9")),
            ("https://db1:8008", None),
            ("db1:8008", None),
            ("http://", None),
            ("http://db1:8008/cluster", None),
            ("http://unix:/run", None),
        ] {
            assert_eq!(patroni(text).ok().map(|at| at.to_string()).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn endpoints() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.to_owned(), port };
        let unix = |dir: &str, port| Endpoint::Unix { dir: PathBuf::from(dir), port };
        for (text, expected, shown) in [
            ("127.0.0.1:5601", tcp("127.0.0.1", 5601), "127.0.0.1:5601"),
            ("db1.example.org", tcp("db1.example.org", 5432), "db1.example.org:5432"),
            ("DB_1:5433", tcp("db_1", 5433), "db_1:5433"),
            ("[::1]:5432", tcp("::1", 5432), "[::1]:5432"),
            ("[FE80::1]", tcp("fe80::1", 5432), "[fe80::1]:5432"),
            ("unix:/run/postgresql", unix("/run/postgresql", 5432), "unix:/run/postgresql:5432"),
            ("unix:/run/postgresql:5433", unix("/run/postgresql", 5433), "unix:/run/postgresql:5433"),
            ("unix:sockets", unix("/etc/pgring/sockets", 5432), "unix:/etc/pgring/sockets:5432"),
        ] {
            let endpoint = endpoint(text, Path::new("/etc/pgring"));
            assert_eq!(endpoint.as_ref(), Ok(&expected), "{text}");
            assert_eq!(expected.to_string(), shown);
        }
        let long = format!("unix:/{}", "d".repeat(100));
        for text in [
            "",
            ":5432",
            "db1:",
            "db1:0",
            "db1:65536",
            "db1:+5",
            "db1:port",
            "a b:5432",
            "::1",
            "::1:5432",
            "[::1",
            "[::1]5432",
            "[db1]:5432",
            "[]:1",
            "/run/postgresql",
            "unix:",
            "unix::5432",
            "postgres://db1",
            "db1:5432/x",
            &long,
        ] {
            assert!(endpoint(text, Path::new("/")).is_err(), "{text}");
        }
        assert_eq!(
            unix("/run/postgresql", 5433).socket_file(),
            Some(PathBuf::from("/run/postgresql/.s.PGSQL.5433"))
        );
    }

    #[test]
    fn listen_addresses() {
        let base = Path::new("/etc/pgring");
        for (text, shown) in [
            ("127.0.0.1:6432", "127.0.0.1:6432"),
            ("[::]:6432", "[::]:6432"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("unix:/run/pgring", "unix:/run/pgring:7000"),
            ("unix:run:6433", "unix:/etc/pgring/run:6433"),
        ] {
            assert_eq!(listen_address(text, base, Some(7000)).unwrap().to_string(), shown, "{text}");
        }
        assert_eq!(listen_address("unix:/x", base, None).unwrap().to_string(), "unix:/x:6432");
        for (text, remedy) in [
            ("localhost:6432", "127.0.0.1:6432"),
            ("*:6432", "0.0.0.0:6432"),
            (":7000", "[::]:7000"),
            ("127.0.0.1", "127.0.0.1:6432"),
            ("::1", "[::1]:6432"),
            ("example.org:6432", "127.0.0.1:6432"),
            ("/run/pgring", "unix:/run/pgring"),
            ("127.0.0.1:70000", "127.0.0.1:6432"),
        ] {
            let wrong = listen_address(text, base, None).unwrap_err();
            assert!(wrong.remedy.contains(&format!("\"{remedy}\"")), "{text}: {}", wrong.remedy);
        }
    }

    #[test]
    fn passwords() {
        let key = BASE64.encode([7; 32]);
        let verifier = format!("SCRAM-SHA-256$4096:{}${key}:{key}", BASE64.encode([1; 16]));
        for (text, form) in [
            ("secret", PasswordForm::Plain),
            ("md5", PasswordForm::Plain),
            ("md5 is what I like to write", PasswordForm::Plain),
            ("md50123456789abcdef0123456789ABCDEF", PasswordForm::Hash),
            (verifier.as_str(), PasswordForm::Hash),
        ] {
            assert_eq!(password_form(text), Ok(form), "{text}");
        }
        for text in [
            "SCRAM-SHA-256$".to_owned(),
            "SCRAM-SHA-256$4096:c2FsdA==".to_owned(),
            verifier[..verifier.len() - 1].to_owned(),
            verifier.replace("4096", "0"),
            verifier.replace("4096", "many"),
            format!("{verifier}x"),
        ] {
            assert!(password_form(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for good in ["pgring", "s1", "eu-west_1.a"] {
            assert_eq!(plain_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(64);
        for bad in ["", "a b", "s#1", "a:b", "größe", &long] {
            assert!(plain_name(bad).is_err(), "{bad}");
        }
        assert_eq!(catalog_name("größe des Kunden"), Ok(()));
        for bad in ["", "a\0b", &long] {
            assert!(catalog_name(bad).is_err(), "{bad}");
        }
    }
}
