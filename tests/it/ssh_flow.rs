//! Flow control: nothing hangs when both sides write, when one reads slowly, or when one never reads.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, wait_until};

use crate::ssh::{Scene, soak};

/// Bytes through `cat` and back; `CHORES_SOAK` multiplies them.
const BOTH_WAYS_BYTES: usize = 40 << 20;

/// How often.
const BOTH_WAYS_TIMES: usize = 20;

/// Bytes through a connection that changes its keys every 16 MiB; `CHORES_SOAK` multiplies them.
const REKEY_BYTES: usize = 80 << 20;

/// No progress for so long is a hang.
const STALL_TIME_MAX: Duration = Duration::from_secs(60);

/// Feeds bytes whose place tells their value, and ends.
fn feed(child: &mut Child, bytes: usize) -> std::thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::spawn(move || {
        let mut at = 0;
        while at < bytes {
            let end = (at + (64 << 10)).min(bytes);
            let piece = pattern(at, end);
            if stdin.write_all(&piece).is_err() {
                return;
            }
            at = end;
        }
    })
}

fn pattern(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|place| (place ^ (place >> 8) ^ (place >> 16)).to_le_bytes()[0]).collect()
}

/// Reads all of it and checks every byte; `pause` happens after the first piece.
fn drain(child: &mut Child, bytes: usize, pause: Duration) {
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(4);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut at = 0;
    while let Ok(piece) = receiver.recv_timeout(STALL_TIME_MAX) {
        assert!(piece == pattern(at, at + piece.len()), "other bytes at {at}");
        if at == 0 {
            std::thread::sleep(pause);
        }
        at += piece.len();
    }
    assert_eq!(at, bytes, "it stopped before its end");
    reader.join().expect("the reader");
}

fn round_trip(scene: &Scene, bytes: usize, pause: Duration, options: &[&str]) {
    let mut command = scene.command();
    command.args(options).arg("cat").stderr(Stdio::inherit());
    let mut child = command.spawn().expect("starts ssh");
    let feeder = feed(&mut child, bytes);
    drain(&mut child, bytes, pause);
    feeder.join().expect("the feeder");
    assert_eq!(child.wait().expect("ssh ends").code(), Some(0));
}

#[test]
fn both_directions_at_once_never_hang() {
    let Some(scene) = Scene::busybox() else { return };
    for _ in 0..BOTH_WAYS_TIMES {
        round_trip(&scene, BOTH_WAYS_BYTES * soak(), Duration::ZERO, &[]);
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_reader_that_pauses_gets_everything() {
    let Some(scene) = Scene::busybox() else { return };
    round_trip(&scene, BOTH_WAYS_BYTES * soak(), Duration::from_secs(2), &[]);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn key_changes_under_load_lose_nothing() {
    let Some(scene) = Scene::busybox() else { return };
    round_trip(&scene, REKEY_BYTES * soak(), Duration::ZERO, &["-o", "RekeyLimit=16M"]);
    // One so small that it changes all the time.
    round_trip(&scene, 8 << 20, Duration::from_millis(300), &["-o", "RekeyLimit=256K"]);
    scene.gateway.assert_idle(&[&scene.container]);
}

/// A master connection, and one command over it.
fn multiplexed(scene: &Scene) -> (e2e::process::Running, String) {
    let control = format!("ControlPath={}", scene.gateway.sandbox().path("control").display());
    let master =
        scene.ssh().args(["-M", "-N", "-o", &control]).deadline(Duration::from_secs(600)).start();
    wait_until(CLEAN_UP_TIME_MAX, "a master connection", || {
        let check = scene.ssh().args(["-o", &control, "-O", "check"]).finish();
        if check.code() == Some(0) { Ok(()) } else { Err(check.to_string()) }
    });
    (master, control)
}

/// Other channels of the connection carry bytes both ways within this time.
const NEIGHBOUR_TIME_MAX: Duration = Duration::from_secs(30);

fn assert_neighbours_work(scene: &Scene, control: &str) {
    for _ in 0..5 {
        let begun = Instant::now();
        let run = scene.ssh().args(["-o", control, "cat | wc -c; head -c 3000000 /dev/zero"]);
        let said = run.stdin(vec![b'x'; 2_000_000]).deadline(NEIGHBOUR_TIME_MAX).finish();
        assert_eq!(said.code(), Some(0), "{said}");
        assert_eq!(said.stdout.len(), "2000000\n".len() + 3_000_000, "after {:?}", begun.elapsed());
    }
}

#[test]
fn a_client_that_stops_reading_one_channel_does_not_stop_the_others() {
    let Some(scene) = Scene::busybox() else { return };
    let (master, control) = multiplexed(&scene);
    // Its output is never read: a pipe of 64 KiB, then the window of the channel.
    let mut stuck =
        scene.command().args(["-o", &control, "cat /dev/zero"]).spawn().expect("starts ssh");
    let mut first = [0; 1];
    stuck.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("ssh writes");
    std::thread::sleep(Duration::from_millis(500));
    assert_neighbours_work(&scene, &control);
    stuck.kill().expect("kills ssh");
    stuck.wait().expect("ssh is gone");
    assert_neighbours_work(&scene, &control);
    drop(master);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_program_that_never_reads_does_not_stop_other_channels() {
    let Some(scene) = Scene::busybox() else { return };
    let (master, control) = multiplexed(&scene);
    let mut stuck =
        scene.command().args(["-o", &control, "sleep 1000"]).spawn().expect("starts ssh");
    let bytes = 32 << 20;
    let feeder = feed(&mut stuck, bytes);
    std::thread::sleep(Duration::from_millis(500));
    assert_neighbours_work(&scene, &control);
    // All of it waits in the spool: the client is rid of it while nothing reads.
    wait_until(STALL_TIME_MAX, "the client has written everything", || {
        if feeder.is_finished() { Ok(()) } else { Err("still writing".to_owned()) }
    });
    stuck.kill().expect("kills ssh");
    stuck.wait().expect("ssh is gone");
    feeder.join().expect("the feeder");
    assert_neighbours_work(&scene, &control);
    drop(master);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn what_waited_in_the_spool_arrives_in_order() {
    let Some(scene) = Scene::busybox() else { return };
    let bytes = 24 << 20;
    let mut command = scene.command();
    command.arg("sleep 3; cat");
    let mut child = command.spawn().expect("starts ssh");
    let feeder = feed(&mut child, bytes);
    drain(&mut child, bytes, Duration::ZERO);
    feeder.join().expect("the feeder");
    assert_eq!(child.wait().expect("ssh ends").code(), Some(0));
    scene.gateway.assert_idle(&[&scene.container]);
}
