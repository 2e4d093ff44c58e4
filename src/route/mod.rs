//! (shape, parameters, topology, hints) → where a statement runs. Pure.
