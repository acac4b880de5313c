//! Decides who may enter what, and has it done.
