//! TLS towards clients.
//!
//! A client that opens with TLS at once, without an `SSLRequest`, has to name the protocol in
//! ALPN ([`ALPN`](crate::backend::tls::ALPN)), as PostgreSQL 17 wants it: the handshake here
//! refuses other protocols, and whoever called for it sees whether one was named.
//!
//! There is no resumption: PostgreSQL has none either, and tickets would cost every client memory.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use x509_parser::time::ASN1Time;

use crate::auth::{ChannelBinding, tls_server_end_point};
use crate::backend::tls::{ALPN, TlsError, authorities, certificates, provider};

/// How pgring presents itself to clients.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// For every handshake.
    pub config: Arc<ServerConfig>,
    /// What SCRAM is bound to in the sessions that follow.
    pub binding: ChannelBinding,
}

/// From PEM files. With `client_ca`, a client that has no certificate of these authorities is
/// turned away in the handshake.
pub fn server_config(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<ServerTls, TlsError> {
    let chain = certificates(certificate)?;
    let binding =
        chain.first().and_then(|leaf| tls_server_end_point(leaf).ok()).unwrap_or(ChannelBinding::None);
    if let Some(complaint) = chain.first().and_then(|leaf| out_of_date(leaf, ASN1Time::now())) {
        tracing::warn!("{}: {complaint}: clients that check it turn away", certificate.display());
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|source| TlsError::File { path: key.to_owned(), source })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider())
                    .build()
                    .map_err(|source| TlsError::Authorities { path: path.to_owned(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Unusable { path: certificate.to_owned(), source })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(ServerTls { config: Arc::new(config), binding })
}

/// What is wrong with the time at which a certificate is shown.
fn out_of_date(leaf: &[u8], now: ASN1Time) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let validity = parsed.validity();
    if validity.not_after < now {
        Some(format!("the certificate has expired ({})", validity.not_after))
    } else if validity.not_before > now {
        Some(format!("the certificate is not valid yet ({})", validity.not_before))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};
    use tempfile::NamedTempFile;

    use super::*;
    use crate::backend::tls::client_config;
    use crate::config::TlsMode;

    struct Files {
        certificate: NamedTempFile,
        key: NamedTempFile,
    }

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn files(algorithm: &'static rcgen::SignatureAlgorithm) -> Files {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Files { certificate: file(&certificate.pem()), key: file(&key.serialize_pem()) }
    }

    fn load(files: &Files, client_ca: Option<&Path>) -> Result<ServerTls, TlsError> {
        server_config(files.certificate.path(), files.key.path(), client_ca)
    }

    /// Both ends after their handshake, or what the server objects to.
    fn connect(
        tls: &ServerTls,
        alpn: &[&[u8]],
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let config = client_config(TlsMode::Require, None).unwrap().unwrap();
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut client =
            ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&tls.config)).unwrap();
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
        Ok((client, server))
    }

    /// What the client binds to.
    fn seen(client: &ClientConnection) -> ChannelBinding {
        tls_server_end_point(&client.peer_certificates().unwrap()[0]).unwrap()
    }

    #[test]
    fn both_ends_bind_to_the_same_certificate() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let tls = load(&files(algorithm), None).unwrap();
            let (client, _) = connect(&tls, &[ALPN]).unwrap();
            assert_eq!(seen(&client), tls.binding);
            assert!(matches!(tls.binding, ChannelBinding::TlsServerEndPoint(_)));
        }
        let tls = load(&files(&rcgen::PKCS_ED25519), None).unwrap();
        let (client, _) = connect(&tls, &[ALPN]).unwrap();
        assert_eq!((seen(&client), tls.binding), (ChannelBinding::None, ChannelBinding::None));
    }

    #[test]
    fn application_protocols() {
        let tls = load(&files(&rcgen::PKCS_ECDSA_P256_SHA256), None).unwrap();
        let named = |alpn: &[&[u8]]| {
            connect(&tls, alpn).map(|(_, server)| server.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(named(&[ALPN]), Ok(Some(ALPN.to_vec())));
        assert_eq!(named(&[b"h2", ALPN]), Ok(Some(ALPN.to_vec())));
        assert_eq!(named(&[]), Ok(None));
        assert_eq!(named(&[b"h2"]), Err(rustls::Error::NoApplicationProtocol));
    }

    #[test]
    fn a_client_authority_turns_strangers_away() {
        let files = files(&rcgen::PKCS_ECDSA_P256_SHA256);
        let tls = load(&files, Some(files.certificate.path())).unwrap();
        assert!(matches!(connect(&tls, &[ALPN]), Err(rustls::Error::NoCertificatesPresented)));
    }

    #[test]
    fn files_that_will_not_do() {
        let good = files(&rcgen::PKCS_ECDSA_P256_SHA256);
        let other = files(&rcgen::PKCS_ECDSA_P256_SHA256);
        let check = |certificate: &Path,
                     key: &Path,
                     ca: Option<&Path>,
                     names: &Path,
                     expect: fn(&TlsError) -> bool| {
            let error = server_config(certificate, key, ca).unwrap_err();
            assert!(expect(&error), "{error}");
            assert!(error.to_string().contains(&names.display().to_string()), "{error}");
        };
        let (certificate, key) = (good.certificate.path(), good.key.path());
        let nowhere = Path::new("/nowhere/x.pem");
        check(nowhere, key, None, nowhere, |error| matches!(error, TlsError::File { .. }));
        check(certificate, nowhere, None, nowhere, |error| matches!(error, TlsError::File { .. }));
        check(certificate, key, Some(nowhere), nowhere, |error| matches!(error, TlsError::File { .. }));
        check(key, key, None, key, |error| matches!(error, TlsError::NoCertificate(_)));
        check(certificate, certificate, None, certificate, |error| matches!(error, TlsError::File { .. }));
        check(certificate, other.key.path(), None, certificate, |error| {
            matches!(error, TlsError::Unusable { .. })
        });
    }
}
