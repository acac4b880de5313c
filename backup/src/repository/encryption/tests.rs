use std::fs;

use super::super::tests::{TestRepository, snapshot};
use super::super::{FORMAT_KEY, Operation};
use super::*;
use crate::check::{CheckOptions, check};
use crate::chunk::ChunkId;
use crate::index::IndexedPack;
use crate::pack::{Compressor, FrameBuilder, PackBuilder, PackIndex, PackKind};

/// A pack with one chunk, before it is encrypted.
fn built_pack(repository: &Repository, content: &[u8]) -> (Vec<u8>, PackIndex, ChunkId) {
    let mut compressor = Compressor::new(1).unwrap();
    let id = repository.key().id_of(content);
    let mut frame = FrameBuilder::default();
    frame.push(id, content);
    let mut builder = PackBuilder::new(PackKind::Data, Vec::new());
    builder.append(frame.seal(&mut compressor).unwrap());
    let (bytes, index) = builder.end(&mut compressor).unwrap();
    (bytes, index, id)
}

/// A pack with one chunk, stored.
fn stored_pack(repository: &Repository, content: &[u8]) -> (IndexedPack, ChunkId) {
    let (bytes, index, id) = built_pack(repository, content);
    let pack = repository.pack_of(bytes, index).unwrap();
    let indexed = IndexedPack::from(&pack);
    repository.put_pack(&pack.id, pack.bytes).unwrap();
    (indexed, id)
}

fn error_of(opened: Result<Repository, RepositoryError>) -> String {
    chores_common::exit::chain(&opened.unwrap_err())
}

#[test]
fn who_only_writes_stores_and_lists_and_reads_no_content() {
    let test = TestRepository::encrypted();
    let writer = &test.repository;
    assert!(writer.is_encrypted() && !writer.can_read());
    writer.permit(Operation::Write).unwrap();
    let (pack, _) = stored_pack(writer, b"hello, world\n");
    writer.put_index(std::slice::from_ref(&pack)).unwrap();
    let name = writer.put_snapshot(&snapshot("a", "2026-11-30T00:00:00Z")).unwrap();
    assert_eq!(writer.snapshot(&name).unwrap().name, "a");
    let (index, damaged) = writer.index_for_writing().unwrap();
    assert_eq!((index.packs().len(), damaged.len()), (1, 0));
    let error = writer.get_pack(&pack.id).unwrap_err();
    assert!(matches!(error, RepositoryError::NoIdentity(_)), "{error}");
    let error = writer.read_pack(pack.id, pack.bytes, 0..4).unwrap_err();
    assert!(matches!(error, RepositoryError::NoIdentity(_)), "{error}");
    let clear = test.readable().get_pack(&pack.id).unwrap();
    let part = test.readable().read_pack(pack.id, pack.bytes, 0..10).unwrap();
    assert_eq!(clear.get(..10), Some(&part[..]));
}

