use super::*;
use crate::serve::fixtures::{job, names};

#[test]
fn a_job_is_a_call_of_this_program() {
    let mut volumes = job("shop");
    volumes.what = What::Volumes {
        names: vec!["a".to_owned(), "b".to_owned()],
        dump: Some(Dump { container: "db".to_owned(), kind: Some(DumpKind::Mysql) }),
    };
    volumes.still = Quiesce {
        pause: vec!["web".to_owned()],
        pre: vec![("web".to_owned(), "sync; a=b".to_owned())],
        ..Quiesce::default()
    };
    volumes.exclude = vec!["*.tmp".to_owned()];
    assert_eq!(
        volumes.save(&names()),
        [
            "create",
            "--volume=a",
            "--volume=b",
            "--dump=db=mysql",
            "--name=shop",
            "--host=machine",
            "--tag=chores.engine=E1",
            "--exclude=*.tmp",
            "--pause=web",
            "--pre=web=sync; a=b",
        ]
    );
    let dump = Job {
        what: What::Dump {
            dump: Dump { container: "db".to_owned(), kind: None },
            command: vec!["pg_dump".to_owned(), "--all".to_owned()],
        },
        ..job("db")
    };
    assert_eq!(
        dump.save(&Names { engine: None, ..names() }),
        ["dump", "--container=db", "--name=db", "--host=machine", "--", "pg_dump", "--all"]
    );
    let paths = Job { what: What::Paths { paths: vec!["-/etc".to_owned()] }, ..job("etc") };
    assert!(paths.save(&names()).ends_with(&["--".to_owned(), "-/etc".to_owned()]));
}

#[test]
fn only_snapshots_of_this_host_and_job_are_forgotten() {
    assert_eq!(job("web").forget(&names()), None);
    let web = Job { retain: Some("daily=7".parse().unwrap()), ..job("web") };
    assert_eq!(
        web.forget(&names()).unwrap(),
        [
            "forget",
            "--group-by=host",
            "--name=web",
            "--host=machine",
            "--tag=chores.engine=E1",
            "--own-node=",
            "--keep-daily=7"
        ]
    );
}

#[test]
fn snapshots_say_which_machine_made_them() {
    let text = |text: &str| Some(text.to_owned());
    let names = Names { node: text("n1"), boot: text("b1"), ..names() };
    let web = Job { retain: Some("daily=7".parse().unwrap()), ..job("web") };
    let words = web.save(&names);
    assert_eq!(
        words[4..],
        ["--tag=chores.engine=E1", "--tag=chores.node=n1", "--tag=chores.boot=b1"]
    );
    let words = web.forget(&names).unwrap();
    assert_eq!(
        words[4..],
        ["--tag=chores.engine=E1", "--own-node=n1", "--own-boot=b1", "--keep-daily=7"]
    );
}

#[test]
fn a_job_is_kept_in_the_state_and_read_again() {
    let mut kept = job("web");
    kept.by = Some(ByContainer { id: "a".repeat(64), name: "web".to_owned(), started: None });
    kept.still.post = vec![("web".to_owned(), "true".to_owned())];
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), kept);
}
