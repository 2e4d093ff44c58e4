//! What is kept of a user's password: enough to check it, not enough to log in with it.
//!
//! A plain password becomes a SCRAM verifier once, when the configuration is read: the 4096
//! rounds of PBKDF2 are milliseconds that no login should cost. Deriving it again gives
//! another salt, so a reload should keep the verifiers of users whose secret did not change:
//! a salt that changes on reload would tell an existing user from a mock one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Md5Verifier;

const SCRAM_PREFIX: &str = "SCRAM-SHA-256$";
/// PostgreSQL's `SCRAM_SHA_256_DEFAULT_ITERATIONS`.
const DEFAULT_ITERATIONS: u32 = 4096;
/// PostgreSQL's `SCRAM_DEFAULT_SALT_LEN`.
const SALT_LENGTH: usize = 16;
/// More is a typing error, and would keep every client's processor busy for minutes.
const MAX_ITERATIONS: u32 = 10_000_000;

/// A configured secret that cannot be used. The message names no part of the secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifierError {
    /// PostgreSQL lets nobody in with an empty password, and neither does pgring.
    #[error("the password is empty")]
    Empty,
    /// Clients cannot send it.
    #[error("the password contains a NUL character")]
    Nul,
    /// It begins as a verifier and does not go on as one.
    #[error(
        "the SCRAM verifier is malformed ({0}): it should read \
         SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>, as in pg_authid.rolpassword"
    )]
    Scram(&'static str),
    /// `md5` and 32 digits, some of them upper case: PostgreSQL would call it a password.
    #[error("the MD5 hash must be in lower case, as in pg_authid.rolpassword")]
    Md5,
}

/// What a user's client has to prove.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// By SCRAM-SHA-256, or -PLUS.
    Scram(ScramVerifier),
    /// By MD5: the configuration has nothing else.
    Md5(Md5Verifier),
}

impl Verifier {
    /// From a configured secret: a password, a SCRAM verifier or an MD5 hash.
    /// Slow for a password (PBKDF2): once a user, not once a login.
    pub fn parse(secret: &str) -> Result<Verifier, VerifierError> {
        if secret.contains('\0') {
            return Err(VerifierError::Nul);
        }
        if secret.starts_with(SCRAM_PREFIX) {
            return ScramVerifier::parse(secret).map(Verifier::Scram);
        }
        if let Some(md5) = Md5Verifier::parse(secret) {
            return Ok(Verifier::Md5(md5));
        }
        if Md5Verifier::parse(&secret.to_ascii_lowercase()).is_some() {
            return Err(VerifierError::Md5);
        }
        ScramVerifier::from_password(secret).map(Verifier::Scram)
    }

    /// From what `pg_authid.rolpassword` says; `None` for what PostgreSQL lets nobody in with. It
    /// never holds a password in clear, and one that somebody's function returns is not taken.
    pub fn stored(secret: &str) -> Option<Verifier> {
        let scram = || ScramVerifier::parse(secret).ok().map(Verifier::Scram);
        Md5Verifier::parse(secret).map(Verifier::Md5).or_else(scram)
    }

    /// For a user who does not exist. The salt is the same whenever `user` comes again, as a
    /// real user's is, and cannot be predicted without `secret` (PostgreSQL's
    /// `mock_scram_secret`). `secret` should be random, and be kept as long as the process
    /// runs: one that changes gives the mock away.
    pub fn mock(user: &str, secret: &[u8]) -> Verifier {
        let salt = keyed_hash(secret, &[user.as_bytes()]);
        Verifier::Scram(ScramVerifier {
            iterations: DEFAULT_ITERATIONS,
            salt: salt[..SALT_LENGTH].into(),
            stored_key: [0; 32],
            server_key: [0; 32],
            mock: true,
        })
    }
}

/// What `pg_authid` keeps of a password under SCRAM-SHA-256 (RFC 5802, section 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: [u8; 32],
    pub(super) server_key: [u8; 32],
    /// Whatever the client proves, it is not let in.
    pub(super) mock: bool,
}

