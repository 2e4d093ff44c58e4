//! Logging in to a server, where pgring is the client: which mechanism to choose, and SCRAM
//! itself, which is [`postgres_protocol`]'s.
//!
//! A SCRAM verifier proves who a *client* is; it is not enough to be one (that is its point).
//! So a user configured with a verifier needs a `server_password`, and [`ServerSecret::parse`]
//! says so. An MD5 hash on the other hand is as good as the password, to servers that ask for MD5.

use std::fmt;

use postgres_protocol::authentication::sasl;

use super::{ChannelBinding, Md5Verifier, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramVerifier};

/// Why pgring cannot log in to a server. None of these names a secret.
#[derive(Debug, thiserror::Error)]
pub enum ServerLoginError {
    /// The configuration gives pgring nothing to log in with.
    #[error(
        "a SCRAM verifier cannot log in to a server: set `server_password` to the password, \
         or to an MD5 hash where servers ask for MD5"
    )]
    OnlyVerifier,
    /// There is an MD5 hash, and the server wants more.
    #[error("the server asks for {0}, which takes the password itself and not an MD5 hash")]
    OnlyMd5(&'static str),
    /// None of the server's mechanisms is SCRAM-SHA-256.
    #[error("the server offers no SASL mechanism pgring knows")]
    NoMechanism,
    /// The server's message is malformed, or the server does not know the password either.
    #[error("the SCRAM exchange failed")]
    Scram(#[source] std::io::Error),
    /// The server sent its messages in another order than the protocol's.
    #[error("a SCRAM message came out of order")]
    OutOfOrder,
}

/// What pgring has to log in to a server with.
#[derive(Clone)]
pub enum ServerSecret {
    /// Good for every method.
    Password(String),
    /// Good for MD5 only.
    Md5(Md5Verifier),
}

impl ServerSecret {
    /// From the configured `server_password` (or `password`, which it defaults to).
    pub fn parse(secret: &str) -> Result<ServerSecret, ServerLoginError> {
        if ScramVerifier::parse(secret).is_ok() {
            return Err(ServerLoginError::OnlyVerifier);
        }
        Ok(match Md5Verifier::parse(secret) {
            Some(hash) => ServerSecret::Md5(hash),
            None => ServerSecret::Password(secret.to_owned()),
        })
    }

    /// The response to `AuthenticationMD5Password`.
    pub fn md5_response(&self, user: &str, salt: [u8; 4]) -> String {
        match self {
            ServerSecret::Password(password) => Md5Verifier::from_password(user, password).response(salt),
            ServerSecret::Md5(hash) => hash.response(salt),
        }
    }

    /// The response to `AuthenticationCleartextPassword`.
    pub fn cleartext(&self) -> Result<&str, ServerLoginError> {
        self.password("the password in clear")
    }

    /// Answers `AuthenticationSASL`; see [`ScramClient`].
    pub fn scram(&self, offered: &[&str], binding: &ChannelBinding) -> Result<ScramClient, ServerLoginError> {
        ScramClient::start(self.password("SCRAM")?, offered, binding)
    }

    fn password(&self, method: &'static str) -> Result<&str, ServerLoginError> {
        match self {
            ServerSecret::Password(password) => Ok(password),
            ServerSecret::Md5(_) => Err(ServerLoginError::OnlyMd5(method)),
        }
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerSecret::Password(_) => "Password(..)",
            ServerSecret::Md5(_) => "Md5(..)",
        })
    }
}

/// One SCRAM exchange with a server.
pub struct ScramClient {
    mechanism: &'static str,
    scram: sasl::ScramSha256,
    awaits: Awaits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    First,
    Final,
    /// The server has proven itself.
    Nothing,
    /// The exchange failed, or will have if the step now running does.
    Never,
}

impl ScramClient {
    /// Chooses the strongest of the mechanisms the server offered. `binding` is the hash of the
    /// certificate the server presented; where there is one and the server does not offer
    /// `-PLUS`, the server is told that we could have, so that it notices a removed offer.
    fn start(
        password: &str,
        offered: &[&str],
        binding: &ChannelBinding,
    ) -> Result<ScramClient, ServerLoginError> {
        let (mechanism, binding) = match binding {
            ChannelBinding::TlsServerEndPoint(hash) if offered.contains(&SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash.clone()))
            }
            _ if !offered.contains(&SCRAM_SHA_256) => return Err(ServerLoginError::NoMechanism),
            ChannelBinding::TlsServerEndPoint(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            ChannelBinding::None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        let scram = sasl::ScramSha256::new(password.as_bytes(), binding);
        Ok(ScramClient { mechanism, scram, awaits: Awaits::First })
    }

    /// For the `SASLInitialResponse`: the mechanism and its data.
    pub fn initial_response(&self) -> Result<(&'static str, &[u8]), ServerLoginError> {
        match self.awaits {
            Awaits::First => Ok((self.mechanism, self.scram.message())),
            _ => Err(ServerLoginError::OutOfOrder),
        }
    }

    /// Takes `AuthenticationSASLContinue`; gives the data of the `SASLResponse`.
    /// Some milliseconds of PBKDF2.
    pub fn server_first(&mut self, data: &[u8]) -> Result<&[u8], ServerLoginError> {
        self.step(Awaits::First)?;
        self.scram.update(data).map_err(ServerLoginError::Scram)?;
        self.awaits = Awaits::Final;
        Ok(self.scram.message())
    }

    /// Takes `AuthenticationSASLFinal`. The server knows the password if, and only if, this is `Ok`.
    pub fn server_final(&mut self, data: &[u8]) -> Result<(), ServerLoginError> {
        self.step(Awaits::Final)?;
        self.scram.finish(data).map_err(ServerLoginError::Scram)?;
        self.awaits = Awaits::Nothing;
        Ok(())
    }

    /// Whether the server has proven that it knows the password. `AuthenticationOk` before that
    /// is a server that skipped its proof.
    pub fn is_complete(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    fn step(&mut self, expected: Awaits) -> Result<(), ServerLoginError> {
        match std::mem::replace(&mut self.awaits, Awaits::Never) {
            awaits if awaits == expected => Ok(()),
            _ => Err(ServerLoginError::OutOfOrder),
        }
    }
}

impl fmt::Debug for ScramClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramClient").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}
