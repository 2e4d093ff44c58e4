//! Why a client was not let in: what the log gets, and what the client is told.

use crate::error::{ClientError, SqlState};

/// Why a client was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// The proof does not fit, or the user does not exist: these must not be told apart.
    #[error("wrong password or unknown user")]
    Refused,
    /// A mechanism that was not offered.
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// Not what RFC 5802 says the message looks like.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// The client speaks `-PLUS` and believes we do not, though we offered it: someone
    /// between us took the offer out.
    #[error("the client supports channel binding but did not see the server's offer of it")]
    Downgrade,
    /// The client is at the other end of another TLS session than ours.
    #[error("SCRAM channel binding check failed")]
    BindingMismatch,
    /// Another kind of channel binding than `tls-server-end-point`.
    #[error("unsupported channel binding type")]
    BindingType,
    /// The client asks to act as somebody else.
    #[error("SCRAM authorization identity is not supported")]
    AuthorizationIdentity,
    /// The second message is not about the first.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// A message came after the exchange was over.
    #[error("SCRAM message out of order")]
    OutOfOrder,
}

impl AuthError {
    /// What the client is told; the codes and words are those of PostgreSQL's `auth-scram.c`.
    pub fn client_error(&self, user: &str) -> ClientError {
        match self {
            AuthError::Refused => ClientError::fatal(
                SqlState::PASSWORD,
                format!("password authentication failed for user \"{user}\""),
            ),
            AuthError::Mechanism => {
                ClientError::protocol("client selected an invalid SASL authentication mechanism")
            }
            AuthError::Malformed(detail) => {
                ClientError::protocol("malformed SCRAM message").with_detail(*detail)
            }
            AuthError::Downgrade => {
                ClientError::fatal(SqlState::NOT_ALLOWED, "SCRAM channel binding negotiation error")
                    .with_detail(
                        "The client supports SCRAM channel binding but thinks the server does not. \
                     However, this server does support channel binding.",
                    )
            }
            AuthError::BindingMismatch => {
                ClientError::fatal(SqlState::NOT_ALLOWED, "SCRAM channel binding check failed")
            }
            AuthError::BindingType => ClientError::protocol("unsupported SCRAM channel-binding type"),
            AuthError::AuthorizationIdentity => ClientError::fatal(
                SqlState::REFUSED,
                "client uses authorization identity, but it is not supported",
            ),
            AuthError::Nonce => {
                ClientError::protocol("invalid SCRAM response").with_detail("Nonce does not match.")
            }
            AuthError::OutOfOrder => {
                ClientError::protocol("malformed SCRAM message").with_detail("Unexpected message.")
            }
        }
    }
}
