//! What at least two of the Chores sidecars use, and nothing else.
//!
//! Each outside system has one door: the container engine is reached only through [`engine`],
//! object storage only through [`object`]. Types of foreign libraries stop at that door.

#![forbid(unsafe_code)]

/// What the command line of every sidecar has.
pub mod command_line;
/// Flags, environment and `*_FILE` twins into values; fails closed.
pub mod config;
/// Files that are whole or absent, even after a crash.
pub mod durable;
/// The container engine: containers, volumes, images, logs.
#[cfg(feature = "engine")]
pub mod engine;
/// Exit codes, and error chains as one line.
pub mod exit;
/// What a `doctor` found.
pub mod finding;
/// Object storage: a directory or S3.
pub mod object;
/// What a long run has done so far, for a terminal, a log or a machine.
pub mod progress;
/// Sizes and durations as people write them.
pub mod quantity;
/// How long to wait before trying again.
pub mod retry;
/// Text that must not be printed and does not stay in memory.
pub mod secret;
/// Configuration files in TOML, with the place of every fault.
#[cfg(feature = "settings")]
pub mod settings;
/// Signals into one cancellation token; a good first process.
pub mod shutdown;
/// Diagnostics to standard error.
pub mod telemetry;
