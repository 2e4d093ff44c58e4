//! The body of a `Bind`: its names, and that pgring's own `Bind` with the same names reads back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgring::wire::{self, BindNames, Buffer, HEADER_LEN};

fuzz_target!(|body: &[u8]| {
    let Ok(names) = BindNames::read(body) else { return };
    let rest = &body[names.rest_at..];
    let mut out = Buffer::new();
    wire::put_bind_head(&mut out, names.portal, names.statement, rest.len());
    out.put(rest);
    assert_eq!(out.filled()[HEADER_LEN..], *body);
    let found = wire::header(out.filled()).expect("a valid length").expect("a whole header");
    assert_eq!(found.len, out.len());
});
