//! Encryption and logins, towards clients and towards servers.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its stage has failed")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use pgring::demo::cluster::{Cluster, Installation, SUPERUSER};
use pgring::demo::sample::APP;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

mod support;
use support::{Config, Printed, Proxy, database, eventually, own_servers, psql_with, servers, unique_name};

/// An authority, and what it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Identity {
    certificate: String,
    key: String,
    der: (CertificateDer<'static>, Vec<u8>),
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        // OpenSSL takes a certificate whose issuer is named as its subject for self-signed.
        params.distinguished_name.push(rcgen::DnType::CommonName, unique_name("authority"));
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str) -> Identity {
        self.sign_changed(name, |_| {})
    }

    /// A certificate that was good for the year 2001.
    fn sign_expired(&self, name: &str) -> Identity {
        self.sign_changed(name, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    fn sign_changed(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: (certificate.der().clone(), key.serialize_der()),
        }
    }
}

fn put(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What pgring shows its clients, in a directory.
fn show(directory: &TempDir, identity: &Identity) {
    put(directory.path(), "server.crt", &identity.certificate);
    put(directory.path(), "server.key", &identity.key);
}

/// pgring in front of a shared server, with TLS towards clients.
fn listening(mode: &str, directory: &TempDir) -> (Config, String) {
    let shards = servers(1);
    let name = database(&shards, "");
    let at = |file: &str| format!("{:?}", directory.path().join(file));
    let config = Config::new()
        .database(&name, &shards)
        .set("listen", "tls", &format!("{mode:?}"))
        .set("listen", "tls_certificate", &at("server.crt"))
        .set("listen", "tls_key", &at("server.key"));
    (config, name)
}

fn select_1(proxy: &Proxy, name: &str, host: &str, parameters: &str) -> Printed {
    let port = proxy.address().rsplit(':').next().unwrap().to_owned();
    let dsn = format!("postgres://{}:{}@{host}:{port}/{name}?{parameters}", APP.name, APP.password);
    psql_with(&dsn, &["-q", "-A", "-t", "-c", "SELECT 1"], "")
}

#[test]
fn clients_and_their_modes() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    show(&directory, &authority.sign("localhost"));
    let root = put(directory.path(), "root.crt", &authority.pem());
    let wrong = put(directory.path(), "wrong.crt", &other.pem());
    let (allow, name) = listening("allow", &directory);
    let plain = "sslmode=disable".to_owned();
    let encrypted = "sslmode=require".to_owned();
    let full = format!("sslmode=verify-full&sslrootcert={root}");
    let bound = format!("{full}&channel_binding=require");
    let mut running: Option<(&str, Proxy)> = None;
    let mistrusted = format!("sslmode=verify-full&sslrootcert={wrong}");
    for (mode, host, parameters, expect) in [
        ("allow", "localhost", &plain, Ok(())),
        ("allow", "localhost", &encrypted, Ok(())),
        ("allow", "localhost", &full, Ok(())),
        ("allow", "localhost", &bound, Ok(())),
        ("allow", "127.0.0.1", &full, Err("does not match host name")),
        ("allow", "localhost", &mistrusted, Err("certificate verify failed")),
        ("require", "localhost", &plain, Err("takes only encrypted connections")),
        ("require", "localhost", &encrypted, Ok(())),
        ("require", "localhost", &bound, Ok(())),
        ("disable", "localhost", &plain, Ok(())),
        ("disable", "localhost", &encrypted, Err("server does not support SSL")),
        ("disable", "localhost", &"sslmode=prefer".to_owned(), Ok(())),
    ] {
        if running.as_ref().is_none_or(|(known, _)| *known != mode) {
            drop(running.take());
            running = Some((mode, Proxy::start(allow.clone().set("listen", "tls", &format!("{mode:?}")))));
        }
        let (_, proxy) = running.as_ref().unwrap();
        let printed = select_1(proxy, &name, host, parameters);
        let row = format!("{mode} {host} {parameters}: {}", printed.err);
        match expect {
            Ok(()) => assert!(printed.ok && printed.out == "1\n", "{row}"),
            Err(why) => assert!(!printed.ok && printed.err.contains(why), "{row}"),
        }
    }
}