impl ScramVerifier {
    /// From `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
    pub fn parse(secret: &str) -> Result<ScramVerifier, VerifierError> {
        let fields = || {
            let (cost, keys) = secret.strip_prefix(SCRAM_PREFIX)?.split_once('$')?;
            Some((cost.split_once(':')?, keys.split_once(':')?))
        };
        let ((iterations, salt), (stored, server)) =
            fields().ok_or(VerifierError::Scram("a field is missing"))?;
        let iterations = iterations
            .parse()
            .ok()
            .filter(|n| (1..=MAX_ITERATIONS).contains(n))
            .ok_or(VerifierError::Scram("the number of iterations"))?;
        let salt = STANDARD
            .decode(salt)
            .ok()
            .filter(|salt| !salt.is_empty())
            .ok_or(VerifierError::Scram("the salt"))?;
        let key = |text: &str| STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(ScramVerifier {
            iterations,
            salt: salt.into(),
            stored_key: key(stored).ok_or(VerifierError::Scram("the stored key"))?,
            server_key: key(server).ok_or(VerifierError::Scram("the server key"))?,
            mock: false,
        })
    }

    /// With a random salt, and SASLprep where it applies: PostgreSQL and libpq take the bytes as
    /// they are where it does not, and so does [`postgres_protocol`].
    fn from_password(password: &str) -> Result<ScramVerifier, VerifierError> {
        // A password of nothing but soft hyphens would equal the empty one.
        if stringprep::saslprep(password).is_ok_and(|prepared| prepared.is_empty()) {
            return Err(VerifierError::Empty);
        }
        ScramVerifier::parse(&postgres_protocol::password::scram_sha_256(password.as_bytes()))
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 of `parts`, joined.
pub(super) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        hmac.update(part);
    }
    hmac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                         WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                         wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn what_a_secret_is() {
        let check = |secret: &str, expect: Result<&str, VerifierError>| {
            let found = Verifier::parse(secret).map(|verifier| match verifier {
                Verifier::Scram(_) => "scram",
                Verifier::Md5(_) => "md5",
            });
            assert_eq!(found, expect, "{secret}");
        };
        check("secret", Ok("scram"));
        check("pässwörd", Ok("scram"));
        check("SCRAM", Ok("scram"));
        check("md5", Ok("scram"));
        check("md5isbad", Ok("scram"));
        check(VALID, Ok("scram"));
        check("md5dadd59f82399fc4d7e313cb9972545cb", Ok("md5"));
        check("md5DADD59F82399FC4D7E313CB9972545CB", Err(VerifierError::Md5));
        check("", Err(VerifierError::Empty));
        check("\u{AD}\u{AD}", Err(VerifierError::Empty));
        check("a\0b", Err(VerifierError::Nul));
        check("SCRAM-SHA-256$", Err(VerifierError::Scram("a field is missing")));
        check("SCRAM-SHA-256$4096", Err(VerifierError::Scram("a field is missing")));
        check("SCRAM-SHA-256$4096:AAAA$AAAA", Err(VerifierError::Scram("a field is missing")));
        for (from, to, complaint) in [
            ("4096", "0", "the number of iterations"),
            ("4096", "-1", "the number of iterations"),
            ("4096", "99999999999", "the number of iterations"),
            ("4096", "", "the number of iterations"),
            ("W22Z", "W2?Z", "the salt"),
            ("W22ZaJ0SNY7soEsUEjb6gQ==", "", "the salt"),
            ("WG5d", "", "the stored key"),
            ("T4qY=", "T4qY", "the stored key"),
            ("wfPL", "wfPLwfPL", "the server key"),
            ("2dU=", "2dU=$", "the server key"),
        ] {
            check(&VALID.replace(from, to), Err(VerifierError::Scram(complaint)));
        }
    }

    #[test]
    fn a_password_is_salted_anew() {
        let salt = || match Verifier::parse("secret") {
            Ok(Verifier::Scram(scram)) => scram.salt,
            other => panic!("{other:?}"),
        };
        assert_ne!(salt(), salt());
        assert_eq!(salt().len(), SALT_LENGTH);
    }

    #[test]
    fn a_mock_is_constant_and_looks_real() {
        let mock = |user: &str, secret: &[u8]| match Verifier::mock(user, secret) {
            Verifier::Scram(scram) => (scram.iterations, scram.salt),
            Verifier::Md5(_) => panic!("a mock is a SCRAM verifier"),
        };
        assert_eq!(mock("nobody", b"k"), mock("nobody", b"k"));
        assert_ne!(mock("nobody", b"k"), mock("nobody2", b"k"));
        assert_ne!(mock("nobody", b"k"), mock("nobody", b"l"));
        assert_eq!(mock("nobody", b"k").0, DEFAULT_ITERATIONS);
        assert_eq!(mock("nobody", b"k").1.len(), SALT_LENGTH);
    }

    #[test]
    fn debug_does_not_tell() {
        let text = format!("{:?}", Verifier::parse(VALID).unwrap());
        assert_eq!(text, "Scram(ScramVerifier { iterations: 4096, .. })");
    }
}
