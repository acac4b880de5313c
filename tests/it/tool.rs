//! The `backup` program as the tests drive it: one repository and everything done to it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backup::keys::identity::Identities;
use e2e::object_store::Address;
use e2e::process::{Finished, Run};
use e2e::sandbox::Sandbox;
use e2e::tree::{self, Tree};
use serde_json::Value;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_backup-under-test");

/// Exit codes of every program of the suite.
pub(crate) const FAILED: i32 = 1;
pub(crate) const WRONG_USAGE: i32 = 2;
pub(crate) const WARNINGS: i32 = 3;
pub(crate) const INTERRUPTED: i32 = 130;

/// A repository and the environment in which the program works on it.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    url: OsString,
    options: Vec<String>,
    env: Vec<(String, String)>,
    home: PathBuf,
}

/// What `create --json` says at its end.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) snapshot: String,
    pub(crate) state: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) summary: Value,
}

/// A run of the program outside of any repository.
pub(crate) fn backup(sandbox: &Sandbox) -> Run {
    Run::new(BINARY).env("HOME", sandbox.root()).env("XDG_CACHE_HOME", sandbox.path("cache"))
}

impl Repo {
    /// The repository `repo` of a sandbox, made by `init`.
    pub(crate) fn directory(sandbox: &Sandbox) -> Self {
        let repo = Self::at(sandbox, &sandbox.path("repo"));
        repo.run(["init"]).succeed();
        repo
    }

    /// The repository `repo` of a sandbox, encrypted, as a machine has it that saves and restores. Its keys are in `keys`.
    pub(crate) fn encrypted(sandbox: &Sandbox) -> Self {
        let repo = Self::at(sandbox, &sandbox.path("repo")).with_new_keys(sandbox);
        repo.init_for(&sandbox.path("keys/recipients"));
        repo
    }

    /// The same place with a new identity of its own, and where a key file will be.
    pub(crate) fn with_new_keys(&self, sandbox: &Sandbox) -> Self {
        let identities = Identities::generate();
        let public: Vec<_> = identities.public().collect();
        sandbox.file("keys/recipients", public.join("\n"));
        let identity = sandbox.file("keys/identity", identities.to_text().as_bytes());
        fs::set_permissions(&identity, fs::Permissions::from_mode(0o600)).unwrap();
        self.with("BACKUP_KEY_FILE", &sandbox.path("keys/key"))
            .with("BACKUP_IDENTITY_FILE", &identity)
    }

    /// `init` for the recipients in a file.
    pub(crate) fn init_for(&self, recipients: &Path) {
        self.without("BACKUP_IDENTITY_FILE")
            .run(["init", "--recipients-file"])
            .arg(recipients)
            .succeed();
    }

    /// With a file named by a variable of the environment.
    pub(crate) fn with(&self, variable: &str, file: &Path) -> Self {
        let mut with = self.without(variable);
        with.env.push((variable.to_owned(), file.to_str().unwrap().to_owned()));
        with
    }

    /// Without a variable of the environment.
    pub(crate) fn without(&self, variable: &str) -> Self {
        let mut without = self.clone();
        without.env.retain(|(name, _)| name != variable);
        without
    }

    /// A repository in a directory, existing or not.
    pub(crate) fn at(sandbox: &Sandbox, directory: &Path) -> Self {
        Self {
            url: directory.as_os_str().to_owned(),
            options: Vec::new(),
            env: Vec::new(),
            home: sandbox.root().to_owned(),
        }
    }

    /// A repository in an object store, existing or not.
    pub(crate) fn on_store(sandbox: &Sandbox, address: &Address, url: &str) -> Self {
        Self {
            url: url.into(),
            options: vec!["--s3-endpoint".to_owned(), address.endpoint.clone()],
            env: address.env(),
            home: sandbox.root().to_owned(),
        }
    }

    /// A repository on a server, existing or not, with what lets the program in.
    pub(crate) fn remote(sandbox: &Sandbox, url: &str, env: Vec<(String, String)>) -> Self {
        Self { url: url.into(), options: Vec::new(), env, home: sandbox.root().to_owned() }
    }

