//! The command line of `logship` as a contract: help, exit codes, one sentence for whatever is wrong, archives.

use std::time::{Duration, Instant};

use e2e::process::{Finished, Run};
use e2e::sandbox::Sandbox;
use rustix::process::Signal;

use crate::tool::{FAILED, WARNINGS, WRONG_USAGE};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_logship-under-test");

/// Every command of this release.
const COMMANDS: [&str; 14] = [
    "run",
    "once",
    "check",
    "rotate",
    "doctor",
    "audit",
    "cat",
    "grep",
    "tail",
    "socket-proxy",
    "serve-ui",
    "healthcheck",
    "completions",
    "man",
];

const WEB: &str = r#"{"host":"h","container":"web","id":"c0ffee","image":"i","stream":"stdout","seq":0,"ts":"2026-11-24T10:00:00.000000000Z","line":"GET /one"}"#;
const DB: &str = r#"{"host":"h","container":"db","id":"decade","image":"i","stream":"stderr","seq":0,"ts":"2026-11-24T11:00:00.000000000Z","line":"PANIC: two"}"#;
const GAP: &str = r#"{"host":"h","container":"web","id":"c0ffee","image":"i","stream":"stdout","seq":1,"ts":"2026-11-24T12:00:00.000000000Z","control":{"control":"gap","reason":"rotated","lines":5,"exact":true}}"#;

fn logship(args: &[&str]) -> Run {
    Run::new(BINARY).args(args.iter().copied()).env("LOGSHIP_LOG_FORMAT", "text")
}

/// Nothing on standard output, and one sentence of ours on standard error, which it returns.
fn sentence(finished: &Finished) -> String {
    assert!(finished.stdout.is_empty(), "{finished}");
    let said = finished.stderr_text();
    let ours: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("logship: ")).collect();
    let [only] = ours.as_slice() else { panic!("not one sentence: {finished}") };
    (*only).to_owned()
}

#[test]
fn help_names_every_command_and_fits_on_a_terminal() {
    const WIDTH_MAX: usize = 100;
    let help = logship(&["--help"]).succeed().stdout_text();
    for command in COMMANDS {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(command)),
            "{command} is not in:\n{help}"
        );
        let help = logship(&[command, "--help"]).succeed().stdout_text();
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= WIDTH_MAX, "{command} --help has a line of {widest} characters:\n{help}");
    }
}

#[test]
fn version_completions_and_the_manual_page_are_made() {
    let version = logship(&["--version"]).succeed().stdout_text();
    assert!(version.starts_with("logship ") && version.lines().count() == 1, "{version}");
    for shell in ["bash", "zsh", "fish"] {
        let script = logship(&["completions", shell]).succeed().stdout_text();
        assert!(script.contains("healthcheck"), "{shell}: {script}");
    }
    assert!(logship(&["man"]).succeed().stdout_text().contains(".TH"));
}

#[test]
fn words_that_mean_nothing_are_wrong_usage() {
    for args in [
        &[][..],
        &["rotate", "--no-such-flag"],
        &["no-such-command"],
        &["run", "--no-such-flag"],
        &["run", "--no-wal", "--wal-max", "1GB"],
        &["run", "--metrics", "9464"],
        &["cat"],
        &["grep", "pattern"],
        &["tail", "-n", "many", "x"],
    ] {
        let finished = logship(args).finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
        assert!(finished.stdout.is_empty(), "{finished}");
    }
}

