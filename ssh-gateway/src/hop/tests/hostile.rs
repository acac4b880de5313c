//! Containers that want something.
