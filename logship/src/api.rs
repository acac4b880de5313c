//! The engine's log API as a source: for containers whose files this process cannot see.

pub mod frames;

pub mod resume;
pub mod rotation;

pub mod follow;
