//! Our own keys: made once, kept in the state directory.
