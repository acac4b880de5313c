//! Opens sockets inside a container for forwards and agents.
