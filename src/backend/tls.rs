//! TLS towards servers, in libpq's terms.
//!
//! | mode | certificate |
//! |---|---|
//! | `prefer`, `require` | any; with `tls_ca`, one that leads to it (libpq's `verify-ca`) |
//! | `verify-full` | leads to `tls_ca`, or else to a well-known authority, and names the host |
//!
//! Whoever the server may be, it always has to prove that it holds its certificate's key:
//! without that a channel binding would bind to nothing.
//!
//! A name is looked for among the certificate's subject alternative names; the subject's common
//! name, which libpq falls back to, counts for nothing. A certificate that itself stands in
//! `tls_ca` is trusted as it is, though it calls itself an authority: that is what
//! `openssl req -x509` makes, and what many servers have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{ASN1Time, FromDer};

use crate::config::TlsMode;

/// What PostgreSQL's protocol is called in ALPN.
pub const ALPN: &[u8] = b"postgresql";

/// Why TLS cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is not PEM.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// PEM without a certificate in it.
    #[error("{}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// Certificates or a key that rustls cannot use.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A set of trusted authorities that cannot verify anybody.
    #[error("{}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::server::VerifierBuilderError,
    },
    /// rustls does not accept the combination of ciphers and versions.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// How to connect to the servers of a shard; `None` is without TLS. Whether a server that has no
/// TLS will do (`prefer`) is for the caller to say.
pub fn client_config(mode: TlsMode, ca: Option<&Path>) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let trust = match (mode, ca) {
        (TlsMode::Disable, _) => return Ok(None),
        (TlsMode::Prefer | TlsMode::Require, None) => Trust::Anyone,
        (TlsMode::Prefer | TlsMode::Require, Some(ca)) => Trust::Chain(Authorities::read(ca)?),
        (TlsMode::VerifyFull, Some(ca)) => Trust::ChainAndName(Authorities::read(ca)?),
        (TlsMode::VerifyFull, None) => Trust::ChainAndName(Authorities::well_known()),
    };
    let provider = provider();
    let verifier = Verifier { trust, algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Some(Arc::new(config)))
}

/// The cryptography of every TLS session, either side. Passed on explicitly: a default for the
/// whole process would be a global.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Every certificate of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::File { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

/// The certificates of a PEM file, as authorities.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    Ok(Authorities::read(path)?.roots)
}

#[derive(Debug)]
enum Trust {
    Anyone,
    Chain(Authorities),
    ChainAndName(Authorities),
}

#[derive(Debug)]
struct Authorities {
    roots: RootCertStore,
    /// The same, as they stand in the file.
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    fn read(path: &Path) -> Result<Authorities, TlsError> {
        let certificates = certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots
                .add(certificate.clone())
                .map_err(|source| TlsError::Unusable { path: path.to_owned(), source })?;
        }
        Ok(Authorities { roots, certificates })
    }

    fn well_known() -> Authorities {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Authorities { roots, certificates: Vec::new() }
    }
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_chain(
        &self,
        authorities: &Authorities,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if authorities.certificates.iter().any(|known| known == leaf) {
            return verify_validity(leaf, now);
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &authorities.roots,
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Anyone => {}
            Trust::Chain(authorities) => self.verify_chain(authorities, leaf, intermediates, now)?,
            Trust::ChainAndName(authorities) => {
                self.verify_chain(authorities, leaf, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    /// With the key alone, because webpki does not read the version 1 certificates that the
    /// recipe of PostgreSQL's manual makes.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let leaf = parse(leaf)?;
        let key = SubjectPublicKeyInfoDer::from(leaf.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_validity(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let leaf = parse(leaf)?;
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
        .ok_or(rustls::Error::FailedToGetCurrentTime)?;
    if now < leaf.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > leaf.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

#[cfg(test)]
mod tests;
