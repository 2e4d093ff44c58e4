//! A stream of frames from a client, and one from a server: scanning always ends, and no body
//! is too strange to be looked at.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgring::wire::{self, HEADER_LEN};

fuzz_target!(|data: &[u8]| {
    walk(data, wire::client_header, |tag, body| match tag {
        b'Q' => drop(wire::query_text(body)),
        b'P' => drop(wire::Parse::read(body).map(|parse| parse.type_oids().count())),
        b'B' => drop(wire::BindNames::read(body)),
        b'C' | b'D' => drop(wire::Named::read(body)),
        b'E' => drop(wire::Execute::read(body)),
        _ => {}
    });
    walk(data, wire::header, |tag, body| match tag {
        b'C' => drop(wire::command_tag(body)),
        b'E' | b'N' => drop((wire::error_line(body), wire::error_field(body, b'C'))),
        b'K' => drop(wire::backend_key(body)),
        b'S' => drop(wire::parameter_status(body)),
        b'Z' => drop(wire::TxStatus::read(body)),
        _ => {}
    });
});

fn walk(
    mut data: &[u8],
    header: fn(&[u8]) -> Result<Option<wire::Header>, wire::FrameError>,
    read: impl Fn(u8, &[u8]),
) {
    while let Ok(Some(found)) = header(data) {
        assert!(found.len >= HEADER_LEN, "a frame that is shorter than its header never ends");
        let Some(frame) = data.get(..found.len) else { return };
        read(found.tag, &frame[HEADER_LEN..]);
        data = &data[found.len..];
    }
}