    /// The same repository for a machine that has never seen it: without its cache.
    pub(crate) fn elsewhere(&self, home: PathBuf) -> Self {
        Self { home, ..self.clone() }
    }

    /// Where a directory repository lies.
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.url)
    }

    /// `backup --repo R ARGS…`.
    pub(crate) fn run<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> Run {
        Run::new(BINARY)
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .envs(self.env.iter().cloned())
            .arg("--repo")
            .arg(&self.url)
            .args(self.options.iter().cloned())
            .args(args)
    }

    /// `create --json`, to its end, whatever that is.
    pub(crate) fn try_create(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.run(["create", "--json"].map(OsString::from).into_iter().chain(args)).finish()
    }

    /// `create --json` without any warning.
    pub(crate) fn create(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Created {
        let created = Created::of(&self.try_create(args).expect_code(0));
        assert_eq!(created.state, "complete", "{created:?}");
        created
    }

    /// `snapshots --json`.
    pub(crate) fn snapshots(&self) -> Vec<Value> {
        match self.run(["snapshots", "--json"]).succeed().json() {
            Value::Array(snapshots) => snapshots,
            other => panic!("snapshots --json is no array: {other}"),
        }
    }

    /// The ids of all snapshots.
    pub(crate) fn snapshot_ids(&self) -> Vec<String> {
        self.snapshots().iter().map(|snapshot| text(snapshot, "id")).collect()
    }

    /// `restore SNAPSHOT --strip --target TARGET ARGS…`.
    pub(crate) fn restore_run(&self, snapshot: &str, target: &Path, args: &[&str]) -> Run {
        self.run(["restore", snapshot, "--strip", "--target"])
            .arg(target)
            .args(args.iter().copied())
    }

    /// Restores a snapshot of one source into a directory and reads it.
    pub(crate) fn restored(&self, snapshot: &str, target: &Path) -> Tree {
        self.restore_run(snapshot, target, &[]).succeed();
        tree::read(target)
    }

    /// `check --json ARGS…`: exit code 0 and no error.
    pub(crate) fn check_clean(&self) {
        let finished = self.run(["check", "--read-data", "--json"]).succeed();
        assert_eq!(errors(&finished.last_json()), Vec::<Value>::new(), "{finished}");
    }
}

impl Created {
    pub(crate) fn of(finished: &Finished) -> Self {
        let summary = finished.last_json();
        assert_eq!(summary["event"], "summary", "{finished}");
        let warnings = summary["warnings"].as_array().cloned().unwrap_or_default();
        Self {
            snapshot: text(&summary, "snapshot"),
            state: text(&summary, "state"),
            warnings: warnings
                .iter()
                .map(|warning| warning.as_str().map_or_else(|| warning.to_string(), str::to_owned))
                .collect(),
            summary,
        }
    }

    /// Whether it is suspicious because what came before could not be read, and for nothing else.
    pub(crate) fn is_incomparable(&self) -> bool {
        let is_said = |warning: &String| {
            ["what was saved before cannot be read", "no good one before it can be compared"]
                .iter()
                .any(|words| warning.contains(words))
        };
        self.summary["suspicious"] == true && self.warnings.iter().all(is_said)
    }
}

/// The errors in the summary of a check.
pub(crate) fn errors(summary: &Value) -> Vec<Value> {
    summary["errors"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| panic!("a check lists its errors: {summary}"))
}

/// A string field of a JSON object.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no text `{field}` in {object}")).to_owned()
}

/// Passes when the program failed with one sentence on stderr that holds one of these words. News of what it does are
/// none: whoever runs first makes the worker's image, and what others were killed in lies about.
pub(crate) fn assert_one_sentence(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code(), Some(code), "{finished}");
    let stderr = finished.stderr_text();
    let is_news = |line: &str| line.starts_with('{') && !line.contains(r#""level":"ERROR""#);
    let lines: Vec<_> =
        stderr.lines().filter(|line| !line.trim().is_empty() && !is_news(line)).collect();
    assert_eq!(lines.len(), 1, "one sentence was expected: {finished}");
    let lower = stderr.to_lowercase();
    assert!(words.iter().any(|word| lower.contains(word)), "none of {words:?} is said: {finished}");
}
