//! The command line as a contract: help, version, exit codes, machine output.

use e2e::sandbox::Sandbox;

use crate::tool::{FAILED, Repo, WRONG_USAGE, assert_one_sentence, backup};

/// Every command of this release.
const COMMANDS: [&str; 19] = [
    "init",
    "create",
    "stream",
    "snapshots",
    "ls",
    "cat",
    "find",
    "mount",
    "diff",
    "restore",
    "export",
    "copy",
    "check",
    "key",
    "lock",
    "undelete",
    "stats",
    "doctor",
    "completions",
];

#[test]
fn help_names_every_command_and_fits_on_a_terminal() {
    const WIDTH_MAX: usize = 100;
    let sandbox = Sandbox::new();
    let help = backup(&sandbox).arg("--help").succeed().stdout_text();
    for command in COMMANDS {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command} is not in:\n{help}"
        );
        let help = backup(&sandbox).args([command, "--help"]).succeed().stdout_text();
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= WIDTH_MAX, "{command} --help has a line of {widest} characters:\n{help}");
    }
}

#[test]
fn version_is_one_line() {
    let sandbox = Sandbox::new();
    let version = backup(&sandbox).arg("--version").succeed().stdout_text();
    assert_eq!(version.lines().count(), 1);
    assert!(version.starts_with("backup "), "{version}");
}

#[test]
fn a_flag_wins_over_the_environment_variable_of_its_counterpart() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let data = sandbox.directory("data");
    std::fs::write(data.join("file"), "content").unwrap();
    repo.run(["create", "--no-cache", "--fast"])
        .arg(data)
        .env("BACKUP_CACHE_DIR", sandbox.path("named-cache"))
        .env("BACKUP_LEVEL", "7")
        .succeed();
    assert!(!sandbox.path("named-cache").exists());
    assert!(!sandbox.path("repo/cache").exists());
}

#[test]
fn wrong_usage_ends_with_2() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    for args in [
        &["no-such-command"][..],
        &["create", "--no-such-flag"],
        &["restore"],
        &["restore", "latest", "--target", "/x", "--replace", "--delta"],
        &["check", "--read-data=200"],
    ] {
        let finished = repo.run(args.iter().copied()).finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
        assert!(finished.stdout.is_empty(), "{finished}");
    }
    let finished = backup(&sandbox).arg("snapshots").finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
    assert!(finished.stderr_text().contains("--repo"), "the way out is not named: {finished}");
}

#[test]
fn who_names_no_command_is_shown_them_whatever_the_environment_says() {
    let sandbox = Sandbox::new();
    for variables in
        [&[][..], &[("BACKUP_REPO", "/srv/repo"), ("DOCKER_HOST", "tcp://127.0.0.1:1")]]
    {
        let run =
            variables.iter().fold(backup(&sandbox), |run, (name, value)| run.env(name, value));
        let finished = run.finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
        assert!(finished.stdout.is_empty(), "{finished}");
        let help = finished.stderr_text();
        for command in COMMANDS {
            let is_listed = help.lines().any(|line| line.trim_start().starts_with(command));
            assert!(is_listed, "{command} is not in:\n{help}");
        }
        assert!(help.contains("Exit codes:"), "{help}");
    }
}

#[test]
fn what_has_nothing_to_do_with_a_store_is_not_ended_by_a_setting_of_one() {
    let sandbox = Sandbox::new();
    let state = sandbox.directory("state");
    let run = |words: &[&str]| {
        let run = backup(&sandbox)
            .env("AWS_SECRET_ACCESS_KEY_FILE", "/no/such/secret")
            .env("AWS_SESSION_TOKEN", "")
            .env("BACKUP_WEBDAV_PASSWORD_FILE", "/no/such/secret");
        run.env("BACKUP_STATE_DIR", &state).args(words.iter().copied()).finish()
    };
    assert!(run(&["resume"]).expect_code(0).stdout_text().contains("no container had to be"));
    assert_one_sentence(&run(&["healthcheck"]), FAILED, &["serve"]);
    assert_one_sentence(&run(&["guard"]), WRONG_USAGE, &["guard container"]);
    run(&["completions", "bash"]).expect_code(0);
    run(&["man"]).expect_code(0);
    assert_one_sentence(
        &run(&["snapshots", "--repo", "/srv/repo"]),
        WRONG_USAGE,
        &["aws_secret_access_key_file", "backup_webdav_password_file"],
    );
}

