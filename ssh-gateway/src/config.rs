//! What it means: checked once.
