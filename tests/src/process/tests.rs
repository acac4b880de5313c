use super::*;

fn sh(script: &str) -> Run {
    Run::new("/bin/sh").args(["-c", script])
}

#[test]
fn output_input_and_exit_code_are_kept() {
    let finished = sh("cat; echo wrong >&2; exit 7").stdin("fed").finish();
    assert_eq!(finished.code(), Some(7));
    assert_eq!(finished.stdout_text(), "fed");
    assert_eq!(finished.stderr_text(), "wrong\n");
}

#[test]
fn a_program_that_does_not_read_its_input_is_no_error() {
    sh("exec 0<&-; exit 0").stdin(vec![b'x'; 1 << 20]).succeed();
}

#[test]
fn environment_and_directory_are_set() {
    let finished = sh("echo $COLOUR; pwd").env("COLOUR", "red").current_dir("/").succeed();
    assert_eq!(finished.stdout_text(), "red\n/\n");
}

#[test]
fn a_program_that_hangs_is_killed_and_named() {
    let outcome = std::panic::catch_unwind(|| {
        drop(sh("echo begun; sleep 1000").deadline(Duration::from_millis(300)).finish());
    });
    let message = outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("sleep 1000") && message.contains("begun"), "{message}");
    // What each of its processes waits for.
    assert!(message.contains("(sleep) S "), "{message}");
}

#[test]
fn of_a_program_that_hangs_and_has_said_much_the_ends_are_shown() {
    let outcome = std::panic::catch_unwind(|| {
        let script = "echo begun; head -c 3000000 /dev/zero; echo halted; sleep 1000";
        drop(sh(script).deadline(Duration::from_secs(2)).finish());
    });
    let message = outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(message.len() < 3 * 2 * SHOWN_BYTES, "{} bytes", message.len());
    assert!(message.contains("begun\n") && message.contains("halted\n"), "{message}");
    assert!(message.contains(" of 3000013 are left out"), "{message}");
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_the_test_for_ever() {
    let outcome = std::panic::catch_unwind(|| {
        let (_held, pipe) = mpsc::sync_channel::<()>(1);
        at_its_end(&mut Mutex::new(pipe), Instant::now(), "stdout", "a daemon");
    });
    let message = outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("a daemon has ended") && message.contains("stdout"), "{message}");
}

#[test]
fn a_program_is_killed_at_its_moment_with_its_children() {
    let finished = sh("sleep 1000 & wait").start().kill_at(Duration::from_millis(50));
    assert_eq!(finished.signal(), Some(9));
}

#[test]
fn a_program_quicker_than_the_kill_ends_by_itself() {
    let finished = sh("exit 3").start().kill_at(Duration::from_secs(60));
    assert_eq!(finished.code(), Some(3));
}

#[test]
fn json_lines_are_parsed() {
    let finished = sh(r#"echo '{"event":"begin"}'; echo '{"event":"summary","n":2}'"#).succeed();
    assert_eq!(finished.json_lines().len(), 2);
    assert_eq!(finished.last_json()["n"], 2);
}

#[test]
fn a_command_is_described_as_it_would_be_typed() {
    let run = Run::new("/bin/echo").args(["plain", "two words", "it's"]);
    assert_eq!(run.describe(), r"/bin/echo plain 'two words' 'it'\''s'");
}
