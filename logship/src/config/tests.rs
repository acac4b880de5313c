use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

/// What a command line of `run` means.
fn config(args: &[&str]) -> Result<Config, String> {
    let cli = Cli::try_parse_from(["logship", "run"].iter().chain(args)).unwrap();
    let Command::Run(run) = &cli.command else { panic!("{cli:?}") };
    Config::for_run(&cli.common, run).map_err(|error| chain(&error))
}

fn sinks(config: &Config) -> Vec<&str> {
    config.sinks.iter().map(|sink| sink.name.as_str()).collect()
}

fn written(directory: &tempfile::TempDir, text: &str) -> String {
    let path = directory.path().join("logship.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn nothing_given_is_every_container_to_standard_output() {
    let config = config(&[]).unwrap();
    assert!(matches!(config.sources.as_slice(), [SourceRule::Engine(_)]));
    assert!(config.has_engine() && !config.host.is_empty());
    assert_eq!(sinks(&config), ["stdout"]);
    assert_eq!(config.sinks.first().unwrap().url, "stdout:");
    assert_eq!((config.metrics, config.drain), (None, DRAIN_DEFAULT));
}

#[test]
fn sources_and_sinks_that_were_typed() {
    let all = config(&[
        "--files",
        "/logs/*.log",
        "--files",
        "/more/**/*.log",
        "--engine",
        "--include",
        "shop-*",
        "--sink",
        "file:///a/{name}.log",
        "--sink",
        "stdout:",
        "--sink",
        "file:///b.log",
        "--sink",
        "syslog+tcp://h",
        "--wal-max",
        "1GiB",
        "--drain",
        "3s",
        "--metrics",
        "127.0.0.1:9464",
        "--host",
        "here",
    ])
    .unwrap();
    assert_eq!(all.sources.len(), 2);
    let files: Vec<_> = all.files().flat_map(|rule| rule.paths.clone()).collect();
    assert_eq!(files, ["/logs/*.log", "/more/**/*.log"]);
    assert_eq!(sinks(&all), ["file-7bc16fd4", "stdout", "file-6fc08392", "syslog-tcp"]);
    assert_eq!(all.wal.bytes_max, Some(1 << 30));
    assert_eq!((all.drain, all.host.as_str()), (Duration::from_secs(3), "here"));
    let planner = all.planner();
    assert_eq!((planner.rules.len(), planner.sinks.len()), (1, 4));
    let only_files = config(&["--files", "/logs/*.log"]).unwrap();
    assert!(!only_files.has_engine());
}

#[test]
fn what_cannot_be_meant_is_refused_in_one_sentence() {
    for (args, said) in [
        (
            &["--files", "logs/*.log"][..],
            r#"--files "logs/*.log" is unusable: it is no absolute path"#,
        ),
        (&["--files", "/a/[.log"], r#"--files "/a/[.log" is unusable: error parsing glob"#),
        (
            &["--sink", "/var/log/x"],
            r#"--sink "/var/log/x" is unusable: it is no URL: give for example stdout:"#,
        ),
        (&["--include", "[x"], r#"--include "[x" is unusable: error parsing glob"#),
        (&["--files", "/a", "--include", "x"], "--include is for containers: give --engine too"),
        (&["--wal-max", "much"], r#"--wal-max "much" is unusable: `much` is no size"#),
        (&["--drain", "5"], r#"--drain "5" is unusable: `5` is no duration"#),
        (
            &["--config", "/no/such/file.toml"],
            "/no/such/file.toml: the configuration cannot be read: No such file or directory",
        ),
    ] {
        let error = config(args).unwrap_err();
        assert!(error.starts_with(said), "{args:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let many: Vec<_> = (0..=SINKS_MAX).map(|n| format!("--sink=http://h{n}/")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(config(&many).unwrap_err(), "there are more than 32 sinks");
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(
        &directory,
        r#"
        host = "written"
        state = "/written"
        [wal]
        bytes_max = "3GB"
        [[source]]
        type = "files"
        paths = ["/logs/*.log"]
        sinks = ["archive"]
        [[sink]]
        name = "archive"
        url = "stdout:"
        "#,
    );
    let written = config(&["--config", &path]).unwrap();
    assert_eq!((written.host.as_str(), sinks(&written)), ("written", vec!["archive"]));
    assert_eq!(written.state, Some(PathBuf::from("/written")));
    assert_eq!(written.wal.bytes_max, Some(3_000_000_000));
    assert!(!written.has_engine());

    let typed = config(&[
        "--config",
        &path,
        "--host",
        "typed",
        "--state",
        "/typed",
        "--sink",
        "file:///x",
        "--no-wal",
    ])
    .unwrap();
    assert_eq!((typed.host.as_str(), sinks(&typed)), ("typed", vec!["file"]));
    assert_eq!(typed.state, Some(PathBuf::from("/typed")));
    // The sink of the file is gone, and nobody asks for it any more.
    assert_eq!(typed.files().next().unwrap().lines.sinks, None);
    assert!(typed.wal.off);
    let engine = config(&["--config", &path, "--engine"]).unwrap();
    assert!(engine.has_engine() && engine.files().next().is_none());
}

#[test]
fn the_name_of_a_sink_among_others_of_its_kind_is_not_that_of_another_when_one_goes() {
    let both = config(&["--sink", "http://a/?token=1", "--sink", "http://b/"]).unwrap();
    let other = config(&["--sink", "http://b/", "--sink", "http://a/"]).unwrap();
    let (both, other) = (sinks(&both), sinks(&other));
    assert_eq!([both[0], both[1]], [other[1], other[0]]);
    assert_ne!(both[0], both[1]);
    let twice = config(&["--sink", "http://a/", "--sink", "http://a/"]).unwrap_err();
    assert!(twice.contains("given twice"), "{twice}");
}

#[test]
fn two_sinks_do_not_write_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[[sink]]\nname = \"a\"\nurl = \"file:///x/all.log\"\n\
        [[sink]]\nname = \"b\"\nurl = \"file:///x/all.log?rotate=1MB\"\n";
    let config = config(&["--config", &written(&directory, text)]).unwrap();
    let fault = config.sink_settings().unwrap_err().to_string();
    assert_eq!(fault, "the sinks a and b write the same files: give each a path of its own");
}

#[test]
fn filters_that_would_change_nothing_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "[[source]]\ntype = \"engine\"\n");
    let fault = config(&["--config", &path, "--exclude", "secret-*"]).unwrap_err();
    assert!(fault.contains("write them there"), "{fault}");
}

#[test]
fn what_is_printed_for_people_who_look_for_faults_has_no_secrets() {
    let url = "https://user:hunter2@h.example/in?token=hunter2&header.x-key=hunter2";
    let cli = Cli::try_parse_from(["logship", "run", "--sink", url, "--sink", url]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
    let fault = config(&["--sink", url, "--sink", url]).unwrap_err();
    assert!(fault.contains("given twice") && !fault.contains("hunter2"), "{fault}");
    let typed = config(&["--sink", url]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let text = "[[sink]]\nname = \"a\"\nurl = \"https://h.example/in?password=hunter2\"\n\
                token = \"hunter2\"\n";
    let read = config(&["--config", &written(&directory, text)]).unwrap();
    for config in [typed, read] {
        let shown = format!("{config:?}");
        assert!(shown.contains("h.example/in") && !shown.contains("hunter2"), "{shown}");
    }
    let fault = config(&["--sink", url]).unwrap().sink_settings().unwrap_err();
    assert!(!format!("{fault:?} {}", chain(&fault)).contains("hunter2"), "{fault:?}");
    let good = "https://h.example/in?token=hunter2&query=key%3Dhunter2&header.x-key=hunter2";
    let settings = config(&["--sink", good]).unwrap().sink_settings().unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
}
