use std::collections::BTreeMap;

use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::chain::{Head, Report, Verifier};

const QUOTA: u64 = 1 << 20;

fn key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]))
}

fn state() -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    state
}

fn fields(number: u64) -> Map<String, Value> {
    Map::from_iter([("status".to_owned(), number.into())])
}

fn directory(state: &tempfile::TempDir) -> PathBuf {
    state.path().join(AUDIT_DIRECTORY)
}

/// All files as `audit verify` reads them.
fn report(state: &tempfile::TempDir) -> Report {
    let directory = directory(state);
    let public = key().public_key().clone();
    let head = std::fs::read(directory.join(HEAD)).map_or(Head::Missing, Head::Kept);
    let mut verifier = Verifier::new(&public, head, BTreeMap::new());
    for number in files(&directory).unwrap() {
        verifier.file(&file_name(number));
        let bytes = std::fs::read(directory.join(file_name(number))).unwrap();
        let mut lines = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
        let rest = lines.pop().unwrap_or_default();
        for line in lines {
            verifier.line(line);
        }
        verifier.rest(rest);
    }
    verifier.end()
}

fn events(state: &tempfile::TempDir) -> Vec<String> {
    let directory = directory(state);
    let mut events = Vec::new();
    for number in files(&directory).unwrap() {
        let text = std::fs::read_to_string(directory.join(file_name(number))).unwrap();
        events.extend(text.lines().filter_map(|line| {
            serde_json::from_str::<Value>(line).ok()?["event"].as_str().map(str::to_owned)
        }));
    }
    events
}

#[tokio::test]
async fn lives_follow_each_other_in_one_chain() {
    let state = state();
    for life in 0..3 {
        let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
        let mark = journal.mark();
        for number in 0..600 {
            journal.write("exit", fields(life * 1000 + number));
        }
        assert_eq!(journal.written(mark).await, Ok(()));
        journal.end().await;
    }
    let report = report(&state);
    assert_eq!((report.damages, report.notes), (vec![], vec![]));
    assert_eq!(report.signed, report.last);
    let events = events(&state);
    let count = |event: &str| events.iter().filter(|its| *its == event).count();
    assert_eq!((count("exit"), count(BEGIN), count(GAP)), (1800, 3, 0));
    assert_eq!(files(&directory(&state)).unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn what_a_kill_has_left_is_gone_on_from() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(1));
    journal.end().await;
    let first = directory(&state).join(file_name(1));
    let torn = [std::fs::read(&first).unwrap().as_slice(), b"{\"number\":4,\"ti"].concat();
    std::fs::write(&first, torn).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(2));
    journal.end().await;
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
}

#[tokio::test]
async fn what_was_cut_between_two_lives_is_told_for_ever() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    for number in 0..10 {
        journal.write("exit", fields(number));
    }
    journal.end().await;
    let first = directory(&state).join(file_name(1));
    let text = std::fs::read_to_string(&first).unwrap();
    let kept: Vec<&str> = text.lines().take(5).collect();
    std::fs::write(&first, format!("{}\n", kept.join("\n"))).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(99));
    journal.end().await;
    let report = report(&state);
    let damage = report.damages.first().unwrap();
    assert_eq!((damage.file.as_str(), damage.line), (file_name(2).as_str(), 1), "{report:?}");
    assert!(damage.what.contains("lines 6 to 13 were gone"), "{damage:?}");
}

/// Does something to what a life has left, and gives what is said of it after the next one.
async fn between_two_lives(act: impl FnOnce(&Path)) -> Report {
    let state = state();
    for number in 0..2 {
        let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
        journal.write("exit", fields(number));
        journal.end().await;
    }
    act(&directory(&state));
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(99));
    journal.end().await;
    report(&state)
}

/// The lines of a chain that goes on from `tip`, written by somebody without the key.
fn forged(mut tip: Tip, count: u64) -> String {
    let lines = (0..count).map(|number| tip.append("2026-11-30T06:00:00Z", "exit", fields(number)));
    lines.collect()
}

