//! What works on this machine, what is degraded, and what mends it.
