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
/// Numbers in the text of OpenMetrics.
#[cfg(feature = "status")]
pub mod exposition;
/// What a `doctor` found.
pub mod finding;
/// Requests over HTTP and their answers.
#[cfg(feature = "http")]
pub mod http;
/// Object storage: a directory, S3, SFTP and others.
pub mod object;
/// Percent-escapes of URLs.
pub mod percent;
/// What a long run has done so far, for a terminal, a log or a machine.
pub mod progress;
/// Sizes and durations as people write them.
pub mod quantity;
/// How long to wait before trying again.
pub mod retry;
/// Text that must not be printed and does not stay in memory.
pub mod secret;
/// The HTTP server of everything that is served.
#[cfg(feature = "status")]
pub mod server;
/// Configuration files in TOML, with the place of every fault.
#[cfg(feature = "settings")]
pub mod settings;
/// The protocol SFTP: its numbers and its fields.
pub mod sftp;
/// Signals into one cancellation token; a good first process.
pub mod shutdown;
/// How a run is doing, for machines that ask over HTTP.
#[cfg(feature = "status")]
pub mod status;
/// Diagnostics to standard error.
pub mod telemetry;
/// Texts with placeholders.
pub mod template;
/// TLS to servers: whom to trust, and who we are.
#[cfg(feature = "tls")]
pub mod tls;