#[test]
fn what_cannot_be_meant_is_one_sentence_and_exit_2() {
    let sandbox = Sandbox::new();
    let log = sandbox.file("a.ndjson", format!("{WEB}\n"));
    let log = log.to_str().unwrap();
    let empty = sandbox.directory("empty");
    let empty = empty.to_str().unwrap();
    for (args, wanted) in [
        (&["run", "--files", "logs"][..], r#"--files "logs" is unusable: it is no absolute path"#),
        (&["once", "--sink", "nowhere"], r#"--sink "nowhere" is unusable: it is no URL"#),
        (&["once", "--sink", "gopher://x"], "the sink gopher is unusable: "),
        (&["check", "--offline", "--sink", "gopher://x"], "the sink gopher is unusable: "),
        (&["check", "--offline", "--sink", "stdout:?color=red"], "the sink stdout is unusable: "),
        (&["run", "--wal-max", "much"], r#"--wal-max "much" is unusable: "#),
        (&["run", "--drain", "8"], r#"--drain "8" is unusable: "#),
        (&["run", "--config", "/no/such.toml"], "/no/such.toml: the configuration cannot be read"),
        (&["audit", "--state", empty], "there is no log in "),
        (&["audit", "--state", "/no/such"], "there is no log in /no/such"),
        (&["audit", "--state", empty, "--since", "soon"], r#"--since "soon" is unusable: "#),
        (&["cat", "/no/such/archive"], "cannot read /no/such/archive: "),
        (&["cat", empty], "there is nothing at "),
        (&["cat", "ftp://x"], r#""ftp://x" is no place: "#),
        (&["cat", log, "--since", "soon"], r#"--since "soon" is unusable: "soon" is no time"#),
        (
            &["cat", log, "--stream", "out"],
            r#"--stream "out" is unusable: "out" is none of stdout"#,
        ),
        (&["cat", log, "--source", "["], r#"--source "[" is unusable: "#),
        (&["grep", "(", log], r#"the pattern "(" is unusable: "#),
        (&["tail", "-n", "100001", log], "--lines 100001 is out of range: give 0 to 100000"),
        (
            &["tail", "--follow", log, log],
            "only one file that is not compressed, or what is being shipped, can be followed",
        ),
        (&["tail", "web"], "no state directory is named: give --state DIR"),
        (&["tail", "web", "--state", "/no/such"], "there is no log in /no/such"),
        (&["healthcheck"], "no address is named: give --metrics ADDRESS"),
        (&["man", "turn"], "there is no command turn"),
    ] {
        let finished = logship(args).finish();
        assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
        let said = sentence(&finished);
        assert!(said.starts_with(wanted), "{wanted}: {finished}");
    }
}

#[test]
fn what_fails_is_one_sentence_and_exit_1() {
    for (args, wanted) in [
        (&["healthcheck", "--metrics", "127.0.0.1:1"][..], "nobody answers at 127.0.0.1:1: "),
        (&["check", "--engine-host", "/no/such.sock"], "cannot "),
    ] {
        let finished = logship(args).finish();
        assert_eq!(finished.code(), Some(FAILED), "{finished}");
        assert!(sentence(&finished).starts_with(wanted), "{finished}");
    }
}

#[test]
fn every_fault_of_a_configuration_is_told_at_its_place() {
    let sandbox = Sandbox::new();
    let text = "stat = \"/x\"\n[[source]]\ntype = \"files\"\npaths = \"logs\"\n[[sink]]\nname = \"a\"\nurl = 1\n";
    let config = sandbox.file("logship.toml", text);
    let path = config.to_str().unwrap().to_owned();
    let finished = logship(&["check", "--offline", "--config", &path]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
    let said = finished.stderr_text();
    for place in [":1:1: stat: ", ":4:9: source[1].paths: ", ":7:7: sink[1].url: "] {
        assert!(said.contains(&format!("{path}{place}")), "{place} is not in {finished}");
    }

    let text = "[[sink]]\nname = \"a\"\nurl = \"stdout:\"\ncolor = \"red\"\n";
    let config = sandbox.file("sink.toml", text);
    let path = config.to_str().unwrap().to_owned();
    let finished = logship(&["check", "--offline", "--config", &path]).finish();
    assert_eq!(finished.code(), Some(WRONG_USAGE), "{finished}");
    let said = sentence(&finished);
    assert!(said.starts_with(&format!("{path}:1:1: sink a: `color` is no option")), "{said}");
}

#[test]
fn a_configuration_that_is_right_is_shown() {
    let sandbox = Sandbox::new();
    let pattern = sandbox.file("logs/a.log", "").with_file_name("*.log");
    let pattern = pattern.display();
    let text = format!(
        r#"
        [[source]]
        type = "files"
        paths = ["{pattern}"]
        parse = "json"
        redact = ["email"]
        sinks = ["out"]
        [[sink]]
        name = "out"
        url = "stdout:"
        "#
    );
    let config = sandbox.file("logship.toml", text);
    let path = config.to_str().unwrap().to_owned();
    let said = logship(&["check", "--config", &path]).succeed().stdout_text();
    let wanted = format!("files of source[1]: {pattern}, sinks=out parse=json redact=email");
    assert!(said.contains(&wanted), "{said}");
    let lines = logship(&["check", "--json", "--config", &path]).succeed().json_lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(&events[..2], ["sink", "files"]);
}

#[test]
fn archives_are_printed_searched_and_chosen_from() {
    let sandbox = Sandbox::new();
    let old = zstd::encode_all(format!("{WEB}\n").as_bytes(), 1).unwrap();
    sandbox.file("logs/a.ndjson.000001.zst", old);
    sandbox.file("logs/a.ndjson", format!("{DB}\n"));
    let place = sandbox.path("logs");
    let place = place.to_str().unwrap();
    for (args, wanted) in [
        (&["cat", place][..], "GET /one\nPANIC: two\n"),
        (&["cat", place, "--source", "db"], "PANIC: two\n"),
        (&["cat", place, "--until", "2026-11-24T11:00:00Z"], "GET /one\n"),
        (&["cat", place, "--stream", "stderr"], "PANIC: two\n"),
        (
            &["cat", place, "--long", "--source", "web"],
            "2026-11-24T10:00:00.000000000Z web stdout GET /one\n",
        ),
        (&["grep", "-i", "panic", place], "PANIC: two\n"),
        (&["grep", "-v", "PANIC", place], "GET /one\n"),
        (&["grep", "-c", ".", place], "2\n"),
        (&["grep", "nothing", place], ""),
        (&["tail", "-n", "1", place], "PANIC: two\n"),
        (&["tail", place], "GET /one\nPANIC: two\n"),
    ] {
        let said = logship(args).succeed();
        assert_eq!(said.stdout_text(), wanted, "{said}");
    }
    let records = logship(&["cat", "--json", place]).succeed().stdout_text();
    assert_eq!(records, format!("{WEB}\n{DB}\n"));
    let piped = logship(&["cat", "-"]).stdin(WEB).succeed();
    assert_eq!(piped.stdout_text(), "GET /one\n");
}

#[test]
fn what_was_shipped_is_seen_in_the_log_by_whoever_looks() {
    let sandbox = Sandbox::new();
    let log = sandbox.file("logs/a.log", "one\ntwo\nthree\n");
    let state = sandbox.path("state");
    let (log, state) = (log.to_str().unwrap(), state.to_str().unwrap());
    let once = logship(&["once", "--state", state, "--files", log]).succeed();
    assert_eq!(once.stdout_text().lines().filter(|line| line.contains("\"line\"")).count(), 3);
    let said = logship(&["tail", "--state", state, "-n", "2", "--source", log]).succeed();
    let lines = said.stdout_text();
    assert!(lines.ends_with("three\n"), "{said}");
    let other = logship(&["tail", "--state", state, "elsewhere"]).succeed();
    assert_eq!(other.stdout_text(), "");
    let audit = logship(&["audit", "--state", state]).succeed();
    assert!(audit.stdout_text().trim_end().ends_with("0 lines lost"), "{audit}");
    assert!(audit.stdout_text().contains(", up to date\n"), "{audit}");
    let other = sandbox.path("other.ndjson");
    let sink = format!("file://{}", other.display());
    let again = logship(&["once", "--state", state, "--files", log, "--sink", &sink]).succeed();
    assert!(!again.stderr_text().contains("there is no such sink any more"), "{again}");
}

#[test]
fn a_pattern_without_files_is_said_by_every_command_that_looks_at_it() {
    let sandbox = Sandbox::new();
    let state = sandbox.directory("state");
    let pattern = sandbox.directory("logs").join("*.log");
    let (pattern, state) = (pattern.to_str().unwrap(), state.to_str().unwrap());
    for command in ["once", "check", "doctor"] {
        let said = logship(&[command, "--state", state, "--files", pattern]).finish();
        assert_eq!(said.code(), Some(WARNINGS), "{said}");
        let text = format!("{}{}", said.stdout_text(), said.stderr_text());
        assert!(text.contains("no file matches") && text.contains(pattern), "{said}");
    }
    // What does not look has nothing to say.
    logship(&["check", "--offline", "--files", pattern]).succeed();
    // A file may come later.
    let shipped = sandbox.path("shipped");
    let sink = format!("file://{}", shipped.display());
    let first = sandbox.file("logs/first.txt", "first\n");
    let first = first.to_str().unwrap();
    let running =
        logship(&["run", "--state", state, "--files", pattern, "--files", first, "--sink", &sink])
            .start();
    let shipped = |wanted: &str| {
        let began = Instant::now();
        while !std::fs::read(&shipped).is_ok_and(|bytes| bytes == wanted.as_bytes()) {
            assert!(began.elapsed() < Duration::from_secs(60), "it is not shipped: {wanted}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    shipped("first\n");
    sandbox.file("logs/a.log", "late\n");
    shipped("first\nlate\n");
    running.signal(Signal::TERM);
    let said = running.wait().expect_code(0);
    assert!(said.stderr_text().contains("no file matches this pattern yet"), "{said}");
}

#[test]
fn files_of_equal_names_do_not_share_one_file_of_a_sink_in_silence() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.file(format!("logs/{name}/app.log"), format!("{name}\n"));
    }
    let pattern = sandbox.path("logs/*/app.log");
    let pattern = pattern.to_str().unwrap();
    let once = |name: &str| {
        let sink = format!("file://{}/{name}", sandbox.path("out").display());
        logship(&["once", "--files", pattern, "--sink", &sink]).succeed().stderr_text()
    };
    let said = once("{name}");
    assert!(said.contains("out/app.log gets the lines of "), "{said}");
    let said = once("{stem}-{path}");
    assert!(!said.contains("gets the lines of"), "{said}");
    let written = std::fs::read_dir(sandbox.path("out")).unwrap().count();
    assert_eq!(written, 3);
}

#[test]
fn gaps_are_warnings_and_damage_is_a_failure_after_everything_before_it() {
    let sandbox = Sandbox::new();
    let with_gap = sandbox.file("gap.ndjson", format!("{WEB}\n{GAP}\n"));
    let finished = logship(&["cat", with_gap.to_str().unwrap()]).finish();
    assert_eq!(finished.code(), Some(WARNINGS), "{finished}");
    assert_eq!(finished.stdout_text(), "GET /one\n");
    assert!(finished.stderr_text().contains("1 gaps; 5 lines"), "{finished}");

    let damaged = sandbox.file("bad.ndjson", format!("{WEB}\n{{\"ts\"\n{DB}\n"));
    let finished = logship(&["cat", damaged.to_str().unwrap()]).finish();
    assert_eq!(finished.code(), Some(FAILED), "{finished}");
    assert_eq!(finished.stdout_text(), "GET /one\n");
    let offset = format!("is damaged at byte {} of its content", WEB.len() + 1);
    assert!(finished.stderr_text().contains(&offset), "{finished}");
}

#[test]
fn a_variable_that_is_misspelt_is_warned_of() {
    let finished =
        logship(&["check", "--offline"]).env(["LOGSHIP", "STAET"].join("_"), "/x").succeed();
    assert!(
        finished.stderr_text().contains("LOGSHIP_STAET is set, but is no setting"),
        "{finished}"
    );
}

/// What people copy from the manual must work.
#[test]
fn every_sink_has_an_example_in_the_manual_and_each_is_right() {
    let manual = include_str!("../../docs/logship.md");
    let section = manual.split("\n## Sinks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let examples: Vec<_> =
        section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let kinds = [
        "stdout:", "file:", "s3:", "syslog+", "https:", "es+", "loki+", "otlp+", "gelf+", "fluent",
        "nats", "kafka",
    ];
    for kind in kinds {
        let url = format!("url = \"{kind}");
        assert!(examples.iter().any(|example| example.contains(&url)), "{kind} has no example");
    }
    let sandbox = Sandbox::new();
    let secrets = sandbox.directory("secrets");
    for name in ["s3", "http", "es", "loki", "fluent", "nats", "kafka", "ca.pem"] {
        sandbox.file(format!("secrets/{name}"), "0123456789abcdef\n");
    }
    let secrets = secrets.display().to_string();
    let source = "[[source]]\ntype = \"files\"\npaths = [\"/nowhere/*.log\"]\n";
    let config = format!("{source}{}", examples.concat()).replace("/run/secrets", &secrets);
    let config = sandbox.file("logship.toml", config);
    let checked = logship(&["check", "--offline", "--config"]).arg(config).finish();
    assert_eq!(checked.code(), Some(0), "{checked}");
}
