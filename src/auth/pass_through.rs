//! The client's side of SCRAM with a key instead of a password (RFC 5802, section 3): what
//! [`postgres_protocol`] does not have.
//!
//! `ClientProof = ClientKey XOR HMAC(H(ClientKey), AuthMessage)`. The password does not occur;
//! salt and iterations only have to be those the key was made with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ChannelBinding;
use super::keyring::ScramKeys;
use super::scram_client::ServerLoginError;
use super::verifier::keyed_hash;

/// PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
const RAW_NONCE: usize = 18;

/// One exchange.
pub(super) struct KeyExchange {
    keys: ScramKeys,
    /// `c=`, before base64: the GS2 header and, with channel binding, the certificate's hash.
    binding: Vec<u8>,
    nonce: String,
    message: Vec<u8>,
    /// What the server has to answer to have proven itself.
    signature: [u8; 32],
}

impl KeyExchange {
    /// With the GS2 header that goes with the mechanism; `binding` where that is `-PLUS`.
    pub(super) fn new(keys: ScramKeys, header: &str, binding: Option<&[u8]>) -> KeyExchange {
        let raw: [u8; RAW_NONCE] = rand::random();
        KeyExchange::with_nonce(keys, header, binding, STANDARD.encode(raw))
    }

    fn with_nonce(keys: ScramKeys, header: &str, binding: Option<&[u8]>, nonce: String) -> KeyExchange {
        KeyExchange {
            keys,
            binding: [header.as_bytes(), binding.unwrap_or_default()].concat(),
            message: format!("{header}n=,r={nonce}").into_bytes(),
            nonce,
            signature: [0; 32],
        }
    }

    /// What to send next.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Takes the server's first message.
    pub(super) fn server_first(&mut self, data: &[u8]) -> Result<(), ServerLoginError> {
        let malformed = || ServerLoginError::Malformed("server-first-message");
        let text = std::str::from_utf8(data).map_err(|_| malformed())?;
        let mut attributes = text.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|found| found.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (attribute("r="), attribute("s="), attribute("i="))
        else {
            return Err(malformed());
        };
        let is_longer = nonce.strip_prefix(&self.nonce).is_some_and(|own| !own.is_empty());
        if !is_longer || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ServerLoginError::Malformed("nonce"));
        }
        let salt = STANDARD.decode(salt).map_err(|_| malformed())?;
        let iterations: u32 = iterations.parse().map_err(|_| malformed())?;
        let verifier = &self.keys.verifier;
        if salt != *verifier.salt || iterations != verifier.iterations {
            return Err(ServerLoginError::OtherVerifier);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.binding));
        let bare = format!("n=,r={}", self.nonce);
        let auth_message = [bare.as_bytes(), b",", data, b",", without_proof.as_bytes()];
        let mut proof = keyed_hash(&Sha256::digest(self.keys.client_key.0), &auth_message);
        for (byte, key) in proof.iter_mut().zip(self.keys.client_key.0) {
            *byte ^= key;
        }
        self.signature = keyed_hash(&verifier.server_key, &auth_message);
        self.message = format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes();
        Ok(())
    }

    /// Takes the server's last message: its own proof.
    pub(super) fn server_final(&self, data: &[u8]) -> Result<(), ServerLoginError> {
        let proof = std::str::from_utf8(data)
            .ok()
            .and_then(|text| text.split(',').next()?.strip_prefix("v="))
            .and_then(|proof| STANDARD.decode(proof).ok())
            .ok_or(ServerLoginError::Malformed("server-final-message"))?;
        if bool::from(proof.as_slice().ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err(ServerLoginError::Malformed("server signature"))
        }
    }
}

