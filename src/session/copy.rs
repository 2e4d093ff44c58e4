//! `CopyData`, `CopyDone`, `CopyFail`. Data are passed on by `io` as they come; here is what is
//! left: the end of a copy, and what comes too late for one.

use super::state::Session;
use crate::wire;

impl Session {
    /// Has the server give up a copy: while it waits for data it does not react to a cancel
    /// (`ProcessClientReadInterrupt`). False when it is in the middle of a message.
    pub(super) fn fail_copy(&mut self, why: &str) -> bool {
        let Some(held) = &mut self.held else { return false };
        if self.passing > 0 {
            return false;
        }
        wire::put_copy_fail(&mut held.lease.outbox, why.as_bytes());
        self.relay.copy_in_ended();
        true
    }

    pub(super) fn copy_message(&mut self, tag: u8, frame: &[u8]) {
        if !self.relay.is_copying_in() {
            // After a copy has failed the client's data may still be under way: ignored, as
            // PostgreSQL does (`PostgresMain`).
            return;
        }
        let Some(held) = &mut self.held else { return };
        held.lease.outbox.put(frame);
        if tag != b'd' {
            self.relay.copy_in_ended();
        }
    }
}
