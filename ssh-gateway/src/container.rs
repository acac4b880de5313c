//! What the engine and the runtime say about a container, and what confinement follows.
