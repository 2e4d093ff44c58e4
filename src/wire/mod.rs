//! (room `wire`)
