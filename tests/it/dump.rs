//! Dumps from real containers: whole and proved so, or no backup.
//!
//! The databases here are small shell programs that play the clients of `mariadb`, `mongodump` and the like, for
//! what a real server cannot be made to do on demand; those with real servers are in `dump_databases.rs`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::exec::{CreateExecOptions, StartExecResults};
use e2e::engine::{self, Container, Engine, Spec};
use e2e::fake_s3::{FakeS3, Fault, Objects, Op};
use e2e::images::{self, Image, ImageFile};
use e2e::process::{Finished, Run};
use e2e::runtime::wait;
use e2e::sandbox::Sandbox;
use e2e::second_engine::SecondEngine;
use futures_util::StreamExt as _;
use rustix::process::Signal;
use serde_json::Value;

use crate::tool::{FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence, text};

/// How long a test waits for what another process brings about.
const DEADLINE: Duration = Duration::from_secs(180);

/// What no command line, event or repository may show.
const SECRET: &str = "correct-horse-battery";

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    busybox: Arc<Image>,
    pub(crate) sandbox: Sandbox,
    pub(crate) repo: Repo,
}

impl Scene {
    pub(crate) fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = images::busybox(&engine)?;
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { engine, busybox, sandbox, repo })
    }

    /// A container that waits, with these variables and programs on its `PATH`.
    fn target(&self, env: &[&str], programs: &[(&str, &str)]) -> Container {
        self.target_with(env, programs, Spec::default())
    }

    fn target_with(&self, env: &[&str], programs: &[(&str, &str)], spec: Spec) -> Container {
        let container = self.engine.start(Spec {
            image: self.busybox.name().to_owned(),
            command: ["sleep", "1000000"].map(str::to_owned).to_vec(),
            env: env.iter().map(|variable| (*variable).to_owned()).collect(),
            ..spec
        });
        for (name, script) in programs {
            let write = "printf '%s' \"$2\" >/usr/bin/$1 && chmod 755 /usr/bin/$1";
            container.exec(["sh", "-c", write, "sh", name, script]).expect_code(0);
        }
        container
    }

    /// `dump --container C --json ARGS…`.
    fn dump(&self, container: &Container, args: &[&str]) -> Run {
        self.repo
            .run(["dump", "--json", "--container", container.name()])
            .args(args.iter().copied())
    }

    fn cat(&self, path: &str) -> Vec<u8> {
        self.repo.run(["cat", "latest", path]).succeed().stdout
    }

    /// Nothing of the run counts as a backup.
    fn assert_no_backup(&self) {
        let states: Vec<_> =
            self.repo.snapshots().iter().map(|snapshot| text(snapshot, "state")).collect();
        assert!(states.iter().all(|state| state == "failed"), "{states:?}");
        self.repo.run(["ls", "latest"]).finish().expect_code(WRONG_USAGE);
    }
}

/// The error of a run that failed.
fn failure(finished: Finished, words: &[&str]) -> String {
    let said = finished.expect_code(FAILED).stderr_text();
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    said
}

/// Waits for a condition that another process brings about.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn exists(container: &Container, path: &str) -> bool {
    container.exec(["test", "-e", path]).code == 0
}

/// Whether a process with this text among its words runs in the container.
fn runs(container: &Container, word: &str) -> bool {
    let script = "for file in /proc/[0-9]*/cmdline; do
        [ $file = /proc/$$/cmdline ] || tr '\\0' ' ' <$file; echo; done 2>/dev/null | grep -v grep | grep -q -e \"$1\"";
    container.exec(["sh", "-c", script, "sh", word]).code == 0
}