fn rustls_client(authority: &Authority, alpn: &[&[u8]], identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::try_from(identity.der.1.clone()).unwrap();
            builder.with_client_auth_cert(vec![identity.der.0.clone()], key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

fn socket(proxy: &Proxy) -> TcpStream {
    let socket = TcpStream::connect(proxy.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

/// A start-up message of protocol 3.0.
fn startup(user: &str) -> Vec<u8> {
    let body = [&196_608_u32.to_be_bytes()[..], b"user\0", user.as_bytes(), b"\0\0"].concat();
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The first byte of the answer to a start-up message over TLS; `None`: no answer.
fn asked_over_tls(socket: TcpStream, config: ClientConfig) -> Option<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tls = StreamOwned::new(connection, socket);
    tls.write_all(&startup("app")).ok()?;
    let mut answer = [0; 1];
    tls.read_exact(&mut answer).ok()?;
    Some(answer[0])
}

#[test]
fn tls_from_the_first_byte_needs_the_protocols_name() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    show(&directory, &authority.sign("localhost"));
    let (config, _) = listening("require", &directory);
    let proxy = Proxy::start(config);
    for (alpn, expect) in [
        (&[&b"postgresql"[..]][..], Some(b'R')),
        (&[b"http/1.1", b"postgresql"], Some(b'R')),
        (&[b"http/1.1"], None),
        (&[], None),
    ] {
        assert_eq!(asked_over_tls(socket(&proxy), rustls_client(&authority, alpn, None)), expect, "{alpn:?}");
    }
    // The connection may be closed before the line is written.
    eventually("the log says why", || proxy.log().contains("ALPN"));
}

/// CVE-2021-23214: what somebody in the middle sends ahead of the handshake must not be taken
/// for the client's.
#[test]
fn what_was_sent_before_the_handshake_is_not_taken_as_encrypted() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    show(&directory, &authority.sign("localhost"));
    let (config, name) = listening("allow", &directory);
    let proxy = Proxy::start(config);
    let mut injected = socket(&proxy);
    injected.write_all(&[&SSL_REQUEST[..], &startup("injected")].concat()).unwrap();
    let mut answer = [0; 1];
    injected.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    // The handshake reads the start-up message as a record, which it is not.
    assert_eq!(asked_over_tls(injected, rustls_client(&authority, &[], None)), None);
    assert!(!proxy.log().contains("injected"), "{}", proxy.log());
    let mut honest = socket(&proxy);
    honest.write_all(&SSL_REQUEST).unwrap();
    honest.read_exact(&mut answer).unwrap();
    assert_eq!(asked_over_tls(honest, rustls_client(&authority, &[], None)), Some(b'R'));
    assert!(select_1(&proxy, &name, "localhost", "sslmode=require").ok);
}

/// Under `allow` that is so for those who encrypt.
#[test]
fn clients_need_a_certificate_when_an_authority_is_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    show(&directory, &authority.sign("localhost"));
    let ca = put(directory.path(), "client-ca.crt", &authority.pem());
    let signed = |name: &str, identity: Identity| {
        let certificate = put(directory.path(), &format!("{name}.crt"), &identity.certificate);
        let key = put(directory.path(), &format!("{name}.key"), &identity.key);
        format!("sslmode=require&sslcert={certificate}&sslkey={key}")
    };
    let good = signed("good", authority.sign("client"));
    let strange = signed("strange", other.sign("client"));
    let expired = signed("expired", authority.sign_expired("client"));
    for (mode, rows) in [
        ("require", [(&good, true), (&strange, false), (&expired, false)]),
        ("allow", [(&good, true), (&strange, false), (&expired, false)]),
    ] {
        let (config, name) = listening(mode, &directory);
        let proxy = Proxy::start(config.set("listen", "tls_client_ca", &format!("{ca:?}")));
        for (parameters, expect) in rows {
            let printed = select_1(&proxy, &name, "localhost", parameters);
            assert_eq!(printed.ok, expect, "{mode} {parameters}: {}", printed.err);
        }
        let without = select_1(&proxy, &name, "localhost", "sslmode=require");
        assert!(!without.ok, "{mode}: let in without a certificate");
        let plain = select_1(&proxy, &name, "localhost", "sslmode=disable");
        assert_eq!(plain.ok, mode == "allow", "{mode}: {}", plain.err);
        // OpenSSL's client hears of it after its side of the handshake is over, if it hears of it.
        for why in ["certificate expired", "UnknownIssuer", "peer sent no certificates"] {
            eventually("the log says why", || proxy.log().contains(why));
        }
    }
}

#[test]
fn a_reload_shows_new_clients_a_new_certificate_and_keeps_the_old_clients() {
    let (old, new) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    show(&directory, &old.sign("localhost"));
    let (config, _) = listening("require", &directory);
    let mut proxy = Proxy::start(config);
    let alpn = &[&b"postgresql"[..]][..];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(rustls_client(&old, alpn, None)), name).unwrap();
    let mut connected = StreamOwned::new(connection, socket(&proxy));
    connected.write_all(&startup("app")).unwrap();
    let mut answer = [0; 1];
    connected.read_exact(&mut answer).unwrap();

    show(&directory, &new.sign("localhost"));
    proxy.signal(Signal::SIGHUP);
    eventually("the new certificate is shown", || {
        asked_over_tls(socket(&proxy), rustls_client(&new, alpn, None)) == Some(b'R')
    });
    assert_eq!(asked_over_tls(socket(&proxy), rustls_client(&old, alpn, None)), None);
    connected.read_exact(&mut answer).expect("the old connection goes on");
}

