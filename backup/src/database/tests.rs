use super::*;

fn evidence(image: &str, variables: &[&str], processes: &[&str]) -> Evidence {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Evidence {
        image: image.to_owned(),
        variables: owned(variables),
        processes: owned(processes),
        ports: Vec::new(),
    }
}

#[test]
fn databases_are_recognised_by_processes_then_variables_then_images() {
    use DumpKind::{Mongo, Mysql, Postgres, Redis};
    for (image, variables, processes, wanted) in [
        ("mariadb:11", &[][..], &[][..], Some(Mysql)),
        ("docker.io/library/mysql:8.4@sha256:00", &[], &[], Some(Mysql)),
        ("registry:5000/postgres", &[], &[], Some(Postgres)),
        ("postgis/postgis:16", &[], &[], Some(Postgres)),
        ("valkey/valkey", &[], &[], Some(Redis)),
        ("mongo:7", &[], &[], Some(Mongo)),
        ("shop-db", &["MARIADB_ROOT_PASSWORD_FILE"], &[], Some(Mysql)),
        ("shop-db", &["PATH", "PGDATA"], &["sh"], Some(Postgres)),
        ("debian", &[], &["sh", "redis-server"], Some(Redis)),
        // What runs counts, not what it is called.
        ("mysql:8", &["MYSQL_ROOT_PASSWORD"], &["postgres", "postgres"], Some(Postgres)),
        ("prom/mysqld-exporter", &[], &["mysqld_exporter"], None),
        ("mongo-express", &[], &["node"], None),
        ("phpmyadmin", &[], &["apache2"], None),
        ("nginx", &["PATH"], &["nginx"], None),
        ("registry/postgres/web:1", &[], &[], None),
    ] {
        let found = recognise(&evidence(image, variables, processes));
        assert_eq!(found.ok(), wanted, "{image} {variables:?} {processes:?}");
    }
    let both = recognise(&evidence("", &[], &["mariadbd", "redis-server"]));
    assert_eq!(both, Err(Unrecognised::Several(Mysql, Redis)));
    let linked = Evidence { ports: vec![5432], ..Evidence::default() };
    assert_eq!(recognise(&linked), Ok(Postgres));
}

#[test]
fn no_secret_is_among_the_words_of_any_script() {
    let command = ["redis-server", "/etc/redis.conf", "--requirepass", "hunter2", "--port", "7000"];
    let target = Target {
        command: command.map(str::to_owned).to_vec(),
        mounts: vec!["/data".to_owned()],
        words: Vec::new(),
    };
    let facts = Facts { databases: vec!["/data/shop.db".to_owned()], ..Facts::default() };
    for kind in
        [DumpKind::Mysql, DumpKind::Postgres, DumpKind::Redis, DumpKind::Mongo, DumpKind::Sqlite]
    {
        let steps = plan(kind, &target, &facts).unwrap();
        let probe = probe(kind, &target).unwrap();
        for script in steps.iter().map(|step| &step.script).chain(&probe) {
            let words = script.words("mark").join(" ");
            assert!(!words.contains("hunter2"), "{kind}");
            assert!(!format!("{script:?}").contains("hunter2"), "{kind}");
        }
    }
    let redis = &plan(DumpKind::Redis, &target, &facts).unwrap()[0].script;
    assert_eq!(redis.input().unwrap().expose(), "hunter2\n");
    assert_eq!(redis.args, ["7000", "/etc/redis.conf"]);
}

#[test]
fn files_are_named_after_databases_and_stay_in_their_folder() {
    let facts =
        Facts { databases: vec!["shop".to_owned(), "../a/b%".to_owned()], ..Facts::default() };
    let steps = plan(DumpKind::Postgres, &Target::default(), &facts).unwrap();
    let files: Vec<_> = steps.iter().map(|step| step.file.as_str()).collect();
    assert_eq!(files, ["globals.sql", "shop.pgdump", "%2E.%2Fa%2Fb%25.pgdump"]);
    assert_eq!(file_name("data/shop.db"), "data%2Fshop.db");
    assert_eq!(file_name(""), "%");
}