#[test]
fn the_output_of_a_command_is_a_snapshot_that_restores() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    let summary =
        scene.dump(&target, &["--tag", "a=b", "--", "seq", "1", "200000"]).succeed().last_json();
    let dump = &summary["dumps"][0];
    assert_eq!(dump["kind"], "command");
    assert_eq!(dump["proof"]["marker"], true);
    assert_eq!(dump["proof"]["exit_code"], 0);
    assert_eq!(dump["container"]["name"], target.name());
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    let path = format!("/dump/{}/output", target.name());
    assert_eq!(scene.cat(&path), wanted.as_bytes());
    let restored = scene.repo.restored("latest", &scene.sandbox.path("restored"));
    assert_eq!(restored.len(), 2, "the folder and its file");
    scene.repo.check_clean();
    // The same again adds nothing but its tree.
    let again = scene.dump(&target, &["--", "seq", "1", "200000"]).succeed().last_json();
    assert!(again["stats"]["bytes_added"].as_u64().unwrap() < 5000, "{again}");
    let listed = scene.repo.snapshots();
    assert_eq!(listed[0]["dumps"][0]["kind"], "command", "{listed:?}");
}

/// How long a reader stalls after the program has ended: Docker waits for two seconds.
const READER_STALL: Duration = Duration::from_secs(4);

/// Bytes that an engine may take over from a program without a reader, but not all of them can be on their way when
/// it drops the rest: pipes, its own buffer of 1 MiB, the socket. How much they hold differs from run to run.
const CUT_BYTES: [usize; 8] =
    [1_250_000, 1_275_000, 1_300_000, 1_325_000, 1_350_000, 1_375_000, 1_400_000, 1_225_000];