/// Each broken file leaves what was shown before in force, and says which file it is.
#[test]
fn a_broken_certificate_is_reported_and_not_shown() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let good = authority.sign("localhost");
    show(&directory, &good);
    let ca = put(directory.path(), "client-ca.crt", &authority.pem());
    let (config, name) = listening("allow", &directory);
    let mut proxy = Proxy::start(config.set("listen", "tls_client_ca", &format!("{ca:?}")));
    let certificate = put(directory.path(), "client.crt", &good.certificate);
    let key = put(directory.path(), "client.key", &good.key);
    let root = put(directory.path(), "root.crt", &authority.pem());
    let parameters = format!("sslmode=verify-full&sslrootcert={root}&sslcert={certificate}&sslkey={key}");
    let success = |proxy: &Proxy| proxy.metric("pgring_config_reload_success");
    let shown = |proxy: &Proxy| select_1(proxy, &name, "localhost", &parameters);
    assert!(shown(&proxy).ok, "{}", shown(&proxy).err);
    let other = authority.sign("localhost");
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (file, text) in [
        ("server.crt", Some("no certificate")),
        ("server.crt", Some(no_der)),
        ("server.crt", Some(&other.certificate)),
        ("server.crt", Some("")),
        ("server.crt", None),
        ("server.key", Some("no key")),
        ("server.key", Some(&good.certificate)),
        ("server.key", None),
        ("client-ca.crt", Some("no authority")),
        ("client-ca.crt", Some(no_der)),
        ("client-ca.crt", None),
    ] {
        let row = format!("{file} {text:?}");
        let path = directory.path().join(file);
        let before = std::fs::read(&path).unwrap();
        let logged = proxy.log().len();
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        proxy.signal(Signal::SIGHUP);
        eventually(&row, || success(&proxy) == Some(0.0));
        eventually(&row, || {
            let log = proxy.log().split_off(logged);
            log.lines().any(|line| line.contains("configuration not reloaded") && line.contains(file))
        });
        let after = shown(&proxy);
        assert!(after.ok, "{row}: {}\n{}", after.err, proxy.log());
        std::fs::write(&path, before).unwrap();
        proxy.signal(Signal::SIGHUP);
        eventually("it is whole again", || success(&proxy) == Some(1.0));
    }
    assert!(shown(&proxy).ok, "{}", shown(&proxy).err);
}

fn superuser(server: &Cluster, sql: &str) -> String {
    server.psql(SUPERUSER, "postgres", sql).unwrap().trim().to_owned()
}

/// Gives a server a certificate, and TLS.
fn give_tls(server: &Cluster, identity: &Identity) {
    let account = Installation::find().unwrap().account;
    for (name, text) in [("server.crt", &identity.certificate), ("server.key", &identity.key)] {
        account.write(&server.data().join(name), text).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(server.data().join(name), private).unwrap();
    }
    superuser(server, "ALTER SYSTEM SET ssl = on");
}

/// The server's rules for logins, in force.
fn rule(server: &Cluster, rules: &str) {
    rule_first(server, "host all pgring all scram-sha-256\nlocal all pgring scram-sha-256", rules);
}

