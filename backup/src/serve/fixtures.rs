//! Values that the tests of these modules share.

use chores_common::engine::{Container, Mount, MountKind};

use super::job::{Job, Names, Quiesce, What};
use super::report::Report;
use super::settings::Defaults;
use crate::chunk::ChunkId;
use crate::coverage::decide::Recorded;
use crate::forget::decide::Standing;
use crate::repository::tests::snapshot;
use crate::schedule::Cron;
use crate::snapshot::{Snapshot, SnapshotId};

pub(crate) fn names() -> Names {
    Names { host: "machine".to_owned(), engine: Some("E1".to_owned()), node: None, boot: None }
}

pub(crate) fn job(name: &str) -> Job {
    Job {
        name: name.to_owned(),
        by: None,
        what: What::Container { name: name.to_owned(), dump: None },
        still: Quiesce::default(),
        exclude: Vec::new(),
        schedule: Cron::nightly(),
        retain: None,
        drill: None,
        time_max_seconds: 3600,
        overdue_after_seconds: 7200,
    }
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        schedule: Cron::nightly(),
        retain: None,
        time_max_seconds: 3600,
        overdue_after_seconds: 7200,
        scope: None,
    }
}

/// Of a host where all is well and nothing is to be saved.
pub(crate) fn report(host: &str) -> Report {
    Report {
        time: "2026-11-30T14:00:00Z".parse().unwrap(),
        host: host.to_owned(),
        well: true,
        broken: Vec::new(),
        ailments: Vec::new(),
        notes: Vec::new(),
        jobs: Vec::new(),
        check: None,
        prune: None,
        repository: None,
    }
}

pub(crate) fn container(name: &str, labels: &[(&str, &str)]) -> Container {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Container {
        id: format!("{:0>64}", name.bytes().map(|byte| format!("{byte:x}")).collect::<String>()),
        name: name.to_owned(),
        image_id: "sha256:1".to_owned(),
        image_ref: "app:1".to_owned(),
        running: true,
        labels: labels.collect(),
        mounts: vec![volume("data", "/data")],
        started_at: Some("2026-11-01T00:00:00Z".to_owned()),
        ..Container::default()
    }
}

pub(crate) fn volume(name: &str, place: &str) -> Mount {
    Mount {
        kind: MountKind::Volume,
        name: Some(name.to_owned()),
        source: format!("/var/lib/docker/volumes/{name}/_data").into(),
        destination: place.into(),
        driver: Some("local".to_owned()),
        read_write: true,
    }
}

pub(crate) fn recorded(name: &str, host: &str, time: &str) -> Recorded {
    let snapshot = Snapshot { host: host.to_owned(), ..snapshot(name, time) };
    let hash = blake3::hash(format!("{name} {host} {time}").as_bytes());
    let id = *hash.as_bytes().first_chunk().unwrap();
    Recorded { id: SnapshotId(ChunkId(id)), snapshot, standing: Standing::Proved, drill: None }
}
