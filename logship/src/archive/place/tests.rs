use std::fs;

use super::*;

/// The files of a directory in order, below it.
fn files(root: &Path) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = root.to_str().unwrap();
    let parts = parts(text, &S3Settings::default(), runtime.handle()).unwrap();
    let names = parts.iter().map(|part| match part {
        Part::File(path) => path.strip_prefix(root).unwrap().display().to_string(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

#[test]
fn rotated_files_come_before_the_one_that_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("b")).unwrap();
    for name in [
        "a.log",
        "a.log.000010.zst",
        "a.log.000009.zst",
        "a.log.000011",
        "a-b.log",
        ".a.log.tmp",
        "b/c.ndjson.zst",
    ] {
        fs::write(root.join(name), "x").unwrap();
    }
    let wanted = [
        "a-b.log",
        "a.log.000009.zst",
        "a.log.000010.zst",
        "a.log.000011",
        "a.log",
        "b/c.ndjson.zst",
    ];
    assert_eq!(files(root), wanted);
}

#[test]
fn what_is_no_place_is_told_in_one_sentence() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().to_str().unwrap();
    for (text, said) in [
        ("/no/such/file", "cannot read /no/such/file"),
        ("ftp://x", "\"ftp://x\" is no place"),
        (empty, "there is nothing at "),
        ("/dev/null", "/dev/null is neither a file nor a directory"),
    ] {
        let error = parts(text, &S3Settings::default(), runtime.handle()).unwrap_err();
        assert!(error.to_string().starts_with(said) && error.is_usage(), "{error}");
    }
}
