//! Against RFC 7677, against verifiers a PostgreSQL made, against the client of
//! `postgres_protocol`, and against messages nobody should send.

use super::*;
use crate::auth::{ServerLoginError, ServerSecret, Verifier};
use proptest::prelude::*;

/// RFC 7677, section 3: user `user`, password `pencil`.
const RFC_VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                            WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const RFC_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const RFC_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const RFC_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn scram(secret: &str) -> ScramVerifier {
    match Verifier::parse(secret) {
        Ok(Verifier::Scram(scram)) => scram,
        other => panic!("{other:?}"),
    }
}

fn rfc_server() -> ScramServer {
    ScramServer::new(&scram(RFC_VERIFIER), ChannelBinding::None)
}

fn end_point() -> ChannelBinding {
    ChannelBinding::TlsServerEndPoint(vec![7; 32])
}

/// A whole login: the client's error, or else the server's.
fn login(
    verifier: &ScramVerifier,
    password: &str,
    server_binding: ChannelBinding,
    client_binding: ChannelBinding,
) -> Result<&'static str, AuthError> {
    let mut server = ScramServer::new(verifier, server_binding);
    let mut client =
        ServerSecret::Password(password.to_owned()).scram(server.mechanisms(), &client_binding).unwrap();
    let (mechanism, first) = client.initial_response().unwrap();
    let server_first = server.client_first(mechanism, first)?;
    let server_final = server.client_final(client.server_first(&server_first).unwrap())?;
    assert!(!client.is_complete());
    client.server_final(&server_final).expect("the server proves that it knows the password");
    assert!(client.is_complete());
    Ok(mechanism)
}