#[tokio::test]
async fn what_was_written_anew_between_two_lives_is_told_for_ever() {
    assert_eq!(between_two_lives(|_| {}).await.damages, []);
    let first = |report: &Report| report.damages[0].what.clone();
    let file = |directory: &Path, number| directory.join(file_name(number));
    // All of it, without a head: the next start signs it.
    let report = between_two_lives(|directory| {
        for number in [1, 2] {
            std::fs::remove_file(file(directory, number)).unwrap();
        }
        std::fs::remove_file(directory.join(HEAD)).unwrap();
        std::fs::write(file(directory, 1), forged(Tip::start(), 20)).unwrap();
    })
    .await;
    assert!(first(&report).contains("there was no head"), "{report:?}");
    // With a head that is nobody's, and with nothing but that.
    for text in [forged(Tip::start(), 20), String::new()] {
        let report = between_two_lives(|directory| {
            std::fs::write(file(directory, 1), &text).unwrap();
            std::fs::remove_file(file(directory, 2)).unwrap();
            std::fs::write(directory.join(HEAD), "junk").unwrap();
        })
        .await;
        assert!(first(&report).contains("there was no head"), "{report:?}");
    }
    // With the true head, at the right length.
    let report = between_two_lives(|directory| {
        std::fs::remove_file(file(directory, 2)).unwrap();
        std::fs::write(file(directory, 1), forged(Tip::start(), 20)).unwrap();
    })
    .await;
    assert!(first(&report).contains("the last checkpoint before was another one"), "{report:?}");
    // Behind the head: nobody can say, so it is said which lines these are.
    let report = between_two_lives(|directory| {
        let path = file(directory, 2);
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.trim_end().rsplit('\n').next().unwrap();
        let tip = Tip { number: 8, hash: chain::hash(line.as_bytes()) };
        std::fs::write(&path, text.clone() + &forged(tip, 2)).unwrap();
    })
    .await;
    assert_eq!(report.damages, []);
    let note = "lines 9 to 10 were signed only when the gateway had started again, by line 12";
    assert_eq!(report.notes, [note]);
    // Older files may be elsewhere.
    let report = between_two_lives(|directory| {
        std::fs::remove_file(file(directory, 1)).unwrap();
    })
    .await;
    assert_eq!((report.damages, report.first), (vec![], 5));
}

#[tokio::test]
async fn there_is_a_head_as_soon_as_there_is_a_line() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    assert_eq!(journal.written(journal.mark()).await, Ok(()));
    assert!(directory(&state).join(HEAD).exists());
    assert_eq!(report(&state).damages, []);
}

#[tokio::test]
async fn a_full_quota_is_told_and_over_when_there_is_room() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    let mark = journal.mark();
    for number in 0..500 {
        journal.write("exit", fields(number));
    }
    let told = journal.written(mark).await.unwrap_err();
    assert!(told.contains("its quota of 20000 bytes is used up"), "{told}");
    assert!(journal.written(journal.mark()).await.is_err());
    assert_eq!(report(&state).damages, []);
    // The next life does not know what this one could not write: so the last lines tell of it, beyond the quota.
    journal.end().await;
    let told = report(&state);
    let written = events(&state).iter().filter(|event| *event == "exit").count();
    assert_eq!((told.damages, told.signed), (vec![], told.last));
    let note = format!("{} events were not written, 0 of them refusals", 500 - written);
    assert!(told.notes[0].starts_with(&note), "{note}: {:?}", told.notes);
    // Somebody has moved the old ones away.
    std::fs::remove_file(directory(&state).join(file_name(1))).unwrap();
    std::fs::remove_file(directory(&state).join(HEAD)).unwrap();
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    let mark = journal.mark();
    journal.write("exit", fields(0));
    assert_eq!(journal.written(mark).await, Ok(()));
    journal.end().await;
}

#[tokio::test]
async fn room_is_found_without_another_file() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    for number in 0..80 {
        journal.write("exit", fields(number));
    }
    journal.end().await;
    let journal = Journal::start(state.path(), key(), 20_000).unwrap();
    for number in 0..100 {
        journal.write("exit", fields(number));
    }
    assert!(journal.written(journal.mark()).await.is_err());
    std::fs::remove_file(directory(&state).join(file_name(1))).unwrap();
    while journal.written(journal.mark()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mark = journal.mark();
    journal.write("exit", fields(100));
    assert_eq!(journal.written(mark).await, Ok(()));
    journal.end().await;
    assert_eq!(files(&directory(&state)).unwrap(), [2]);
    let report = report(&state);
    assert_eq!((report.damages, report.signed), (vec![], report.last));
    assert!(events(&state).contains(&GAP.to_owned()));
}

