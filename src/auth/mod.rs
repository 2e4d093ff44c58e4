//! (room `auth`)
