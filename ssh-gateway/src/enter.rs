//! Entering a container: one file for each part of what makes a process one of the container.
//!
//! ```text
//! task        C1  outside: pins, opens, proves, ends the session
//! cross       CX  outside, for a moment: joins cgroups and namespaces, closes all that is the host's, forks
//! supervise   C2  inside: forks, gives up everything, collects
//! program     C3  inside: terminal, user, limits, filter, capabilities, and becomes the program
//! ```
//!
//! What is opened after the mount namespace was joined is in the hands of the container.

// What the three say to each other.
pub mod step;

// Which container, and what it is confined by.
pub mod cgroup;
pub mod limits;
pub mod namespaces;
pub mod pin;

// What a process takes on, in order.
pub mod keyring;
pub mod lsm;
pub mod scheduling;

pub mod account;
pub mod environment;
pub mod pty;
pub mod stdio;
pub mod toolbox;

pub mod capabilities;
pub mod seccomp;

// The processes.
pub mod command;
pub mod cross;
pub mod program;
pub mod supervise;
pub mod verify;

pub mod sys;
