//! (room `pool`)

pub mod health;
