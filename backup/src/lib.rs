//! `backup`: a volume and dump backup streamer.
//!
//! The modules stand in the order bytes move: a job is turned into sources, sources are walked into
//! entries, file content is cut into chunks, chunks are packed into frames and packs, packs go to the
//! store, and a snapshot makes them a backup. Restore reads the same list from the bottom up.
#![forbid(unsafe_code)]

pub mod entry;

// Sources.
pub mod mounts;

pub mod beneath;
pub mod exclude;

pub mod walk;

pub mod source_file;

// One plain archive.
pub mod tar_writer;

pub mod stream;

// The repository.
pub mod chunk;
pub mod pack;

pub mod index;
pub mod snapshot;

pub mod tree;

pub mod store;

pub mod repository;

// Into it.
pub mod cache;

pub mod create;

// And back.
pub mod reader;
pub mod target;

pub mod restore;

// Is all well?
pub mod check;

pub mod doctor;
