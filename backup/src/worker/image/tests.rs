use super::*;

fn listed(id: &str, tags: &[&str], age_s: u64, now: SystemTime) -> ListedImage {
    let created = now.duration_since(UNIX_EPOCH).unwrap().as_secs() - age_s;
    ListedImage {
        id: id.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        created,
    }
}

#[test]
fn only_old_images_that_nobody_else_named_are_removed_and_none_that_is_being_made() {
    let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let images = [
        listed("sha256:1", &["chores/backup-worker:aa"], 7200, now),
        listed("sha256:2", &["chores/backup-worker:bb"], 7200, now),
        listed("sha256:3", &["chores/backup-worker:cc"], 60, now),
        listed("sha256:4", &["chores/backup-worker:dd", "mine:1"], 7200, now),
        listed("sha256:5", &["chores/backup-worker-mine:1"], 7200, now),
        listed("sha256:6", &[], 60, now),
        listed("sha256:7", &[], 7200, now),
    ];
    let names = superseded(&images, "chores/backup-worker:bb", now);
    assert_eq!(names, ["chores/backup-worker:aa", "sha256:7"]);
}

#[test]
fn an_image_from_the_future_is_kept() {
    let now = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    let later = now + Duration::from_secs(100_000);
    let images = [listed("sha256:1", &["chores/backup-worker:aa"], 0, later)];
    assert_eq!(superseded(&images, "", now), Vec::<String>::new());
}

/// A 64-bit ELF header with one segment of this type right behind it.
fn elf(segment_type: u8) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = segment_type;
    bytes
}

#[test]
fn a_program_without_a_loader_is_static() {
    let is_static = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, bytes).unwrap();
        is_static(&file).unwrap()
    };
    assert!(is_static(&elf(1)));
    assert!(!is_static(&elf(3)));
    assert!(!is_static(&elf(1)[..60]), "a cut header");
    assert!(!is_static(&elf(1)[..66]), "a cut table");
    assert!(!is_static(b"#!/bin/sh\n"));
    let mut endless = elf(1);
    endless[32..40].fill(0xff);
    endless[54..58].fill(0xff);
    assert!(!is_static(&endless));
}

#[test]
fn the_context_is_the_recipe_and_the_program() {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, b"the program").unwrap();
    let tag = content_tag(&file).unwrap();
    assert_eq!(tag.len(), 16);
    assert!(blake3::hash(b"the program").to_hex().starts_with(&tag));
    let context = context(&file, 7).unwrap();
    let mut archive = tar::Archive::new(&*context);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let name = entry.path().unwrap().display().to_string();
        found.push((name, entry.header().mode().unwrap(), content));
    }
    let recipe = "FROM scratch\nLABEL chores.backup.worker-image.build=0000000000000007\n\
        COPY backup /backup\nENTRYPOINT [\"/backup\"]\nLABEL chores.backup.worker-image=1\n";
    assert_eq!(
        found,
        [
            ("Dockerfile".to_owned(), 0o644, recipe.to_owned()),
            ("backup".to_owned(), 0o755, "the program".to_owned())
        ]
    );
}
