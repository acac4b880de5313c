//! The engine's log API as a source: for containers whose files this process cannot see.

pub mod frames;

pub mod resume;
pub mod rotation;

mod run_end;

pub mod follow;
