//! Repositories on servers that are neither a directory nor S3: a real sshd, a real WebDAV server. The same promises hold there,
//! also when the line is cut, the disk is full, or somebody else is at the other end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use e2e::compare::{Ignore, assert_same_trees};
use e2e::random::Random;
use e2e::relay::{Mode, Relay};
use e2e::sandbox::Sandbox;
use e2e::sftp_server::SftpServer;
use e2e::tree;
use e2e::webdav_server::WebDavServer;

use crate::tool::{Created, FAILED, Repo, WRONG_USAGE, assert_one_sentence};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The time within which a store that does not answer must have been given up.
const GIVE_UP: Duration = Duration::from_secs(110);

/// How long what a killed run has started may take to notice.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(20);

/// Moments at which the line is cut or the run is killed, in milliseconds.
const MOMENTS: [u64; 4] = [60, 180, 400, 900];

enum Server {
    Sftp(SftpServer),
    WebDav(WebDavServer),
}

impl Server {
    fn port(&self) -> u16 {
        match self {
            Self::Sftp(server) => server.port(),
            Self::WebDav(server) => server.port(),
        }
    }

    fn url(&self, port: u16, path: &str) -> String {
        match self {
            Self::Sftp(server) => server.url(port, path),
            Self::WebDav(server) => server.url(port, path),
        }
    }

    fn env(&self) -> Vec<(String, String)> {
        match self {
            Self::Sftp(server) => server.env(),
            Self::WebDav(server) => server.env(),
        }
    }

    /// Where what it serves lies, in a sandbox.
    fn files(&self) -> (&Sandbox, &'static str) {
        match self {
            Self::Sftp(server) => (server.directory(), "files"),
            Self::WebDav(server) => (server.directory(), "root/files"),
        }
    }

    fn path(&self) -> PathBuf {
        let (sandbox, path) = self.files();
        sandbox.path(path)
    }

    fn repo(&self, sandbox: &Sandbox) -> Repo {
        Repo::remote(sandbox, &self.url(self.port(), "repo"), self.env())
    }

    /// The same repository by way of a relay.
    fn repo_by(&self, sandbox: &Sandbox, relay: &Relay) -> Repo {
        if let Self::Sftp(server) = self {
            server.trust(relay.port());
        }
        Repo::remote(sandbox, &self.url(relay.port(), "repo"), self.env())
    }
}

fn sftp() -> Option<Server> {
    SftpServer::start().map(Server::Sftp)
}

fn web_dav() -> Option<Server> {
    WebDavServer::start().map(Server::WebDav)
}

fn source(sandbox: &Sandbox, bytes: usize) -> PathBuf {
    let source = sandbox.directory("source");
    let mut random = Random::new(33);
    fs::write(source.join("noise"), random.bytes(bytes)).unwrap();
    fs::write(source.join("text"), random.text(90_000)).unwrap();
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::write(source.join("a/b/small"), "small").unwrap();
    source
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

fn temporaries(directory: &Path) -> usize {
    files(directory).iter().filter(|path| path.to_string_lossy().contains(".tmp-")).count()
}

/// A day passes: the server's clock is the time of its files.
fn pass_a_day(directory: &Path) {
    for path in files(directory) {
        let file = fs::File::options().write(true).open(&path).unwrap();
        let time = file.metadata().unwrap().modified().unwrap();
        file.set_modified(time - DAY).unwrap();
    }
}

/// Made, saved to twice, checked, restored, thinned out and pruned.
fn lives_its_whole_life(server: &Server) {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 20 << 20);
    let repo = server.repo(&sandbox);
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["backup init"]);
    assert!(!server.path().join("repo").exists());
    repo.run(["init"]).succeed();
    assert_one_sentence(&repo.run(["init"]).finish(), FAILED, &["already"]);
    let first = repo.create([&source]);
    let stored = files(&server.path()).len();
    let again = repo.create([&source]);
    assert!(files(&server.path()).len() <= stored + 4, "a repeat stores next to nothing");
    let before = tree::read(&source);
    fs::write(source.join("noise"), Random::new(34).bytes(20 << 20)).unwrap();
    let last = repo.create([&source]);
    repo.check_clean();
    let elsewhere = repo.elsewhere(sandbox.directory("elsewhere"));
    assert_same_trees(
        &before,
        &elsewhere.restored(&first.snapshot, &sandbox.path("first")),
        Ignore::default(),
    );
    let doctor = repo.run(["doctor", "--json"]).finish();
    let store = doctor.json_lines().into_iter().find(|line| line["name"] == "store");
    assert!(store.is_some_and(|line| line["status"] == "ok"), "{doctor}");
    repo.run(["forget", &first.snapshot, &again.snapshot]).succeed();
    pass_a_day(&server.path());
    repo.run(["prune", "--max-unused", "0"]).succeed();
    pass_a_day(&server.path());
    repo.run(["prune", "--max-unused", "0"]).succeed();
    let left: u64 =
        files(&server.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 30 << 20, "{left} bytes are left of 40 MiB");
    repo.check_clean();
    let now = tree::read(&source);
    assert_same_trees(
        &now,
        &repo.restored(&last.snapshot, &sandbox.path("last")),
        Ignore::default(),
    );
    assert_eq!(temporaries(&server.path()), 0);
    let folders = fs::read_dir(server.path().join("repo")).unwrap();
    let probes = folders.filter(|entry| {
        entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("doctor")
    });
    assert_eq!(probes.count(), 0, "doctor leaves nothing");
}

