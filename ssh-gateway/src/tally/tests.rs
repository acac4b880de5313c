use super::*;
use crate::wire::socket::Socket;

fn sha256(bytes: &[u8]) -> Option<[u8; 32]> {
    Some(Sha256::digest(bytes).into())
}

#[test]
fn only_what_goes_through_from_the_first_byte_on_in_order_has_a_hash() {
    let mut transfer = Transfer::new(1, flag::READ | flag::WRITE);
    transfer.wrote(0, b"one");
    transfer.wrote(3, b"two");
    transfer.read(0, b"on");
    transfer.read(4, b"wo");
    let closed = transfer.closed(None);
    assert_eq!(closed.written, Moved { bytes: 6, sha256: sha256(b"onetwo") });
    assert_eq!(closed.read, Moved { bytes: 4, sha256: None });

    let mut appended = Transfer::new(2, flag::WRITE | flag::APPEND);
    appended.wrote(0, b"one");
    assert_eq!(appended.closed(None).written, Moved { bytes: 3, sha256: None });

    let mut untouched = Transfer::new(3, flag::READ);
    untouched.set(&Set { mode: Some(0o600), ..Set::default() });
    let closed = untouched.closed(Some("why"));
    assert_eq!((closed.read.bytes, closed.read.sha256), (0, sha256(b"")));
    assert_eq!((closed.set.mode, closed.fault.as_deref()), (Some(0o600), Some("why")));
}

#[test]
fn a_length_that_was_set_or_a_copy_leaves_no_hash_unless_it_is_what_was_written() {
    let size = |size| Set { size: Some(size), ..Set::default() };
    let mut kept = Transfer::new(1, flag::WRITE);
    kept.wrote(0, b"one");
    kept.set(&size(3));
    assert_eq!(kept.closed(None).written.sha256, sha256(b"one"));
    let mut cut = Transfer::new(2, flag::WRITE);
    cut.wrote(0, b"one");
    cut.set(&size(1));
    assert_eq!(cut.closed(None).written.sha256, None);
    let mut copied = Transfer::new(3, flag::WRITE);
    copied.filled();
    copied.wrote(0, b"one");
    assert_eq!(copied.closed(None).written, Moved { bytes: 3, sha256: None });
}

#[test]
fn who_is_told_gets_every_report_with_whole_paths() {
    let (ours, theirs) = Socket::pair().expect("a pair");
    let mut tally = Tally::new(theirs.into_descriptor());
    let base = rustix::process::getcwd(Vec::new()).expect("a directory").into_bytes();
    let transfer = tally.opened(b"file", flag::READ);
    tally.closed(transfer, None);
    tally.done(|tally| Act::Remove { path: tally.path(b"/there") }, Some("no"));
    tally.end();
    let next = || ours.receive::<Report>().expect("a message").map(|(report, _)| report);
    let whole = [base.as_slice(), b"/file"].concat();
    assert_eq!(next(), Some(Report::Opened { number: 0, path: whole, flags: flag::READ }));
    assert!(matches!(next(), Some(Report::Closed(closed)) if closed.number == 0));
    let act = Act::Remove { path: b"/there".to_vec() };
    assert_eq!(next(), Some(Report::Done { act, failed: Some("no".to_owned()) }));
    assert_eq!(next(), Some(Report::End));
    assert_eq!(next(), None);
}

#[test]
fn it_knows_when_nobody_listens() {
    let (ours, theirs) = Socket::pair().expect("a pair");
    let mut tally = Tally::new(theirs.into_descriptor());
    drop(ours);
    assert!(!tally.is_broken());
    tally.done(|_| Act::Remove { path: b"/there".to_vec() }, None);
    assert!(tally.is_broken());
}
