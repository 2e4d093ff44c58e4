//! The first packet: whatever it holds, and what is read of it can be written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pgring::wire::{self, Buffer, Initial};

fuzz_target!(|data: &[u8]| {
    let Some((word, body)) = data.split_first_chunk::<4>() else { return };
    if let Ok(len) = wire::initial_len(*word) {
        assert!((8..=wire::STARTUP_LIMIT).contains(&len));
    }
    let Ok(Initial::Startup(startup)) = wire::initial(body) else { return };
    let parameters: Vec<(&str, &str)> =
        startup.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut out = Buffer::new();
    wire::put_startup(&mut out, &parameters);
    let Ok(Initial::Startup(again)) = wire::initial(&out.filled()[4..]) else {
        panic!("what was written is no start-up packet")
    };
    assert_eq!(again.parameters, startup.parameters);
});