#[test]
fn a_repository_over_sftp_lives_its_whole_life() {
    let Some(server) = sftp() else { return };
    lives_its_whole_life(&server);
}

#[test]
fn a_repository_over_webdav_lives_its_whole_life() {
    let Some(server) = web_dav() else { return };
    lives_its_whole_life(&server);
}

#[test]
fn a_webdav_server_is_trusted_by_its_certificate_alone() {
    let Some(server) = WebDavServer::start_with_tls() else { return };
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1 << 20);
    let repo = Repo::remote(&sandbox, &server.url(server.port(), "repo"), server.env());
    let trusting = repo.with("SSL_CERT_FILE", &server.directory().path("tls/ca.pem"));
    trusting.run(["init"]).succeed();
    let created = trusting.create([&source]);
    let restored = trusting.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
    assert_one_sentence(&repo.run(["snapshots"]).finish(), FAILED, &["certificate"]);
}

#[test]
fn an_encrypted_repository_over_sftp_is_restored_with_its_identity() {
    let Some(server) = sftp() else { return };
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1 << 20);
    let repo = server.repo(&sandbox).with_new_keys(&sandbox);
    repo.init_for(&sandbox.path("keys/recipients"));
    let created = repo.create([&source]);
    repo.check_clean();
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
}

#[test]
fn files_on_the_server_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(server) = sftp() else { return };
    let sandbox = Sandbox::new();
    let repo = server.repo(&sandbox);
    repo.run(["init"]).succeed();
    repo.create([&source(&sandbox, 1000)]);
    for path in files(&server.path().join("repo")) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn snapshots_are_copied_between_a_directory_and_servers() {
    let (Some(sftp), Some(web_dav)) = (sftp(), web_dav()) else { return };
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 3 << 20);
    let directory = Repo::directory(&sandbox);
    directory.create([&source]);
    let mut env = sftp.env();
    env.extend(web_dav.env());
    let (over_sftp, over_dav) =
        (sftp.url(sftp.port(), "repo"), web_dav.url(web_dav.port(), "repo"));
    let mut from = directory.path().display().to_string();
    for to in [over_sftp, over_dav, sandbox.path("back").display().to_string()] {
        let repo = Repo::remote(&sandbox, &to, env.clone());
        repo.run(["init"]).succeed();
        repo.run(["copy", "--from", &from]).succeed();
        repo.check_clean();
        from = to;
    }
    let back = Repo::at(&sandbox, &sandbox.path("back"));
    let restored = back.restored("latest", &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
}

/// Both commit, and both restore.
fn two_write_at_once(server: &Server) {
    let sandbox = Sandbox::new();
    let repo = server.repo(&sandbox);
    repo.run(["init"]).succeed();
    let sources: Vec<_> = ["one", "two"]
        .into_iter()
        .enumerate()
        .map(|(number, name)| {
            let source = sandbox.directory(name);
            // Half of it is the same, so that both write the same chunks.
            fs::write(source.join("shared"), Random::new(50).bytes(4 << 20)).unwrap();
            fs::write(source.join("own"), Random::new(51 + number as u64).bytes(4 << 20)).unwrap();
            source
        })
        .collect();
    let running: Vec<_> = sources
        .iter()
        .map(|source| {
            let home = sandbox.path(format!("home-{}", source.file_name().unwrap().display()));
            repo.elsewhere(home).run(["create", "--json"]).arg(source).start()
        })
        .collect();
    for (source, running) in sources.iter().zip(running) {
        let created = Created::of(&running.wait().expect_code(0));
        let target = sandbox.path(format!("{}-back", source.file_name().unwrap().display()));
        let restored = repo.restored(&created.snapshot, &target);
        assert_same_trees(&tree::read(source), &restored, Ignore::default());
    }
    repo.check_clean();
}