/// What this raw reader loses is why a dump is read without ever waiting for the store, and why the mark behind
/// it is asked for; the next test reads through a store that stalls for longer.
#[test]
fn the_engine_cuts_the_output_of_a_reader_that_stalls_and_reports_success() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    let mut seen = Vec::new();
    for bytes in CUT_BYTES {
        let (docker, id) = (scene.engine.docker().clone(), target.id().to_owned());
        let outcome = wait(async move {
            let options = CreateExecOptions {
                attach_stdout: Some(true),
                cmd: Some(vec![
                    "sh".to_owned(),
                    "-c".to_owned(),
                    format!("head -c {bytes} /dev/zero; echo END"),
                ]),
                ..Default::default()
            };
            let exec = docker.create_exec(&id, options).await.unwrap().id;
            let StartExecResults::Attached { mut output, .. } =
                docker.start_exec(&exec, None).await.unwrap()
            else {
                panic!("detached")
            };
            let begun = Instant::now();
            let code = loop {
                let state = docker.inspect_exec(&exec).await.unwrap();
                match state.exit_code {
                    Some(code) => break code,
                    // More than there is room for: it waits for the reader.
                    None if begun.elapsed() > READER_STALL => return None,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            tokio::time::sleep(READER_STALL).await;
            let mut length = 0;
            while let Some(Ok(piece)) = output.next().await {
                length += piece.into_bytes().len();
            }
            Some((code, length))
        });
        seen.push((bytes, outcome));
        if let Some((code, length)) = outcome
            && length < bytes + "END\n".len()
        {
            assert_eq!(code, 0, "{seen:?}");
            return;
        }
    }
    e2e::notice!("this engine does not cut the output of a reader that stalls: {seen:?}");
}

#[test]
fn an_engine_that_goes_away_during_a_dump_leaves_no_backup() {
    let Some(scene) = Scene::new() else { return };
    let Some(static_busybox) = e2e::process::find_program("busybox") else { return };
    let sandbox = Sandbox::new();
    let Some(mut second) = SecondEngine::start(&sandbox, false) else { return };
    let file = ImageFile {
        path: "box".to_owned(),
        mode: 0o755,
        content: engine::read_program(&static_busybox),
    };
    let recipe = "FROM scratch\nCOPY box /bin/sh\nCOPY box /bin/seq\nCOPY box /bin/sleep\nCOPY box /bin/touch\n\
                  COPY box /bin/test\nCOPY box /bin/rm\nENV PATH=/bin\nLABEL of=the-second-engine\n";
    let image = images::build(second.engine(), recipe, &[file]);
    let spec = Spec { stop_timeout: Some(1), ..Spec::new(image.name(), ["sleep", "1000000"]) };
    let target = second.engine().start(spec);
    let address = second.address();
    let dump = |script: &str| {
        let run = scene.dump(&target, &["--", "sh", "-c", script]);
        run.env("DOCKER_HOST", &address).start()
    };
    for signal in [Signal::KILL, Signal::TERM] {
        let run = dump("seq 1 100000; touch /half; sleep 1000; seq 1 9");
        until("the dump is half done", || exists(&target, "/half"));
        second.end(signal);
        let said = run.wait().expect_code(FAILED).stderr_text();
        assert!(said.contains("no backup") || said.contains("engine"), "{said}");
        scene.assert_no_backup();
        second.start_again();
        target.start();
        target.sh("rm /half");
    }
    dump("seq 1 1000").wait().expect_code(0);
}

#[test]
fn a_store_that_stalls_costs_no_byte_and_does_not_hold_the_program_up() {
    const STALL: Duration = Duration::from_secs(10);
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    // Incompressible, more than memory and packs on their way hold, made before so that only the reader can hold the
    // program up; and an end to look at.
    target.sh("head -c 90000000 /dev/urandom >/tmp/copy; sha256sum </tmp/copy >/tmp/digest");
    let script = "cat /tmp/copy /tmp/digest; touch /tmp/ended";
    let store = FakeS3::with_objects(Objects::new(), &[Fault::Stall(Op::Put, STALL)]);
    let repo = Repo::on_store(&scene.sandbox, store.address(), &store.address().url("dumps"));
    repo.run(["init"]).succeed();
    let run = repo
        .run(["dump", "--json", "--memory", "64M", "--container", target.name(), "--name", "slow"])
        .args(["--", "sh", "-c", script])
        .deadline(Duration::from_secs(300))
        .start();
    // The program ends while the store holds the packs back.
    until("the program has ended", || exists(&target, "/tmp/ended"));
    let stored =
        |store: &FakeS3| store.objects().keys().filter(|key| key.contains("packs/")).count();
    let at_its_end = stored(&store);
    let summary = run.wait().expect_code(0).last_json();
    assert!(at_its_end < stored(&store), "the store was not behind: {at_its_end} packs");
    assert_eq!(summary["dumps"][0]["proof"]["marker"], true);
    let content = repo.run(["cat", "latest", "/dump/slow/output"]).succeed().stdout;
    let (copy, digest) = content.split_at(90_000_000);
    let file = scene.sandbox.file("copy", copy);
    let own = Run::new("sha256sum").arg(file).succeed().stdout_text();
    assert_eq!(own.split(' ').next(), String::from_utf8_lossy(digest).split(' ').next());
}

#[test]
fn a_spool_without_room_fails_the_dump_and_says_what_to_raise() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    let store =
        FakeS3::with_objects(Objects::new(), &[Fault::Stall(Op::Put, Duration::from_secs(5))]);
    let repo = Repo::on_store(&scene.sandbox, store.address(), &store.address().url("dumps"));
    repo.run(["init"]).succeed();
    let finished = repo
        .run(["dump", "--memory", "64M", "--spool-max", "1M", "--container", target.name()])
        .args(["--", "head", "-c", "200000000", "/dev/urandom"])
        .finish();
    failure(finished, &["--spool-max"]);
    until("the program is gone", || !runs(&target, "200000000"));
}

#[test]
fn a_program_that_fails_half_way_leaves_no_backup() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    let script = "seq 1 100000; echo 'no space left' >&2; exit 5";
    failure(
        scene.dump(&target, &["--", "sh", "-c", script]).finish(),
        &["exit code 5", "no space left", "is no backup"],
    );
    failure(
        scene.dump(&target, &["--", "sh", "-c", "seq 1 100000; kill -9 $$"]).finish(),
        &["signal 9"],
    );
    failure(scene.dump(&target, &["--", "true"]).finish(), &["empty"]);
    failure(scene.dump(&target, &["--", "no-such-client"]).finish(), &["no-such-client"]);
    let words = ["--expect-trailer", "-- all done", "--", "seq", "1", "10"];
    failure(scene.dump(&target, &words).finish(), &["-- all done"]);
    scene.assert_no_backup();
    let kept = scene.repo.snapshots();
    // What came of it can be looked at, but nothing takes it for a backup.
    let id = text(&kept[0], "id");
    let path = format!("/dump/{}/output", target.name());
    let torn = scene.repo.run(["cat", &id, &path]).finish().expect_code(WARNINGS);
    assert!(torn.stdout_text().ends_with("\n100000\n"));
    assert_eq!(kept.len(), 3, "nothing of the empty ones: {kept:?}");
}

