//! Sorting, aggregating and limiting row streams of several shards; pure.
//!
//! Empty until statements for several shards are served: they are refused with `0A000`
//! (see [`crate::route`]).