#[test]
fn two_write_over_sftp_at_once() {
    let Some(server) = sftp() else { return };
    two_write_at_once(&server);
}

#[test]
fn two_write_over_webdav_at_once() {
    let Some(server) = web_dav() else { return };
    two_write_at_once(&server);
}

#[test]
fn of_two_that_init_at_once_one_wins() {
    let servers = [sftp(), web_dav()];
    for server in servers.iter().flatten() {
        let sandbox = Sandbox::new();
        let repo = server.repo(&sandbox);
        let runs: Vec<_> = (0..4).map(|_| repo.run(["init", "--json"]).start()).collect();
        let ended: Vec<_> = runs.into_iter().map(|run| run.wait()).collect();
        let (won, lost): (Vec<_>, Vec<_>) = ended.iter().partition(|run| run.code() == Some(0));
        let [won] = won.as_slice() else { panic!("{} have won: {ended:?}", won.len()) };
        for run in lost {
            assert_one_sentence(run, FAILED, &["already"]);
        }
        let document = fs::read_to_string(server.path().join("repo/repo.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["id"], won.last_json()["id"]);
        assert_eq!(files(&server.path().join("repo")).len(), 1, "something is left behind");
    }
}

/// Whatever was being written, what is there under its name is whole; and the next run goes on.
fn a_cut_line_leaves_nothing_half(server: &Server) {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 4 << 20);
    let direct = server.repo(&sandbox);
    direct.run(["init"]).succeed();
    let first = direct.create([&source]);
    let first_tree = tree::read(&source);
    let relay = Relay::to(server.port());
    let by_relay = server.repo_by(&sandbox, &relay);
    let mut cut = 0;
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        fs::write(source.join("noise"), Random::new(70 + number as u64).bytes(24 << 20)).unwrap();
        let running = by_relay.run(["create", "--json"]).arg(&source).deadline(GIVE_UP).start();
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(moment).saturating_sub(begun.elapsed()));
        relay.set(Mode::Away);
        let finished = running.wait();
        relay.set(Mode::Pass);
        match finished.code() {
            // It was faster.
            Some(0) => {}
            _ => {
                cut += 1;
                assert_one_sentence(&finished, FAILED, &["cannot"]);
            }
        }
        direct.check_clean();
    }
    assert!(cut > 0, "every run was faster than the cut");
    let restored = direct.restored(&first.snapshot, &sandbox.path("first"));
    assert_same_trees(&first_tree, &restored, Ignore::default());
    let last = by_relay.create([&source]);
    let restored = direct.restored(&last.snapshot, &sandbox.path("last"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
    // What was left half is found by its age and goes.
    pass_a_day(&server.path());
    pass_a_day(&server.path());
    // The one says what time it is there, the other is a day later by that.
    direct.create([&source]);
    direct.create([&source]);
    assert_eq!(temporaries(&server.path()), 0);
    direct.check_clean();
}

#[test]
fn a_cut_line_to_an_sftp_server_leaves_nothing_half() {
    let Some(server) = sftp() else { return };
    a_cut_line_leaves_nothing_half(&server);
}

#[test]
fn a_cut_line_to_a_webdav_server_leaves_nothing_half() {
    let Some(server) = web_dav() else { return };
    a_cut_line_leaves_nothing_half(&server);
}

/// A line that is cut for a moment costs another attempt, not the backup.
fn a_line_that_comes_back_is_used_again(server: &Server) {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 30 << 20);
    let relay = Relay::to(server.port());
    let repo = server.repo_by(&sandbox, &relay);
    repo.run(["init"]).succeed();
    let running = repo.run(["create", "--json"]).arg(&source).start();
    for _cut in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        relay.set(Mode::Away);
        relay.set(Mode::Pass);
    }
    let created = Created::of(&running.wait().expect_code(0));
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
}

#[test]
fn a_line_to_an_sftp_server_that_comes_back_is_used_again() {
    let Some(server) = sftp() else { return };
    a_line_that_comes_back_is_used_again(&server);
}

#[test]
fn a_line_to_a_webdav_server_that_comes_back_is_used_again() {
    let Some(server) = web_dav() else { return };
    a_line_that_comes_back_is_used_again(&server);
}