#[test]
fn a_disk_that_is_full_in_the_container_is_told() {
    let Some(scene) = Scene::new() else { return };
    let spec = Spec {
        host: bollard::models::HostConfig {
            tmpfs: Some([("/small".to_owned(), "size=1m".to_owned())].into()),
            ..Default::default()
        },
        ..Spec::default()
    };
    let target = scene.target_with(&[], &[], spec);
    let script = "head -c 3000000 /dev/zero >/small/dump && cat /small/dump";
    failure(scene.dump(&target, &["--", "sh", "-c", script]).finish(), &["exit code 1", "head"]);
    scene.assert_no_backup();
}

#[test]
fn a_container_that_ends_during_its_dump_leaves_no_backup() {
    let Some(scene) = Scene::new() else { return };
    for stops in [false, true] {
        let target = scene.target(&[], &[]);
        let run = scene
            .dump(
                &target,
                &["--", "sh", "-c", "seq 1 100000; touch /tmp/half; sleep 1000; seq 1 9"],
            )
            .start();
        until("the dump is half done", || exists(&target, "/tmp/half"));
        if stops {
            target.stop();
        } else {
            target.kill();
        }
        failure(run.wait(), &["mark"]);
        let stopped = scene.dump(&target, &["--", "true"]).finish();
        failure(stopped, &["does not run"]);
    }
    scene.assert_no_backup();
}

#[test]
fn a_killed_or_stopped_backup_leaves_no_dump_running_in_the_container() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[], &[]);
    // A writer that blocks as the engine reads no more, and one that says nothing.
    for script in ["touch /tmp/begun; exec yes holds-a-lock", "touch /tmp/begun; sleep 98765"] {
        for kills in [true, false] {
            target.sh("rm -f /tmp/begun");
            let run = scene.dump(&target, &["--", "sh", "-c", script]).start();
            until("the program has begun", || exists(&target, "/tmp/begun"));
            if kills {
                drop(run.kill_at(Duration::ZERO));
            } else {
                run.signal(Signal::TERM);
                run.wait().expect_code(130);
            }
            until("the program is gone", || {
                !runs(&target, "holds-a-lock") && !runs(&target, "98765")
            });
        }
    }
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn a_container_without_a_shell_is_dumped_by_exit_code_and_trailer() {
    let Some(scene) = Scene::new() else { return };
    let Some(static_busybox) = e2e::process::find_program("busybox") else { return };
    let file = ImageFile {
        path: "box".to_owned(),
        mode: 0o755,
        content: engine::read_program(&static_busybox),
    };
    let image = images::build(
        &scene.engine,
        "FROM scratch\nCOPY box /bin/seq\nCOPY box /bin/sleep\nENV PATH=/bin\n",
        &[file],
    );
    let target = scene.engine.start(Spec::new(image.name(), ["sleep", "1000000"]));
    let proved = scene
        .dump(&target, &["--expect-trailer", "1000", "--", "seq", "1", "1000"])
        .succeed()
        .last_json();
    let proof = &proved["dumps"][0]["proof"];
    assert_eq!((&proof["marker"], &proof["trailer"]), (&Value::Bool(false), &Value::from("text")));
    failure(scene.dump(&target, &["--", "seq", "1", "1000"]).finish(), &["--unproved"]);
    let unproved = scene.dump(&target, &["--unproved", "--", "seq", "1", "1000"]).finish();
    let unproved = unproved.expect_code(WARNINGS).last_json();
    assert_eq!(unproved["state"], "warnings");
    failure(scene.dump(&target, &["--", "seq", "x"]).finish(), &["exit code 1"]);
    failure(scene.dump(&target, &["--kind", "mysql"]).finish(), &["no shell"]);
}