#[test]
fn rfc_7677() {
    let mut server = rfc_server();
    let server_first = server.challenge(SCRAM_SHA_256, RFC_FIRST.as_bytes(), RFC_NONCE).unwrap();
    assert_eq!(
        server_first,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let server_final = server.client_final(RFC_FINAL.as_bytes()).unwrap();
    assert_eq!(server_final, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(server.client_final(RFC_FINAL.as_bytes()), Err(AuthError::OutOfOrder));
}

/// `pg_authid.rolpassword` as PostgreSQL 15 wrote it, and the password it was made from:
/// plain, changed by SASLprep, and left alone because SASLprep forbids it.
#[test]
fn verifiers_made_by_postgresql() {
    for (secret, password) in [
        (
            "SCRAM-SHA-256$4096:CsybQJ6LN977KgTy2Sps2w==$t4tNH+nTotooHAggNAeBBM4OYL31L1oYovg2mbhuoU8=:\
             VLX1zl5KFYuC+1Hx/y9PHkGEK/UJEi9Ugagvo5MkH0Y=",
            "secret",
        ),
        (
            "SCRAM-SHA-256$4096:RyHqHV4ppscnprZkOOtBFw==$7BYRcOrOnq7IAbRdpflO7O/Ql1OZOOa43IoJ8ZLF/dg=:\
             6lLS5zWb2JMDlXDkXhZtCWOKjsZAoTFOWsi2MXUvklc=",
            "pa\u{AD}ss\u{A0}w\u{F6}rd\u{FB01}",
        ),
        (
            "SCRAM-SHA-256$4096:l+zonCSNja/y0z6ebm7RiA==$GdmjoGpph6D5RL+9mpSv7SkGYtFsZ+8ZRNIZZlHXPM0=:\
             Sjuf8gvnjJR3RilvVuls+7+yEkTLgAD3x0ZoG+0rmbg=",
            "bad\u{7}control",
        ),
    ] {
        let verifier = scram(secret);
        assert_eq!(login(&verifier, password, ChannelBinding::None, ChannelBinding::None), Ok(SCRAM_SHA_256));
        assert_eq!(
            login(&verifier, "other", ChannelBinding::None, ChannelBinding::None),
            Err(AuthError::Refused)
        );
    }
}

#[test]
fn logins() {
    use ChannelBinding::None as Plain;
    let other_end_point = ChannelBinding::TlsServerEndPoint(vec![8; 32]);
    let verifier = scram("sécret");
    let Verifier::Scram(mock) = Verifier::mock("nobody", b"process") else { panic!("a mock is SCRAM") };
    let check = |verifier, password, server, client, expect| {
        assert_eq!(login(verifier, password, server, client), expect);
    };
    check(&verifier, "sécret", Plain, Plain, Ok(SCRAM_SHA_256));
    check(&verifier, "sécret", end_point(), end_point(), Ok(SCRAM_SHA_256_PLUS));
    // The client cannot bind: allowed, since it is not the one who claims a downgrade.
    check(&verifier, "sécret", end_point(), Plain, Ok(SCRAM_SHA_256));
    // The client could bind, and we did not offer it: `y`.
    check(&verifier, "sécret", Plain, end_point(), Ok(SCRAM_SHA_256));
    check(&verifier, "secret", Plain, Plain, Err(AuthError::Refused));
    check(&verifier, "secret", end_point(), end_point(), Err(AuthError::Refused));
    check(&verifier, "", Plain, Plain, Err(AuthError::Refused));
    check(&mock, "", Plain, Plain, Err(AuthError::Refused));
    check(&mock, "sécret", Plain, Plain, Err(AuthError::Refused));
    check(&mock, "sécret", end_point(), end_point(), Err(AuthError::Refused));
    // Someone in the middle, with a certificate of their own.
    check(&verifier, "sécret", end_point(), other_end_point, Err(AuthError::BindingMismatch));
}

#[test]
fn first_messages() {
    use ChannelBinding::None as Plain;
    let out_of_order = AuthError::Malformed("An attribute is missing or out of order.");
    let early = AuthError::Malformed("The message ends early.");
    let unprintable = AuthError::Malformed("Non-printable characters in SCRAM nonce.");
    let mandatory = AuthError::Malformed("The client requires an unsupported SCRAM extension.");
    let long = format!("n,,n=,r={}", "x".repeat(MAX_MESSAGE));
    let check = |binding: ChannelBinding, mechanism: &str, message: &[u8], expect: Result<(), AuthError>| {
        let mut server = ScramServer::new(&scram(RFC_VERIFIER), binding);
        let found = server.client_first(mechanism, message);
        assert_eq!(found.map(drop), expect, "{mechanism} {:?}", String::from_utf8_lossy(message));
        if expect.is_err() {
            assert_eq!(server.client_first(SCRAM_SHA_256, b"n,,n=,r=abc"), Err(AuthError::OutOfOrder));
            assert_eq!(server.client_final(RFC_FINAL.as_bytes()), Err(AuthError::OutOfOrder));
        }
    };
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc", Ok(()));
    check(Plain, SCRAM_SHA_256, b"y,,n=,r=abc", Ok(()));
    check(Plain, SCRAM_SHA_256, b"n,,n=any=2Cbody,r=abc", Ok(()));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc,x=ignored,y=too", Ok(()));
    check(end_point(), SCRAM_SHA_256, b"n,,n=,r=abc", Ok(()));
    check(end_point(), SCRAM_SHA_256_PLUS, b"p=tls-server-end-point,,n=,r=abc", Ok(()));

    check(Plain, SCRAM_SHA_256_PLUS, b"p=tls-server-end-point,,n=,r=abc", Err(AuthError::Mechanism));
    check(Plain, "SCRAM-SHA-1", b"n,,n=,r=abc", Err(AuthError::Mechanism));
    check(Plain, "scram-sha-256", b"n,,n=,r=abc", Err(AuthError::Mechanism));
    check(Plain, "", b"n,,n=,r=abc", Err(AuthError::Mechanism));
    check(end_point(), SCRAM_SHA_256, b"y,,n=,r=abc", Err(AuthError::Downgrade));
    check(end_point(), SCRAM_SHA_256_PLUS, b"p=tls-unique,,n=,r=abc", Err(AuthError::BindingType));
    check(end_point(), SCRAM_SHA_256_PLUS, b"p=,,n=,r=abc", Err(AuthError::BindingType));
    for message in [&b"n,,n=,r=abc"[..], b"y,,n=,r=abc"] {
        check(
            end_point(),
            SCRAM_SHA_256_PLUS,
            message,
            Err(AuthError::Malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            )),
        );
    }
    for binding in [Plain, end_point()] {
        check(
            binding,
            SCRAM_SHA_256,
            b"p=tls-server-end-point,,n=,r=abc",
            Err(AuthError::Malformed(
                "The client selected SCRAM-SHA-256 without channel binding, \
             but the SCRAM message includes channel binding data.",
            )),
        );
    }
    check(
        Plain,
        SCRAM_SHA_256,
        b"x,,n=,r=abc",
        Err(AuthError::Malformed("Unexpected channel-binding flag.")),
    );
    check(Plain, SCRAM_SHA_256, b",,n=,r=abc", Err(AuthError::Malformed("Unexpected channel-binding flag.")));
    check(Plain, SCRAM_SHA_256, b"n,a=root,n=,r=abc", Err(AuthError::AuthorizationIdentity));
    check(
        Plain,
        SCRAM_SHA_256,
        b"n,b=root,n=,r=abc",
        Err(AuthError::Malformed("Unexpected attribute before the user name.")),
    );
    check(Plain, SCRAM_SHA_256, b"", Err(AuthError::Malformed("The message is empty.")));
    check(Plain, SCRAM_SHA_256, b"n", Err(early));
    check(Plain, SCRAM_SHA_256, b"n,", Err(early));
    check(Plain, SCRAM_SHA_256, b"n,,", Err(out_of_order));
    check(Plain, SCRAM_SHA_256, b"n,,n=", Err(early));
    check(Plain, SCRAM_SHA_256, b"n,,r=abc,n=", Err(out_of_order));
    check(Plain, SCRAM_SHA_256, b"n,,n=,n=,r=abc", Err(out_of_order));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=", Err(unprintable));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=a b", Err(unprintable));
    check(Plain, SCRAM_SHA_256, "n,,n=,r=é".as_bytes(), Err(unprintable));
    check(Plain, SCRAM_SHA_256, b"n,,m=x,n=,r=abc", Err(mandatory));
    check(Plain, SCRAM_SHA_256, b"n,,n=,m=x,r=abc", Err(mandatory));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc,m=x", Err(mandatory));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc,r=def", Err(out_of_order));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc,", Err(AuthError::Malformed("Attribute expected.")));
    check(Plain, SCRAM_SHA_256, b"n,,n=,r=abc,1=x", Err(AuthError::Malformed("Attribute expected.")));
    check(Plain, SCRAM_SHA_256, b"n,,n=\xff,r=abc", Err(AuthError::Malformed("The message is not UTF-8.")));
    check(
        Plain,
        SCRAM_SHA_256,
        b"n,,n=,r=abc\0",
        Err(AuthError::Malformed("Message length does not match input length.")),
    );
    check(Plain, SCRAM_SHA_256, long.as_bytes(), Err(AuthError::Malformed("The message is too long.")));
}