#[test]
fn facts_are_items_among_greetings() {
    let text =
        b"Welcome\nserver=10.11.6-MariaDB \ndatabase=shop\ndatabase=a=b\nwarning=the table x\n\n";
    let facts = Facts::parse(text, b'\n').unwrap();
    assert_eq!(facts.server, "10.11.6-MariaDB");
    assert_eq!(facts.databases, ["shop", "a=b"]);
    assert_eq!(facts.warnings, ["the table x"]);
    let facts = Facts::parse(b"server=15.14\0database=with\nline end\0\n", 0).unwrap();
    assert_eq!(facts.databases, ["with\nline end"]);
    // Found below two mounts; and a server that writes to the terminal of others.
    let text = b"server=1\x1b[2J\ndatabase=a\ndatabase=b\ndatabase=a\nwarning=\x1b[0mx\n";
    let facts = Facts::parse(text, b'\n').unwrap();
    assert_eq!(facts.databases, ["a", "b"]);
    assert_eq!((facts.server.as_str(), facts.warnings[0].as_str()), ("1[2J", "[0mx"));
}

#[test]
fn more_databases_than_can_be_dumped_are_an_error() {
    let text = |count: usize| -> String {
        let databases = (0..count).map(|number| format!("database={number}\n"));
        databases.chain(["hello\n".to_owned(), "database=0\n".to_owned()]).collect()
    };
    let facts = Facts::parse(text(DATABASES_MAX).as_bytes(), b'\n').unwrap();
    assert_eq!(facts.databases.len(), DATABASES_MAX);
    let more = Facts::parse(text(DATABASES_MAX + 1).as_bytes(), b'\n');
    assert_eq!(more.unwrap_err(), PlanError::TooMany);
}

#[test]
fn names_that_no_file_system_takes_are_refused_before_the_dump() {
    let target = Target::default();
    let long = Facts { databases: vec!["é".repeat(130)], ..Facts::default() };
    let refused = plan(DumpKind::Postgres, &target, &long).unwrap_err();
    assert!(matches!(refused, PlanError::LongName(_)), "{refused}");
    let path = Facts { databases: vec![format!("/{}x", "a/".repeat(100))], ..long };
    assert!(matches!(plan(DumpKind::Sqlite, &target, &path), Err(PlanError::LongName(_))));
    assert_eq!(folder_name(&"a".repeat(255)).unwrap().len(), 255);
    assert!(folder_name(&"a/".repeat(70)).is_err());
}

#[test]
fn the_port_of_the_command_is_taken_before_that_of_the_file() {
    let target = |words: &[&str]| Target {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Target::default()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "port 7001\nrequirepass \"x\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (words, port) in [
        (&["redis-server"][..], "6379"),
        (&["redis-server", path], "7001"),
        (&["redis-server", path, "--port", "7002"], "7002"),
    ] {
        let (args, _) = redis::login(&target(words));
        let lines = format!(
            "{}{}pick() {{ program=x; }}; login \"$@\"; printf %s \"$port\"",
            shell::FUNCTIONS,
            redis::back::READY,
        );
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-c", &lines, "sh"]).args(args).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), port, "{words:?}");
    }
}

#[test]
fn what_cannot_be_planned_says_what_to_give() {
    let words = |words: &[&str]| Target {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Target::default()
    };
    let nothing = Facts::default();
    assert_eq!(plan(DumpKind::Command, &words(&[]), &nothing).unwrap_err(), PlanError::NoCommand);
    let wrong = probe(DumpKind::Mysql, &words(&["x"])).unwrap_err();
    assert_eq!(wrong, PlanError::Words(DumpKind::Mysql));
    let relative = probe(DumpKind::Sqlite, &words(&["shop.db"])).unwrap_err();
    assert_eq!(relative, PlanError::Relative("shop.db".to_owned()));
    let none = plan(DumpKind::Sqlite, &words(&[]), &nothing).unwrap_err();
    assert!(none.to_string().contains("behind --"), "{none}");
}

#[test]
fn scripts_are_understood_by_the_shell_of_this_machine() {
    let target = Target { words: vec!["/bin/true".to_owned()], ..Target::default() };
    let facts = Facts { databases: vec!["/x".to_owned()], ..Facts::default() };
    for kind in [DumpKind::Mysql, DumpKind::Postgres, DumpKind::Redis, DumpKind::Mongo] {
        let target = Target { words: Vec::new(), ..target.clone() };
        let steps = plan(kind, &target, &facts).unwrap();
        let probe = probe(kind, &target).unwrap();
        steps.iter().map(|step| &step.script).chain(&probe).for_each(parses);
    }
    for kind in [DumpKind::Sqlite, DumpKind::Command] {
        plan(kind, &target, &facts).unwrap().iter().map(|step| &step.script).for_each(parses);
    }
}

/// `sh -n` reads without running.
fn parses(script: &Script) {
    let words = script.words("mark");
    let output = std::process::Command::new("sh").args(["-n", "-c", &words[2]]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{}", words[2]);
}
