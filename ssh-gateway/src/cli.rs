//! What was typed: flags and their environment variables.
