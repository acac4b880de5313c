use super::*;
use crate::files::patterns::bases;
use crate::time::SECOND;

const NOW: i64 = 1_795_989_599 * SECOND;

fn names(names: &[&str]) -> Vec<OsString> {
    names.iter().map(OsString::from).collect()
}

#[test]
fn names_are_free_and_sort_as_they_were_rotated() {
    let base = OsStr::new("app.log");
    let rotated = |kind, existing: &[&str]| {
        rotated(kind, base, &names(existing), NOW).unwrap().into_string().unwrap()
    };
    assert_eq!(rotated(Names::Numbered, &[]), "app.log.000001");
    let others = ["app.log", "app.log.3", "app.log.000007.zst", "app.log.x", "other.log.9"];
    assert_eq!(rotated(Names::Numbered, &others), "app.log.000008");
    // Somebody may want to end the numbers.
    let last = ["app.log.18446744073709551615", "app.log.999999999999999", "app.log.4"];
    assert_eq!(rotated(Names::Numbered, &last), "app.log.000005");
    assert_eq!(rotated(Names::Dateext, &[]), "app.log-20261129T215959Z");
    assert_eq!(
        rotated(Names::Dateext, &["app.log-20261129T215959Z.zst"]),
        "app.log-20261129T215959Z.1"
    );
}

#[test]
fn the_reader_knows_them_as_rotated_files_of_the_log() {
    for kind in [Names::Numbered, Names::Dateext] {
        let first = rotated(kind, OsStr::new("app.log"), &[], NOW).unwrap();
        let second =
            rotated(kind, OsStr::new("app.log"), std::slice::from_ref(&first), NOW).unwrap();
        assert_ne!(first, second);
        for name in [first, second] {
            assert!(bases(&name).contains(&OsString::from("app.log")), "{name:?}");
            let mut compressed = name.clone();
            compressed.push(COMPRESSED);
            assert!(bases(&compressed).contains(&OsString::from("app.log")), "{name:?}");
        }
    }
}

#[test]
fn a_name_that_would_be_too_long_is_none() {
    let long = "x".repeat(250);
    assert_eq!(rotated(Names::Numbered, OsStr::new(&long), &[], NOW), None);
    assert_eq!(rotated(Names::Dateext, OsStr::new(&long), &[], NOW), None);
}
