//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the side that checks (RFC 5802, 7677, 5929).
//!
//! A state machine over two messages of the client. It follows PostgreSQL's `auth-scram.c`,
//! which differs from the RFC in that the user's name in the first message is ignored (the
//! start-up packet's counts). After any error the exchange is over: a second attempt needs a
//! new [`ScramServer`].
//!
//! A mock verifier fails at the very end, with the error of a wrong password and after the
//! same work.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::verifier::keyed_hash;
use super::{AuthError, ClientKey, ScramVerifier};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`: what it accepts, and more than any client sends.
const MAX_MESSAGE: usize = 1024;

/// PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
const RAW_NONCE: usize = 18;

/// What ties the exchange to the TLS session it runs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelBinding {
    /// No TLS, or a certificate for which no binding is defined: `-PLUS` is not offered.
    None,
    /// The hash of the server's certificate ([`tls_server_end_point`](super::tls_server_end_point)):
    /// `-PLUS` is offered.
    TlsServerEndPoint(Vec<u8>),
}

/// One client's exchange.
#[derive(Debug)]
pub struct ScramServer {
    verifier: ScramVerifier,
    binding: ChannelBinding,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Challenged(Challenge),
    Proven(ClientKey),
    Over,
}

/// What the second message is checked against.
#[derive(PartialEq, Eq, Debug)]
struct Challenge {
    /// What `c=` must say.
    channel_binding: String,
    /// Client's and server's, joined.
    nonce: String,
    /// The auth message as far as it is known: `client-first-message-bare "," server-first-message`.
    transcript: String,
}

impl ScramServer {
    /// A new exchange. `binding` says what TLS session the client is in.
    pub fn new(verifier: &ScramVerifier, binding: ChannelBinding) -> ScramServer {
        ScramServer { verifier: verifier.clone(), binding, state: State::Start }
    }

    /// What to offer in `AuthenticationSASL`, best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self.binding {
            ChannelBinding::None => &[SCRAM_SHA_256],
            ChannelBinding::TlsServerEndPoint(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        }
    }

    /// Takes the `SASLInitialResponse`; gives the data of `AuthenticationSASLContinue`.
    pub fn client_first(&mut self, mechanism: &str, data: &[u8]) -> Result<Vec<u8>, AuthError> {
        let raw: [u8; RAW_NONCE] = rand::random();
        self.challenge(mechanism, data, &STANDARD.encode(raw))
    }

    /// Takes the `SASLResponse`; gives the data of `AuthenticationSASLFinal`. The client is
    /// who it says it is if, and only if, this is `Ok`.
    pub fn client_final(&mut self, data: &[u8]) -> Result<Vec<u8>, AuthError> {
        let State::Challenged(challenge) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::OutOfOrder);
        };
        let answer = ClientFinal::parse(text(data)?)?;
        if answer.channel_binding != challenge.channel_binding {
            return Err(AuthError::BindingMismatch);
        }
        if answer.nonce != challenge.nonce {
            return Err(AuthError::Nonce);
        }
        let auth_message = [challenge.transcript.as_bytes(), b",", answer.without_proof.as_bytes()];
        let client_key = self.proven(&answer.proof, &auth_message).ok_or(AuthError::Refused)?;
        self.state = State::Proven(client_key);
        let signature = keyed_hash(&self.verifier.server_key, &auth_message);
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }

    /// What a successful exchange has shown of the client: with it, pgring can be one itself.
    pub fn client_key(&self) -> Option<ClientKey> {
        match &self.state {
            State::Proven(key) => Some(key.clone()),
            _ => None,
        }
    }

    fn challenge(&mut self, mechanism: &str, data: &[u8], server_nonce: &str) -> Result<Vec<u8>, AuthError> {
        let State::Start = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthError::OutOfOrder);
        };
        if !self.mechanisms().contains(&mechanism) {
            return Err(AuthError::Mechanism);
        }
        let first = ClientFirst::parse(text(data)?)?;
        let channel_binding = self.expected_binding(mechanism == SCRAM_SHA_256_PLUS, &first)?;
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first =
            format!("r={nonce},s={},i={}", STANDARD.encode(&self.verifier.salt), self.verifier.iterations);
        let transcript = format!("{},{server_first}", first.bare);
        self.state = State::Challenged(Challenge { channel_binding, nonce, transcript });
        Ok(server_first.into_bytes())
    }

    /// Whether the client's binding flag fits what was offered and chosen; what its `c=` must be then.
    fn expected_binding(&self, plus: bool, first: &ClientFirst<'_>) -> Result<String, AuthError> {
        match (first.flag, plus, &self.binding) {
            ("n", false, _) => Ok(STANDARD.encode("n,,")),
            ("y", false, ChannelBinding::None) => Ok(STANDARD.encode("y,,")),
            ("y", false, ChannelBinding::TlsServerEndPoint(_)) => Err(AuthError::Downgrade),
            ("n" | "y", true, _) => Err(AuthError::Malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            )),
            (flag, plus, binding) => {
                let Some(kind) = flag.strip_prefix("p=") else {
                    return Err(AuthError::Malformed("Unexpected channel-binding flag."));
                };
                if !plus {
                    return Err(AuthError::Malformed(
                        "The client selected SCRAM-SHA-256 without channel binding, \
                         but the SCRAM message includes channel binding data.",
                    ));
                }
                match binding {
                    ChannelBinding::TlsServerEndPoint(hash) if kind == "tls-server-end-point" => {
                        Ok(STANDARD.encode([b"p=tls-server-end-point,,", hash.as_slice()].concat()))
                    }
                    _ => Err(AuthError::BindingType),
                }
            }
        }
    }

    /// `H(ClientProof XOR HMAC(StoredKey, AuthMessage)) = StoredKey`, in constant time.
    fn proven(&self, proof: &[u8; 32], auth_message: &[&[u8]]) -> Option<ClientKey> {
        let mut client_key = keyed_hash(&self.verifier.stored_key, auth_message);
        for (key, proof) in client_key.iter_mut().zip(proof) {
            *key ^= proof;
        }
        let fits = Sha256::digest(client_key).ct_eq(&self.verifier.stored_key);
        (bool::from(fits) & !self.verifier.mock).then_some(ClientKey(client_key))
    }
}

/// `gs2-cbind-flag "," [authzid] "," "n=" saslname ",r=" c-nonce *("," extension)`
#[derive(PartialEq, Eq, Debug)]
struct ClientFirst<'a> {
    flag: &'a str,
    /// Without the GS2 header: goes into the auth message as it is.
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a str) -> Result<ClientFirst<'a>, AuthError> {
        let truncated = AuthError::Malformed("The message ends early.");
        let (flag, rest) = message.split_once(',').ok_or(truncated)?;
        let (identity, bare) = rest.split_once(',').ok_or(truncated)?;
        if identity.starts_with("a=") {
            return Err(AuthError::AuthorizationIdentity);
        }
        if !identity.is_empty() {
            return Err(AuthError::Malformed("Unexpected attribute before the user name."));
        }
        let mut attributes = bare.split(',');
        attribute(attributes.next(), "n=")?;
        let nonce = attribute(attributes.next(), "r=")?;
        // The comma is printable too, but cannot be here.
        if nonce.is_empty() || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AuthError::Malformed("Non-printable characters in SCRAM nonce."));
        }
        attributes.try_for_each(extension)?;
        Ok(ClientFirst { flag, bare, nonce })
    }
}

/// `"c=" base64 ",r=" nonce *("," extension) ",p=" base64`
#[derive(PartialEq, Eq, Debug)]
struct ClientFinal<'a> {
    channel_binding: &'a str,
    nonce: &'a str,
    without_proof: &'a str,
    proof: [u8; 32],
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a str) -> Result<ClientFinal<'a>, AuthError> {
        let (without_proof, proof) =
            message.rsplit_once(",p=").ok_or(AuthError::Malformed("The proof is missing."))?;
        let mut attributes = without_proof.split(',');
        let channel_binding = attribute(attributes.next(), "c=")?;
        let nonce = attribute(attributes.next(), "r=")?;
        attributes.try_for_each(extension)?;
        let proof = STANDARD
            .decode(proof)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(AuthError::Malformed("Malformed proof in client-final-message."))?;
        Ok(ClientFinal { channel_binding, nonce, without_proof, proof })
    }
}

fn text(data: &[u8]) -> Result<&str, AuthError> {
    if data.is_empty() {
        return Err(AuthError::Malformed("The message is empty."));
    }
    if data.len() > MAX_MESSAGE {
        return Err(AuthError::Malformed("The message is too long."));
    }
    let text = std::str::from_utf8(data).map_err(|_| AuthError::Malformed("The message is not UTF-8."))?;
    if text.contains('\0') {
        return Err(AuthError::Malformed("Message length does not match input length."));
    }
    Ok(text)
}

/// The value of the attribute that has to stand here.
fn attribute<'a>(found: Option<&'a str>, name: &str) -> Result<&'a str, AuthError> {
    match found {
        None => Err(AuthError::Malformed("The message ends early.")),
        Some(found) if found.starts_with("m=") => extension(found).map(|()| ""),
        Some(found) => {
            found.strip_prefix(name).ok_or(AuthError::Malformed("An attribute is missing or out of order."))
        }
    }
}

/// Optional extensions are ignored, as PostgreSQL does. What is not one: a mandatory
/// extension (`m=`), and the attributes that have a place of their own.
fn extension(found: &str) -> Result<(), AuthError> {
    match found.as_bytes() {
        [b'm', b'=', ..] => Err(AuthError::Malformed("The client requires an unsupported SCRAM extension.")),
        [b'a' | b'c' | b'e' | b'i' | b'n' | b'p' | b'r' | b's' | b'v', b'=', ..] => {
            Err(AuthError::Malformed("An attribute is missing or out of order."))
        }
        [name, b'=', _, ..] if name.is_ascii_alphabetic() => Ok(()),
        _ => Err(AuthError::Malformed("Attribute expected.")),
    }
}

#[cfg(test)]
mod tests;
