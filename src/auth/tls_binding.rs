//! The `tls-server-end-point` channel binding: a hash of the server's certificate that both
//! ends of one TLS session agree on (RFC 5929, section 4).

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use super::ChannelBinding;

/// Why a certificate has no channel binding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BindingError {
    /// Not an X.509 certificate in DER.
    #[error("the certificate cannot be parsed")]
    Certificate,
}

/// The binding of a session with the server whose (leaf) certificate this is.
///
/// [`ChannelBinding::None`] where the signature uses no hash function, or not a single one
/// (Ed25519): RFC 5929 leaves the binding undefined there, and PostgreSQL has none either.
pub fn tls_server_end_point(certificate: &[u8]) -> Result<ChannelBinding, BindingError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| BindingError::Certificate)?;
    Ok(match hash_of(&parsed.signature_algorithm) {
        Some(hash) => ChannelBinding::TlsServerEndPoint(hash.digest(certificate)),
        None => ChannelBinding::None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha224 => Sha224::digest(data).to_vec(),
            Hash::Sha256 => Sha256::digest(data).to_vec(),
            Hash::Sha384 => Sha384::digest(data).to_vec(),
            Hash::Sha512 => Sha512::digest(data).to_vec(),
        }
    }
}

fn hash_of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    let oid = algorithm.algorithm.to_id_string();
    if oid == RSASSA_PSS {
        let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
        return hash_named(&parameters.hash_algorithm_oid().to_id_string());
    }
    hash_named(&oid)
}

const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// By the OID of a signature algorithm, or of the hash itself. MD5 and SHA-1 are replaced
/// by SHA-256, as the RFC wants.
fn hash_named(oid: &str) -> Option<Hash> {
    Some(match oid {
        "1.2.840.113549.1.1.4"        // md5WithRSAEncryption
        | "1.2.840.113549.1.1.5"      // sha1WithRSAEncryption
        | "1.3.14.3.2.29"             // the same, older
        | "1.2.840.10040.4.3"         // dsa-with-sha1
        | "1.2.840.10045.4.1"         // ecdsa-with-SHA1
        | "1.3.14.3.2.26"             // sha1
        | "1.2.840.113549.1.1.11"     // sha256WithRSAEncryption
        | "2.16.840.1.101.3.4.3.2"    // dsa-with-sha256
        | "1.2.840.10045.4.3.2"       // ecdsa-with-SHA256
        | "2.16.840.1.101.3.4.2.1"    // sha256
            => Hash::Sha256,
        "1.2.840.113549.1.1.14"       // sha224WithRSAEncryption
        | "2.16.840.1.101.3.4.3.1"    // dsa-with-sha224
        | "1.2.840.10045.4.3.1"       // ecdsa-with-SHA224
        | "2.16.840.1.101.3.4.2.4"    // sha224
            => Hash::Sha224,
        "1.2.840.113549.1.1.12"       // sha384WithRSAEncryption
        | "2.16.840.1.101.3.4.3.3"    // dsa-with-sha384
        | "1.2.840.10045.4.3.3"       // ecdsa-with-SHA384
        | "2.16.840.1.101.3.4.2.2"    // sha384
            => Hash::Sha384,
        "1.2.840.113549.1.1.13"       // sha512WithRSAEncryption
        | "2.16.840.1.101.3.4.3.4"    // dsa-with-sha512
        | "1.2.840.10045.4.3.4"       // ecdsa-with-SHA512
        | "2.16.840.1.101.3.4.2.3"    // sha512
            => Hash::Sha512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn by_signature_algorithm() {
        let p256 = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        let expect = ChannelBinding::TlsServerEndPoint(Sha256::digest(&p256).to_vec());
        assert_eq!(tls_server_end_point(&p256), Ok(expect));

        let p384 = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
        let expect = ChannelBinding::TlsServerEndPoint(Sha384::digest(&p384).to_vec());
        assert_eq!(tls_server_end_point(&p384), Ok(expect));

        assert_eq!(tls_server_end_point(&certificate(&rcgen::PKCS_ED25519)), Ok(ChannelBinding::None));
    }

    #[test]
    fn not_a_certificate() {
        let certificate = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        for bytes in [&b""[..], b"0", b"\x30\x82\xff\xff", &certificate[..certificate.len() / 2]] {
            assert_eq!(tls_server_end_point(bytes), Err(BindingError::Certificate));
        }
    }

    #[test]
    fn weak_hashes_are_replaced() {
        let check = |oid: &str, expect: Option<Hash>| assert_eq!(hash_named(oid), expect, "{oid}");
        check("1.2.840.113549.1.1.4", Some(Hash::Sha256));
        check("1.2.840.113549.1.1.5", Some(Hash::Sha256));
        check("1.2.840.113549.1.1.11", Some(Hash::Sha256));
        check("1.2.840.113549.1.1.12", Some(Hash::Sha384));
        check("1.2.840.113549.1.1.13", Some(Hash::Sha512));
        check("1.2.840.113549.1.1.14", Some(Hash::Sha224));
        check("1.3.101.112", None);
        check("1.2.3", None);
    }
}
