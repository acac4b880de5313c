use super::*;
use crate::snapshot::DumpProof;

fn file(name: &str, role: DumpRole, database: Option<&str>) -> DumpFile {
    DumpFile { name: name.to_owned(), role, database: database.map(str::to_owned), bytes: 7 }
}

fn record(kind: DumpKind, path: &str, files: Vec<DumpFile>) -> DumpRecord {
    DumpRecord {
        kind,
        path: path.to_owned(),
        server: String::new(),
        container: None,
        databases: vec!["shop".to_owned()],
        files,
        proof: DumpProof::default(),
    }
}

fn postgres() -> DumpRecord {
    let files = vec![
        file("globals.sql", DumpRole::Globals, None),
        file("shop.pgdump", DumpRole::Database, Some("shop")),
        file("web.pgdump", DumpRole::Database, Some("web")),
    ];
    record(DumpKind::Postgres, "/dump/pg", files)
}

fn mysql() -> DumpRecord {
    record(DumpKind::Mysql, "/dump/my", vec![file("all.sql", DumpRole::All, None)])
}

fn all_of(record: DumpRecord) -> Chosen {
    Chosen { files: record.files.clone(), record }
}

fn planned(record: DumpRecord, wishes: &Wishes) -> Result<Plan, PlanError> {
    plan(&all_of(record), &Target::default(), wishes, "1")
}

#[test]
fn one_dump_is_meant_and_several_are_asked_about() {
    let dumps = [postgres()];
    assert_eq!(choose(&dumps, None, &[]).unwrap(), all_of(postgres()));
    let dumps = [postgres(), mysql()];
    assert_eq!(choose(&dumps, None, &[]), Err(PlanError::Several("/dump/pg, /dump/my".to_owned())));
    assert_eq!(choose(&dumps, Some("my"), &[]).unwrap(), all_of(mysql()));
    assert_eq!(choose(&dumps, Some("/dump/pg"), &[]).unwrap(), all_of(postgres()));
    assert!(matches!(choose(&dumps, Some("other"), &[]), Err(PlanError::NoSuchDump { .. })));
    assert_eq!(choose(&[], None, &[]), Err(PlanError::NoDump));
}

#[test]
fn a_database_is_chosen_where_it_is_a_file() {
    let dumps = [postgres()];
    for name in ["web", "web.pgdump", "/dump/pg/web.pgdump"] {
        let chosen = choose(&dumps, None, &[name.to_owned()]).unwrap();
        assert_eq!(chosen.files, [postgres().files[2].clone()]);
    }
    let missing = choose(&dumps, None, &["nothing".to_owned()]);
    assert!(matches!(missing, Err(PlanError::NoSuchFile { .. })));
    let part = choose(&[mysql()], None, &["shop".to_owned()]);
    assert_eq!(part, Err(PlanError::OneStream(DumpKind::Mysql)));
}

#[test]
fn databases_of_mysql_are_removed_only_when_that_is_wished() {
    let acts = |wishes: &Wishes| {
        let steps = planned(mysql(), wishes).unwrap().steps;
        steps.into_iter().map(|step| step.act).collect::<Vec<_>>()
    };
    let wishes = Wishes::default();
    assert_eq!(acts(&wishes), ["restore the databases"]);
    let wishes = Wishes { replace: true, accounts: true, ..wishes };
    let wanted = [
        "remove the old databases",
        "restore the databases",
        "let the accounts of the dump take effect",
    ];
    assert_eq!(acts(&wishes), wanted);
}

#[test]
fn a_text_that_could_be_cut_off_unseen_has_a_question_behind_it() {
    let steps = planned(postgres(), &Wishes::default()).unwrap().steps;
    assert!(steps[0].tail.contains(ANSWER) && steps[0].answer == Some(ANSWER));
    assert_eq!((steps[1].tail.as_str(), steps[1].answer), ("", None));
    assert!(steps[2].after_failure.contains("shop restored before it stay"));
}

#[test]
fn only_dumps_of_commands_are_fed_to_commands() {
    let output = record(DumpKind::Command, "/dump/c", vec![file("output", DumpRole::Output, None)]);
    let wishes = Wishes { command: vec!["cat".to_owned()], ..Wishes::default() };
    assert_eq!(planned(output.clone(), &Wishes::default()).unwrap_err(), PlanError::NoCommand);
    // From standard input, without a format that has one way back: not into any database that happens to be there.
    for kind in [DumpKind::Postgres, DumpKind::Sqlite] {
        let piped = record(kind, "/dump/p", vec![file("output", DumpRole::Output, None)]);
        assert_eq!(planned(piped.clone(), &Wishes::default()).unwrap_err(), PlanError::NoCommand);
        assert_eq!(planned(piped, &wishes).unwrap().steps[0].feed.args, ["cat"]);
    }
    let unknown = DumpRecord { databases: Vec::new(), ..mysql() };
    let found = ["shop.orders".to_owned()];
    assert_eq!(refuse_mixing(&unknown, &found), Err(PlanError::UnknownDatabases));
    // As in a drill: a fresh server has nothing that could be mixed with it.
    assert_eq!(refuse_mixing(&unknown, &[]), Ok(()));
    assert_eq!(refuse_mixing(&mysql(), &found), Ok(()));
    let replace = Wishes { replace: true, ..Wishes::default() };
    assert_eq!(planned(unknown, &replace).unwrap().steps.len(), 1);
    assert_eq!(planned(output, &wishes).unwrap().steps[0].feed.args, ["cat"]);
    assert_eq!(planned(mysql(), &wishes).unwrap_err(), PlanError::Command(DumpKind::Mysql));
}

#[test]
fn the_password_of_redis_is_in_no_argument() {
    let target = Target {
        command: ["redis-server", "--requirepass", "open sesame", "--port", "7000"]
            .map(str::to_owned)
            .to_vec(),
        ..Target::default()
    };
    let dump = record(DumpKind::Redis, "/dump/r", vec![file("dump.rdb", DumpRole::Rdb, None)]);
    let plan = plan(&all_of(dump), &target, &Wishes::default(), "1").unwrap();
    let feed = &plan.steps[0].feed;
    assert_eq!(feed.args, ["7000", "", "7"]);
    assert!(!format!("{:?}", feed.words("mark")).contains("open sesame"));
    assert_eq!(feed.secret.as_ref().unwrap().expose(), "open sesame");
}
