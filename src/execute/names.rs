//! Errors name prepared statements as the server knows them; clients know them by their own names.

use crate::backend::PreparedNames;
use crate::wire::{self, Buffer};

/// Who knows what a client calls its statements.
pub trait ClientNames {
    /// What it calls statement `id`, if it still has it.
    fn client_name(&self, id: u64) -> Option<&[u8]>;
}

/// Appends an `ErrorResponse`, with the client's names in the place of pgring's.
pub(super) fn put_by_clients_names(out: &mut Buffer, frame: &[u8], names: &dyn ClientNames) {
    if PreparedNames::find_in(frame).is_none() {
        out.put(frame);
        return;
    }
    wire::put_frame(out, frame[0], |out| {
        let mut rest = &frame[wire::HEADER_LEN..];
        while let Some((range, id)) = PreparedNames::find_in(rest) {
            out.put(&rest[..range.start]);
            out.put(names.client_name(id).unwrap_or(&rest[range.clone()]));
            rest = &rest[range.end..];
        }
        out.put(rest);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names;

    impl ClientNames for Names {
        fn client_name(&self, id: u64) -> Option<&[u8]> {
            (id == 7).then_some(b"mine")
        }
    }

    #[test]
    fn names_are_the_clients_own() {
        let check = |said: &str, told: &str| {
            let mut frame = Buffer::new();
            wire::put_frame(&mut frame, b'E', |out| out.put(said.as_bytes()));
            let mut expect = Buffer::new();
            wire::put_frame(&mut expect, b'E', |out| out.put(told.as_bytes()));
            let mut out = Buffer::new();
            put_by_clients_names(&mut out, frame.filled(), &Names);
            assert_eq!(out.filled(), expect.filled());
        };
        check("Mno\0\0", "Mno\0\0");
        check("M\"__pgring_7\" is\0D__pgring_7\0\0", "M\"mine\" is\0Dmine\0\0");
        check("M__pgring_8\0\0", "M__pgring_8\0\0");
    }
}
