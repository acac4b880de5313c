//! Speaks SSH; decides nothing.
