use super::*;
use crate::snapshot::{DumpProof, SourceContainer};

fn container(image_id: &str) -> SourceContainer {
    SourceContainer {
        name: "web".to_owned(),
        id: "1".to_owned(),
        image: "web:1".to_owned(),
        image_id: image_id.to_owned(),
    }
}

fn source(path: &str) -> Source {
    Source { path: path.to_owned(), volume: None }
}

fn dump(kind: DumpKind, path: &str) -> DumpRecord {
    DumpRecord {
        kind,
        path: path.to_owned(),
        server: String::new(),
        container: Some(container("sha256:db")),
        databases: Vec::new(),
        files: Vec::new(),
        proof: DumpProof::default(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn of(sources: &[&str], dumps: Vec<DumpRecord>) -> Origin {
    Origin {
        name: "web".to_owned(),
        sources: sources.iter().map(|path| source(path)).collect(),
        container: Some(container("sha256:web")),
        dumps,
    }
}

#[test]
fn a_data_directory_is_told_by_what_is_in_it() {
    let table = [
        (&["PG_VERSION", "base", "global"][..], Some(DumpKind::Postgres)),
        (&["ibdata1", "mysql"], Some(DumpKind::Mysql)),
        (&["WiredTiger"], Some(DumpKind::Mongo)),
        (&["appendonlydir"], Some(DumpKind::Redis)),
        (&["index.html"], None),
        (&[], None),
    ];
    for (names, kind) in table {
        assert_eq!(kind_of(&set(names)), kind, "{names:?}");
    }
}

#[test]
fn dumps_come_before_directories_and_a_command_before_both() {
    let origin = of(&["/var/lib/mysql", "/dump/db"], vec![dump(DumpKind::Mysql, "/dump/db")]);
    let names = |_: &Source| set(&["ibdata1"]);
    let found = parts(&origin, &Wanted::default(), names).unwrap();
    assert!(matches!(&found[..], [Part::Dump { image, .. }] if image == "sha256:db"));
    let wanted = Wanted { source: Some("/var/lib/mysql"), ..Wanted::default() };
    let found = parts(&origin, &wanted, names).unwrap();
    assert!(
        matches!(&found[..], [Part::Data { image, sources, .. }] if image == "sha256:web" && sources.len() == 1)
    );
    let wanted = Wanted { check: Some("true"), image: Some("mine"), ..Wanted::default() };
    let found = parts(&origin, &wanted, names).unwrap();
    assert!(
        matches!(&found[..], [Part::Check { image, sources, .. }] if image == "mine" && sources.len() == 2)
    );
}

#[test]
fn what_nobody_can_judge_is_asked_about() {
    let nothing = |_: &Source| BTreeSet::new();
    let origin = of(&["/srv"], Vec::new());
    assert_eq!(parts(&origin, &Wanted::default(), nothing), Err(PlanError::NothingKnown));
    let origin = of(&["/dump/c"], vec![dump(DumpKind::Command, "/dump/c")]);
    assert!(matches!(parts(&origin, &Wanted::default(), nothing), Err(PlanError::Command(_))));
    let wanted = Wanted { source: Some("/other"), ..Wanted::default() };
    assert!(matches!(parts(&origin, &wanted, nothing), Err(PlanError::NoSource(..))));
    let mut origin = of(&["/data"], Vec::new());
    origin.container = None;
    let redis = |_: &Source| set(&["dump.rdb"]);
    assert!(matches!(parts(&origin, &Wanted::default(), redis), Err(PlanError::NoImage(_))));
}

#[test]
fn a_server_is_told_of_its_append_only_file() {
    let redis = |names: &[&str]| server_options(DumpKind::Redis, "/srv/redis", &set(names));
    assert_eq!(redis(&["appendonlydir"]), ["--dir", "/srv/redis", "--appendonly", "yes"]);
    assert_eq!(redis(&["dump.rdb"]), ["--dir", "/srv/redis"]);
    let usual = server_options(DumpKind::Redis, "/data", &set(&["dump.rdb"]));
    assert_eq!(usual, Vec::<String>::new());
}