#[test]
fn processes_of_other_containers_tell_nothing_about_this_one() {
    let Some(scene) = Scene::new() else { return };
    let server = [("redis-server", "#!/bin/sh\nsleep 1000\n")];
    let other = scene.target(&[], &server);
    other.sh("redis-server >/dev/null 2>&1 &");
    let host =
        bollard::models::HostConfig { pid_mode: Some("host".to_owned()), ..Default::default() };
    let target = scene.target_with(&[], &server, Spec { host, ..Spec::default() });
    until("it sees the other one's", || runs(&target, "redis-server"));
    let look = |target| scene.dump(target, &["--dry-run"]).finish();
    assert_one_sentence(&look(&target), WRONG_USAGE, &["no database is recognised"]);
    target.sh("redis-server >/dev/null 2>&1 &");
    // It is tried then; there is no client.
    failure(look(&target), &["redis-cli"]);
}

/// Plays `mariadb-dump`: writes what it finds out about secrets into files.
const FAKE_DUMP: &str = r#"#!/bin/sh
[ "$MYSQL_PWD" = correct-"horse"-battery ] || { echo "Access denied (using password: YES)" >&2; exit 2; }
echo "$@" >/tmp/words
for file in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$file; echo; done >/tmp/lines 2>/dev/null
echo "CREATE DATABASE shop;"
echo "-- Dump completed on 2026-11-29 12:00:00"
"#;

/// Plays `mariadb`.
const FAKE_CLIENT: &str = "#!/bin/sh
[ \"$MYSQL_PWD\" = correct-\"horse\"-battery ] || { echo 'Access denied' >&2; exit 1; }
printf 'server=10.11.6-MariaDB\\ndatabase=shop\\n'
";

const FAKES: [(&str, &str); 2] = [("mariadb", FAKE_CLIENT), ("mariadb-dump", FAKE_DUMP)];

#[test]
fn credentials_of_the_container_are_used_and_never_seen() {
    let Some(scene) = Scene::new() else { return };
    let begun = seconds() - 1;
    for variable in ["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD_FILE"] {
        let value = if variable.ends_with("_FILE") { "/tmp/secret" } else { SECRET };
        let file = scene.sandbox.file("secret", format!("{SECRET}\n"));
        let binds = vec![format!("{}:/tmp/secret:ro", file.display())];
        let spec = Spec { binds, ..Spec::default() };
        let target = scene.target_with(&[&format!("{variable}={value}")], &FAKES, spec);
        let finished = scene.dump(&target, &["--name", "shop", "-v", "-v"]).succeed();
        assert!(!finished.stderr_text().contains(SECRET), "{finished}");
        let summary = finished.last_json();
        let dump = &summary["dumps"][0];
        assert_eq!((&dump["kind"], &dump["server"]), (&"mysql".into(), &"10.11.6-MariaDB".into()));
        assert_eq!(dump["proof"]["trailer"], "dump-completed");
        assert_eq!(dump["databases"], serde_json::json!(["shop"]));
        let lines = target.sh("cat /tmp/lines /tmp/words").stdout_text();
        assert!(
            lines.contains("mariadb-dump") && lines.contains("--single-transaction"),
            "{lines}"
        );
        assert!(!lines.contains(SECRET), "{lines}");
    }
    let events = events_since(&scene.engine, begun);
    assert!(events.iter().any(|event| event.contains("exec_create")), "{events:?}");
    assert!(!events.iter().any(|event| event.contains(SECRET)));
    assert_not_in_files(scene.repo.path());
}

/// Since 1970.
fn seconds() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn events_since(engine: &Engine, since: u64) -> Vec<String> {
    let docker = engine.docker().clone();
    wait(async move {
        let options = bollard::query_parameters::EventsOptions {
            since: Some(since.to_string()),
            until: Some((seconds() + 1).to_string()),
            ..Default::default()
        };
        let events = docker.events(Some(options));
        events.map(|event| format!("{event:?}")).collect().await
    })
}

/// Neither as it is nor in what is compressed.
fn assert_not_in_files(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_not_in_files(&path);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let is_in = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
        assert!(!is_in(&bytes), "{}", path.display());
        if path.extension().is_some_and(|ending| ending == "zst") {
            let plain = Run::new("zstd").args(["-dcq".into(), path.into_os_string()]).succeed();
            assert!(!is_in(&plain.stdout));
        }
    }
}

