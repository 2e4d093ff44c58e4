//! (room `txn`)
