//! Entering a container: one file for each part of what makes a process one of the container.

pub mod sys;