#[tokio::test]
async fn refusals_leave_room_for_the_rest() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 40_000).unwrap();
    let mark = journal.mark();
    for number in 0..1000 {
        journal.write(REFUSALS[0], fields(number));
    }
    assert_eq!(journal.written(mark).await, Ok(()));
    let length = std::fs::metadata(directory(&state).join(file_name(1))).unwrap().len();
    assert!((15_000..25_000).contains(&length), "{length}");
    let mark = journal.mark();
    for number in 0..20 {
        journal.write("session", fields(number));
    }
    assert_eq!(journal.written(mark).await, Ok(()));
    journal.end().await;
    let written = events(&state).iter().filter(|event| *event == REFUSALS[0]).count();
    let report = report(&state);
    let left_out = 1000 - written;
    assert_eq!(report.damages, []);
    let note = format!("{left_out} events were not written, {left_out} of them refusals");
    assert!(report.notes[0].starts_with(&note), "{note}: {:?}", report.notes);
}

/// What somebody does who comes in and only is refused, again and again, between others.
#[tokio::test]
async fn who_only_is_refused_leaves_room_for_the_rest() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 40_000).unwrap();
    let of = |connection: u64| {
        Map::from_iter([
            (CONNECTION.to_owned(), connection.into()),
            ("client".to_owned(), "x".repeat(200).into()),
        ])
    };
    let mark = journal.mark();
    for connection in 0..1000 {
        for event in [LOGIN, "session refused", LOGOUT] {
            journal.write(event, of(connection));
        }
        if connection % 50 == 0 {
            journal.write("exit", of(2000));
            // The queue has room for all.
            assert_eq!(journal.written(mark).await, Ok(()));
        }
    }
    assert_eq!(journal.written(mark).await, Ok(()));
    // Who gets something has his login before it, and his logout behind it.
    for event in [LOGIN, "session refused", "session", LOGOUT] {
        journal.write(event, of(3000));
    }
    assert_eq!(journal.written(mark).await, Ok(()));
    let length = length_of(&directory(&state), &files(&directory(&state)).unwrap()).unwrap();
    assert!((20_000..35_000).contains(&length), "{length}");
    let all = events(&state);
    let at = all.iter().position(|event| event == "session").unwrap();
    assert_eq!((all[at - 1].as_str(), all[at + 1].as_str()), (LOGIN, LOGOUT));
    let count = |event: &str| all.iter().filter(|its| *its == event).count();
    assert!(count(GAP) <= 2, "{all:?}");
    assert_eq!((count("exit"), count("session")), (20, 1));
    // One that waits is told of at the end.
    journal.write(LOGIN, of(4000));
    journal.end().await;
    let written = events(&state);
    let kept = |event: &str| written.iter().filter(|its| *its == event).count();
    let left_out = 3000 + 3 + 1 - kept(LOGIN) - kept("session refused") - kept(LOGOUT);
    let report = report(&state);
    assert_eq!((report.damages, report.signed), (vec![], report.last));
    let note = format!("{left_out} events were not written, {left_out} of them refusals");
    assert!(report.notes[0].starts_with(&note), "{note}: {:?}", report.notes);
}

#[tokio::test]
async fn files_are_small_enough_that_old_ones_can_be_moved_away() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    let mut number = 0;
    while journal.written(journal.mark()).await.is_ok() {
        for _ in 0..500 {
            journal.write("exit", fields(number));
            number += 1;
        }
    }
    let told = journal.written(journal.mark()).await.unwrap_err();
    assert!(told.ends_with("move old files away, or raise audit_quota"), "{told}");
    let numbers = files(&directory(&state)).unwrap();
    assert!(numbers.len() as u64 >= FILES_OF_QUOTA - 1, "{numbers:?}");
    std::fs::remove_file(directory(&state).join(file_name(1))).unwrap();
    while journal.written(journal.mark()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    journal.end().await;
    assert_eq!(report(&state).damages, []);
}

#[tokio::test]
async fn a_key_whose_public_half_is_another_one_is_told_for_ever() {
    let state = state();
    for is_doubtful in [true, false] {
        let key = AuditKey { key: key(), is_doubtful };
        let journal = Journal::start(state.path(), key, QUOTA).unwrap();
        assert_eq!(journal.written(journal.mark()).await, Ok(()));
        journal.end().await;
    }
    let damages = report(&state).damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    assert!(damages[0].what.contains("key.pub was not the public half"), "{damages:?}");
}

