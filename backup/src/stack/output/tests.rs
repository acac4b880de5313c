use std::collections::BTreeMap;

use super::*;
use crate::chunk::ChunkId;
use crate::snapshot::{Service, SnapshotId, SourceVolume, Stack, State};
use crate::stack::{Left, StackAt, VolumePick};

fn answer() -> Answer {
    let id = SnapshotId(ChunkId([0xab; 16]));
    let time: Timestamp = "2026-11-29T02:00:00Z".parse().unwrap();
    let from = Pick { id, name: "web".to_owned(), time, state: State::Complete };
    let recorded = SourceVolume {
        kind: "volume".to_owned(),
        name: "shop_data\u{1b}[31m".to_owned(),
        driver: "local".to_owned(),
        labels: BTreeMap::new(),
        options: BTreeMap::from([("device".to_owned(), "/etc".to_owned())]),
    };
    let pick = VolumePick {
        recorded: recorded.clone(),
        path: "/data".to_owned(),
        from,
        is_retired: false,
    };
    let step = Step { pick: pick.clone(), target: recorded.name, exists: false };
    let service = Service {
        service: "web".to_owned(),
        container: "shop-web-1".to_owned(),
        id: "1".to_owned(),
        image: "web:1".to_owned(),
        image_id: "sha256:1".to_owned(),
        volumes: BTreeMap::new(),
    };
    let stack = Stack {
        project: "shop".to_owned(),
        directory: Some("/srv/shop".to_owned()),
        files: vec!["/srv/shop/compose.yaml".to_owned()],
        services: vec![service],
    };
    let images = BTreeMap::from([("sha256:1".to_owned(), vec!["web@sha256:2".to_owned()])]);
    Answer {
        project: "shop".to_owned(),
        as_of: time,
        dry_run: true,
        choice: Choice {
            volumes: vec![pick],
            left: vec![Left { what: "path /srv".to_owned(), reason: "the host's own".to_owned() }],
            stack: Some(StackAt { id, time, stack, images }),
            ..Choice::default()
        },
        volumes: vec![Restored {
            what: step,
            amount: Amount { files: 1234, bytes: 5_000_000 },
            outcome: Outcome::Possible,
        }],
        dumps: Vec::new(),
        is_of_dumps: false,
    }
}

#[test]
fn people_see_names_options_images_and_what_is_left_and_no_terminal_is_told_anything() {
    let mut text = Vec::new();
    write_text(&answer(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in [
        "would restore the volume shop_data\\x1b[31m: 1,234 files, 5.0 MB from abababab of 2026-11-29T02:00:00Z, made with device=/etc",
        "left: path /srv: the host's own",
        "service web: container shop-web-1, image web:1 (sha256:1), web@sha256:2",
        "Compose files: /srv/shop/compose.yaml",
        "1 volumes would be restored; nothing was changed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(answer().has_left());
}

#[test]
fn programs_get_one_document() {
    let mut json = Vec::new();
    write_json(&answer(), &mut json).unwrap();
    let document: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(document["volumes"][0]["outcome"], "possible");
    assert_eq!(document["volumes"][0]["options"]["device"], "/etc");
    assert_eq!(document["stack"]["services"][0]["digests"][0], "web@sha256:2");
    assert_eq!(document["left"][0]["what"], "path /srv");
}
