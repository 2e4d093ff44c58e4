//! What a user's sessions and pools log in to servers with, where all of them find it.
//!
//! Where the configuration gives a password, that is all there is to it. Where there is only a
//! verifier, pgring has nothing to log in with until a client has proven itself: SCRAM's proof
//! yields the `ClientKey`, which is good for every server that keeps the *same* verifier (same
//! salt, same iterations) and for nothing else. It is kept in memory only, no longer than
//! the verifier it belongs to.
//!
//! Pools compare keyrings by address: a key that is learnt later opens the same pool's next
//! connection, and a session that began before a change of the password does not fight with
//! one that began after it over whose pool is the right one.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::scram_client::ServerSecret;
use super::verifier::{ScramVerifier, Verifier};

/// What SCRAM's proof yields: as good as the password, to servers with the same verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(pub(super) [u8; 32]);

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(..)")
    }
}

/// All that a login as a client takes, to servers that keep the verifier it came from.
#[derive(Clone)]
pub struct ScramKeys {
    pub(super) verifier: ScramVerifier,
    pub(super) client_key: ClientKey,
}

/// See the module.
pub struct Keyring(Mutex<Kept>);

enum Kept {
    /// Servers are expected to ask for none.
    Nothing,
    /// Given by the configuration, or an MD5 hash.
    Secret(ServerSecret),
    /// A verifier, and the key if a client has proven that it has one.
    Scram(ScramVerifier, Option<ClientKey>),
}

impl Keyring {
    /// With what the configuration gives.
    pub fn of_secret(secret: Option<ServerSecret>) -> Keyring {
        Keyring(Mutex::new(secret.map_or(Kept::Nothing, Kept::Secret)))
    }

    /// For a user of whom only the verifier is known. An MD5 hash is as good as the password.
    pub fn of_verifier(verifier: &Verifier) -> Keyring {
        Keyring(Mutex::new(kept(verifier)))
    }

    /// What there is to log in with now; `None` where nothing is expected to be asked for.
    pub fn secret(&self) -> Option<ServerSecret> {
        match &*self.lock() {
            Kept::Nothing => None,
            Kept::Secret(secret) => Some(secret.clone()),
            Kept::Scram(_, None) => Some(ServerSecret::Unproven),
            Kept::Scram(verifier, Some(client_key)) => Some(ServerSecret::Keys(ScramKeys {
                verifier: verifier.clone(),
                client_key: client_key.clone(),
            })),
        }
    }

    /// A client has proven itself against `verifier`. Nothing, if that is not the one in force:
    /// the password was changed while it did.
    pub fn learn(&self, verifier: &ScramVerifier, key: ClientKey) {
        if let Kept::Scram(known, client_key) = &mut *self.lock()
            && known == verifier
        {
            *client_key = Some(key);
        }
    }

    /// The database's word on the verifier; keys that belong to another one are forgotten.
    pub fn follow(&self, verifier: Option<&Verifier>) {
        let mut now = self.lock();
        match (&*now, verifier) {
            (Kept::Scram(known, _), Some(Verifier::Scram(new))) if known == new => {}
            (_, Some(new)) => *now = kept(new),
            (_, None) => *now = Kept::Secret(ServerSecret::Unproven),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept(verifier: &Verifier) -> Kept {
    match verifier {
        Verifier::Scram(verifier) => Kept::Scram(verifier.clone(), None),
        Verifier::Md5(hash) => Kept::Secret(ServerSecret::Md5(hash.clone())),
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(password: &str) -> Verifier {
        Verifier::parse(password).unwrap()
    }

    fn scram(verifier: &Verifier) -> &ScramVerifier {
        match verifier {
            Verifier::Scram(scram) => scram,
            Verifier::Md5(_) => panic!("a SCRAM verifier"),
        }
    }

    #[test]
    fn a_key_lives_as_long_as_its_verifier() {
        let (old, new) = (verifier("old"), verifier("new"));
        let ring = Keyring::of_verifier(&old);
        let has_key = || matches!(ring.secret(), Some(ServerSecret::Keys(_)));
        assert!(matches!(ring.secret(), Some(ServerSecret::Unproven)));
        ring.learn(scram(&new), ClientKey([1; 32]));
        assert!(!has_key(), "of another verifier");
        ring.learn(scram(&old), ClientKey([1; 32]));
        assert!(has_key());
        ring.follow(Some(&old));
        assert!(has_key(), "the same verifier");
        ring.follow(Some(&new));
        assert!(!has_key());
        ring.learn(scram(&old), ClientKey([1; 32]));
        assert!(!has_key(), "proven too late");
        ring.learn(scram(&new), ClientKey([2; 32]));
        assert!(has_key());
        ring.follow(None);
        assert!(matches!(ring.secret(), Some(ServerSecret::Unproven)));
    }

    #[test]
    fn a_hash_needs_no_proof() {
        let hash = verifier("md5dadd59f82399fc4d7e313cb9972545cb");
        assert!(matches!(Keyring::of_verifier(&hash).secret(), Some(ServerSecret::Md5(_))));
    }

    #[test]
    fn debug_does_not_tell() {
        let ring = Keyring::of_verifier(&verifier("secret"));
        ring.learn(scram(&verifier("secret")), ClientKey([7; 32]));
        assert_eq!(format!("{ring:?} {:?}", ClientKey([7; 32])), "Keyring { .. } ClientKey(..)");
        assert!(!format!("{:?}", ring.secret()).contains('7'));
    }
}
