use super::*;

fn sources(paths: &[&str]) -> Vec<Source> {
    paths.iter().map(|path| Source { path: (*path).to_owned(), volume: None }).collect()
}

fn stats(files: u64, bytes: u64) -> Stats {
    Stats { files, bytes, ..Stats::default() }
}

fn count(old: (&[&str], Stats), new: (&[&str], Stats)) -> usize {
    let (old_sources, new_sources) = (sources(old.0), sources(new.0));
    let before = Before { id: "abcd1234", sources: &old_sources, stats: &old.1 };
    suspicions(before, &new_sources, &new.1).len()
}

#[test]
fn more_than_half_gone_is_suspicious() {
    let data = &["/data"][..];
    let cases = [
        (stats(100, 0), stats(50, 0), 0),
        (stats(100, 0), stats(49, 0), 1),
        (stats(101, 0), stats(50, 0), 1),
        (stats(9, 0), stats(0, 0), 0),
        (stats(0, 1 << 20), stats(0, 1 << 19), 0),
        (stats(0, 1 << 20), stats(0, (1 << 19) - 1), 1),
        (stats(100, 1 << 30), stats(1, 1), 2),
        (stats(1, 1), stats(100, 1 << 30), 0),
    ];
    for (old, new, wanted) in cases {
        assert_eq!(count((data, old), (data, new)), wanted, "{old:?} {new:?}");
    }
}

#[test]
fn a_missing_source_is_told_and_another_job_is_not_compared() {
    let some = stats(100, 0);
    assert_eq!(count((&["/a", "/b"], some), (&["/a"], stats(1, 0))), 1);
    assert_eq!(count((&["/a"], some), (&["/a", "/b"], stats(1, 0))), 0);
    assert_eq!(count((&["/etc"], some), (&["/home"], stats(1, 0))), 0);
}

#[test]
fn a_dump_is_compared_with_that_of_the_same_database() {
    let dump = |path: &str, bytes: &[u64]| {
        let file = |bytes: &u64| serde_json::json!({"name": "f", "role": "all", "bytes": bytes});
        let files: Vec<_> = bytes.iter().map(file).collect();
        let proof = serde_json::json!({"marker": true});
        let record =
            serde_json::json!({"kind": "mysql", "path": path, "files": files, "proof": proof});
        serde_json::from_value::<DumpRecord>(record).unwrap()
    };
    let count = |old: &[DumpRecord], new: &[DumpRecord]| shrunk_dumps("abcd1234", old, new).len();
    let old = [dump("/dump/db", &[1 << 20, 1 << 20]), dump("/dump/small", &[1000])];
    assert_eq!(count(&old, &[dump("/dump/db", &[1 << 20])]), 0);
    assert_eq!(count(&old, &[dump("/dump/db", &[(1 << 20) - 1])]), 1);
    assert_eq!(count(&old, &[dump("/dump/small", &[1]), dump("/dump/new", &[1])]), 0);
    assert_eq!(count(&[], &old), 0);
}
