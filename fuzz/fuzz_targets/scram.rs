//! Both ends of SCRAM against a peer that says anything: nothing panics, nobody gets in. And
//! secrets and certificates that are none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgring::auth::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramServer, ScramVerifier, ServerSecret,
    tls_server_end_point,
};

/// RFC 7677, section 3.
const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                        wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fuzz_target!(|data: &[u8]| {
    let Some((&[flags, at], data)) = data.split_first_chunk::<2>() else { return };
    let (first, second) = data.split_at(usize::from(at).min(data.len()));
    let binding = match flags & 1 {
        0 => ChannelBinding::None,
        _ => ChannelBinding::TlsServerEndPoint(vec![7; 32]),
    };
    let mechanism = if flags & 2 == 0 { SCRAM_SHA_256 } else { SCRAM_SHA_256_PLUS };

    let verifier = ScramVerifier::parse(VERIFIER).expect("the RFC's own");
    let mut server = ScramServer::new(&verifier, binding.clone());
    let _ = server.client_first(mechanism, first);
    assert!(server.client_final(second).is_err());

    let mut client = ServerSecret::Password("pencil".to_owned())
        .scram(&[SCRAM_SHA_256, SCRAM_SHA_256_PLUS], &binding)
        .expect("both mechanisms are offered");
    let _ = client.server_first(first);
    assert!(client.server_final(second).is_err() && !client.is_complete());

    let _ = tls_server_end_point(data);
    if let Ok(secret) = std::str::from_utf8(data) {
        let _ = ScramVerifier::parse(secret);
        let _ = ServerSecret::parse(secret);
    }
});
