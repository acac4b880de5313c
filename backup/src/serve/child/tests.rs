use super::*;

#[test]
fn the_last_summary_among_all_lines_is_found() {
    let output = b"progress\n{\"event\":\"progress\"}\n{\"event\":\"summary\",\"n\":1}\nnoise\n{\"event\":\"summary\",\"n\":2}\n[]\n";
    let found = summary(&output[..]).unwrap();
    assert_eq!(found["n"], 2);
    assert_eq!(summary(&b""[..]), None);
    assert_eq!(summary(&b"{\"event\":\"summary\""[..]), None);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let output = [b'x'; 10_000].into_iter().chain(*b"\nshort\n").collect::<Vec<_>>();
    let mut lengths = Vec::new();
    lines(&output[..], 100, |line| lengths.push(line.len()));
    assert_eq!(lengths, [100, 6]);
}

#[test]
fn a_run_that_even_the_kernel_does_not_end_is_left_behind() {
    let (grace, second) = (Duration::from_secs(60), Duration::from_secs(1));
    for (stage, is_due, expected) in [
        (Stage::Running, false, Act::Wait),
        (Stage::Running, true, Act::Ask),
        (Stage::Asked(grace - second), true, Act::Wait),
        (Stage::Asked(grace), true, Act::Kill),
        (Stage::Killed(KILL_TIME - second), true, Act::Wait),
        (Stage::Killed(KILL_TIME), true, Act::Leave),
    ] {
        assert_eq!(act(stage, is_due, grace), expected, "{stage:?}");
    }
}

/// How what runs below says that it listens, and that it has heard.
const LISTENS: &str = "listens";
const HEARD: &str = "heard";

/// What runs below: the test of this name in a process of its own, whose last argument is a directory. It does not end when it is
/// asked to. By itself it does nothing.
#[test]
fn a_run_that_does_as_if_it_heard_nothing() {
    let directory = std::env::args().next_back().filter(|_| parent::is_there());
    let Some(directory) = directory.map(std::path::PathBuf::from).filter(|path| path.is_dir())
    else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let terminate = tokio::signal::unix::SignalKind::terminate();
        let mut asked = tokio::signal::unix::signal(terminate).unwrap();
        std::fs::write(directory.join(LISTENS), "").unwrap();
        asked.recv().await;
        std::fs::write(directory.join(HEARD), "").unwrap();
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_run_that_does_not_end_when_it_is_asked_to_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let name = "serve::child::tests::a_run_that_does_as_if_it_heard_nothing";
    let words = ["--exact", "--nocapture", name, directory.path().to_str().unwrap()];
    let time = Duration::from_secs(60);
    let order = Order {
        name: "deaf".to_owned(),
        words: words.map(str::to_owned).to_vec(),
        time_max: time,
        grace: Duration::from_secs(1),
    };
    let stop = Shutdown::new();
    let (ended, stuck) = thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + time;
            while !directory.path().join(LISTENS).exists() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
            stop.request();
        });
        run(&order, &stop)
    });
    assert_eq!(ended, Ended { end: End::Interrupted, summary: None });
    assert!(stuck.is_none());
    assert!(directory.path().join(HEARD).exists(), "it was asked to end, and did not");
}