#[test]
fn wrong_passwords_unreadable_secrets_and_missing_clients_are_told_before_anything_is_stored() {
    let Some(scene) = Scene::new() else { return };
    let wrong = scene.target(&["MARIADB_ROOT_PASSWORD=wrong"], &FAKES);
    failure(scene.dump(&wrong, &[]).finish(), &["Access denied"]);
    let nowhere = scene.target(&["MARIADB_ROOT_PASSWORD_FILE=/no/secret"], &FAKES);
    failure(scene.dump(&nowhere, &[]).finish(), &["/no/secret", "MARIADB_ROOT_PASSWORD_FILE"]);
    let bare = scene.target(&["POSTGRES_PASSWORD=x", "PGDATA=/x"], &[]);
    failure(scene.dump(&bare, &[]).finish(), &["psql"]);
    let nothing = scene.target(&[], &[]);
    let finished = scene.dump(&nothing, &[]).finish().expect_code(WRONG_USAGE);
    assert!(finished.stderr_text().contains("--kind"), "{finished}");
    failure(
        scene.repo.run(["dump", "--container", "no-such-container"]).finish(),
        &["no-such-container"],
    );
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn a_dry_run_says_what_would_be_dumped_and_stores_nothing() {
    let Some(scene) = Scene::new() else { return };
    let target = scene.target(&[&format!("MARIADB_ROOT_PASSWORD={SECRET}")], &FAKES);
    let summary = scene.dump(&target, &["--dry-run"]).succeed().last_json();
    assert_eq!(
        (&summary["kind"], &summary["files"]),
        (&"mysql".into(), &serde_json::json!(["all.sql"]))
    );
    assert!(!exists(&target, "/tmp/words"));
    assert!(scene.repo.snapshots().is_empty());
}

#[test]
fn a_dump_and_volumes_are_one_snapshot_or_none() {
    let Some(scene) = Scene::new() else { return };
    let _worker = images::own_worker(&scene.engine, Path::new(crate::tool::BINARY));
    let target = scene.target(&[&format!("MARIADB_ROOT_PASSWORD={SECRET}")], &FAKES);
    let volume = scene.engine.volume();
    let spec = Spec { binds: vec![format!("{}:/uploads", volume.name())], ..Spec::default() };
    let web = scene.target_with(&[], &[], spec);
    web.sh("echo picture >/uploads/picture");
    let folder = format!("/dump/{}", target.name());
    let check = |name: &str| {
        let listed = scene.repo.snapshots();
        let snapshot = listed.last().unwrap();
        assert_eq!(snapshot["name"], name);
        assert_eq!(snapshot["dumps"][0]["path"], folder.as_str());
        let paths = snapshot["paths"].as_array().unwrap();
        assert!(paths.len() == 2 && paths.contains(&folder.as_str().into()), "{paths:?}");
        let sql = scene.cat(&format!("{folder}/all.sql"));
        assert!(sql.ends_with(b"-- Dump completed on 2026-11-29 12:00:00\n"));
        scene.repo.check_clean();
    };
    scene.repo.run(["create", "--volumes-from", web.name(), "--dump", target.name()]).succeed();
    check(web.name());
    assert_eq!(scene.cat("/uploads/picture"), b"picture\n");
    let source = scene.sandbox.directory("zz");
    scene.sandbox.file("zz/file", "content");
    let kind = format!("{}=mysql", target.name());
    let words = ["create", "--name", "both", "--dump", &kind, source.to_str().unwrap()];
    for _ in 0..2 {
        scene.repo.run(words).succeed();
        check("both");
        assert_eq!(scene.cat(source.join("file").to_str().unwrap()), b"content");
    }
    let before = scene.repo.snapshots().len();
    target.sh("rm /usr/bin/mariadb-dump");
    failure(scene.repo.run(words).finish(), &["mysqldump"]);
    let two = ["create", "--volumes-from", web.name(), "--volume", volume.name(), "--dump", &kind];
    scene.repo.run(two).finish().expect_code(WRONG_USAGE);
    assert_eq!(scene.repo.snapshots().len(), before);
}

#[test]
fn who_cannot_read_an_encrypted_repository_dumps_into_it_and_beside_volumes() {
    let Some(scene) = Scene::new() else { return };
    let _worker = images::own_worker(&scene.engine, Path::new(crate::tool::BINARY));
    let target = scene.target(&[&format!("MARIADB_ROOT_PASSWORD={SECRET}")], &FAKES);
    let volume = scene.engine.volume();
    let spec = Spec { binds: vec![format!("{}:/uploads", volume.name())], ..Spec::default() };
    let web = scene.target_with(&[], &[], spec);
    web.sh("echo picture >/uploads/picture");
    let place = scene.sandbox.path("encrypted");
    let repo = Repo::at(&scene.sandbox, &place).with_new_keys(&scene.sandbox);
    repo.init_for(&scene.sandbox.path("keys/recipients"));
    let sidecar = repo.without("BACKUP_IDENTITY_FILE");
    let source = scene.sandbox.file("zz/file", "content");
    let of = target.name();
    for words in [
        vec!["dump", "--container", of],
        vec!["create", "--volumes-from", web.name(), "--dump", of],
        vec!["create", "--name", "both", "--dump", of, source.to_str().unwrap()],
    ] {
        sidecar.run(words.clone()).succeed();
        let sql = repo.run(["cat", "latest"]).arg(format!("/dump/{of}/all.sql")).succeed();
        let ending = "-- Dump completed on 2026-11-29 12:00:00\n";
        assert!(sql.stdout_text().ends_with(ending), "{words:?}: {sql}");
    }
    repo.check_clean();
}

#[test]
fn what_comes_by_a_pipe_is_proved_by_its_end() {
    let Some(scene) = Scene::new() else { return };
    let sql = "CREATE TABLE t (n int);\n-- Dump completed on 2026-11-29\n";
    let run = |args: &[&str], input: &str| {
        let words = ["dump", "--json", "--stdin", "--name", "piped"];
        scene.repo.run(words).args(args.iter().copied()).stdin(input).finish()
    };
    let proved = run(&["--expect-trailer", "-- Dump completed"], sql).expect_code(0).last_json();
    assert_eq!(proved["dumps"][0]["proof"]["trailer"], "text");
    let known = run(&["--kind", "mysql"], sql).expect_code(0).last_json();
    assert_eq!(known["dumps"][0]["files"][0]["name"], "all.sql");
    assert_eq!(scene.cat("/dump/piped/all.sql"), sql.as_bytes());
    let taken = run(&["--unproved"], sql).expect_code(WARNINGS).last_json();
    assert_eq!(taken["state"], "warnings");
    failure(run(&[], sql), &["--unproved"]);
    run(&["--expect-trailer", " "], sql).expect_code(WRONG_USAGE);
    let before = scene.repo.snapshots().len();
    failure(run(&["--kind", "mysql"], "CREATE TABLE t (n int);\n"), &["-- Dump completed"]);
    failure(run(&[], ""), &["empty"]);
    let kept = scene.repo.snapshots();
    assert_eq!((kept.len(), text(&kept[before], "state").as_str()), (before + 1, "failed"));
    scene.repo.run(["dump", "--stdin"]).finish().expect_code(WRONG_USAGE);
}
