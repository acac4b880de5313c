use super::*;

const FILE: FileIdentity = FileIdentity { device: 1, inode: 2, born: Some(3) };

#[test]
fn intents_survive_and_are_replaced_and_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let intents = Intents::at(directory.path());
    assert_eq!(intents.all().unwrap(), []);
    let base = PathBuf::from("/logs/app.log");
    let rename = Intent::Rename(Renamed {
        base: base.clone(),
        rotated: "/logs/app.log.000001".into(),
        file: FILE,
        begun: 4,
        keep: Keep { age: Some(std::time::Duration::from_secs(60)), ..Keep::default() },
        over: Some(9),
        packed: Some(Packed { path: "/logs/app.log.000001.zst".into(), file: FILE, bytes: 9 }),
    });
    let name = intents.add(&rename).unwrap();
    assert_eq!(intents.all().unwrap(), [(name.clone(), rename)]);
    let begun = BegunRecord { file: FILE, shift: 0, length: 4096, before: u64::MAX, after: 6 };
    let collapse = Intent::Collapse { base: base.clone(), begun };
    intents.replace(&name, &collapse).unwrap();
    assert_eq!(intents.all().unwrap(), [(name.clone(), collapse.clone())]);
    let path = PathBuf::from("/logs/x");
    let keep = Keep::default();
    let kept = Intent::Kept(KeptFile { base, path, file: FILE, begun: 4, bytes: 7, keep });
    let other = intents.add(&kept).unwrap();
    assert_eq!(intents.all().unwrap().len(), 2);
    intents.remove(&other);
    intents.remove(&other);
    assert_eq!(intents.all().unwrap(), [(name, collapse)]);
}

#[test]
fn what_is_written_is_what_the_manual_says() {
    let begun = BegunRecord { file: FILE, shift: 8192, length: 4096, before: 5, after: 6 };
    let intent = Intent::Collapse { base: "/logs/app.log".into(), begun };
    let text = serde_json::to_string(&IntentFile { version: 1, intent }).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"intent":"collapse","base":"/logs/app.log","file":{"device":1,"inode":2,"born":3},"shift":8192,"length":4096,"before":5,"after":6}"#
    );
    let renamed = |over| {
        Intent::Rename(Renamed {
            base: "/logs/app.log".into(),
            rotated: "/logs/app.log.000001".into(),
            file: FILE,
            begun: 4,
            keep: Keep::default(),
            over,
            packed: None,
        })
    };
    let text = |intent| serde_json::to_string(&IntentFile { version: 1, intent }).unwrap();
    // As before there was `over`: both ways.
    let without = r#"{"version":1,"intent":"rename","base":"/logs/app.log","rotated":"/logs/app.log.000001","file":{"device":1,"inode":2,"born":3},"begun":4,"keep":{}}"#;
    assert_eq!(text(renamed(None)), without);
    assert_eq!(serde_json::from_str::<IntentFile>(without).unwrap().intent, renamed(None));
    let with = without.replace(r#""keep":{}"#, r#""keep":{},"over":7"#);
    assert_eq!(text(renamed(Some(7))), with);
    let intent = Intent::Kept(KeptFile {
        base: "/logs/app.log".into(),
        path: "/logs/app.log.000001".into(),
        file: FILE,
        begun: 4,
        bytes: 7,
        keep: Keep { count: Some(2), age: Some(std::time::Duration::from_secs(60)), bytes: None },
    });
    let text = serde_json::to_string(&IntentFile { version: 1, intent }).unwrap();
    assert_eq!(
        text,
        r#"{"version":1,"intent":"kept","base":"/logs/app.log","path":"/logs/app.log.000001","file":{"device":1,"inode":2,"born":3},"begun":4,"bytes":7,"keep":{"count":2,"age":{"secs":60,"nanos":0}}}"#
    );
}

#[test]
fn what_cannot_be_understood_is_an_error_and_leftovers_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let intents = Intents::at(directory.path());
    let folder = directory.path().join("rotate");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(".x.json.tmp-0123456789abcdef"), "half").unwrap();
    fs::write(folder.join("README"), "of somebody").unwrap();
    assert_eq!(intents.all().unwrap(), []);
    // Whoever only looks may be beside a process that is just writing it.
    assert!(folder.join(".x.json.tmp-0123456789abcdef").exists());
    assert_eq!(intents.take_over().unwrap(), []);
    assert!(!folder.join(".x.json.tmp-0123456789abcdef").exists());
    fs::write(folder.join("1.json"), r#"{"version":2,"intent":"dance"}"#).unwrap();
    assert!(matches!(intents.all(), Err(IntentError::Version { version: 2, .. })));
    fs::write(folder.join("1.json"), "{").unwrap();
    assert!(matches!(intents.all(), Err(IntentError::Read { .. })));
}