/// With rules of their own for pgring's role.
fn rule_first(server: &Cluster, control: &str, rules: &str) {
    let account = Installation::find().unwrap().account;
    let own = "host all postgres all scram-sha-256\nlocal all postgres trust";
    let text = format!("{own}\n{control}\n{rules}\n");
    account.write(&server.data().join("pg_hba.conf"), &text).unwrap();
    superuser(server, "SELECT pg_reload_conf()");
    let wanted = "SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL";
    assert_eq!(superuser(server, wanted), "0");
}

fn at(name: &str, host: &str, port: u16, tls: &str) -> Config {
    let shard = format!("tls = {tls}\n");
    watchful(
        Config::new()
            .database_at(name, &[vec![format!("{host}:{port}")]])
            .replace("tls = \"disable\"\n", &shard),
    )
}

fn watchful(config: Config) -> Config {
    config.set("health", "interval", "\"100ms\"").set("health", "failures", "1").set(
        "health",
        "failover_hold",
        "\"0\"",
    )
}

#[test]
fn servers_and_their_modes() {
    let (authority, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let root = put(directory.path(), "root.crt", &authority.pem());
    let wrong = put(directory.path(), "wrong.crt", &other.pem());
    let (mut secure, bare) = {
        let mut two = own_servers(2);
        (two.remove(0), two.remove(0))
    };
    give_tls(&secure, &authority.sign("localhost"));
    secure.stop().unwrap();
    secure.restart().unwrap();
    let names = [database(&[&secure], ""), database(&[&bare], "")];
    let full = format!("\"verify-full\"\ntls_ca = {root:?}");
    let chain = format!("\"require\"\ntls_ca = {root:?}");
    let mistrust = format!("\"verify-full\"\ntls_ca = {wrong:?}");
    for (server, host, tls, expect) in [
        (&secure, "localhost", "\"disable\"", Ok("f")),
        (&secure, "localhost", "\"prefer\"", Ok("t")),
        (&secure, "localhost", "\"require\"", Ok("t")),
        (&secure, "127.0.0.1", &chain, Ok("t")),
        (&secure, "localhost", &full, Ok("t")),
        (&secure, "127.0.0.1", &full, Err("certificate not valid for name")),
        (&secure, "localhost", &mistrust, Err("certificate")),
        // A test's authority is not among the well-known ones.
        (&secure, "localhost", "\"verify-full\"", Err("certificate")),
        (&bare, "localhost", "\"prefer\"", Ok("f")),
        (&bare, "localhost", "\"require\"", Err("does not support TLS")),
        (&bare, "localhost", &full, Err("does not support TLS")),
    ] {
        let name = if std::ptr::eq(server, &secure) { &names[0] } else { &names[1] };
        let row = format!("{} {host} {tls}", if std::ptr::eq(server, &secure) { "TLS" } else { "bare" });
        let proxy = Proxy::start_unready(at(name, host, server.port(), tls));
        let dsn = proxy.dsn(APP, name);
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        match expect {
            Ok(ssl) => {
                eventually("it is ready", || proxy.get("/readyz").0 == 200);
                let printed = psql_with(&dsn, &["-q", "-A", "-t", "-c", sql], "");
                assert_eq!(printed.out.trim(), ssl, "{row}: {}", printed.err);
            }
            Err(why) => {
                eventually("the log says why", || proxy.log().contains(why));
                let printed = psql_with(&dsn, &["-c", sql], "");
                assert!(
                    !printed.ok && printed.err.contains("has no healthy primary"),
                    "{row}: {}",
                    printed.err
                );
                let client = printed.err.replace(&proxy.address().replace(':', "\", port "), "");
                assert!(
                    !client.contains("certificate") && !client.contains(&server.port().to_string()),
                    "{client}"
                );
            }
        }
    }
}

/// Only who trusts nobody in particular takes a certificate that is over.
#[test]
fn servers_whose_certificate_is_over() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let root = put(directory.path(), "root.crt", &authority.pem());
    let mut server = own_servers(1).remove(0);
    let expired = authority.sign_expired("localhost");
    let itself = put(directory.path(), "itself.crt", &expired.certificate);
    give_tls(&server, &expired);
    server.stop().unwrap();
    server.restart().unwrap();
    let name = database(&[&server], "");
    for (tls, expect) in [
        ("\"require\"".to_owned(), true),
        (format!("\"verify-full\"\ntls_ca = {root:?}"), false),
        (format!("\"require\"\ntls_ca = {root:?}"), false),
        (format!("\"prefer\"\ntls_ca = {root:?}"), false),
        (format!("\"verify-full\"\ntls_ca = {itself:?}"), false),
    ] {
        let proxy = Proxy::start_unready(at(&name, "localhost", server.port(), &tls));
        if expect {
            eventually("it is ready", || proxy.get("/readyz").0 == 200);
        } else {
            eventually("the log says why", || {
                let log = proxy.log();
                log.contains("invalid peer certificate") && log.contains("xpired")
            });
        }
        let printed = psql_with(&proxy.dsn(APP, &name), &["-q", "-A", "-t", "-c", "SELECT 1"], "");
        assert_eq!(printed.ok, expect, "{tls}: {}", printed.err);
    }
}

