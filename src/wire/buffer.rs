//! The bytes between a socket and the scanner.
//!
//! An idle session must cost next to nothing, so a [`Buffer`] owns memory only while it holds
//! bytes: slabs of [`SLAB`] bytes come from a small pool of the thread and go back to it.
//! Larger ones, for a frame that has to be seen whole, are freed.

use std::cell::RefCell;

/// What one read asks for, and the unit of the thread's pool.
pub const SLAB: usize = 16 * 1024;
/// A stream that fills whole slabs earns a larger one: fewer system calls per megabyte.
const STREAM: usize = 128 * 1024;
/// Spare slabs a thread keeps.
const SPARE: usize = 64;

thread_local! {
    static SLABS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A byte queue: filled at the end, consumed at the start.
#[derive(Default, Debug)]
pub struct Buffer {
    /// Always initialised to its full length: sockets read into the tail.
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Empty, and without memory.
    pub const fn new() -> Buffer {
        Buffer { data: Vec::new(), start: 0, end: 0 }
    }

    /// What is there.
    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// The same, to be changed where it lies.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.end]
    }

    /// How many bytes are there.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing there?
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `n` bytes off the start. An emptied buffer gives its memory back.
    ///
    /// # Panics
    /// If fewer are there.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consuming what is not there");
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.give_back();
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Room for a read, at least `at_least` bytes and as a rule more. What is read is made
    /// visible by [`Buffer::advance`].
    pub fn space(&mut self, at_least: usize) -> &mut [u8] {
        if self.data.is_empty() {
            self.data = SLABS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; SLAB]);
        }
        if self.data.len() - self.end < at_least.max(1) {
            self.make_room(at_least.max(1));
        }
        &mut self.data[self.end..]
    }

    /// `n` bytes were written to [`Buffer::space`].
    ///
    /// # Panics
    /// If the space was smaller.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.data.len() - self.end, "more read than there was room for");
        self.end += n;
    }

    /// After a read that may have brought nothing: an empty buffer holds no memory.
    pub fn settle(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            self.give_back();
        }
    }

    /// A read filled the buffer to the brim: the next one may ask for more at once.
    pub fn widen(&mut self) {
        if self.is_empty() && self.data.len() < STREAM {
            self.data = Vec::new();
        }
        if self.data.len() < STREAM {
            self.data.resize(STREAM, 0);
        }
    }

    /// Appends.
    pub fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.space(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Appends one after the other.
    pub fn put_all<const PARTS: usize>(&mut self, parts: [&[u8]; PARTS]) {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut space = &mut self.space(len)[..len];
        for part in parts {
            let (now, later) = space.split_at_mut(part.len());
            now.copy_from_slice(part);
            space = later;
        }
        self.end += len;
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Overwrites 4 bytes at `at`, counted from the start of what is there.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        let at = self.start + at;
        self.data[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    fn make_room(&mut self, at_least: usize) {
        if self.start > 0 && self.data.len() - self.len() >= at_least && self.start >= self.len() {
            self.data.copy_within(self.start..self.end, 0);
        } else {
            // Doubling keeps a frame of n bytes at O(n) copying.
            let wanted = (self.len() + at_least).max(self.data.len() * 2).next_power_of_two();
            let mut larger = vec![0; wanted];
            larger[..self.end - self.start].copy_from_slice(&self.data[self.start..self.end]);
            let old = std::mem::replace(&mut self.data, larger);
            keep(old);
        }
        self.end -= self.start;
        self.start = 0;
    }

    fn give_back(&mut self) {
        keep(std::mem::take(&mut self.data));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn keep(slab: Vec<u8>) {
    if slab.len() == SLAB {
        // A thread that is ending has no pool any more, and needs none.
        let _ = SLABS.try_with(|slabs| {
            let mut slabs = slabs.borrow_mut();
            if slabs.len() < SPARE {
                slabs.push(slab);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_buffer_owns_nothing() {
        let mut buffer = Buffer::new();
        buffer.put(b"hello");
        assert_eq!(buffer.filled(), b"hello");
        buffer.consume(5);
        assert_eq!(buffer.data.capacity(), 0);
        buffer.space(1);
        buffer.settle();
        assert_eq!(buffer.data.capacity(), 0);
    }

    proptest! {
        /// Whatever the order of puts and consumes, it is a queue.
        #[test]
        fn is_a_queue(ops in proptest::collection::vec((0usize..40_000, 0usize..50_000), 1..30)) {
            let mut buffer = Buffer::new();
            let mut model: Vec<u8> = Vec::new();
            let mut next = 0u8;
            for (put, take) in ops {
                let bytes: Vec<u8> = (0..put).map(|_| { next = next.wrapping_add(7); next }).collect();
                buffer.put(&bytes);
                model.extend(&bytes);
                let take = take.min(model.len());
                buffer.consume(take);
                model.drain(..take);
                prop_assert_eq!(buffer.filled(), &model[..]);
            }
        }
    }
}
