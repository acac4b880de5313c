//! `backup`: a volume and dump backup streamer.
//!
//! The modules stand in the order bytes move: a job is turned into sources, sources are walked into
//! entries, file content is cut into chunks, chunks are packed into frames and packs, packs go to the
//! store, and a snapshot makes them a backup. Restore reads the same list from the bottom up.
#![forbid(unsafe_code)]

pub mod entry;

pub mod beneath;
pub mod exclude;
pub mod source_file;
pub mod walk;

pub mod stream;
pub mod tar_writer;

pub mod chunk;
pub mod pack;
pub mod index;
pub mod snapshot;
pub mod tree;
pub mod store;
pub mod repository;
pub mod cache;

pub mod create;
