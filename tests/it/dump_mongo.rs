//! MongoDB, which Debian does not have: fakes play `mongodump`, `mongorestore` and `mongosh` as their manuals say.
//! What a real server makes of it is not known here, and the manual says so.

use std::sync::Arc;
use std::time::Duration;

use e2e::engine::{self, Container, Spec};
use e2e::images::{self, Image, ImageFile};
use e2e::process::{Finished, find_program};
use e2e::sandbox::Sandbox;

use crate::tool::{BINARY, FAILED, Repo, WRONG_USAGE, assert_one_sentence};

/// How long a drill may take on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(300);

/// What no command line may show.
const SECRET: &str = "correct-horse-battery";

/// An archive without collections: magic number, a header, the end of the list.
const ARCHIVE: &[u8] =
    b"\x6d\xe2\x99\x81\x16\0\0\0\x02version\0\x04\0\0\x000.1\0\0\xff\xff\xff\xff";

/// Finds the password where the tools of MongoDB read it (`--config`), or expects none.
const FAKE_LOGIN: &str = r#"#!/bin/sh
for word in "$@"; do
  case $word in
    --version) echo "mongodump version: 100.9.4"; exit 0 ;;
    --config=*) config=$(cat "${word#--config=}") ;;
  esac
done
echo "${0##*/} $*" >>/tmp/words
wanted=
[ -z "$MONGO_INITDB_ROOT_PASSWORD" ] || wanted="password: 'it''s correct-horse-battery'"
[ "$config" = "$wanted" ] || { echo "auth failed: $config" >&2; exit 1; }
"#;

const FAKE_MONGODUMP: &str = "cat /archive\n";

const FAKE_MONGORESTORE: &str = "cat >/restored\n";

/// A server with one collection of three documents once something was restored.
const FAKE_MONGOSH: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>/tmp/words
[ "$CHORES_USER" = "$MONGO_INITDB_ROOT_USERNAME" ] && [ "$CHORES_WORD" = "$MONGO_INITDB_ROOT_PASSWORD" ] ||
  { echo "auth failed" >&2; exit 1; }
case $* in
  *occupied=*) [ ! -s /restored ] || echo occupied=shop ;;
  *checked=validate*)
    cmp -s /restored /archive || exit 1
    [ -z "$DAMAGED" ] || printf 'shop.orders\tcheck\terror\tbad index\n'
    echo rows=shop.orders=3
    echo checked=validate ;;
  *ping*) ;;
  *) echo "what is that?" >&2; exit 1 ;;
esac
"#;

struct Scene {
    target: Container,
    repo: Repo,
    // Used by the repository until here.
    _sandbox: Sandbox,
    // Removed after what runs of them.
    _images: [Arc<Image>; 2],
}

impl Scene {
    fn new() -> Option<Self> {
        let engine = engine::connect()?;
        let busybox = find_program("busybox")?;
        let file = |path: &str, content: Vec<u8>| ImageFile {
            path: path.to_owned(),
            mode: 0o755,
            content,
        };
        let files = [
            file("busybox", engine::read_program(&busybox)),
            file("mongodump", [FAKE_LOGIN, FAKE_MONGODUMP].concat().into_bytes()),
            file("mongorestore", [FAKE_LOGIN, FAKE_MONGORESTORE].concat().into_bytes()),
            file("mongosh", FAKE_MONGOSH.as_bytes().to_vec()),
            file("archive", ARCHIVE.to_vec()),
        ];
        let recipe = "FROM scratch\n\
            COPY busybox /bin/busybox\n\
            COPY mongodump mongorestore mongosh /bin/\n\
            COPY archive /archive\n\
            RUN [\"/bin/busybox\", \"mkdir\", \"/tmp\"]\n\
            RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
            ENV PATH=/bin\n\
            CMD [\"/bin/sleep\", \"1000000\"]\n";
        let image = images::build(&engine, recipe, &files);
        let worker = images::own_worker(&engine, std::path::Path::new(BINARY));
        let target = engine.start(Spec {
            env: vec![
                "MONGO_INITDB_ROOT_USERNAME=root".to_owned(),
                format!("MONGO_INITDB_ROOT_PASSWORD=it's {SECRET}"),
            ],
            ..Spec::new(image.name(), Vec::<String>::new())
        });
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        Some(Self { target, repo, _sandbox: sandbox, _images: [image, worker] })
    }

    fn run(&self, words: &[&str]) -> Finished {
        self.repo.run(words).deadline(TIME_MAX).finish()
    }

    fn dump(&self) -> Finished {
        self.run(&["dump", "--json", "--name", "mongo", "--container", self.target.name()])
    }
}

#[test]
fn mongodump_is_called_as_its_manual_says() {
    let Some(scene) = Scene::new() else { return };
    let summary = scene.dump().expect_code(0).last_json();
    let dump = &summary["dumps"][0];
    assert_eq!(
        (&dump["kind"], &dump["proof"]["trailer"]),
        (&"mongo".into(), &"mongo-archive".into())
    );
    let content = scene.run(&["cat", "latest", "/dump/mongo/archive"]).expect_code(0).stdout;
    assert_eq!(content, ARCHIVE);
    let words = scene.target.sh("cat /tmp/words").stdout_text();
    assert!(words.contains("--archive") && !words.contains("--gzip"), "{words}");
    assert!(!words.contains(SECRET), "{words}");
    let cut = format!("head -c {} /archive >/cut && mv /cut /archive", ARCHIVE.len() - 4);
    scene.target.sh(&cut);
    let said = scene.dump().expect_code(FAILED).stderr_text();
    assert!(said.contains("breaks off"), "{said}");
}

#[test]
fn mongorestore_is_called_as_its_manual_says() {
    let Some(scene) = Scene::new() else { return };
    scene.dump().expect_code(0);
    let into = ["restore", "latest", "--into", scene.target.name()];
    scene.run(&into).expect_code(0);
    scene.target.sh("cmp /archive /restored");
    assert_one_sentence(&scene.run(&into), WRONG_USAGE, &["shop"]);
    scene.run(&[&into[..], &["--replace"]].concat()).expect_code(0);
    let words = scene.target.sh("grep mongorestore /tmp/words").stdout_text();
    let calls: Vec<_> = words.lines().map(|line| line.contains("--drop")).collect();
    assert_eq!(calls, [false, true], "{words}");
    assert!(words.lines().all(|line| line.contains("--archive")), "{words}");
    let all = scene.target.sh("cat /tmp/words").stdout_text();
    assert!(all.contains("mongosh") && !all.contains(SECRET), "{all}");
}

#[test]
fn a_drill_restores_validates_and_counts() {
    let Some(scene) = Scene::new() else { return };
    scene.dump().expect_code(0);
    let summary = scene.run(&["drill", "latest", "--json"]).expect_code(0).last_json();
    assert_eq!(summary["outcome"], "good", "{summary}");
    assert_eq!(summary["parts"][0]["rows"]["shop.orders"], 3, "{summary}");
    let damaged = scene.run(&["drill", "latest", "--json", "--env", "DAMAGED=1"]);
    let summary = damaged.expect_code(FAILED).last_json();
    assert_eq!(summary["outcome"], "failed", "{summary}");
    assert!(summary["parts"][0]["problem"].to_string().contains("bad index"), "{summary}");
}