#[test]
fn a_url_with_a_slip_makes_no_directory() {
    let sandbox = Sandbox::new();
    let finished = backup(&sandbox)
        .current_dir(sandbox.root())
        .args(["init", "--repo", "s3//bucket"])
        .finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["write s3://bucket"]);
    assert!(!sandbox.path("s3").exists());
}

#[test]
fn a_bucket_without_a_key_is_no_place_for_an_archive() {
    let sandbox = Sandbox::new();
    let source = sandbox.file("source/file", "content");
    let finished =
        backup(&sandbox).arg("stream").arg(source).args(["--to", "s3://bucket"]).finish();
    assert_one_sentence(&finished, WRONG_USAGE, &["add the object's key"]);
}

#[test]
fn the_repository_may_come_from_the_environment_and_stand_anywhere() {
    let sandbox = Sandbox::new();
    let repo = Repo::directory(&sandbox);
    let path = repo.path().to_str().unwrap();
    for args in
        [&["--repo", path, "snapshots", "--json"][..], &["snapshots", "--repo", path, "--json"]]
    {
        assert_eq!(
            backup(&sandbox).args(args.iter().copied()).succeed().json(),
            serde_json::json!([])
        );
    }
    let run = backup(&sandbox).args(["snapshots", "--json"]).env("BACKUP_REPO", path);
    assert_eq!(run.succeed().json(), serde_json::json!([]));
}

#[test]
fn nothing_but_json_is_on_stdout_when_json_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.file("source/file", "content");
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    for args in [
        &["ls", "latest", "--json"][..],
        &["stats", "--json"],
        &["find", "file", "--json"],
        &["check", "--json"],
    ] {
        let finished = repo.run(args.iter().copied()).succeed();
        assert!(!finished.json_lines().is_empty(), "{finished}");
    }
}

#[test]
fn a_file_can_be_read_out_of_a_snapshot() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("source/file", "content");
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let finished = repo.run(["cat", "latest"]).arg(&file).succeed();
    assert_eq!(finished.stdout, b"content");
    repo.run(["cat", "latest", "/no/such/file"]).finish().expect_code(WRONG_USAGE);
}

#[test]
fn a_diff_names_what_changed() {
    let sandbox = Sandbox::new();
    sandbox.file("source/changed", "one");
    sandbox.file("source/removed", "x");
    let repo = Repo::directory(&sandbox);
    let first = repo.create([sandbox.path("source")]).snapshot;
    sandbox.file("source/changed", "longer than before");
    sandbox.file("source/added", "y");
    std::fs::remove_file(sandbox.path("source/removed")).unwrap();
    let second = repo.create([sandbox.path("source")]).snapshot;
    let said = repo.run(["diff", &first, &second]).succeed().stdout_text();
    for name in ["changed", "removed", "added"] {
        assert!(said.contains(name), "{name} is not in:\n{said}");
    }
}

#[test]
fn a_stream_is_a_plain_archive() {
    let sandbox = Sandbox::new();
    let file = sandbox.file("source/file", "content");
    let archive = sandbox.path("stream.tar.zst");
    backup(&sandbox).arg("stream").arg(sandbox.path("source")).arg("--to").arg(&archive).succeed();
    let name = file.strip_prefix("/").unwrap().to_str().unwrap().to_owned();
    let script = "zstd -q -d -c \"$1\" | tar -xO \"$2\"";
    let finished =
        e2e::process::Run::new("sh").args(["-ec", script, "sh"]).arg(&archive).arg(name).succeed();
    assert_eq!(finished.stdout_text(), "content");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let sandbox = Sandbox::new();
    for number in 0..500 {
        sandbox.file(format!("source/file-{number}"), "x".repeat(2000));
    }
    let repo = Repo::directory(&sandbox);
    repo.create([sandbox.path("source")]);
    let binary = crate::tool::BINARY;
    let script = format!("\"{binary}\" --repo \"$1\" ls latest | head -n 1");
    let finished = e2e::process::Run::new("sh")
        .args(["-c", &script, "sh"])
        .arg(repo.path())
        .env("HOME", sandbox.root())
        .succeed();
    assert!(!finished.stderr_text().contains("panic"), "{finished}");
}

#[test]
fn completions_and_the_manual_page_are_made() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = backup(&sandbox).args(["completions", shell]).succeed().stdout_text();
        assert!(script.contains("snapshots"), "{shell}: {script}");
    }
    let page = backup(&sandbox).arg("man").succeed().stdout_text();
    assert!(page.contains(".TH"), "{page}");
}

#[test]
fn the_program_under_test_is_static() {
    let bytes = std::fs::read(crate::tool::BINARY).unwrap();
    assert!(e2e::images::is_static_elf(&bytes));
}