/// Processes whose command line has `text`.
fn processes_with(text: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[test]
fn a_killed_run_leaves_no_half_snapshot_and_no_ssh_behind() {
    let Some(server) = sftp() else { return };
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 24 << 20);
    let repo = server.repo(&sandbox);
    repo.run(["init"]).succeed();
    for moment in MOMENTS {
        let running = repo.run(["create", "--json"]).arg(&source).start();
        drop(running.kill_at(Duration::from_millis(moment)));
        let begun = Instant::now();
        // Only `ssh` has the file of known hosts among its arguments.
        let known_hosts = server.files().0.path("known_hosts").display().to_string();
        while processes_with(&known_hosts) > 0 {
            assert!(begun.elapsed() < NOTICE_TIME_MAX, "ssh goes on without its parent");
            std::thread::sleep(Duration::from_millis(50));
        }
        repo.check_clean();
    }
    let created = repo.create([&source]);
    let restored = repo.restored(&created.snapshot, &sandbox.path("target"));
    assert_same_trees(&tree::read(&source), &restored, Ignore::default());
}

#[test]
fn a_key_that_the_server_does_not_know_is_called_so() {
    let Some(Server::Sftp(server)) = sftp() else { return };
    let sandbox = Sandbox::new();
    let env = server.env_with("other-key", "known_hosts");
    let repo = Repo::remote(&sandbox, &server.url(server.port(), "repo"), env);
    let finished = repo.run(["init"]).finish();
    assert_one_sentence(&finished, FAILED, &["lets none of our keys in"]);
    assert!(finished.stderr_text().contains("BACKUP_SFTP_KEY_FILE"), "{finished}");
}

#[test]
fn a_host_key_that_is_not_known_is_never_taken() {
    let Some(Server::Sftp(server)) = sftp() else { return };
    let sandbox = Sandbox::new();
    drop(server.directory().file("nobody", ""));
    let url = server.url(server.port(), "repo");
    let repo = Repo::remote(&sandbox, &url, server.env_with("key", "nobody"));
    let finished = repo.run(["init"]).finish();
    assert_one_sentence(&finished, FAILED, &["the host key is not known"]);
    let scan = format!("ssh-keyscan -p {} 127.0.0.1", server.port());
    assert!(finished.stderr_text().contains(&scan), "{finished}");
    assert_eq!(fs::read_to_string(server.directory().path("nobody")).unwrap(), "");
    assert!(!server.directory().path("files/repo").exists());
}

#[test]
fn a_host_key_that_has_changed_is_called_so() {
    let Some(Server::Sftp(server)) = sftp() else { return };
    let sandbox = Sandbox::new();
    server.add_known("changed", server.port(), "other-host");
    let url = server.url(server.port(), "repo");
    let repo = Repo::remote(&sandbox, &url, server.env_with("key", "changed"));
    let finished = repo.run(["init"]).finish();
    assert_one_sentence(&finished, FAILED, &["the host key is not the one in"]);
}

#[test]
fn what_ssh_keyscan_says_is_what_is_wanted() {
    let Some(Server::Sftp(server)) = sftp() else { return };
    let sandbox = Sandbox::new();
    let scanned = e2e::process::Run::new("ssh-keyscan")
        .args(["-p", &server.port().to_string(), "127.0.0.1"])
        .succeed();
    drop(server.directory().file("scanned", scanned.stdout_text()));
    let url = server.url(server.port(), "repo");
    Repo::remote(&sandbox, &url, server.env_with("key", "scanned")).run(["init"]).succeed();
}

#[test]
fn without_ssh_there_is_one_clear_sentence() {
    let Some(server) = sftp() else { return };
    let sandbox = Sandbox::new();
    let run = server.repo(&sandbox).run(["init"]).env("PATH", sandbox.root());
    assert_one_sentence(&run.finish(), FAILED, &["there is no `ssh` on path: install"]);
}

#[test]
fn a_wrong_password_is_called_so_and_nowhere_shown() {
    let Some(Server::WebDav(server)) = web_dav() else { return };
    let sandbox = Sandbox::new();
    let url = server.url(server.port(), "repo");
    let repo = Repo::remote(&sandbox, &url, server.env_with("hunter2"));
    let finished = repo.run(["init", "-vv"]).finish();
    assert_eq!(finished.code(), Some(FAILED), "{finished}");
    assert!(finished.stderr_text().contains("the user or the password is wrong"), "{finished}");
    assert!(!finished.stderr_text().contains("hunter2"), "{finished}");
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let sandbox = Sandbox::new();
    for url in ["sftp://me:hunter2@localhost/srv/repo", "webdavs://me:hunter2@localhost/repo"] {
        let repo = Repo::remote(&sandbox, url, Vec::new());
        let finished = repo.run(["snapshots"]).finish();
        assert_one_sentence(&finished, WRONG_USAGE, &["no place for credentials"]);
        assert!(!finished.stderr_text().contains("hunter2"), "{finished}");
    }
}

