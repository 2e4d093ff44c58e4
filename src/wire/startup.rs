//! The packets before a session has messages: they have no tag (manual, section 55.7).

use super::Buffer;
use super::frontend::{cstr, put_cstr, put_frame};
use thiserror::Error;

/// The longest start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_LIMIT: usize = 10_000;

/// Protocol 3.2, the newest pgring speaks.
pub const NEWEST_MINOR: u16 = 2;

/// What a connection begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Initial {
    /// `SSLRequest`
    Tls,
    /// `GSSENCRequest`
    Gss,
    /// `CancelRequest`
    Cancel {
        /// The process id of the key.
        pid: u32,
        /// The rest of the key.
        secret: Vec<u8>,
    },
    /// `StartupMessage`
    Startup(Startup),
}

/// A `StartupMessage`, version 3.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Startup {
    /// The minor version asked for.
    pub minor: u16,
    /// Parameters in the client's order; names that begin with `_pq_.` are protocol options.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// A parameter's last value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why a first packet is not one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StartupError {
    /// A length outside 8 ..= 10,000.
    #[error("invalid length of startup packet")]
    Length,
    /// A protocol other than 3.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    /// A body that does not read.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A parameter that is not UTF-8.
    #[error("startup parameters are not valid UTF-8")]
    Encoding,
}

/// The length of the first packet, its length word included.
pub fn initial_len(word: [u8; 4]) -> Result<usize, StartupError> {
    match usize::try_from(u32::from_be_bytes(word)) {
        Ok(len) if (8..=STARTUP_LIMIT).contains(&len) => Ok(len),
        _ => Err(StartupError::Length),
    }
}

/// Reads a first packet after its length word.
pub fn initial(body: &[u8]) -> Result<Initial, StartupError> {
    let (code, rest) = body.split_first_chunk::<4>().ok_or(StartupError::Length)?;
    match u32::from_be_bytes(*code) {
        80_877_103 if rest.is_empty() => Ok(Initial::Tls),
        80_877_104 if rest.is_empty() => Ok(Initial::Gss),
        80_877_102 => match rest.split_first_chunk::<4>() {
            Some((pid, secret)) if (4..=256).contains(&secret.len()) => {
                Ok(Initial::Cancel { pid: u32::from_be_bytes(*pid), secret: secret.to_vec() })
            }
            _ => Err(StartupError::Length),
        },
        code => {
            let (major, minor) = ((code >> 16) as u16, (code & 0xffff) as u16);
            if major != 3 {
                return Err(StartupError::Version(major, minor));
            }
            Ok(Initial::Startup(Startup { minor, parameters: parameters(rest)? }))
        }
    }
}

fn parameters(mut rest: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Encoding);
    let mut parameters = Vec::new();
    loop {
        let name = cstr(&mut rest).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return if rest.is_empty() { Ok(parameters) } else { Err(StartupError::Layout) };
        }
        let value = cstr(&mut rest).ok_or(StartupError::Layout)?;
        parameters.push((text(name)?, text(value)?));
    }
}

/// `NegotiateProtocolVersion`: the newest minor version spoken here, and the protocol options
/// that are not known.
pub fn put_negotiate(out: &mut Buffer, minor: u16, unknown: &[&str]) {
    put_frame(out, b'v', |out| {
        out.put(&(0x0003_0000_u32 | u32::from(minor)).to_be_bytes());
        out.put(&u32::try_from(unknown.len()).expect("a start-up packet is short").to_be_bytes());
        for name in unknown {
            put_cstr(out, name.as_bytes());
        }
    });
}

/// A `StartupMessage` of protocol 3.0, as pgring sends it to servers.
pub fn put_startup(out: &mut Buffer, parameters: &[(&str, &str)]) {
    let at = out.len();
    out.put(&[0; 4]);
    out.put(&0x0003_0000_u32.to_be_bytes());
    for (name, value) in parameters {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value.as_bytes());
    }
    out.put_u8(0);
    let len = i32::try_from(out.len() - at).expect("a start-up packet is short");
    out.patch_i32(at, len);
}

/// `SSLRequest`.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn first_packets() {
        assert_eq!(initial(&SSL_REQUEST[4..]), Ok(Initial::Tls));
        assert_eq!(initial(&80_877_104_u32.to_be_bytes()), Ok(Initial::Gss));
        let mut out = Buffer::new();
        put_startup(&mut out, &[("user", "a"), ("database", "b"), ("user", "c")]);
        assert_eq!(initial_len(*out.filled().first_chunk().unwrap()), Ok(out.len()));
        let Ok(Initial::Startup(startup)) = initial(&out.filled()[4..]) else { panic!() };
        assert_eq!((startup.minor, startup.parameter("user"), startup.parameter("x")), (0, Some("c"), None));
        let cancel = crate::wire::cancel_request(7, &[1, 2, 3, 4]);
        assert_eq!(initial(&cancel[4..]), Ok(Initial::Cancel { pid: 7, secret: vec![1, 2, 3, 4] }));
    }

    #[test]
    fn what_is_no_first_packet() {
        assert_eq!(initial_len(*b"GET "), Err(StartupError::Length));
        assert_eq!(initial_len([0, 0, 0, 7]), Err(StartupError::Length));
        assert_eq!(initial(&[0, 2, 0, 0]), Err(StartupError::Version(2, 0)));
        assert_eq!(initial(&[0, 3, 0, 0]), Err(StartupError::Layout));
        assert_eq!(initial(&[0, 3, 0, 0, b'a', 0, 0xff, 0, 0]), Err(StartupError::Encoding));
        assert_eq!(initial(&[0, 3, 0, 0, 0, 0]), Err(StartupError::Layout));
        assert_eq!(initial(&cancel_without_secret()), Err(StartupError::Length));
    }

    fn cancel_without_secret() -> Vec<u8> {
        80_877_102_u32.to_be_bytes().into_iter().chain([0, 0, 0, 1]).collect()
    }

    proptest! {
        #[test]
        fn never_panics(body: Vec<u8>) {
            let _ = initial(&body);
        }
    }
}
