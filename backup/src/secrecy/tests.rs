use std::process::Command;

use rustix::process::{dumpable_behavior, getrlimit};

use super::*;

/// Set in the process that closes itself: it stays so.
const CHILD: &str = "CHORES_TEST_SECRECY_CHILD";

#[test]
fn neither_a_crash_nor_another_process_gets_what_is_held() {
    if std::env::var_os(CHILD).is_some() {
        return close_and_look();
    }
    let test = "secrecy::tests::neither_a_crash_nor_another_process_gets_what_is_held";
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
    assert_ne!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
}

fn close_and_look() {
    close().unwrap();
    assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    // What this program reads of itself it still reads.
    std::fs::read_link("/proc/self/exe").unwrap();
    std::fs::read_dir("/proc/self/fd").unwrap();
}
