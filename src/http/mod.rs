//! (room `http`)