#[test]
fn final_messages() {
    let out_of_order = AuthError::Malformed("An attribute is missing or out of order.");
    let proof = AuthError::Malformed("Malformed proof in client-final-message.");
    let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let check = |message: String, expect: AuthError| {
        let mut server = rfc_server();
        server.challenge(SCRAM_SHA_256, RFC_FIRST.as_bytes(), RFC_NONCE).unwrap();
        assert_eq!(server.client_final(message.as_bytes()), Err(expect), "{message}");
        assert_eq!(server.client_final(RFC_FINAL.as_bytes()), Err(AuthError::OutOfOrder));
    };
    let edited = |from: &str, to: &str| {
        let message = RFC_FINAL.replacen(from, to, 1);
        assert_ne!(message, RFC_FINAL);
        message
    };
    check(edited("c=biws", "c=eSws"), AuthError::BindingMismatch);
    check(edited("c=biws", "c="), AuthError::BindingMismatch);
    check(edited("c=biws", "c=????"), AuthError::BindingMismatch);
    check(edited("c=biws,", ""), out_of_order);
    check(edited("c=biws,", "d=biws,"), out_of_order);
    check(format!("{nonce},c=biws,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), out_of_order);
    check(edited("r=rOpr", "r=rOpR"), AuthError::Nonce);
    check(edited("$k0", "$k"), AuthError::Nonce);
    check(edited("$k0", "$k0x"), AuthError::Nonce);
    check(edited("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", ""), AuthError::Nonce);
    check(edited("p=dHzb", "p=dHzc"), AuthError::Refused);
    check(edited("p=dHzb", "x=ext,p=dHzb"), AuthError::Refused);
    check(
        edited("p=dHzb", "m=ext,p=dHzb"),
        AuthError::Malformed("The client requires an unsupported SCRAM extension."),
    );
    check(edited("p=dHzb", "p=dHzb,p=dHzb"), out_of_order);
    check(edited("VQ=", "VQ"), proof);
    check(edited("VQ=", "VQ=,x=y"), proof);
    check(edited("dHzb", ""), proof);
    check(edited("dHzb", "dHzbdHzb"), proof);
    check(edited("dHzb", "d zb"), proof);
    check(edited(",p=", ",q="), AuthError::Malformed("The proof is missing."));
    check("".into(), AuthError::Malformed("The message is empty."));
    check("p=".into(), AuthError::Malformed("The proof is missing."));
    check(",p=".into(), out_of_order);
    check(format!("{RFC_FINAL}\0"), AuthError::Malformed("Message length does not match input length."));
    check(
        format!("c=biws,{nonce}{},p=", "x".repeat(MAX_MESSAGE)),
        AuthError::Malformed("The message is too long."),
    );
}

#[test]
fn each_exchange_has_its_own_nonce() {
    let challenge = || rfc_server().client_first(SCRAM_SHA_256, RFC_FIRST.as_bytes()).unwrap();
    assert_ne!(challenge(), challenge());
    // A recorded login is worth nothing against it.
    let mut server = rfc_server();
    server.client_first(SCRAM_SHA_256, RFC_FIRST.as_bytes()).unwrap();
    assert_eq!(server.client_final(RFC_FINAL.as_bytes()), Err(AuthError::Nonce));
}

#[test]
fn a_final_message_first() {
    assert_eq!(rfc_server().client_final(RFC_FINAL.as_bytes()), Err(AuthError::OutOfOrder));
}

#[test]
fn an_unknown_user_looks_like_a_known_one() {
    let Verifier::Scram(mock) = Verifier::mock("nobody", b"process") else { panic!("a mock is SCRAM") };
    let shape = |verifier: &ScramVerifier| {
        let mut server = ScramServer::new(verifier, ChannelBinding::None);
        let first = String::from_utf8(server.client_first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap()).unwrap();
        let fields: Vec<_> = first.split(',').map(|field| (field[..2].to_owned(), field.len())).collect();
        (fields, first.rsplit(',').next().unwrap().to_owned())
    };
    assert_eq!(shape(&mock), shape(&scram("secret")));
}

#[test]
fn what_the_client_is_told() {
    let check = |error: AuthError, code: &str, message: &str| {
        let told = error.client_error("joe");
        assert_eq!((told.code.as_str(), &*told.message), (code, message));
    };
    check(AuthError::Refused, "28P01", "password authentication failed for user \"joe\"");
    check(AuthError::Malformed("x"), "08P01", "malformed SCRAM message");
    check(AuthError::Nonce, "08P01", "invalid SCRAM response");
    check(AuthError::BindingMismatch, "28000", "SCRAM channel binding check failed");
    check(AuthError::Downgrade, "28000", "SCRAM channel binding negotiation error");
    check(
        AuthError::AuthorizationIdentity,
        "0A000",
        "client uses authorization identity, but it is not supported",
    );
}

mod towards_a_server {
    use super::*;

    #[test]
    fn a_verifier_is_not_a_password() {
        assert!(matches!(ServerSecret::parse(RFC_VERIFIER), Err(ServerLoginError::OnlyVerifier)));
        assert!(matches!(ServerSecret::parse("secret"), Ok(ServerSecret::Password(_))));
    }

    #[test]
    fn an_md5_hash_is_good_for_md5_only() {
        let secret = ServerSecret::parse("md5dadd59f82399fc4d7e313cb9972545cb").unwrap();
        let expect = crate::auth::md5::md5_hash(b"a4", b"secret", [1, 2, 3, 4]);
        assert_eq!(secret.md5_response("a4", [1, 2, 3, 4]).unwrap(), expect);
        assert_eq!(ServerSecret::Password("secret".into()).md5_response("a4", [1, 2, 3, 4]).unwrap(), expect);
        assert!(matches!(secret.cleartext(), Err(ServerLoginError::OnlyMd5(_))));
        assert!(matches!(
            secret.scram(&[SCRAM_SHA_256], &ChannelBinding::None),
            Err(ServerLoginError::OnlyMd5(_))
        ));
        assert!(!format!("{secret:?}").contains("dadd"));
    }

    #[test]
    fn the_strongest_mechanism() {
        use ChannelBinding::None as Plain;
        let check = |offered: &[&str], binding: ChannelBinding, expect: Option<(&str, &str)>| {
            let client = ServerSecret::Password("p".into()).scram(offered, &binding);
            let found = client.as_ref().ok().map(|client| {
                let (mechanism, message) = client.initial_response().unwrap();
                (mechanism, std::str::from_utf8(message).unwrap().split_once(',').unwrap().0)
            });
            assert_eq!(found, expect);
        };
        let both = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
        check(&both, end_point(), Some((SCRAM_SHA_256_PLUS, "p=tls-server-end-point")));
        check(&both, Plain, Some((SCRAM_SHA_256, "n")));
        check(&[SCRAM_SHA_256], end_point(), Some((SCRAM_SHA_256, "y")));
        check(&[SCRAM_SHA_256_PLUS], end_point(), Some((SCRAM_SHA_256_PLUS, "p=tls-server-end-point")));
        check(&[SCRAM_SHA_256_PLUS], Plain, None);
        check(&["OAUTHBEARER"], Plain, None);
        check(&[], Plain, None);
    }

    /// `ScramSha256::message` panics after a failed `update`; the wrapper does not get there.
    #[test]
    fn a_server_out_of_order() {
        let client =
            || ServerSecret::Password("p".into()).scram(&[SCRAM_SHA_256], &ChannelBinding::None).unwrap();

        let mut early = client();
        assert!(matches!(early.server_final(b"v=AAAA"), Err(ServerLoginError::OutOfOrder)));
        assert!(matches!(early.server_first(b"r=x"), Err(ServerLoginError::OutOfOrder)));

        let mut garbled = client();
        assert!(matches!(garbled.server_first(b"r=garbage"), Err(ServerLoginError::Scram(_))));
        assert!(matches!(garbled.server_first(b"r=garbage"), Err(ServerLoginError::OutOfOrder)));
        assert!(garbled.initial_response().is_err());
        assert!(matches!(garbled.server_final(b"v=AAAA"), Err(ServerLoginError::OutOfOrder)));
        assert!(!garbled.is_complete());
    }

    /// It accepts any proof, but cannot give one: it does not know the password.
    #[test]
    fn an_impostor() {
        let mut client =
            ServerSecret::Password("p".into()).scram(&[SCRAM_SHA_256], &ChannelBinding::None).unwrap();
        let (_, first) = client.initial_response().unwrap();
        let nonce = String::from_utf8(first.to_vec()).unwrap().rsplit_once("r=").unwrap().1.to_owned();
        client.server_first(format!("r={nonce}x,s=AAAA,i=4096").as_bytes()).unwrap();
        let guess = format!("v={}", STANDARD.encode([0; 32]));
        assert!(matches!(client.server_final(guess.as_bytes()), Err(ServerLoginError::Scram(_))));
        assert!(!client.is_complete());
    }
}

/// Bytes, and pieces of real messages in any order.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::sample::select(vec![
        "n",
        "y",
        ",",
        ",,",
        "=",
        "p=",
        "p=tls-server-end-point",
        "a=",
        "n=",
        "r=",
        "r=abc",
        "c=",
        "c=biws",
        "m=",
        "x=1",
        ",p=",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "\0",
        "é",
        "",
    ]);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn nothing_panics_and_nobody_gets_in(
        plus in any::<bool>(), bound in any::<bool>(), first in message(), second in message(),
    ) {
        let verifier = scram(RFC_VERIFIER);
        let binding = if bound { end_point() } else { ChannelBinding::None };
        let mechanism = if plus { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 };
        let mut server = ScramServer::new(&verifier, binding.clone());
        let _ = server.client_first(mechanism, &first);
        prop_assert!(server.client_final(&second).is_err());

        let mut server = ScramServer::new(&verifier, ChannelBinding::None);
        server.client_first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap();
        prop_assert!(server.client_final(&second).is_err());

        let mut client = ServerSecret::Password("p".into()).scram(&[SCRAM_SHA_256], &binding).unwrap();
        prop_assert!(client.server_first(&first).is_err());
        prop_assert!(client.server_final(&second).is_err());
    }

    #[test]
    fn one_changed_byte_is_refused(at in 0..RFC_FINAL.len(), to in any::<u8>()) {
        let mut message = RFC_FINAL.as_bytes().to_vec();
        prop_assume!(message[at] != to);
        message[at] = to;
        let mut server = rfc_server();
        server.challenge(SCRAM_SHA_256, RFC_FIRST.as_bytes(), RFC_NONCE).unwrap();
        prop_assert!(server.client_final(&message).is_err());
    }

    #[test]
    fn secrets_never_panic(secret in "(SCRAM-SHA-256\\$|md5)[ -~]{0,60}") {
        let _ = ScramVerifier::parse(&secret);
        let _ = ServerSecret::parse(&secret);
    }
}
