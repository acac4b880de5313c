//! The remote side of legacy scp, for containers without one.
