//! The end-to-end harness: everything the tests need from outside the suite.
//!
//! Modules stand from the plain to the compound: a private place to work, a process under test, the
//! container engine and images for it, object stores (a real one and one that fails on demand), trees
//! that hold every kind of metadata, a comparison that shares no code with what it judges, and the
//! naive model of a backup.
//!
//! The harness reports by panicking, because its callers are tests: every message names the command,
//! path or container concerned.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a harness fails the test that uses it, and says why"
)]

pub mod browser;
pub mod compare;
pub mod databases;
pub mod engine;
pub mod fake_collectors;
pub mod fake_engine;
pub mod fake_kafka;
pub mod fake_s3;
pub mod fault_proxy;
pub mod http_receiver;
mod http_server;
pub mod images;
pub mod janitor;
pub mod kafka_mock;
pub mod mail_server;
pub mod model;
pub mod nats_server;
pub mod notice;
pub mod object_store;
pub mod podman;
pub mod process;
pub mod random;
pub mod relay;
pub mod rsyslog;
pub mod runtime;
pub mod sandbox;
pub mod second_engine;
pub mod sequence;
pub mod sftp_server;
pub mod ssh_gateway;
pub mod tree;
pub mod wal;
pub mod watchdog;
pub mod webdav_server;
pub mod zoo;
