//! (room `session`)
