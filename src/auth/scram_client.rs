//! Logging in to a server, where pgring is the client: which mechanism to choose, and SCRAM
//! itself, which is [`postgres_protocol`]'s.
//!
//! A SCRAM verifier proves who a *client* is; it is not enough to be one (that is its point).
//! What it takes besides is the key that a client shows when it proves itself ([`ScramKeys`]),
//! good for servers with the same verifier. An MD5 hash on the other hand is as good as the
//! password, to servers that ask for MD5.

use std::fmt;

use postgres_protocol::authentication::sasl;

use super::pass_through::{KeyExchange, header};
use super::{ChannelBinding, Md5Verifier, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramKeys, ScramVerifier};

/// The most rounds of PBKDF2 a server may ask for: half a second of the thread, at most. Who
/// raises `scram_iterations` is far below; a server that asks for more wants the thread.
const MAX_ROUNDS: u64 = 1_000_000;

/// Why pgring cannot log in to a server. None of these names a secret.
#[derive(Debug, thiserror::Error)]
pub enum ServerLoginError {
    /// The configuration gives pgring nothing to log in with.
    #[error("a SCRAM verifier cannot log in to a server")]
    OnlyVerifier,
    /// No client has proven itself yet, or the password has changed since.
    #[error("the password has changed, and no client has logged in with the new one yet")]
    Unproven,
    /// The client's key was made with another salt than the server's verifier.
    #[error("the server has another verifier for this role than the one the client proved itself against")]
    OtherVerifier,
    /// There is a key, and the server wants something else.
    #[error("the server asks for {0}, and pgring has only the role's SCRAM key")]
    OnlyKeys(&'static str),
    /// The server wants to keep the thread busy.
    #[error("the server asks for more rounds of SCRAM than pgring takes part in")]
    Rounds,
    /// A server's message does not read, or proves nothing.
    #[error("the server's SCRAM exchange is malformed: {0}")]
    Malformed(&'static str),
    /// The configuration gives no password at all.
    #[error("the server asks for a password and none is configured")]
    NoPassword,
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
    /// Good for SCRAM with servers that keep the same verifier.
    Keys(ScramKeys),
    /// Good for nothing until a client has shown the key.
    Unproven,
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
    pub fn md5_response(&self, user: &str, salt: [u8; 4]) -> Result<String, ServerLoginError> {
        match self {
            ServerSecret::Md5(hash) => Ok(hash.response(salt)),
            // A server asks for MD5 only where that is what it keeps.
            ServerSecret::Keys(_) => Err(ServerLoginError::OtherVerifier),
            _ => Ok(Md5Verifier::from_password(user, self.password("MD5")?).response(salt)),
        }
    }

    /// The response to `AuthenticationCleartextPassword`.
    pub fn cleartext(&self) -> Result<&str, ServerLoginError> {
        self.password("the password in clear")
    }

    /// Answers `AuthenticationSASL`; see [`ScramClient`].
    pub fn scram(&self, offered: &[&str], binding: &ChannelBinding) -> Result<ScramClient, ServerLoginError> {
        match self {
            ServerSecret::Keys(keys) => ScramClient::start(Proof::Keys(keys), offered, binding),
            _ => ScramClient::start(Proof::Password(self.password("SCRAM")?), offered, binding),
        }
    }

    fn password(&self, method: &'static str) -> Result<&str, ServerLoginError> {
        match self {
            ServerSecret::Password(password) => Ok(password),
            ServerSecret::Md5(_) => Err(ServerLoginError::OnlyMd5(method)),
            ServerSecret::Keys(_) => Err(ServerLoginError::OnlyKeys(method)),
            ServerSecret::Unproven => Err(ServerLoginError::Unproven),
        }
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerSecret::Password(_) => "Password(..)",
            ServerSecret::Md5(_) => "Md5(..)",
            ServerSecret::Keys(_) => "Keys(..)",
            ServerSecret::Unproven => "Unproven",
        })
    }
}

/// One SCRAM exchange with a server.
pub struct ScramClient {
    mechanism: &'static str,
    exchange: Exchange,
    awaits: Awaits,
}

enum Proof<'a> {
    Password(&'a str),
    Keys(&'a ScramKeys),
}

enum Exchange {
    Password(Box<sasl::ScramSha256>),
    Keys(Box<KeyExchange>),
}

impl Exchange {
    fn message(&self) -> &[u8] {
        match self {
            Exchange::Password(scram) => scram.message(),
            Exchange::Keys(exchange) => exchange.message(),
        }
    }
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
        proof: Proof<'_>,
        offered: &[&str],
        binding: &ChannelBinding,
    ) -> Result<ScramClient, ServerLoginError> {
        let plus =
            matches!(binding, ChannelBinding::TlsServerEndPoint(_)) && offered.contains(&SCRAM_SHA_256_PLUS);
        if !plus && !offered.contains(&SCRAM_SHA_256) {
            return Err(ServerLoginError::NoMechanism);
        }
        let exchange = match proof {
            Proof::Password(password) => {
                let binding = match binding {
                    ChannelBinding::TlsServerEndPoint(hash) if plus => {
                        sasl::ChannelBinding::tls_server_end_point(hash.clone())
                    }
                    ChannelBinding::TlsServerEndPoint(_) => sasl::ChannelBinding::unrequested(),
                    ChannelBinding::None => sasl::ChannelBinding::unsupported(),
                };
                Exchange::Password(Box::new(sasl::ScramSha256::new(password.as_bytes(), binding)))
            }
            Proof::Keys(keys) => {
                let (header, data) = header(plus, binding);
                Exchange::Keys(Box::new(KeyExchange::new(keys.clone(), header, data)))
            }
        };
        let mechanism = if plus { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        Ok(ScramClient { mechanism, exchange, awaits: Awaits::First })
    }

    /// For the `SASLInitialResponse`: the mechanism and its data.
    pub fn initial_response(&self) -> Result<(&'static str, &[u8]), ServerLoginError> {
        match self.awaits {
            Awaits::First => Ok((self.mechanism, self.exchange.message())),
            _ => Err(ServerLoginError::OutOfOrder),
        }
    }

    /// Takes `AuthenticationSASLContinue`; gives the data of the `SASLResponse`.
    /// Some milliseconds of PBKDF2 with a password, none with keys.
    pub fn server_first(&mut self, data: &[u8]) -> Result<&[u8], ServerLoginError> {
        self.step(Awaits::First)?;
        match &mut self.exchange {
            Exchange::Password(_) if rounds(data) > MAX_ROUNDS => return Err(ServerLoginError::Rounds),
            Exchange::Password(scram) => scram.update(data).map_err(ServerLoginError::Scram)?,
            Exchange::Keys(exchange) => exchange.server_first(data)?,
        }
        self.awaits = Awaits::Final;
        Ok(self.exchange.message())
    }

    /// Takes `AuthenticationSASLFinal`. The server knows the password if, and only if, this is `Ok`.
    pub fn server_final(&mut self, data: &[u8]) -> Result<(), ServerLoginError> {
        self.step(Awaits::Final)?;
        match &mut self.exchange {
            Exchange::Password(scram) => scram.finish(data).map_err(ServerLoginError::Scram)?,
            Exchange::Keys(exchange) => exchange.server_final(data)?,
        }
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

/// The rounds that a server's first message asks for; none where it does not say, which the
/// exchange itself complains about.
fn rounds(server_first: &[u8]) -> u64 {
    let asked = server_first.split(|byte| *byte == b',').filter_map(|part| part.strip_prefix(b"i="));
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    asked.map(|digits| number(digits).unwrap_or(0)).max().unwrap_or(0)
}
