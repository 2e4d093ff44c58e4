//! What PgBouncer fell over (CVE-2026-6664, 6665, 6666): malformed SCRAM messages and start-up
//! packets, against users of the file, of the database, and nobody.

use pgring::demo::sample::APP;

use crate::stage::{Stage, outcome};
use crate::support::raw::{Raw, SILENCE, V3_0, message, packet, startup};

/// A `SASLInitialResponse`.
fn initial(data: &[u8]) -> Vec<u8> {
    let len = i32::try_from(data.len()).unwrap().to_be_bytes();
    message(b'p', &[b"SCRAM-SHA-256\0", &len, data])
}

/// A message with another length than it has.
fn mislabelled(len: i32, body: &[u8]) -> Vec<u8> {
    [b"p", &len.to_be_bytes()[..], body].concat()
}

fn firsts() -> Vec<Vec<u8>> {
    let inner = |len: i32| message(b'p', &[b"SCRAM-SHA-256\0", &len.to_be_bytes(), b"n,,n=,r=abc"]);
    let mut all = vec![
        message(b'p', &[b"SCRAM-SHA-256"]),
        message(b'p', &[b"SCRAM-SHA-256\0"]),
        message(b'p', &[b"SCRAM-SHA-256\0\0\0"]),
        message(b'p', &[b"\0\0\0\0\x0bn,,n=,r=abc"]),
        message(b'p', &[b"\xff\xfe\0\0\0\0\x0bn,,n=,r=abc"]),
        message(b'p', &[b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc"]),
        inner(i32::MAX),
        inner(i32::MIN),
        inner(-1),
        inner(-2),
        inner(0),
        inner(10),
        inner(12),
        mislabelled(i32::MAX, b"SCRAM"),
        mislabelled(i32::MIN, b"SCRAM"),
        mislabelled(-1, b"SCRAM"),
        mislabelled(0, b"SCRAM"),
        mislabelled(3, b"SCRAM"),
        mislabelled(10_001, &[b'x'; 100]),
    ];
    for text in [
        &b""[..],
        b",",
        b",,",
        b",,,,,,,,",
        b"n",
        b"n,",
        b"n,,",
        b"n,,n",
        b"n,,n=",
        b"n,,n=,",
        b"n,,n=,r",
        b"n,,n=,r=",
        b"n,,n=,r=,",
        b"n,,n=,r=\x01",
        b"n,,n=,r=\xc3\xa9",
        b"n,,n=,r=\xff",
        b"n,,r=abc,n=",
        b"n,,m=x,n=,r=abc",
        b"n,,n=,r=abc,m=x",
        b"n,a=root,n=,r=abc",
        b"n,x=y,n=,r=abc",
        b"p=,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
        b"p=tls-server-end-point,,n=,r=abc",
        b"q,,n=,r=abc",
        b"y,,",
        b"n,,n=,r=a\0b",
        b"n,,n=,r=abc,=",
        b"n,,n=,r=abc,x",
        b"n,,n=,r=abc,\xff=y",
        b"\0\0\0",
        b"n=,n=,n=,n=",
    ] {
        all.push(initial(text));
    }
    all.push(initial(&[b"n,,n=,r=", &[b'a'; 1100][..]].concat()));
    all.push(initial(&[b"n,,n=", &[b'='; 9000][..], b",r=abc"].concat()));
    all
}

/// Second messages; `NONCE` is what the server has sent.
fn finals() -> Vec<Vec<u8>> {
    let proof = "A".repeat(43) + "=";
    let texts = [
        String::new(),
        ",".to_owned(),
        "c=biws".to_owned(),
        "c=biws,r=".to_owned(),
        "c=biws,r=NONCE".to_owned(),
        "c=biws,r=NONCE,p".to_owned(),
        "c=biws,r=NONCE,p=".to_owned(),
        "c=biws,r=NONCE,p=AAAA".to_owned(),
        "c=biws,r=NONCE,p=!!!!".to_owned(),
        format!("c=biws,r=NONCE,p={proof}"),
        format!("c=biws,r=NONCE,p={proof}{proof}"),
        format!("c=biws,r=NONCE,p={}", "A".repeat(900)),
        format!("c=,r=NONCE,p={proof}"),
        format!("c=!!!!,r=NONCE,p={proof}"),
        format!("c=eSws,r=NONCE,p={proof}"),
        format!("c=biws,r=other,p={proof}"),
        format!("c=biws,r=NONCEx,p={proof}"),
        format!("r=NONCE,c=biws,p={proof}"),
        format!("c=biws,r=NONCE,m=x,p={proof}"),
        format!("c=biws,r=NONCE,=,p={proof}"),
        format!(",p={proof}"),
        format!("p={proof}"),
        format!("c=biws,r=NONCE,p={proof},p={proof}"),
        format!("c=biws,r=NONCE,{}p={proof}", "x=y,".repeat(2000)),
    ];
    texts.into_iter().map(String::into_bytes).chain([b"\xff\xfe\xfd".to_vec(), vec![0; 50]]).collect()
}

fn start_ups() -> Vec<Vec<u8>> {
    let long = "n".repeat(9_900);
    let mut all: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"\0\0\0",
        b"user",
        b"user\0",
        b"user\0\0",
        b"\0user\0\0",
        b"user\0a",
        b"user\0\xff\xfe\0\0",
        b"\xff\0\xff\0\0",
        b"user\0a\0database\0\xc3\x28\0\0",
        b"user\0a\0\0\0",
        b"database\0d\0\0",
        b"user\0\0database\0\0\0",
        b"user\0a\0user\0b\0\0more",
    ]
    .iter()
    .map(|body| packet(&[&b"\0\x03\0\0"[..], body].concat()))
    .collect();
    for length in [0_u32, 1, 3, 4, 7, 8, 9, 10_001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        all.push([&length.to_be_bytes()[..], b"\0\x03\0\0user\0a\0\0"].concat());
    }
    all.push(startup(V3_0, &[("user", &long)]));
    all.push(startup(V3_0, &[("user", "a"), ("database", &long)]));
    all.push(startup(V3_0, &[("user", "a"), ("options", &"\\".repeat(9_000))]));
    all.push(startup(V3_0, &[("user", "a"), ("options", &"-c ".repeat(3_000))]));
    all.push(packet(&[&b"\0\x03\0\0"[..], &b"a\0b\0".repeat(2_000), b"user\0x\0\0"].concat()));
    all
}

#[test]
fn nobody_is_let_in_or_kept_out_by_bytes_that_mean_nothing() {
    let stage = Stage::reading_the_catalog(1);
    let role = stage.role("LOGIN PASSWORD 'p'");
    let mut innocent = stage.session(APP.name, APP.password);
    let address = stage.proxy.address();
    let refused = |mut raw: Raw, what: &[u8]| {
        raw.hang_up_sending();
        let rest = raw.rest();
        let shown = what.escape_ascii().to_string();
        assert!(rest.iter().all(|frame| frame.tag != SILENCE), "{shown}: silence");
        assert!(rest.iter().all(|frame| !(frame.tag == b'R' && frame.body == [0; 4])), "{shown}: let in");
    };
    for bytes in start_ups() {
        let mut raw = Raw::tcp(&address);
        let _ = raw.try_send(&bytes);
        refused(raw, &bytes);
    }
    for user in [APP.name, role.as_str(), "nobody"] {
        let begin = || {
            let mut raw = Raw::tcp(&address);
            raw.send(&startup(V3_0, &[("user", user), ("database", &stage.name)]));
            assert_eq!(raw.frame().tag, b'R');
            raw
        };
        for bytes in firsts() {
            let mut raw = begin();
            let _ = raw.try_send(&bytes);
            refused(raw, &bytes);
        }
        for data in finals() {
            let mut raw = begin();
            raw.send(&initial(b"n,,n=,r=abc"));
            let challenge = raw.frame();
            let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
            let nonce = text.split(',').next().unwrap().strip_prefix("r=").unwrap().to_owned();
            let data = match String::from_utf8(data) {
                Ok(text) => text.replace("NONCE", &nonce).into_bytes(),
                Err(bytes) => bytes.into_bytes(),
            };
            let _ = raw.try_send(&message(b'p', &[&data]));
            refused(raw, &data);
        }
        assert_eq!(innocent.value("SELECT 'undisturbed'"), "undisturbed");
    }
    assert_eq!(outcome(&stage.attempt(&role, "p").1), "in");
    assert_eq!(stage.proxy.get("/healthz").0, 200);
    assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log());
}
