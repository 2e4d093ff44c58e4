//! The login to a server (manual, section 55.2.1): whatever method `pg_hba.conf` asks for.

use super::connect::{ConnectError, Target};
use super::server::{Server, ServerError, lossy};
use super::{CancelKey, Stream};
use crate::auth::{ChannelBinding, ScramClient, ServerLoginError, ServerSecret, tls_server_end_point};
use crate::wire::{self, TxStatus};
use std::sync::Arc;

/// Logs in over an open stream and reads up to the first `ReadyForQuery`.
pub(super) async fn login(stream: Stream, target: &Target) -> Result<Server, ConnectError> {
    let mut login = Login {
        binding: binding(&stream),
        server: Server::new(stream, target.endpoint.clone()),
        target,
        scram: None,
    };
    wire::put_startup(&mut login.server.outbox, &[("user", &target.user), ("database", &target.dbname)]);
    loop {
        let drained = std::future::poll_fn(|cx| login.server.poll_drain(cx)).await;
        drained.map_err(|error| login.broken(error))?;
        let head = login.server.frame().await.map_err(|error| login.broken(error))?;
        let body = login.server.inbox.filled()[wire::HEADER_LEN..head.len].to_vec();
        login.server.inbox.consume(head.len);
        if login.message(head.tag, &body)? {
            return Ok(login.server);
        }
    }
}

struct Login<'a> {
    server: Server,
    target: &'a Target,
    binding: ChannelBinding,
    scram: Option<ScramClient>,
}

impl Login<'_> {
    /// Takes one message in; true when the login is complete.
    fn message(&mut self, tag: u8, body: &[u8]) -> Result<bool, ConnectError> {
        match tag {
            b'R' => self.authentication(body)?,
            b'S' => {
                let (name, value) =
                    wire::parameter_status(body).map_err(|error| self.broken(error.into()))?;
                self.server.reported.insert(lossy(name), lossy(value));
            }
            b'K' => {
                let (pid, secret) = wire::backend_key(body).map_err(|error| self.broken(error.into()))?;
                self.server.cancel_key = Arc::new(CancelKey {
                    endpoint: self.target.endpoint.clone(),
                    pid,
                    secret: secret.to_vec(),
                });
            }
            b'E' => {
                let target = self.target;
                return Err(ConnectError::Refused(
                    target.endpoint.clone(),
                    target.user.clone(),
                    body.to_vec(),
                ));
            }
            b'Z' => {
                self.server.status = TxStatus::read(body).map_err(|error| self.broken(error.into()))?;
                self.server.take_as_given();
                return Ok(true);
            }
            b'N' | b'v' => {}
            tag => {
                return Err(
                    self.broken(ServerError::Protocol(format!("message {tag:#04x} during the login")))
                );
            }
        }
        Ok(false)
    }

    fn authentication(&mut self, body: &[u8]) -> Result<(), ConnectError> {
        let Some((code, data)) = body.split_first_chunk::<4>() else {
            return Err(self.broken(wire::BodyError("Authentication").into()));
        };
        let answer = match (u32::from_be_bytes(*code), data) {
            // A server that skips its half of SCRAM has not proven that it knows the password.
            (0, _) if self.scram.as_ref().is_some_and(|scram| !scram.is_complete()) => {
                return Err(self.failed(&ServerLoginError::OutOfOrder));
            }
            (0, _) => return Ok(()),
            (3, _) => self.secret()?.cleartext().map(|password| zero_terminated(password.as_bytes())),
            (5, salt) => {
                let Ok(salt) = salt.try_into() else {
                    return Err(self.broken(wire::BodyError("AuthenticationMD5Password").into()));
                };
                self.secret()?
                    .md5_response(&self.target.user, salt)
                    .map(|hash| zero_terminated(hash.as_bytes()))
            }
            (10, offered) => self.sasl_start(offered),
            (11, data) => match &mut self.scram {
                Some(scram) => scram.server_first(data).map(<[u8]>::to_vec),
                None => Err(ServerLoginError::OutOfOrder),
            },
            (12, data) => match &mut self.scram {
                Some(scram) => return scram.server_final(data).map_err(|error| self.failed(&error)),
                None => Err(ServerLoginError::OutOfOrder),
            },
            (other, _) => {
                let what = format!("it asks for authentication method {other}, which pgring does not have");
                return Err(ConnectError::Login(
                    self.target.endpoint.clone(),
                    self.target.user.clone(),
                    what,
                ));
            }
        };
        let answer = answer.map_err(|error| self.failed(&error))?;
        wire::put_frame(&mut self.server.outbox, b'p', |out| out.put(&answer));
        Ok(())
    }

    fn sasl_start(&mut self, offered: &[u8]) -> Result<Vec<u8>, ServerLoginError> {
        let names: Vec<&str> =
            offered.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()).collect();
        let secret = self.target.keyring.secret().ok_or(ServerLoginError::NoPassword)?;
        let scram = self.scram.insert(secret.scram(&names, &self.binding)?);
        let (mechanism, first) = scram.initial_response()?;
        let mut answer = zero_terminated(mechanism.as_bytes());
        let len = u32::try_from(first.len()).map_err(|_| ServerLoginError::OutOfOrder)?;
        answer.extend(len.to_be_bytes());
        answer.extend(first);
        Ok(answer)
    }

    fn secret(&self) -> Result<ServerSecret, ConnectError> {
        self.target.keyring.secret().ok_or_else(|| self.failed(&ServerLoginError::NoPassword))
    }

    fn failed(&self, error: &ServerLoginError) -> ConnectError {
        let (endpoint, user) = (self.target.endpoint.clone(), self.target.user.clone());
        match error {
            ServerLoginError::OtherVerifier => ConnectError::OtherVerifier(endpoint, user),
            ServerLoginError::Unproven => ConnectError::Unproven(endpoint, user),
            error => ConnectError::Login(endpoint, user, error.to_string()),
        }
    }

    fn broken(&self, error: ServerError) -> ConnectError {
        ConnectError::Broken(self.target.endpoint.clone(), error)
    }
}

/// What SCRAM can be bound to: the certificate the server showed.
fn binding(stream: &Stream) -> ChannelBinding {
    let Stream::Tls(tls) = stream else { return ChannelBinding::None };
    let (_, session) = tls.tls.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    match certificate.map(|certificate| tls_server_end_point(certificate)) {
        Some(Ok(binding)) => binding,
        // A certificate signed by a method RFC 5929 knows no hash for: TLS without binding.
        Some(Err(_)) | None => ChannelBinding::None,
    }
}

fn zero_terminated(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.push(0);
    bytes
}
