//! Handshakes in memory, with certificates made on the spot.

use std::io::Write;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};
use tempfile::NamedTempFile;

use super::*;

/// A server's certificate with its key, and what a client would put into `tls_ca`.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: NamedTempFile,
}

impl Identity {
    /// Signed by an authority.
    fn signed(params: CertificateParams) -> Identity {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &authority).unwrap();
        Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            ca: file(&authority.pem()),
        }
    }

    /// Signed by itself, as `openssl req -x509` does.
    fn self_signed(mut params: CertificateParams) -> Identity {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let leaf = params.self_signed(&key).unwrap();
        Identity {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            ca: file(&leaf.pem()),
        }
    }

    fn server(&self, version: &'static SupportedProtocolVersion) -> ServerConnection {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        ServerConnection::new(Arc::new(config)).unwrap()
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn names(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap()
}

/// Lets both sides talk until neither has anything to say.
fn shake_hands(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    let mut bytes = Vec::new();
    while client.wants_write() || server.wants_write() {
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
        bytes.clear();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

/// "ok", or what the client objects to.
fn connect(config: Arc<ClientConfig>, host: &str, mut server: ServerConnection) -> String {
    let mut client = ClientConnection::new(config, ServerName::try_from(host.to_owned()).unwrap()).unwrap();
    match shake_hands(&mut client, &mut server) {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whom_to_trust() {
    let good = Identity::signed(names(&["db.example", "127.0.0.1"]));
    let other = Identity::signed(names(&["db.example"]));
    let lonely = Identity::self_signed(names(&["db.example"]));
    let stale = |params: fn(CertificateParams) -> Identity| {
        let mut stale = names(&["db.example"]);
        stale.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params(stale)
    };
    let (expired, expired_lonely) = (stale(Identity::signed), stale(Identity::self_signed));

    let check = |identity: &Identity, mode: TlsMode, ca: Option<&Identity>, host: &str, expect: &str| {
        let config = client_config(mode, ca.map(|ca| ca.ca.path())).unwrap().unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let found = connect(Arc::clone(&config), host, identity.server(version));
            assert!(
                found.to_lowercase().contains(&expect.to_lowercase()),
                "{mode:?} {host} {version:?}: {found}"
            );
        }
    };
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        check(&good, mode, None, "db.example", "ok");
        check(&good, mode, None, "elsewhere", "ok");
        check(&lonely, mode, None, "db.example", "ok");
        check(&expired, mode, None, "db.example", "ok");
        // With an authority: its certificates, for whatever name.
        check(&good, mode, Some(&good), "elsewhere", "ok");
        check(&lonely, mode, Some(&lonely), "elsewhere", "ok");
        check(&other, mode, Some(&good), "db.example", "invalid peer certificate");
        check(&lonely, mode, Some(&good), "db.example", "invalid peer certificate");
        check(&expired, mode, Some(&expired), "db.example", "expired");
        check(&expired_lonely, mode, Some(&expired_lonely), "db.example", "expired");
    }
    let full = TlsMode::VerifyFull;
    check(&good, full, Some(&good), "db.example", "ok");
    check(&good, full, Some(&good), "DB.example", "ok");
    check(&good, full, Some(&good), "127.0.0.1", "ok");
    check(&lonely, full, Some(&lonely), "db.example", "ok");
    check(&good, full, Some(&good), "127.0.0.2", "not valid for name");
    check(&good, full, Some(&good), "elsewhere", "not valid for name");
    check(&lonely, full, Some(&lonely), "elsewhere", "not valid for name");
    check(&other, full, Some(&good), "db.example", "invalid peer certificate");
    check(&expired, full, Some(&expired), "db.example", "expired");
    check(&good, full, None, "db.example", "UnknownIssuer");
}

/// A server that shows another's certificate cannot sign for it.
#[test]
fn a_borrowed_certificate() {
    let owner = Identity::signed(names(&["db.example"]));
    let thief = Identity::signed(names(&["db.example"]));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let key = rustls::crypto::ring::sign::any_supported_type(&thief.key).unwrap();
        let borrowed = rustls::sign::CertifiedKey::new(owner.chain.clone(), key);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(borrowed)));
        let server = ServerConnection::new(Arc::new(config)).unwrap();
        let client = client_config(TlsMode::Require, None).unwrap().unwrap();
        assert!(connect(client, "db.example", server).contains("BadSignature"));
    }
}

#[test]
fn without_tls() {
    assert!(client_config(TlsMode::Disable, Some(Path::new("/nowhere"))).unwrap().is_none());
}

#[test]
fn files_that_will_not_do() {
    let good = Identity::signed(names(&["db.example"]));
    let check = |path: &Path, expect: fn(&TlsError) -> bool| {
        let error = client_config(TlsMode::VerifyFull, Some(path)).unwrap_err();
        assert!(expect(&error), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    };
    check(Path::new("/nowhere/ca.crt"), |error| matches!(error, TlsError::File { .. }));
    check(file("").path(), |error| matches!(error, TlsError::NoCertificate(_)));
    check(file("hello").path(), |error| matches!(error, TlsError::NoCertificate(_)));
    check(file("-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n").path(), |error| {
        matches!(error, TlsError::File { .. })
    });
    check(file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").path(), |error| {
        matches!(error, TlsError::Unusable { .. })
    });
    assert!(client_config(TlsMode::VerifyFull, Some(good.ca.path())).is_ok());
}

/// The certificate that `openssl x509 -req` makes without extensions, as PostgreSQL's manual
/// does in "Creating Certificates".
#[test]
fn a_version_1_certificate() {
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("v1.key")).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(include_bytes!("v1.crt")).unwrap()];
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let identity = rustls::sign::CertifiedKey::new(chain, key);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity)));
    let server = ServerConnection::new(Arc::new(config)).unwrap();
    let client = client_config(TlsMode::Require, None).unwrap().unwrap();
    assert_eq!(connect(client, "db.example", server), "ok");
}
