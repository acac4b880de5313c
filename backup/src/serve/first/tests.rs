use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{getpgrp, getppid};

use super::*;

/// The number of the process of the test, set for those that it starts.
const TEST: &str = "CHORES_TEST_STAND_IN_OF";

/// The longest wait for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

const NAME: &str = "serve::first::tests::the_second_request_ends_also_what_hangs";

#[test]
fn the_second_request_ends_also_what_hangs() {
    match env::var(TEST).ok().and_then(|test| test.parse().ok()) {
        None => ask_twice(),
        Some(test) if getppid() == Pid::from_raw(test) => {
            let words = ["--exact", NAME, "--nocapture"].map(OsString::from);
            println!("\ncode {}", stand_in(words).unwrap());
        }
        Some(_) => hang(),
    }
}

/// What works, and does not end.
fn hang() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        println!("\nworks {}", getpid().as_raw_nonzero());
        println!("group {}", getpgrp().as_raw_nonzero());
        loop {
            interrupt.recv().await;
            println!("asked 1");
        }
    });
}

fn ask_twice() {
    let mut first = Command::new(PROGRAM)
        .args(["--exact", NAME, "--nocapture"])
        .env(TEST, getpid().as_raw_nonzero().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(first.stdout.take().unwrap());
    let works = number(&mut said, "works ");
    assert_eq!(number(&mut said, "group "), works, "a terminal would ask it twice");
    let ask = |first: &Child| kill_process(Pid::from_child(first), Signal::INT).unwrap();
    ask(&first);
    number(&mut said, "asked ");
    assert_eq!(first.try_wait().unwrap(), None, "it waits for the other one");
    ask(&first);
    let is_over = within_patience(|| first.try_wait().unwrap().is_some());
    if !is_over {
        first.kill().unwrap();
        first.wait().unwrap();
    }
    // Who takes in orphans may let them lie.
    let is_gone = || {
        let state = fs::read_to_string(format!("/proc/{works}/stat"));
        state.map_or(true, |state| state.contains(") Z"))
    };
    let is_gone = is_over && within_patience(is_gone);
    if !is_gone {
        kill_process(Pid::from_raw(works).unwrap(), Signal::KILL).unwrap();
    }
    assert!(is_over && is_gone, "ended: {is_over}, and what works: {is_gone}");
    assert_eq!(number(&mut said, "code "), 130);
}

/// The number in the next line that begins with `word`.
fn number(said: &mut impl BufRead, word: &str) -> i32 {
    let mut numbers = said.lines().map_while(Result::ok).filter_map(|line| {
        let text = line.strip_prefix(word)?;
        text.parse().ok()
    });
    numbers.next().unwrap_or_else(|| panic!("nobody said {word}"))
}

fn within_patience(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