#[test]
fn nothing_of_the_store_shows_names_or_content() {
    let test = TestRepository::encrypted();
    let (pack, _) = stored_pack(&test.repository, b"a very well known text");
    test.repository.put_index(&[pack]).unwrap();
    test.repository.put_snapshot(&snapshot("the-name", "2026-11-30T00:00:00Z")).unwrap();
    let objects = test.objects("");
    assert_eq!(objects.len(), 4, "{objects:?}");
    let key = test.repository.key().to_hex();
    for path in objects {
        let bytes = fs::read(&path).unwrap();
        let shows = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        let path = path.display();
        assert!(!shows(b"the-name") && !shows(b"well known") && !shows(key.as_bytes()), "{path}");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let test = TestRepository::encrypted();
    let other = TestRepository::encrypted();
    let clear = TestRepository::new();
    let ring = test.repository.ring();
    assert!(matches!(
        test.open_with(KeyRing::default()).unwrap_err(),
        RepositoryError::Encrypted(_)
    ));
    assert!(matches!(clear.open_with(ring.clone()).unwrap_err(), RepositoryError::Clear(_)));
    let error = error_of(test.open_with(other.repository.ring()));
    assert!(error.contains("another repository"), "{error}");
    // Also where the same identity reads both.
    let both = KeyRing { identities: test.identities.clone(), ..other.repository.ring() };
    let error = error_of(test.open_with(both));
    assert!(error.contains("another repository"), "{error}");
    let strangers = KeyRing { identities: other.identities.clone(), ..KeyRing::default() };
    let error = error_of(test.open_with(strangers));
    assert!(error.contains("no identity that was given fits"), "{error}");
    let keys = ring.key_file.clone().unwrap();
    let forged = KeyFile { dedup: DedupKey::generate().unwrap(), ..keys };
    let forged = KeyRing { key_file: Some(forged), identities: test.identities.clone(), ..ring };
    assert!(error_of(test.open_with(forged)).contains("contradict"));
}

#[test]
fn who_only_reads_does_not_write() {
    let test = TestRepository::encrypted();
    let reader = test
        .open_with(KeyRing { identities: test.identities.clone(), ..KeyRing::default() })
        .unwrap();
    reader.permit(Operation::Read).unwrap();
    reader.permit(Operation::Delete).unwrap();
    let error = reader.permit(Operation::Write).unwrap_err();
    assert!(matches!(error, RepositoryError::NoKeyFile(_)), "{error}");
}

#[test]
fn a_changed_repo_json_is_refused_even_with_a_right_checksum() {
    let test = TestRepository::encrypted();
    let path = test.path().join(FORMAT_KEY);
    let sound = fs::read(&path).unwrap();
    let other = Identities::generate();
    let stranger = other.public().next().unwrap();
    let changes: [fn(&mut FormatFile, &str); 6] = [
        |format, _| format.chunker.seed = 1,
        |format, _| format.features.write.push("marks".to_owned()),
        |format, stranger| stranger.clone_into(&mut format.keys[0].recipient),
        |format, stranger| {
            let slot = format.keys[0].clone();
            format.keys.push(KeySlot { recipient: stranger.to_owned(), ..slot });
        },
        |format, _| format.encryption = None,
        |format, _| format.hash.key = Some("0".repeat(64)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        test.change_format(|format| change(format, &stranger));
        let error = test.open_with(test.repository.ring()).unwrap_err();
        assert!(matches!(error, RepositoryError::Keys(..)), "{number}: {error}");
        fs::write(&path, &sound).unwrap();
    }
    test.open_with(test.repository.ring()).unwrap();
}

#[test]
fn documents_are_bound_to_their_kind_and_name() {
    let test = TestRepository::encrypted();
    let one = test.repository.put_snapshot(&snapshot("a", "2026-11-30T00:00:00Z")).unwrap();
    let two = test.repository.put_snapshot(&snapshot("b", "2026-11-30T00:00:01Z")).unwrap();
    let place = |name: &crate::snapshot::SnapshotName| test.path().join(name.key());
    fs::copy(place(&one), place(&two)).unwrap();
    assert!(matches!(test.repository.snapshot(&two), Err(RepositoryError::Seal(..))));
    let moved =
        crate::snapshot::SnapshotName { time: "20991231T000000Z".to_owned(), ..one.clone() };
    fs::rename(place(&one), place(&moved)).unwrap();
    assert!(matches!(test.repository.snapshot(&moved), Err(RepositoryError::Seal(..))));
}

#[test]
fn a_clear_document_in_an_encrypted_repository_is_no_snapshot() {
    let test = TestRepository::encrypted();
    let clear = TestRepository::new();
    let name = clear.repository.put_snapshot(&snapshot("a", "2026-11-30T00:00:00Z")).unwrap();
    fs::create_dir_all(test.path().join("snapshots")).unwrap();
    fs::copy(clear.path().join(name.key()), test.path().join(name.key())).unwrap();
    assert_eq!(test.repository.snapshot_keys().unwrap(), (Vec::new(), vec![name.key()]));
}

fn change(test: &TestRepository, change: KeyChange<'_>) -> Result<KeyFile, RepositoryError> {
    test.repository.change_keys(change, Box::new(|_: &KeyFile| Ok(())))
}

#[test]
fn an_added_recipient_reads_what_comes_and_not_what_was() {
    let test = TestRepository::encrypted();
    let (before, _) = stored_pack(&test.repository, b"before");
    let added = Identities::generate();
    let public: Vec<_> = added.public().collect();
    let new = Recipients::parse(public.iter().map(String::as_str)).unwrap();
    let keys = change(&test, KeyChange::Add(new.clone())).unwrap();
    assert!(error_of(test.open_with(test.repository.ring())).contains("out of date"));
    let ring = KeyRing { key_file: Some(keys), identities: added, passphrase: None };
    let repository = test.open_with(ring).unwrap();
    assert_eq!(repository.key_holders().len(), 2);
    let (after, _) = stored_pack(&repository, b"after");
    repository.get_pack(&after.id).unwrap();
    let error = repository.get_pack(&before.id).unwrap_err();
    assert!(matches!(error, RepositoryError::Content(_, ContentError::Identity)), "{error}");
}

/// A recipient that is added to a repository, and the repository as a machine has it that saves from then on.
fn with_another(test: &TestRepository) -> (Identities, KeyRing) {
    let added = Identities::generate();
    let public: Vec<_> = added.public().collect();
    let new = Recipients::parse(public.iter().map(String::as_str)).unwrap();
    let keys = change(test, KeyChange::Add(new)).unwrap();
    (added, KeyRing { key_file: Some(keys), ..KeyRing::default() })
}

/// What a machine has after one more change.
fn after(test: &TestRepository, ring: KeyRing, change: KeyChange<'_>) -> KeyRing {
    let keep = Box::new(|_: &KeyFile| Ok(()));
    let keys = test.open_with(ring).unwrap().change_keys(change, keep).unwrap();
    KeyRing { key_file: Some(keys), ..KeyRing::default() }
}

#[test]
fn a_removed_recipient_reads_what_was_and_nothing_new() {
    let test = TestRepository::encrypted();
    let first = test.identities.public().next().unwrap();
    let error = change(&test, KeyChange::Remove(first.clone())).unwrap_err();
    assert!(chores_common::exit::chain(&error).contains("only recipient"), "{error}");
    let (before, _) = stored_pack(&test.repository, b"before");
    let old_keys = test.repository.ring().key_file.unwrap();
    let (_, ring) = with_another(&test);
    let ring = after(&test, ring, KeyChange::Remove(first));
    let writer = test.open_with(ring.clone()).unwrap();
    let (new, _) = stored_pack(&writer, b"after");
    let name = writer.put_snapshot(&snapshot("new", "2026-11-30T00:00:00Z")).unwrap();
    let removed = test.open_with(KeyRing { identities: test.identities.clone(), ..ring }).unwrap();
    removed.get_pack(&before.id).unwrap();
    let error = removed.get_pack(&new.id).unwrap_err();
    assert!(matches!(error, RepositoryError::Content(_, ContentError::Identity)), "{error}");
    // The keys he had open no document that came since.
    let sealed = fs::read(test.path().join(name.key())).unwrap();
    let kind = crate::keys::index_key::Kind::Snapshot;
    let opened = old_keys.index.open(kind, writer.id(), &name.key(), &sealed);
    assert!(matches!(opened, Err(crate::keys::index_key::SealError::UnknownKey(_))));
}

#[test]
fn who_saves_refers_to_nothing_that_is_encrypted_for_others_than_those_of_today() {
    let test = TestRepository::encrypted();
    let (before, id) = stored_pack(&test.repository, b"the same content");
    test.repository.put_index(&[before]).unwrap();
    let (_, ring) = with_another(&test);
    let writer = test.open_with(ring.clone()).unwrap();
    assert_eq!(writer.index_for_writing().unwrap().0.find(&id), None);
    let (now, _) = stored_pack(&writer, b"the same content");
    writer.put_index(&[now]).unwrap();
    assert!(writer.index_for_writing().unwrap().0.find(&id).is_some());
    // A rotation is for the same recipients, so nothing is stored anew.
    let rotated = test.open_with(after(&test, ring, KeyChange::Rotate)).unwrap();
    assert!(rotated.index_for_writing().unwrap().0.find(&id).is_some());
}

#[test]
fn an_index_that_is_written_again_does_not_come_into_another_epoch() {
    let test = TestRepository::encrypted();
    let (before, id) = stored_pack(&test.repository, b"content");
    test.repository.put_index(&[before]).unwrap();
    let (_, ring) = with_another(&test);
    let writer = test.open_with(ring).unwrap();
    let packs = writer.index_objects().unwrap().packs;
    let sealed_by = packs[0].sealed_by;
    assert!(sealed_by.is_some());
    for path in test.objects("index/") {
        fs::remove_file(path).unwrap();
    }
    writer.put_index_again(&packs, sealed_by).unwrap();
    assert_eq!(writer.index_objects().unwrap().packs, packs);
    assert_eq!(writer.index_for_writing().unwrap().0.find(&id), None);
}

#[test]
fn an_identity_that_a_passphrase_unlocks_stays_when_its_recipient_goes() {
    let test = TestRepository::encrypted();
    let passphrase = Secret::new("correct horse battery".to_owned());
    let (before, _) = stored_pack(&test.repository, b"before");
    let keys = change(&test, KeyChange::AddPassphrase(&passphrase)).unwrap();
    let ring = KeyRing { key_file: Some(keys), ..KeyRing::default() };
    let writer = test.open_with(ring.clone()).unwrap();
    let (between, _) = stored_pack(&writer, b"between");
    let holder = writer.key_holders().into_iter().find(|holder| holder.passphrase).unwrap();
    let ring = after(&test, ring, KeyChange::Remove(holder.recipient));
    let unlocked = KeyRing { passphrase: Some(passphrase), ..ring };
    let reader = test.open_with(unlocked).unwrap();
    reader.get_pack(&between.id).unwrap();
    assert!(reader.get_pack(&before.id).is_err());
}

#[test]
fn a_chunk_in_a_pack_for_others_is_taken_from_one_that_can_be_read() {
    let test = TestRepository::encrypted();
    let (before, id) = stored_pack(&test.repository, b"content");
    test.repository.put_index(&[before]).unwrap();
    let (added, ring) = with_another(&test);
    let reader = test.open_with(KeyRing { identities: added, ..ring }).unwrap();
    let (now, _) = stored_pack(&reader, b"content");
    reader.put_index(&[now]).unwrap();
    let mut packs = reader.index_objects().unwrap().packs;
    for _ in 0..2 {
        let index = crate::index::Index::new(packs.clone(), &std::collections::HashSet::new());
        let mut chunks = crate::reader::ChunkReader::new(&reader, &index).unwrap();
        assert_eq!(chunks.chunk(&id).unwrap(), b"content");
        packs.reverse();
    }
}

#[test]
fn a_change_of_keys_that_another_run_is_faster_than_changes_nothing() {
    let test = TestRepository::encrypted();
    let path = test.path().join(FORMAT_KEY);
    let repository = &test.repository;
    // In between: the new key file is being kept while a prune announces its marks.
    let keep: Box<Keep<'_>> = Box::new(|_: &KeyFile| Ok(repository.announce_marks()?));
    let error = repository.change_keys(KeyChange::Rotate, keep).unwrap_err();
    assert!(matches!(error, RepositoryError::Raced(_)), "{error}");
    assert!(fs::read_to_string(path).unwrap().contains("marks"));
    test.open_with(repository.ring()).unwrap();
}

#[test]
fn rotated_keys_are_needed_and_open_what_was_there_before() {
    let test = TestRepository::encrypted();
    let name = test.repository.put_snapshot(&snapshot("a", "2026-11-30T00:00:00Z")).unwrap();
    let before = fs::read(test.path().join(FORMAT_KEY)).unwrap();
    let keys = change(&test, KeyChange::Rotate).unwrap();
    let old = error_of(test.open_with(test.repository.ring()));
    assert!(old.contains("out of date"), "{old}");
    let ring = KeyRing { key_file: Some(keys), ..KeyRing::default() };
    let repository = test.open_with(ring.clone()).unwrap();
    repository.snapshot(&name).unwrap();
    // A store that puts the old document back.
    fs::write(test.path().join(FORMAT_KEY), before).unwrap();
    assert!(error_of(test.open_with(ring)).contains("older than the key file"));
}

#[test]
fn a_key_file_that_cannot_be_kept_changes_nothing() {
    let test = TestRepository::encrypted();
    let before = fs::read(test.path().join(FORMAT_KEY)).unwrap();
    let keep: Box<Keep<'_>> = Box::new(|_: &KeyFile| Err("no room".into()));
    test.repository.change_keys(KeyChange::Rotate, keep).unwrap_err();
    assert_eq!(fs::read(test.path().join(FORMAT_KEY)).unwrap(), before);
}

#[test]
fn marking_keeps_the_authenticator_right() {
    let test = TestRepository::encrypted();
    test.repository.announce_marks().unwrap();
    let again = test.open_with(test.repository.ring()).unwrap();
    again.permit(Operation::Write).unwrap();
}

#[test]
fn who_saves_beside_an_identity_that_reads_nothing_of_it_is_refused() {
    let test = TestRepository::encrypted();
    let stranger = KeyRing { identities: Identities::generate(), ..test.repository.ring() };
    let stranger = test.open_with(stranger).unwrap();
    assert!(stranger.can_read() && !stranger.reads_what_is_saved());
    stranger.permit(Operation::Read).unwrap();
    let error = stranger.permit(Operation::Write).unwrap_err();
    assert!(matches!(error, RepositoryError::OtherIdentity(_)), "{error}");
    assert!(test.readable().reads_what_is_saved());
    test.readable().permit(Operation::Write).unwrap();
    // One that fits is enough.
    let (_, ring) = with_another(&test);
    let identities = Identities::generate().and(test.identities.clone());
    test.open_with(KeyRing { identities, ..ring }).unwrap().permit(Operation::Write).unwrap();
}

#[test]
fn who_began_before_keys_were_changed_commits_nothing_after() {
    let changes: [fn() -> KeyChange<'static>; 2] = [
        || KeyChange::Rotate,
        || {
            let public: Vec<_> = Identities::generate().public().collect();
            KeyChange::Add(Recipients::parse(public.iter().map(String::as_str)).unwrap())
        },
    ];
    for make in changes {
        let test = TestRepository::encrypted();
        let before = test.open_with(test.repository.ring()).unwrap();
        before.put_snapshot(&snapshot("a", "2026-11-30T00:00:00Z")).unwrap();
        change(&test, make()).unwrap();
        let late = before.put_snapshot(&snapshot("a", "2026-11-30T01:00:00Z")).unwrap_err();
        assert!(chores_common::exit::chain(&late).contains("out of date"), "{late}");
        assert_eq!(test.objects("snapshots/").len(), 1);
    }
}

#[test]
fn keys_that_are_changed_while_a_commit_locks_what_it_needs_are_noticed() {
    let test = TestRepository::encrypted();
    let before = test.open_with(test.repository.ring()).unwrap();
    let made = snapshot("a", "2026-11-30T00:00:00Z");
    let late = before.put_held(&made, || {
        change(&test, KeyChange::Rotate).unwrap();
        Ok(None)
    });
    let late = chores_common::exit::chain(&late.unwrap_err());
    assert!(late.contains("out of date"), "{late}");
    assert_eq!(test.objects("snapshots/").len(), 0);
}

#[test]
fn a_file_and_a_passphrase_give_no_more_identities_than_a_worker_takes() {
    let test = TestRepository::encrypted();
    let passphrase = Secret::new("correct horse battery".to_owned());
    let keys = change(&test, KeyChange::AddPassphrase(&passphrase)).unwrap();
    let opened = |count: usize| {
        let text = Identities::generate().to_text().repeat(count);
        let identities = Identities::parse(&text).unwrap();
        let key_file = Some(keys.clone());
        test.open_with(KeyRing { key_file, identities, passphrase: Some(passphrase.clone()) })
    };
    let ring = opened(IDENTITIES_MAX - 1).unwrap().ring();
    Identities::parse(&ring.identities.to_text()).unwrap();
    let error = error_of(opened(IDENTITIES_MAX));
    assert!(error.contains("17 identities"), "{error}");
}

#[test]
fn a_passphrase_and_an_identity_are_both_looked_at() {
    let test = TestRepository::encrypted();
    let passphrase = Secret::new("correct horse battery".to_owned());
    let (before, _) = stored_pack(&test.repository, b"before");
    let keys = change(&test, KeyChange::AddPassphrase(&passphrase)).unwrap();
    let first = test.identities.public().next().unwrap();
    let ring = KeyRing { key_file: Some(keys), ..KeyRing::default() };
    let ring = after(&test, ring, KeyChange::Remove(first));
    let (new, _) = stored_pack(&test.open_with(ring.clone()).unwrap(), b"after");
    let identities = test.identities.clone();
    let both = KeyRing { identities, passphrase: Some(passphrase), ..ring.clone() };
    let reader = test.open_with(both.clone()).unwrap();
    reader.get_pack(&before.id).unwrap();
    reader.get_pack(&new.id).unwrap();
    let wrong = Secret::new("incorrect horse battery".to_owned());
    let error = error_of(test.open_with(KeyRing { passphrase: Some(wrong), ..both }));
    assert!(error.contains("passphrase does not fit"), "{error}");
}

#[test]
fn a_pack_of_today_that_its_recipient_does_not_open_is_damage_and_one_of_before_is_not() {
    let test = TestRepository::encrypted();
    let checked = |repository: &Repository| {
        let options =
            CheckOptions { read_data: Some("100".parse().unwrap()), rotation: 0, threads: 1 };
        let progress = chores_common::progress::Progress::new();
        check(repository, &options, &progress, &chores_common::shutdown::Shutdown::new()).unwrap()
    };
    // By somebody who has stolen the key file.
    let (bytes, index, _) = built_pack(&test.repository, b"content");
    let stranger: Vec<_> = Identities::generate().public().collect();
    let stranger = Recipients::parse(stranger.iter().map(String::as_str)).unwrap();
    let bytes = content::seal(&stranger, bytes).unwrap();
    let id = PackId(test.repository.key().id_of(&bytes));
    let pack = IndexedPack { id, bytes: bytes.len() as u64, index, sealed_by: None };
    test.repository.put_pack(&id, bytes).unwrap();
    test.repository.put_index(&[pack]).unwrap();
    let report = checked(&test.readable());
    assert_eq!((report.problem_count, report.closed_packs), (1, 0), "{report:?}");
    assert!(report.problems[0].problem.contains("encrypted for others"), "{report:?}");
    // To who came later it is one of those that are not for him, and no damage.
    let (added, ring) = with_another(&test);
    let later = test.open_with(KeyRing { identities: added, ..ring }).unwrap();
    let report = checked(&later);
    assert_eq!((report.problem_count, report.closed_packs), (0, 1), "{report:?}");
    // What others can tell of it is told all the same.
    let path = test.path().join(test.repository.pack_key(&id));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let report = checked(&later);
    assert!(report.problems[0].problem.contains("does not match its name"), "{report:?}");
}

#[test]
fn what_is_announced_is_signed_with_the_keys_of_today_by_who_opened_it_with_those_of_before() {
    let test = TestRepository::encrypted();
    let reader = KeyRing { identities: test.identities.clone(), ..KeyRing::default() };
    let outdated = test.open_with(reader.clone()).unwrap();
    let old = test.repository.ring();
    let new = test.repository.change_keys(KeyChange::Rotate, Box::new(|_| Ok(()))).unwrap();
    outdated.announce_marks().unwrap();
    outdated.announce_moves().unwrap();
    let text = fs::read_to_string(test.path().join(FORMAT_KEY)).unwrap();
    assert!(text.contains("\"marks\"") && text.contains("\"moved\""), "{text}");
    test.open_with(KeyRing { key_file: Some(new), ..KeyRing::default() }).unwrap();
    test.open_with(reader).unwrap();
    // Who was shut out stays so.
    let error = error_of(test.open_with(old));
    assert!(error.contains("out of date"), "{error}");
}
