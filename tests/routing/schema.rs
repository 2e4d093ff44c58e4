//! Hints, keys of other types, and tables that come and go.
