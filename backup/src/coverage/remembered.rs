//! What snapshots of this host tell of it, where its engine cannot be asked (pure).

use std::collections::BTreeSet;

use super::decide::Recorded;
use super::hosts::{Judge, Origin};
use super::inventory::{DataSource, Identity, Inventory, What};

/// What this host had when it was saved. What was never saved is not in it.
#[must_use]
pub(super) fn remembered<'r>(
    history: impl Iterator<Item = &'r Recorded>,
    judge: &Judge<'_>,
) -> Inventory {
    let mut inventory = Inventory::default();
    let ours = history.filter(|known| judge.origin(&known.snapshot) == Origin::This);
    for known in ours {
        let snapshot = &known.snapshot;
        for dump in &snapshot.dumps {
            let Some(container) = &dump.container else { continue };
            let identity = Identity { name: container.name.clone(), ..Identity::default() };
            take(&mut inventory, What::Database { kind: Some(dump.kind), container: identity });
        }
        let is_dump = |path: &str| snapshot.dumps.iter().any(|dump| dump.path == path);
        for source in snapshot.sources.iter().filter(|source| !is_dump(&source.path)) {
            take(
                &mut inventory,
                match &source.volume {
                    Some(volume) if volume.kind == "volume" => {
                        What::Volume { name: volume.name.clone(), mountpoint: String::new() }
                    }
                    Some(volume) => What::Bind { path: volume.name.clone() },
                    None => What::Bind { path: source.path.clone() },
                },
            );
        }
    }
    inventory
}

fn take(inventory: &mut Inventory, what: What) {
    if inventory.sources.iter().all(|source| source.what != what) {
        inventory.sources.push(DataSource {
            what,
            users: Vec::new(),
            places: BTreeSet::new(),
            real: None,
            database: None,
            left_out: None,
            remarks: Vec::new(),
        });
    }
}
