//! (room `demo`)
