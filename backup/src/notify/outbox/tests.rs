use super::*;

/// The longest wait for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens it when it was closed: a program that another test starts holds its lock for a moment, until it is that program.
fn open_again(state: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let channels = Channels::from_environment(Some("http://127.0.0.1:9/".to_owned()), None);
        match Outbox::open(state, channels.unwrap()) {
            Err(OutboxError::InUse(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => {
                drop(opened.unwrap());
                return;
            }
        }
    }
}

#[test]
fn pauses_grow_to_a_bound_and_a_server_may_ask_for_more_within_another() {
    let second = Duration::from_secs(1);
    assert!((second / 2..=second).contains(&pause(1, None)));
    assert!((second * 300..=second * 600).contains(&pause(40, None)));
    assert!((second * 300..=second * 600).contains(&pause(u32::MAX, None)));
    assert_eq!(pause(1, Some(second * 90)), second * 90);
    assert_eq!(pause(1, Some(second * 100_000)), RETRY_AFTER_MAX);
}

#[test]
fn without_channels_nothing_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(directory.path(), Channels::default()).unwrap();
    assert!(outbox.counts().is_empty());
    outbox.finish();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn two_processes_do_not_tell_the_same_twice() {
    let directory = tempfile::tempdir().unwrap();
    let channels =
        || Channels::from_environment(Some("http://127.0.0.1:9/".to_owned()), None).unwrap();
    let first = Outbox::open(directory.path(), channels()).unwrap();
    let error = Outbox::open(directory.path(), channels()).unwrap_err().to_string();
    assert!(error.starts_with("another process sends the notices of "), "{error}");
    first.finish();
    open_again(directory.path());
}

#[test]
fn a_damaged_queue_is_kept_aside_and_a_later_one_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let notices = directory.path().join(DIRECTORY);
    std::fs::create_dir(&notices).unwrap();
    let channels =
        || Channels::from_environment(Some("http://127.0.0.1:9/".to_owned()), None).unwrap();
    std::fs::write(notices.join("webhook.json"), "half").unwrap();
    Outbox::open(directory.path(), channels()).unwrap().finish();
    assert_eq!(std::fs::read(notices.join("webhook.json.damaged")).unwrap(), b"half");
    std::fs::write(notices.join("webhook.json"), "{\"format\":9}").unwrap();
    let error = chain(&Outbox::open(directory.path(), channels()).unwrap_err());
    assert!(error.contains("it has the format 9"), "{error}");
    assert_eq!(std::fs::read(notices.join("webhook.json")).unwrap(), b"{\"format\":9}");
}

#[test]
fn a_disk_that_hangs_holds_up_neither_who_tells_nor_who_sends() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody listens there: each attempt fails at once.
    let channels = Channels::from_environment(Some("http://127.0.0.1:9/".to_owned()), None);
    let (begun, has_begun) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<()>();
    let disk: Write = Box::new(move |queue, path| {
        begun.send(()).ok();
        answers.recv().ok();
        queue.save(path)
    });
    let outbox = Outbox::open_with(directory.path(), channels.unwrap(), disk).unwrap();
    let event = Event {
        time: Timestamp::now(),
        host: "host".to_owned(),
        job: "job".to_owned(),
        kind: crate::notify::Kind::RunFailed,
        text: "text".to_owned(),
        details: std::collections::BTreeMap::new(),
    };
    outbox.put(&event);
    has_begun.recv().unwrap();
    // It is sent while the disk is written to, and what is put in meanwhile waits for nothing.
    let deadline = Instant::now() + PATIENCE;
    while outbox.counts()[0].failures == 0 {
        assert!(Instant::now() < deadline, "it is not sent");
        thread::sleep(Duration::from_millis(1));
    }
    outbox.put(&event);
    assert_eq!(outbox.counts()[0].waiting, 2);
    let path = directory.path().join(DIRECTORY).join("webhook.json");
    assert!(!path.exists());
    // Who has to know that it is on disk waits for that.
    let kept = outbox.kept();
    let waits = thread::spawn(move || kept.wait());
    assert!(!waits.is_finished());
    drop(answer);
    waits.join().unwrap();
    assert_eq!(Queue::load(&path).unwrap().len(), 2);
    outbox.finish();
    open_again(directory.path());
}
