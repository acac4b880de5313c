//! How long a hop takes. Not a test of anything: `cargo test --release … hop::tests::bench -- --ignored`.