/// Somebody in the middle who cannot end TLS, but adds bytes of their own behind the server's
/// `S` while `stuffs`. Counts what did not begin with an `SSLRequest`.
fn stuffing(server: u16, stuffs: Arc<AtomicBool>, plain: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meet = move |mut near: TcpStream| -> std::io::Result<()> {
        let mut request = [0; 8];
        near.read_exact(&mut request)?;
        if request != SSL_REQUEST {
            plain.fetch_add(1, Ordering::SeqCst);
        }
        let mut far = TcpStream::connect(("127.0.0.1", server))?;
        far.write_all(&request)?;
        let mut answer = vec![0; 1];
        far.read_exact(&mut answer)?;
        if stuffs.load(Ordering::SeqCst) {
            // A login that is over, and a value.
            answer.extend(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x01Z\0\0\0\x05I");
            answer.extend(b"D\0\0\0\x0b\0\x01\0\0\0\x01fC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
        }
        near.write_all(&answer)?;
        let (mut back, mut to) = (far.try_clone()?, near.try_clone()?);
        std::thread::spawn(move || {
            let copied = std::io::copy(&mut back, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
            copied
        });
        let copied = std::io::copy(&mut near, &mut far).map(|_| ());
        let _ = far.shutdown(std::net::Shutdown::Both);
        copied
    };
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let meet = meet.clone();
            // However it ends: pgring may have hung up.
            std::thread::spawn(move || meet(near.unwrap()));
        }
    });
    port
}

/// CVE-2021-23222: what somebody in the middle says right behind the server's `S` must not be
/// taken for the server's, nor be dropped as if nothing had happened.
#[test]
fn what_follows_the_servers_yes_is_not_taken_as_encrypted() {
    let mut server = own_servers(1).remove(0);
    give_tls(&server, &Authority::new().sign("localhost"));
    server.stop().unwrap();
    server.restart().unwrap();
    let name = database(&[&server], "");
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    for tls in ["\"prefer\"", "\"require\""] {
        let (stuffs, plain) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let middle = stuffing(server.port(), Arc::clone(&stuffs), Arc::clone(&plain));
        let config = at(&name, "localhost", middle, tls);
        let proxy = Proxy::start(config.clone());
        let ask = |proxy: &Proxy| psql_with(&proxy.dsn(APP, &name), &["-q", "-A", "-t", "-c", sql], "");
        assert_eq!(ask(&proxy).out.trim(), "t", "{tls}: {}", ask(&proxy).err);
        drop(proxy);
        // The control connection is open already: it is the client's that is met.
        let proxy = Proxy::start(config.clone());
        stuffs.store(true, Ordering::SeqCst);
        let printed = ask(&proxy);
        assert!(!printed.ok && printed.err.contains("cannot be reached"), "{tls}: {}", printed.err);
        eventually("the log says why", || proxy.log().contains("received corrupt message"));
        drop(proxy);
        // pgring's own connections.
        let proxy = Proxy::start_unready(config);
        eventually("the log says why", || proxy.log().contains("received corrupt message"));
        assert_ne!(proxy.get("/readyz").0, 200);
        drop(proxy);
        assert_eq!(plain.load(Ordering::SeqCst), 0, "{tls}: nothing is tried without encryption");
    }
}

