//! Enters a container the way the runtime's exec does.
