//! What `forget` keeps, by the command line: each rule, each source for itself, and what no rule drops.

use std::collections::BTreeMap;
use std::fs;

use backup::repository::Repository;
use backup::snapshot::{Selector, Snapshot, State, version_with};
use backup::store::Store;
use chores_common::object::{Location, ObjectStore, S3Settings};
use chores_common::shutdown::Shutdown;
use e2e::compare::{Ignore, assert_same_trees};
use e2e::sandbox::Sandbox;
use e2e::tree;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::tool::{FAILED, Repo, WARNINGS, WRONG_USAGE, assert_one_sentence};

/// A repository with snapshots of times long gone, all of one tree.
struct Scene {
    sandbox: Sandbox,
    repo: Repo,
    library: Repository,
    of_today: Snapshot,
    _runtime: Runtime,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let repo = Repo::directory(&sandbox);
        sandbox.file("source/file", "the same every night");
        let made = repo.create([sandbox.path("source")]);
        let runtime = Runtime::new().unwrap();
        let location = Location::Directory(repo.path().to_owned());
        let objects = ObjectStore::open(&location, &S3Settings::default()).unwrap();
        let store = Store::new(objects, runtime.handle().clone(), Shutdown::new());
        let library = Repository::open(store).unwrap();
        let (name, of_today) = library.select(&Selector::Prefix(made.snapshot)).unwrap();
        library.remove_snapshot(&name).unwrap();
        Self { sandbox, repo, library, of_today, _runtime: runtime }
    }

    /// One more snapshot, as that of today but for what `change` makes of it.
    fn put(&self, name: &str, time: &str, change: impl FnOnce(&mut Snapshot)) -> String {
        let mut snapshot = Snapshot {
            name: name.to_owned(),
            time: time.parse().unwrap(),
            ..self.of_today.clone()
        };
        change(&mut snapshot);
        snapshot.version = version_with(&snapshot.dumps, snapshot.suspicious, &snapshot.provenance);
        self.library.put_snapshot(&snapshot).unwrap().id.to_string()
    }

    fn proved(&self, name: &str, time: &str) -> String {
        self.put(name, time, |_| {})
    }

    fn forget(&self, words: &[&str]) -> Forgotten {
        let run = self.repo.run(["forget", "--json"]).args(words.iter().copied());
        let finished = run.finish();
        let lines = finished.json_lines();
        let of =
            |event: &'static str| lines.iter().filter(move |line| line["event"] == event).cloned();
        Forgotten {
            code: finished.code().unwrap(),
            snapshots: of("snapshot").map(|line| (text(&line["id"]), line)).collect(),
            sources: of("source").map(|line| (text(&line["name"]), line)).collect(),
            summary: of("summary").next().unwrap(),
        }
    }

    fn ids(&self) -> Vec<String> {
        let mut ids = self.repo.snapshot_ids();
        ids.sort();
        ids
    }
}

/// What a `forget` said.
struct Forgotten {
    code: i32,
    snapshots: BTreeMap<String, Value>,
    sources: BTreeMap<String, Value>,
    summary: Value,
}

