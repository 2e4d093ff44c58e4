//! (room `backend`)