/// The GS2 header of a mechanism, and the data it binds to.
pub(super) fn header(plus: bool, binding: &ChannelBinding) -> (&'static str, Option<&[u8]>) {
    match binding {
        ChannelBinding::TlsServerEndPoint(hash) if plus => ("p=tls-server-end-point,,", Some(hash)),
        ChannelBinding::TlsServerEndPoint(_) => ("y,,", None),
        ChannelBinding::None => ("n,,", None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyring::Keyring;
    use super::super::{ScramServer, ServerSecret, Verifier};
    use super::*;
    use postgres_protocol::authentication::sasl;

    /// The key a client's login with the password yields, and the verifier.
    fn proven(password: &str) -> (Verifier, ScramKeys) {
        let parsed = Verifier::parse(password).unwrap();
        let Verifier::Scram(verifier) = &parsed else { panic!() };
        let mut server = ScramServer::new(verifier, ChannelBinding::None);
        let mut client = sasl::ScramSha256::new(password.as_bytes(), sasl::ChannelBinding::unsupported());
        let first = server.client_first("SCRAM-SHA-256", client.message()).unwrap();
        client.update(&first).unwrap();
        assert!(server.client_key().is_none());
        let last = server.client_final(client.message()).unwrap();
        client.finish(&last).unwrap();
        let keyring = Keyring::of_verifier(&parsed);
        keyring.learn(verifier, server.client_key().unwrap());
        let Some(ServerSecret::Keys(keys)) = keyring.secret() else { panic!() };
        (parsed, keys)
    }

    fn login(keys: ScramKeys, verifier: &Verifier, binding: &ChannelBinding, plus: bool) {
        let Verifier::Scram(verifier) = verifier else { panic!() };
        let mut server = ScramServer::new(verifier, binding.clone());
        let (header, data) = header(plus, binding);
        let mut client = KeyExchange::new(keys, header, data);
        let mechanism = if plus { "SCRAM-SHA-256-PLUS" } else { "SCRAM-SHA-256" };
        let first = server.client_first(mechanism, client.message()).unwrap();
        client.server_first(&first).unwrap();
        let last = server.client_final(client.message()).unwrap();
        client.server_final(&last).unwrap();
        assert!(client.server_final(b"v=AAAA").is_err());
    }

    #[test]
    fn the_key_of_one_login_is_enough_for_the_next() {
        let (verifier, keys) = proven("secret");
        login(keys.clone(), &verifier, &ChannelBinding::None, false);
        login(keys, &verifier, &ChannelBinding::TlsServerEndPoint(vec![7; 32]), true);
    }

    #[test]
    fn what_a_server_may_send() {
        let (_, keys) = proven("secret");
        let salt = STANDARD.encode(&keys.verifier.salt);
        let check = |data: &[u8], expect: &str| {
            let mut client = KeyExchange::with_nonce(keys.clone(), "n,,", None, "abc".to_owned());
            let told = match client.server_first(data) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(told.contains(expect), "{}: {told}", data.escape_ascii());
        };
        check(format!("r=abcd,s={salt},i=4096").as_bytes(), "ok");
        check(format!("r=abcd,s={salt},i=4096,x=y").as_bytes(), "ok");
        check(format!("r=abcd,s={salt},i=4097").as_bytes(), "another verifier");
        check(b"r=abcd,s=AAAA,i=4096", "another verifier");
        check(format!("r=abc,s={salt},i=4096").as_bytes(), "nonce");
        check(format!("r=xyz,s={salt},i=4096").as_bytes(), "nonce");
        check(format!("r=abc\u{e9},s={salt},i=4096").as_bytes(), "nonce");
        check(format!("m=ext,r=abcd,s={salt},i=4096").as_bytes(), "server-first-message");
        for data in [
            &b""[..],
            b",",
            b",,,",
            b"r=",
            b"r=abcd",
            b"r=abcd,s=",
            b"r=abcd,s=!,i=4096",
            b"r=abcd,i=4096,s=AAAA",
            b"r=abcd,s=AAAA,i=",
            b"r=abcd,s=AAAA,i=-1",
            b"r=abcd,s=AAAA,i=99999999999999999999",
            b"\xff\xfe",
        ] {
            check(data, "server-first-message");
        }
    }
}