#[tokio::test]
async fn events_that_were_left_out_are_counted() {
    let state = state();
    std::fs::remove_dir(directory(&state)).unwrap();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    let before = journal.mark();
    journal.write("exit", fields(1));
    journal.write("exit", fields(2));
    assert!(journal.written(before).await.is_err());
    std::fs::create_dir(directory(&state)).unwrap();
    // It is tried again after a while: the answer comes when it has been.
    while journal.written(journal.mark()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Whoever needs one of those that were lost is not told that all is well.
    let told = journal.written(before).await.unwrap_err();
    assert!(told.contains("2 lines of the audit were not written"), "{told}");
    journal.write("exit", fields(3));
    journal.end().await;
    assert_eq!(events(&state), [BEGIN, "checkpoint", GAP, "exit", "checkpoint"]);
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
}

#[tokio::test]
async fn an_event_that_has_no_place_in_the_queue_is_missed_by_who_waits_for_it() {
    let (queue, orders) = sync_channel(1);
    let journal = Journal { queue, lost: Arc::default(), is_crowded: Arc::default() };
    let mark = journal.mark();
    journal.write("session", fields(1));
    journal.write("session", fields(2));
    let writing = std::thread::spawn(move || {
        for order in orders {
            if let Order::Answer(answer) = order {
                answer.send(Ok(())).unwrap();
            }
        }
    });
    // Until the queue has room again it is an error anyway.
    while journal.written(journal.mark()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(journal.written(mark).await.is_err());
    drop(journal);
    writing.join().unwrap();
}

#[test]
fn a_disk_that_hangs_is_a_fault() {
    let file = || tempfile::tempfile().unwrap();
    let with = |patience| Durability { wanted: Arc::default(), thread: None, patience };
    // Nobody serves it: that is what a hanging one looks like.
    for (patience, is_fault) in [(Duration::ZERO, true), (SYNC_TIME_MAX, false)] {
        let hung = with(patience);
        assert_eq!(hung.fault(), Ok(()), "nothing was asked for");
        hung.ask(1, file(), "head".to_owned());
        assert_eq!(hung.fault().is_err(), is_fault);
        // Done, and nothing newer asked for.
        assert!(hung.wanted.next().is_some());
        hung.wanted.lock().since = None;
        assert_eq!(hung.fault(), Ok(()));
    }
    // However long it hangs, a file waits for it once.
    let hung = with(SYNC_TIME_MAX);
    for _ in 0..5 {
        for number in [1, 2] {
            hung.ask(number, file(), "head".to_owned());
        }
        let (files, (number, head)) = hung.wanted.next().unwrap();
        assert_eq!(files.len(), 2);
        hung.ask(2, file(), "newer".to_owned());
        hung.wanted.lock().again(number, head);
        let state = hung.wanted.lock();
        assert_eq!(state.files.len(), 1);
        assert_eq!(state.head, Some((2, "newer".to_owned())));
    }
}

/// What the kernel refuses to make durable: as a disk that has lost something.
fn broken() -> File {
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    writer.into()
}

/// Waits until nothing is asked of the disk.
fn settled(writer: &Writer) {
    while writer.durability.wanted.lock().since.is_some() {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_file_that_could_not_be_made_durable_is_never_asked_again_and_another_one_goes_on() {
    let state = state();
    let mut writer = Writer::new(state.path(), key(), QUOTA, Arc::default()).unwrap();
    writer.take(Timestamp::now(), "exit", fields(1));
    settled(&writer);
    let first = writer.open.as_ref().unwrap().number;
    // The disk loses what was written, says so once, and then says that all is well.
    writer.durability.ask(first, broken(), "never".to_owned());
    while writer.durability.fault().is_ok() {
        std::thread::yield_now();
    }
    writer.durability.ask(first, tempfile::tempfile().unwrap(), "never".to_owned());
    assert!(writer.durability.fault().unwrap_err().contains(&file_name(first)));
    writer.take(Timestamp::now(), "exit", fields(2));
    assert_eq!(writer.open.as_ref().unwrap().number, first + 1);
    while writer.durability.fault().is_err() {
        std::thread::yield_now();
    }
    writer.take(Timestamp::now(), "exit", fields(3));
    writer.end().unwrap();
    writer.durability.end();
    assert!(std::fs::read_to_string(directory(&state).join(HEAD)).unwrap() != "never");
    let report = report(&state);
    assert_eq!((report.damages, report.signed), (vec![], report.last), "{:?}", report.notes);
    let note = "lines 3 to 3 may not be on the disk: making them durable failed before line 4";
    assert_eq!(report.notes, [note]);
    assert_eq!(events(&state).iter().filter(|event| *event == "exit").count(), 3);
}

#[tokio::test]
async fn what_a_disk_has_lost_with_a_file_is_told_line_by_line() {
    let state = state();
    let mut writer = Writer::new(state.path(), key(), QUOTA, Arc::default()).unwrap();
    for number in 0..4 {
        writer.take(Timestamp::now(), "exit", fields(number));
    }
    // Lines 3 to 6 are behind the head: the fourth is not what it was.
    let path = directory(&state).join(file_name(1));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"status\":1", "\"status\":7", 1)).unwrap();
    settled(&writer);
    writer.durability.ask(1, broken(), "never".to_owned());
    while writer.durability.fault().is_ok() {
        std::thread::yield_now();
    }
    writer.take(Timestamp::now(), "exit", fields(9));
    writer.end().unwrap();
    writer.durability.end();
    let report = report(&state);
    let told: Vec<_> = report.damages.iter().map(|damage| damage.what.as_str()).collect();
    assert!(told.contains(&"lines 5 to 6 were gone when the gateway started here"), "{report:?}");
}

#[tokio::test]
async fn a_first_head_does_not_outlive_its_file() {
    let state = state();
    let mut writer = Writer::new(state.path(), key(), QUOTA, Arc::default()).unwrap();
    assert!(writer.tend(Writer::opened));
    // As if its name were there, and it had failed to make it durable.
    writer.abandon(1, None, 0);
    writer.durability.end();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(1));
    journal.end().await;
    let report = report(&state);
    assert_eq!(report.damages, [], "{report:?}");
}

#[tokio::test]
async fn what_power_has_torn_is_gone_on_from_and_told_for_ever() {
    let zeros = vec![0; 300_000];
    let torn = [
        b"{\"number\":9,\"ti".to_vec(),
        zeros.clone(),
        [b"{\"number\":9,".as_slice(), &zeros, b"\"}\n"].concat(),
        [&zeros[..4096], b"\n", &zeros[..10], b"\n{"].concat(),
    ];
    for torn in torn {
        let report = between_two_lives(|directory| {
            let path = directory.join(file_name(2));
            let whole = [std::fs::read(&path).unwrap(), torn.clone()].concat();
            std::fs::write(&path, whole).unwrap();
        })
        .await;
        assert_eq!((report.damages, report.signed), (vec![], report.last));
        let note = format!("line 5 was not whole ({} bytes) when the gateway", torn.len());
        assert!(report.notes[0].contains(&note), "{:?}", report.notes);
    }
}

#[tokio::test]
async fn an_end_that_somebody_has_written_is_not_gone_on_from() {
    let state = state();
    let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
    journal.write("exit", fields(1));
    journal.end().await;
    let path = directory(&state).join(file_name(1));
    let whole = std::fs::read(&path).unwrap();
    for edited in [
        &b"nothing\n"[..],
        b"{\"number\":9}\n",
        b"\0\n{\"number\":5,\"event\":\"exit\",\"previous\":\"\"}\nx\n",
    ] {
        std::fs::write(&path, [&whole, edited].concat()).unwrap();
        let journal = Journal::start(state.path(), key(), QUOTA).unwrap();
        let told = journal.written(journal.mark()).await.unwrap_err();
        assert!(told.contains("is no line of an audit"), "{told}");
        journal.end().await;
        // Nothing is left of what was not begun, however often it is tried.
        assert_eq!(files(&directory(&state)).unwrap(), [1]);
    }
}

#[test]
fn only_our_own_files_are_ours() {
    assert_eq!(file_number("audit-00000012.jsonl"), Some(12));
    for other in
        ["audit-12.jsonl", "audit-00000012.json", "head", "audit--0000001.jsonl", "key.pub"]
    {
        assert_eq!(file_number(other), None, "{other}");
    }
}

#[tokio::test]
async fn it_is_known_when_files_would_take_the_room_of_others() {
    let state = state();
    let journal = Journal::start(state.path(), key(), 40_000).unwrap();
    assert_eq!(journal.written(journal.mark()).await, Ok(()));
    assert!(!journal.is_crowded());
    let mark = journal.mark();
    for number in 0..220 {
        journal.write("file", fields(number));
    }
    assert_eq!(journal.written(mark).await, Ok(()));
    let length = length_of(&directory(&state), &files(&directory(&state)).unwrap()).unwrap();
    assert!((30_000..40_000).contains(&length), "{length}");
    assert!(journal.is_crowded());
    journal.end().await;
}
