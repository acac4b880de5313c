//! Much, both ways, and clients and programs that do not read.

use std::io::Read as _;

use super::*;
use crate::wire::net::Question;

fn multiplexed(gateway: &Gateway) -> (Vec<String>, Child) {
    let path = gateway.directory.path().join("mux");
    let control = format!("ControlPath={}", path.display());
    let master = gateway.ssh(&["-M", "-N", "-o", &control], &[]).spawn().unwrap();
    while !path.exists() {
        std::thread::yield_now();
    }
    (vec!["-o".to_owned(), control, "-o".to_owned(), "ControlMaster=no".to_owned()], master)
}

fn both_ways(gateway: &Gateway, options: &[&str], bytes: u64, pause: Duration) {
    let mut child = gateway.ssh(options, &["cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut child, bytes);
    let reader = child.stdout.take().unwrap();
    std::thread::sleep(pause);
    let reading = std::thread::spawn(move || check(reader, bytes));
    let output = ended(child);
    writer.join().unwrap().unwrap();
    reading.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn both_directions_at_once_do_not_hang() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    for _ in 0..5 {
        both_ways(&gateway, &[], 60 * MB * soak(), Duration::ZERO);
    }
    // The reader of the client pauses: the case that is being tested.
    both_ways(&gateway, &[], 60 * MB * soak(), Duration::from_secs(2));
}

#[test]
fn keys_are_exchanged_anew_under_load() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    both_ways(&gateway, &["-o", "RekeyLimit=1M"], 40 * MB * soak(), Duration::ZERO);
    both_ways(&gateway, &["-o", "RekeyLimit=16M"], 100 * MB * soak(), Duration::ZERO);
}

#[test]
fn a_program_that_never_reads_stops_nobody_else() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let (mux, mut master) = multiplexed(&gateway);
    let mux: Vec<&str> = mux.iter().map(String::as_str).collect();
    let mut stuck = gateway.ssh(&mux, &["exec sleep 300"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut stuck, 200 * MB * soak());
    for _ in 0..4 {
        let output = gateway.run(&mux, &["head -c 3000000 /dev/zero"]);
        assert_eq!(output.stdout.len(), 3_000_000, "{}", text(&output.stderr));
    }
    // All of it was taken, though nobody reads it.
    writer.join().unwrap().unwrap();
    let output = gateway.run(&mux, &["echo alive"]);
    assert_eq!(text(&output.stdout), "alive\n");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn a_client_that_reads_one_channel_no_more_still_gets_the_others() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let (mux, mut master) = multiplexed(&gateway);
    let mux: Vec<&str> = mux.iter().map(String::as_str).collect();
    let mut stopped = gateway.ssh(&mux, &["cat /dev/zero"]).spawn().unwrap();
    let mut first = [0; 1];
    stopped.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    for _ in 0..4 {
        let output = gateway.run(&mux, &["head -c 3000000 /dev/zero"]);
        assert_eq!(output.stdout.len(), 3_000_000, "{}", text(&output.stderr));
    }
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    master.kill().unwrap();
    master.wait().unwrap();
}

#[test]
fn at_the_limit_of_the_spool_a_slow_program_gets_everything_and_its_output_still_flows() {
    if !have("ssh") {
        return;
    }
    // Far less than is sent: without windows that shrink, output would wait for the client's windows, the
    // program for its output, and the spool for the program.
    let gateway = Gateway::with(Limits { spool_bytes: 8 * MB, ..limits() });
    let bytes = 60 * MB * soak();
    both_ways(&gateway, &[], bytes, Duration::from_secs(2));
    // A program that begins to read late.
    let mut child = gateway.ssh(&[], &["sleep 2; cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut child, bytes);
    let reader = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || check(reader, bytes));
    assert_eq!(ended(child).status.code(), Some(0));
    writer.join().unwrap().unwrap();
    reading.join().unwrap();
}

#[test]
fn at_the_limit_the_client_is_held_back_and_other_channels_live() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::with(Limits { spool_bytes: 4 * MB, ..limits() });
    let (mux, mut master) = multiplexed(&gateway);
    let mux: Vec<&str> = mux.iter().map(String::as_str).collect();
    let mut stuck = gateway.ssh(&mux, &["exec sleep 300"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut stuck, 500 * MB);
    let output = gateway.run(&mux, &["sleep 2; echo alive"]);
    assert_eq!(text(&output.stdout), "alive\n", "{output:?}");
    assert!(!writer.is_finished(), "everything was taken");
    let output = gateway.run(&mux, &["cat; head -c 3000000 /dev/zero"]);
    assert_eq!(output.stdout.len(), 3_000_000, "{}", text(&output.stderr));
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    assert!(writer.join().unwrap().is_err());
    master.kill().unwrap();
    master.wait().unwrap();
    assert_eq!(gateway.double.asked(|question| matches!(question, Question::Spool { .. })), 1);
}

#[test]
fn a_slow_disk_holds_up_no_other_channel() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    gateway.double.is_disk_slow.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mux, mut master) = multiplexed(&gateway);
    let mux: Vec<&str> = mux.iter().map(String::as_str).collect();
    let go = gateway.directory.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done; cat", go.display());
    let mut late = gateway.ssh(&mux, &[&script]).stdin(Stdio::piped()).spawn().unwrap();
    let bytes = 6 * MB;
    let writer = feed(&mut late, bytes);
    gateway.double.wait(|question| matches!(question, Question::Spool { .. }).then_some(()));
    let output = gateway.run(&mux, &["echo alive"]);
    assert_eq!(text(&output.stdout), "alive\n", "{output:?}");
    // Whoever has not been held up so long that the file was given up gets it now.
    let file = gateway.double.give_file();
    let begun = Instant::now();
    while file.metadata().unwrap().len() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing was written to the file");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::write(go, "").unwrap();
    let reader = late.stdout.take().unwrap();
    let reading = std::thread::spawn(move || check(reader, bytes));
    assert_eq!(ended(late).status.code(), Some(0));
    writer.join().unwrap().unwrap();
    reading.join().unwrap();
    master.kill().unwrap();
    master.wait().unwrap();
}

/// Half of a backup must not look like all of it.
#[test]
fn input_that_is_lost_is_not_the_end_of_the_input() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    gateway.double.is_disk_broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let go = gateway.directory.path().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done; cat >/dev/null", go.display());
    let mut child = gateway.ssh(&[], &[&script]).stdin(Stdio::piped()).spawn().unwrap();
    feed(&mut child, 20 * MB).join().unwrap().unwrap();
    std::fs::write(go, "").unwrap();
    let output = ended(child);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    gateway.double.wait(|question| match question {
        Question::Disconnected { reason, .. } => reason.contains("cannot read").then_some(()),
        _ => None,
    });
}

#[test]
fn what_a_program_does_not_read_is_dropped_in_silence() {
    if !have("ssh") {
        return;
    }
    let gateway = Gateway::start();
    let mut child = gateway.ssh(&[], &["head -c 5"]).stdin(Stdio::piped()).spawn().unwrap();
    let writer = feed(&mut child, 20 * MB);
    let output = ended(child);
    assert_eq!((output.stdout.len(), output.status.code()), (5, Some(0)), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    // The client went away in the middle, or took everything.
    writer.join().unwrap().ok();
}
