//! `docker exec` and the hop side by side.