impl Forgotten {
    /// Why a snapshot stays; nothing: it goes.
    fn reasons(&self, id: &str) -> Vec<String> {
        let line = &self.snapshots[id];
        let reasons: Vec<_> = line["reasons"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(line["stays"], !reasons.is_empty(), "{line}");
        reasons
    }

    /// The ids that go, sorted.
    fn gone(&self) -> Vec<String> {
        let mut gone: Vec<_> =
            self.summary["forgotten"].as_array().unwrap().iter().map(text).collect();
        gone.sort();
        gone
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut ids: Vec<_> = ids.iter().map(|id| (*id).clone()).collect();
    ids.sort();
    ids
}

#[test]
fn each_rule_keeps_the_newest_proved_of_its_periods_and_no_dry_run_drops_any() {
    let scene = Scene::new();
    // A Sunday; the week began on the 24th.
    let newest = scene.proved("shop", "2024-06-30T22:10:00Z");
    let hour = scene.proved("shop", "2024-06-30T22:05:00Z");
    let day = scene.proved("shop", "2024-06-30T21:00:00Z");
    let week = scene.proved("shop", "2024-06-29T03:00:00Z");
    let last_week = scene.proved("shop", "2024-06-23T03:00:00Z");
    let tagged = scene.put("shop", "2024-06-22T03:00:00Z", |snapshot| {
        snapshot.tags.insert("keep".to_owned(), "yes".to_owned());
    });
    let may = scene.proved("shop", "2024-05-31T03:00:00Z");
    let last_year = scene.proved("shop", "2023-12-31T03:00:00Z");
    let years_ago = scene.proved("shop", "2021-01-01T03:00:00Z");
    // None of these counts: what is newer than all proved ones and what is young stay to be looked at.
    let failed = |snapshot: &mut Snapshot| snapshot.state = State::Failed;
    let failed_last = scene.put("shop", "2024-06-30T23:00:00Z", failed);
    let failed_lately = scene.put("shop", "2024-06-28T03:00:00Z", failed);
    let failed_before = scene.put("shop", "2024-06-01T03:00:00Z", failed);
    // Nothing is younger than the newest of its own source.
    let other = scene.proved("mail", "2019-02-03T04:05:06Z");
    let all = scene.ids();

    let rules: [(&[&str], &str, &[&String]); 8] = [
        (&["--keep-last", "2"], "last", &[&newest, &hour]),
        (&["--keep-hourly", "2"], "hourly", &[&newest, &day]),
        (&["--keep-daily", "2"], "daily", &[&newest, &week]),
        (&["--keep-weekly", "2"], "weekly", &[&newest, &last_week]),
        (&["--keep-monthly", "2"], "monthly", &[&newest, &may]),
        (&["--keep-yearly", "3"], "yearly", &[&newest, &last_year, &years_ago]),
        (&["--keep-within", "2d"], "within", &[&newest, &hour, &day, &week]),
        (&["--keep-tag", "keep=yes"], "tag", &[&tagged]),
    ];
    let always = [&newest, &failed_last, &failed_lately, &other];
    for (words, reason, kept) in rules {
        let forgotten = scene.forget(&[words, &["--dry-run"]].concat());
        assert_eq!((forgotten.code, &forgotten.summary["dry_run"]), (0, &Value::Bool(true)));
        for id in kept {
            assert!(forgotten.reasons(id).contains(&reason.to_owned()), "{words:?}: {id}");
        }
        assert!(forgotten.reasons(&newest).contains(&"newest".to_owned()), "{words:?}");
        assert_eq!(forgotten.reasons(&failed_last), ["no newer proved"], "{words:?}");
        assert_eq!(forgotten.reasons(&failed_lately), ["inspection"], "{words:?}");
        assert_eq!(forgotten.reasons(&failed_before), [""; 0], "{words:?}");
        let stays = sorted(&[kept, &always].concat());
        let goes: Vec<_> = all.iter().filter(|id| !stays.contains(id)).cloned().collect();
        assert_eq!(forgotten.gone(), goes, "{words:?}");
        assert_eq!(forgotten.summary["stay"], all.len() - goes.len(), "{words:?}");
        assert_eq!(scene.ids(), all, "a dry run dropped something: {words:?}");
    }

    // What one rule keeps, no other drops; and then it is done.
    let words = ["--keep-last", "1", "--keep-monthly", "2", "--keep-tag", "keep=yes"];
    let forgotten = scene.forget(&words);
    let stays = sorted(&[&newest, &may, &tagged, &failed_last, &failed_lately, &other]);
    assert_eq!((forgotten.code, scene.ids()), (0, stays));
    assert_eq!(scene.forget(&words).gone(), [""; 0]);
    scene.repo.check_clean();
    let restored = scene.repo.restored(&may, &scene.sandbox.path("target"));
    assert_same_trees(&tree::read(&scene.sandbox.path("source")), &restored, Ignore::default());
}

#[test]
fn each_source_is_judged_for_itself_and_one_that_is_suspicious_loses_nothing() {
    let scene = Scene::new();
    let nights = |name: &str| {
        ["2024-06-01T03:00:00Z", "2024-06-02T03:00:00Z", "2024-06-03T03:00:00Z"]
            .map(|time| scene.proved(name, time))
    };
    let (shop, mail, wiki) = (nights("shop"), nights("mail"), nights("wiki"));
    let suspicious =
        scene.put("shop", "2024-06-04T03:00:00Z", |snapshot| snapshot.suspicious = true);
    let all = scene.ids();
    let keep = ["--keep-last", "1"];
    let only = scene.forget(&[&keep[..], &["--name", "wiki"]].concat());
    assert_eq!((only.code, only.gone()), (0, sorted(&[&wiki[0], &wiki[1]])));
    assert_eq!(only.sources.keys().collect::<Vec<_>>(), ["wiki"]);

    let forgotten = scene.forget(&keep);
    assert_eq!(forgotten.code, WARNINGS);
    assert_eq!(forgotten.gone(), sorted(&[&mail[0], &mail[1]]));
    assert_eq!(forgotten.summary["frozen_sources"], 1);
    assert!(text(&forgotten.sources["shop"]["frozen"]).contains("--allow-change"));
    assert!(forgotten.sources["mail"]["frozen"].is_null());
    for id in shop.iter().chain([&suspicious]) {
        assert!(forgotten.reasons(id).contains(&"frozen".to_owned()), "{id}");
    }
    // The night before counts on, as the last that is proved.
    assert!(forgotten.reasons(&shop[2]).contains(&"newest".to_owned()));
    assert_eq!(scene.ids().len(), all.len() - 4);

    // A person has looked, and it was meant to be; or it goes, by its name.
    scene.repo.run(["forget", &suspicious]).succeed();
    let thawed = scene.forget(&keep);
    assert_eq!((thawed.code, thawed.gone()), (0, sorted(&[&shop[0], &shop[1]])));
    assert_eq!(scene.ids(), sorted(&[&shop[2], &mail[2], &wiki[2]]));
}

#[test]
fn the_newest_proved_one_goes_by_no_rule_and_only_when_that_is_said() {
    let scene = Scene::new();
    let before = scene.proved("shop", "2024-06-01T03:00:00Z");
    let newest = scene.proved("shop", "2024-06-02T03:00:00Z");
    let repo = &scene.repo;
    for words in [vec!["forget", &newest], vec!["forget", &before, &newest]] {
        assert_one_sentence(&repo.run(words).finish(), WRONG_USAGE, &["--even-newest"]);
    }
    for words in [
        vec!["forget"],
        vec!["forget", "--keep-last", "0"],
        vec!["forget", &before, "--keep-last", "1"],
        vec!["forget", "--keep-last", "1", "--even-newest"],
    ] {
        repo.run(words).finish().expect_code(WRONG_USAGE);
    }
    // Packs that are gone make no backup, so it is the one before that stays.
    scene.put("shop", "2024-06-03T03:00:00Z", |snapshot| {
        snapshot.packs = vec!["0".repeat(32).parse().map(backup::pack::PackId).unwrap()];
    });
    let forgotten = scene.forget(&["--keep-last", "1"]);
    assert_eq!((forgotten.code, forgotten.gone()), (0, sorted(&[&before])));
    // While one cannot be read, rules drop nothing.
    let path = repo.path().join("snapshots");
    let one = fs::read_dir(path).unwrap().next().unwrap().unwrap().path();
    let sound = fs::read(&one).unwrap();
    fs::write(&one, "{}").unwrap();
    let refused = repo.run(["forget", "--keep-last", "1"]).finish();
    assert_one_sentence(&refused, FAILED, &["cannot be read"]);
    fs::write(&one, sound).unwrap();
    repo.run(["forget", &newest, "--even-newest"]).succeed();
    assert!(!scene.ids().contains(&newest));
}

#[test]
fn hosts_that_take_turns_are_told_apart_only_when_that_is_said() {
    let scene = Scene::new();
    let on = |host: &str, time: &str| {
        scene.put("shop", time, |snapshot| host.clone_into(&mut snapshot.host))
    };
    let old = [on("one", "2024-06-01T03:00:00Z"), on("two", "2024-06-01T04:00:00Z")];
    let new = [on("one", "2024-06-02T03:00:00Z"), on("two", "2024-06-02T04:00:00Z")];
    let unsaid = scene.forget(&["--keep-last", "1"]);
    assert_eq!((unsaid.code, unsaid.gone()), (WARNINGS, Vec::new()));
    assert!(text(&unsaid.sources["shop"]["frozen"]).contains("--group-by"));
    let one = scene.forget(&["--keep-last", "1", "--group-by", "name", "--dry-run"]);
    assert_eq!((one.code, one.gone()), (0, sorted(&[&old[0], &old[1], &new[0]])));
    let each = scene.forget(&["--keep-last", "1", "--group-by", "host"]);
    assert_eq!((each.code, each.gone()), (0, sorted(&[&old[0], &old[1]])));
    assert_eq!(scene.ids(), sorted(&[&new[0], &new[1]]));
}
