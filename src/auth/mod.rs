//! Who may come in: SCRAM, MD5 and what is kept of a secret.
//!
//! Sans-I/O: a session feeds the bytes of the client's messages in and sends the bytes that
//! come out. It goes so, for a client:
//!
//! 1. [`Verifier`] of the user, or [`Verifier::mock`] for a user who does not exist: such a user
//!    walks the whole exchange and fails where a wrong password fails.
//! 2. [`Verifier::Scram`]: [`ScramServer::new`]; `AuthenticationSASL` with
//!    [`ScramServer::mechanisms`]; `SASLInitialResponse` → [`ScramServer::client_first`] →
//!    `AuthenticationSASLContinue`; `SASLResponse` → [`ScramServer::client_final`] →
//!    `AuthenticationSASLFinal`, `AuthenticationOk`.
//!    [`Verifier::Md5`]: `AuthenticationMD5Password` with [`md5::salt`]; `PasswordMessage` →
//!    [`Md5Verifier::check`].
//! 3. An [`AuthError`] ends the session; [`AuthError::client_error`] is what it is told.
//!
//! Towards a server, where pgring is the client: [`ServerSecret`] and [`ScramClient`]. What a
//! user's pools have to log in with is on its [`Keyring`].
//!
//! Nothing here prints a secret: the types that hold one have a `Debug` without it.

mod failure;
mod keyring;
pub mod md5;
mod pass_through;
mod scram_client;
mod scram_server;
mod tls_binding;
mod verifier;

pub use failure::AuthError;
pub use keyring::{ClientKey, Keyring, ScramKeys};
pub use md5::Md5Verifier;
pub use scram_client::{ScramClient, ServerLoginError, ServerSecret};
pub use scram_server::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramServer};
pub use tls_binding::{BindingError, tls_server_end_point};
pub use verifier::{ScramVerifier, Verifier, VerifierError};
