//! MD5 passwords, for both sides. The method is broken as a hash and is offered to a client
//! only where the configuration holds nothing better than an MD5 hash.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

pub use postgres_protocol::authentication::md5_hash;

use super::AuthError;

/// A salt for `AuthenticationMD5Password`.
pub fn salt() -> [u8; 4] {
    rand::random()
}

/// What `pg_authid` keeps: `md5` and the hex MD5 of the password followed by the user's name.
#[derive(Clone)]
pub struct Md5Verifier {
    /// The 32 hexadecimal digits, lower case.
    hex: String,
}

impl Md5Verifier {
    /// `Some` for what PostgreSQL takes for an MD5 hash and not for a password.
    pub fn parse(secret: &str) -> Option<Md5Verifier> {
        let hex = secret.strip_prefix("md5")?;
        let is_hash = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| Md5Verifier { hex: hex.to_owned() })
    }

    /// From the password itself.
    pub fn from_password(user: &str, password: &str) -> Md5Verifier {
        let digest = Md5::new().chain_update(password).chain_update(user).finalize();
        Md5Verifier { hex: to_hex(&digest) }
    }

    /// The response to a server's `AuthenticationMD5Password`. The hash is as good as the password here.
    pub fn response(&self, salt: [u8; 4]) -> String {
        let digest = Md5::new().chain_update(&self.hex).chain_update(salt).finalize();
        format!("md5{}", to_hex(&digest))
    }

    /// Checks a client's `PasswordMessage` (without its terminating NUL).
    pub fn check(&self, salt: [u8; 4], response: &[u8]) -> Result<(), AuthError> {
        if bool::from(self.response(salt).as_bytes().ct_eq(response)) {
            Ok(())
        } else {
            Err(AuthError::Refused)
        }
    }
}

impl fmt::Debug for Md5Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Md5Verifier").finish_non_exhaustive()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pg_authid.rolpassword` of `create user a4 password 'secret'` under `password_encryption = md5`.
    const FROM_POSTGRESQL: &str = "md5dadd59f82399fc4d7e313cb9972545cb";

    #[test]
    fn what_counts_as_a_hash() {
        let check = |secret: &str, expect: bool| {
            assert_eq!(Md5Verifier::parse(secret).is_some(), expect, "{secret}");
        };
        check(FROM_POSTGRESQL, true);
        check("md5dadd59f82399fc4d7e313cb9972545c", false);
        check("md5dadd59f82399fc4d7e313cb9972545cbb", false);
        check("md5DADD59f82399fc4d7e313cb9972545cb", false);
        check("md5gadd59f82399fc4d7e313cb9972545cb", false);
        check("dadd59f82399fc4d7e313cb9972545cb", false);
        check("md5", false);
        check("", false);
    }

    #[test]
    fn password_and_stored_hash_agree_with_postgresql_and_each_other() {
        let stored = Md5Verifier::parse(FROM_POSTGRESQL).unwrap();
        let derived = Md5Verifier::from_password("a4", "secret");
        for salt in [[0, 0, 0, 0], [0x2a, 0x3d, 0x8f, 0xe0], [255; 4]] {
            let client = md5_hash(b"a4", b"secret", salt);
            assert_eq!(stored.response(salt), client);
            assert_eq!(derived.response(salt), client);
            assert_eq!(stored.check(salt, client.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn wrong_responses() {
        let verifier = Md5Verifier::from_password("a4", "secret");
        let right = verifier.response([1, 2, 3, 4]);
        let check = |response: &[u8]| {
            assert_eq!(verifier.check([1, 2, 3, 4], response), Err(AuthError::Refused));
        };
        check(b"");
        check(b"secret");
        check(FROM_POSTGRESQL.as_bytes());
        check(right.to_uppercase().as_bytes());
        check(&right.as_bytes()[..34]);
        check(format!("{right}\0").as_bytes());
        check(md5_hash(b"a4", b"secret", [1, 2, 3, 5]).as_bytes());
        check(md5_hash(b"a5", b"secret", [1, 2, 3, 4]).as_bytes());
        check(&[0xff; 35]);
    }

    #[test]
    fn debug_does_not_tell() {
        let verifier = Md5Verifier::parse(FROM_POSTGRESQL).unwrap();
        assert!(!format!("{verifier:?}").contains("dadd59"));
    }
}
