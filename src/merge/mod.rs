//! (room `merge`)
