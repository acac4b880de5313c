use super::*;

fn stat(inode: u64) -> Stat {
    let time = Timestamp { seconds: 1000, nanos: 5 };
    Stat {
        kind: FileType::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 10,
        mtime: time,
        ctime: time,
        device: 1,
        inode,
        links: 1,
        device_node: (0, 0),
        blocks: 8,
        mount_root: false,
    }
}

fn written(directory: &Path, records: &[(&str, Stat)], start: i64) -> PathBuf {
    let path = directory.join("a.cache");
    let mut writer = CacheWriter::create(&path, start, None).unwrap();
    for (name, stat) in records {
        writer.add(name.as_bytes(), stat, &[ChunkId([3; 16])], b"line\n").unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn an_unchanged_path_is_found_with_its_lines_and_ids() {
    let temp = tempfile::tempdir().unwrap();
    let path = written(temp.path(), &[("a", stat(1)), ("a/b", stat(2)), ("a!", stat(3))], 5000);
    let mut reader = CacheReader::open(&path, None).unwrap();
    assert!(reader.find(b"0").is_none());
    let record = reader.find(b"a/b").unwrap();
    assert!(record.is_unchanged(&stat(2)));
    assert_eq!((record.lines(), record.size()), (b"line\n".as_slice(), 10));
    assert_eq!(record.ids().collect::<Vec<_>>(), [ChunkId([3; 16])]);
    assert!(reader.find(b"a").is_none(), "what was passed is gone");
    assert!(reader.find(b"a!").is_some() && reader.find(b"z").is_none());
}

#[test]
fn another_size_time_inode_or_kind_is_a_change() {
    let temp = tempfile::tempdir().unwrap();
    let path = written(temp.path(), &[("a", stat(1))], 5000);
    let mut reader = CacheReader::open(&path, None).unwrap();
    let record = reader.find(b"a").unwrap();
    let later = Timestamp { seconds: 1000, nanos: 6 };
    for changed in [
        Stat { size: 11, ..stat(1) },
        Stat { mtime: later, ..stat(1) },
        Stat { ctime: later, ..stat(1) },
        Stat { kind: FileType::Fifo, ..stat(1) },
        stat(2),
    ] {
        assert!(!record.is_unchanged(&changed), "{changed:?}");
    }
}

#[test]
fn what_changed_just_before_the_run_is_recorded_as_to_be_read_again() {
    let temp = tempfile::tempdir().unwrap();
    for (start, recorded) in [(1002, false), (1003, true)] {
        let path = written(temp.path(), &[("a", stat(1))], start);
        let mut reader = CacheReader::open(&path, None).unwrap();
        let record = reader.find(b"a").unwrap();
        assert_eq!(record.is_unchanged(&stat(1)), recorded, "{start}");
        assert_eq!(record.is_read_again(), !recorded, "{start}");
        // What it was is known all the same.
        assert_eq!((record.ids().count(), record.modified()), (1, 1000));
    }
}

#[test]
fn damage_ends_the_cache_and_never_gives_a_wrong_record() {
    let temp = tempfile::tempdir().unwrap();
    let path = written(temp.path(), &[("a", stat(1))], 5000);
    let sound = std::fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(
            CacheReader::open(&path, None).is_none_or(|mut reader| reader.find(b"a").is_none())
        );
        std::fs::write(&path, &sound[..at]).unwrap();
        assert!(
            CacheReader::open(&path, None).is_none_or(|mut reader| reader.find(b"a").is_none())
        );
    }
}

#[test]
fn a_second_writer_of_one_cache_is_refused_until_the_first_is_done() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.cache");
    let first = CacheWriter::create(&path, 5000, None).unwrap();
    assert!(CacheWriter::create(&path, 5000, None).is_err());
    first.finish().unwrap();
    drop(CacheWriter::create(&path, 5000, None).unwrap());
    assert!(path.exists());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn a_record_that_is_too_new_for_this_run_is_not_taken_over() {
    let temp = tempfile::tempdir().unwrap();
    let path = written(temp.path(), &[("a", stat(1))], 5000);
    for (start, kept) in [(1002, false), (1003, true)] {
        let mut reader = CacheReader::open(&path, None).unwrap();
        let copied = temp.path().join(format!("{start}.cache"));
        let mut writer = CacheWriter::create(&copied, start, None).unwrap();
        writer.copy(&reader.find(b"a").unwrap()).unwrap();
        writer.finish().unwrap();
        let mut reader = CacheReader::open(&copied, None).unwrap();
        assert_eq!(reader.find(b"a").unwrap().is_unchanged(&stat(1)), kept, "{start}");
    }
}