#[test]
fn servers_that_do_not_answer_are_given_up() {
    let sandbox = Sandbox::new();
    // Port 1 (tcpmux) is open nowhere.
    for url in ["sftp://127.0.0.1:1/srv/repo", "webdav://127.0.0.1:1/repo"] {
        let repo = Repo::remote(&sandbox, url, Vec::new());
        let finished = repo.run(["snapshots"]).deadline(GIVE_UP).finish();
        assert_one_sentence(&finished, FAILED, &["refused"]);
    }
}

#[test]
fn an_archive_goes_to_no_such_server() {
    let sandbox = Sandbox::new();
    let run = Repo::directory(&sandbox)
        .run(["stream", "--to", "sftp://127.0.0.1:1/srv/a.tar.zst"])
        .arg(source(&sandbox, 1000));
    assert_one_sentence(&run.finish(), WRONG_USAGE, &["an archive goes to a file"]);
}

/// A repository on a small disk behind the server.
fn on_a_small_disk(
    server: &Server,
    sandbox: &Sandbox,
    bytes: u64,
) -> Option<(Repo, e2e::sandbox::SmallDisk)> {
    let (directory, path) = server.files();
    let disk = directory.small_disk(format!("{path}/disk"), bytes)?;
    let url = server.url(server.port(), "disk/repo");
    let repo = Repo::remote(sandbox, &url, server.env());
    repo.run(["init"]).succeed();
    Some((repo, disk))
}

fn a_full_disk_is_called_full(server: &Server) {
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let Some((repo, _disk)) = on_a_small_disk(server, &sandbox, 6 << 20) else { return };
    let ballast = server.path().join("disk/ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let first = repo.create([&source]);
    fs::write(source.join("large"), Random::new(42).bytes(12 << 20)).unwrap();
    // lighttpd has no other word for it.
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["full", "http 500"]);
    assert_eq!(repo.snapshot_ids(), std::slice::from_ref(&first.snapshot));
    // What fits is still welcome: the failed run left the disk usable.
    fs::remove_file(source.join("large")).unwrap();
    fs::remove_file(&ballast).unwrap();
    let next = repo.create([&source]);
    repo.restored(&next.snapshot, &sandbox.path("target"));
}

#[test]
fn a_full_disk_behind_an_sftp_server_is_called_full() {
    let Some(server) = sftp() else { return };
    a_full_disk_is_called_full(&server);
}

#[test]
fn a_full_disk_behind_a_webdav_server_is_called_full() {
    let Some(server) = web_dav() else { return };
    a_full_disk_is_called_full(&server);
}

#[test]
fn a_read_only_disk_behind_an_sftp_server_is_called_read_only() {
    let Some(server) = sftp() else { return };
    let sandbox = Sandbox::new();
    let source = source(&sandbox, 1000);
    let Some((repo, disk)) = on_a_small_disk(&server, &sandbox, 16 << 20) else { return };
    let first = repo.create([&source]);
    disk.make_read_only();
    fs::write(source.join("more"), "more").unwrap();
    assert_one_sentence(&repo.try_create([&source]), FAILED, &["read-only"]);
    assert_eq!(repo.snapshot_ids(), std::slice::from_ref(&first.snapshot));
}

#[test]
fn times_are_those_of_the_servers_clock() {
    let (Some(sftp), Some(web_dav)) = (sftp(), web_dav()) else { return };
    for server in [sftp, web_dav] {
        let sandbox = Sandbox::new();
        let repo = server.repo(&sandbox);
        repo.run(["init"]).succeed();
        let doctor = repo.run(["doctor", "--json"]).finish();
        let clock = doctor.json_lines().into_iter().find(|line| line["name"] == "clock");
        assert!(clock.is_some_and(|line| line["status"] == "ok"), "{doctor}");
        let written = fs::metadata(server.path().join("repo/repo.json")).unwrap();
        let age = SystemTime::now().duration_since(written.modified().unwrap()).unwrap();
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
