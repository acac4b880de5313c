//! Forks tasks, and nothing else.
