//! `backup serve`: all jobs of a host, by themselves, for as long as it runs.
//!
//! ```text
//! containers → watch → discover ┐
//! configuration  →  settings    ├→ board → due → child ──→ this program again: create, dump, forget, drill, …
//! repository  →  learn          ┘    ↑                                      │
//!             scribe: state, health ←─┴──────────── outcome ←───────────────┘
//! ```
//! [`board`] decides and knows no clock, no process and no file; [`resident`] does. Each run is a process of its own, so that no
//! job can stop another one.

pub mod job;

pub mod settings;

pub mod discover;

pub mod due;

pub mod outcome;

pub mod report;

pub mod tell;

pub mod state;

pub mod learn;

pub mod numbers;

pub mod board;

pub mod health;

pub mod first;
pub mod parent;

mod child;
mod scribe;
mod watch;

pub mod resident;

#[cfg(test)]
pub(crate) mod fixtures;
