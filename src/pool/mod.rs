//! (room `pool`)
