//! (room `app`)

pub mod check;
pub mod schema;