#[test]
fn servers_and_their_ways_to_log_in() {
    let authority = Authority::new();
    let mut server = own_servers(1).remove(0);
    give_tls(&server, &authority.sign("localhost"));
    server.stop().unwrap();
    server.restart().unwrap();
    let name = database(&[&server], "");
    superuser(&server, "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'old'");
    let old = "[[user]]\nname = \"old\"\npassword = \"old\"\n";
    let other = "[[user]]\nname = \"app2\"\npassword = \"app\"\nserver_password = \"mistyped\"\n";
    superuser(&server, "CREATE ROLE app2 LOGIN PASSWORD 'app'");
    for (method, user, expect) in [
        ("trust", "app", Ok("f")),
        ("password", "app", Ok("f")),
        ("md5", "old", Ok("f")),
        ("md5", "app", Ok("f")),
        ("scram-sha-256", "app", Ok("f")),
        ("scram-sha-256", "app2", Err("refused the login of user \"app2\"")),
        ("reject", "app", Err("refused the login of user \"app\"")),
    ] {
        rule(&server, &format!("host all all all {method}\nlocal all all {method}"));
        for unix in [false, true] {
            let host =
                if unix { format!("unix:{}", server.data().display()) } else { "127.0.0.1".to_owned() };
            let proxy =
                Proxy::start(at(&name, &host, server.port(), "\"disable\"").append(old).append(other));
            let password = if user == "old" { "old" } else { "app" };
            let dsn = proxy.dsn(pgring::demo::cluster::Login { name: user, password }, &name);
            let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let printed = psql_with(&dsn, &["-q", "-A", "-t", "-c", sql], "");
            let row = format!("{method} {user} {host}");
            match expect {
                Ok(ssl) => assert_eq!(printed.out.trim(), ssl, "{row}: {}\n{}", printed.err, proxy.log()),
                Err(why) => {
                    assert!(!printed.ok && printed.err.contains(why), "{row}: {}", printed.err);
                    eventually(&row, || proxy.log().contains("refused the login"));
                    assert!(!proxy.log().contains("mistyped"), "{}", proxy.log());
                }
            }
        }
    }
}

/// Somebody in the middle, who ends TLS and has a certificate of their own: where to connect to.
async fn in_the_middle(identity: &Identity, server: u16) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(identity.der.1.clone()).unwrap();
    let towards_pgring = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.der.0.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(towards_pgring));
    let mode = pgring::config::TlsMode::Require;
    let towards_server = pgring::backend::tls::client_config(mode, None).unwrap().unwrap();
    let connector = tokio_rustls::TlsConnector::from(towards_server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                near.read_exact(&mut [0; 8]).await?;
                near.write_all(b"S").await?;
                let mut near = acceptor.accept(near).await?;
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", server)).await?;
                far.write_all(&SSL_REQUEST).await?;
                far.read_exact(&mut [0; 1]).await?;
                let mut far = connector.connect(ServerName::try_from("localhost").unwrap(), far).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    port
}

/// A server cannot be asked whether the channel was bound, but it refuses one that was bound to
/// somebody else's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn the_channel_to_a_server_is_bound() {
    let authority = Authority::new();
    let mut server = own_servers(1).remove(0);
    give_tls(&server, &authority.sign("localhost"));
    server.stop().unwrap();
    server.restart().unwrap();
    let name = database(&[&server], "");
    // pgring's own connections as well as clients'.
    rule(&server, "hostssl all all all scram-sha-256");
    let log = || std::fs::read_to_string(server.log()).unwrap();

    let proxy = Proxy::start(at(&name, "localhost", server.port(), "\"require\""));
    let ask = || psql_with(&proxy.dsn(APP, &name), &["-q", "-A", "-t", "-c", "SELECT 1"], "");
    assert_eq!(ask().out.trim(), "1", "{}", ask().err);
    assert!(!log().contains("channel binding"));

    let middle = in_the_middle(&authority.sign("localhost"), server.port()).await;
    let refused = || log().matches("SCRAM channel binding check failed").count();
    let proxy = Proxy::start_unready(at(&name, "localhost", middle, "\"require\""));
    eventually("a probe is noticed", || refused() > 0);
    drop(proxy);

    rule_first(&server, "hostssl all pgring all trust", "hostssl all all all scram-sha-256");
    let proxy = Proxy::start(at(&name, "localhost", middle, "\"require\""));
    let before = refused();
    let printed = psql_with(&proxy.dsn(APP, &name), &["-c", "SELECT 1"], "");
    assert!(!printed.ok && printed.err.contains("refused the login of user \"app\""), "{}", printed.err);
    assert!(refused() > before, "a client's server connection is noticed");
}
