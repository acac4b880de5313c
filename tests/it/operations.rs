//! Any sequence of changes: every snapshot restores to the tree as it was, byte for byte.

use e2e::compare::{Ignore, differences};
use e2e::model::{apply, operations};
use e2e::sandbox::Sandbox;
use proptest::prelude::*;

use crate::tool::Repo;

/// Sequences tried in a run of the suite; `CHORES_SOAK` multiplies them.
const CASES: u32 = 10;

/// The factor by which a soak run does more than an ordinary one.
pub(crate) fn soak_factor() -> u32 {
    std::env::var("CHORES_SOAK").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES.saturating_mul(soak_factor()),
        // A failing sequence is printed in full: that is what goes into a test of its own.
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_snapshot_restores_to_what_was_there(operations in operations(24)) {
        let sandbox = Sandbox::new();
        let source = sandbox.directory("source");
        let repo = Repo::directory(&sandbox);
        let mut remembered = Vec::new();
        for operation in &operations {
            if let Some(tree) = apply(&source, operation) {
                // An empty source is a warning of its own; the model's root is never the point.
                let finished = repo.try_create([&source]);
                prop_assert!(matches!(finished.code(), Some(0 | 3)), "{}", finished);
                remembered.push((crate::tool::Created::of(&finished).snapshot, tree));
            }
        }
        repo.check_clean();
        for (number, (snapshot, tree)) in remembered.iter().enumerate() {
            let restored = repo.restored(snapshot, &sandbox.path(format!("target-{number}")));
            let found = differences(tree, &restored, Ignore::default());
            prop_assert!(found.is_empty(), "snapshot {} of {}: {:#?}", number + 1, remembered.len(), found);
        }
    }
}
