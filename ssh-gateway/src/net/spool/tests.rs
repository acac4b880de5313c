use proptest::prelude::*;

use super::*;

/// Gives files, as many as it has.
struct Files(AtomicUsize);

impl Shelf for Files {
    async fn file(&self) -> Option<File> {
        let some = self.0.load(Ordering::Relaxed) > 0;
        some.then(|| {
            self.0.fetch_sub(1, Ordering::Relaxed);
            tempfile::tempfile().unwrap()
        })
    }
}

const SMALL: Bounds = Bounds { memory: 1024, total: 1024 * 1024, overrun: 1024 * 1024 };

/// One that only its spools put on.
fn brake() -> Arc<Brake> {
    Brake::new(Allowance { total: u64::MAX, overrun: 0, memory: u64::MAX })
}

fn spool(bounds: Bounds) -> (Arc<Brake>, Arc<Spool>) {
    let brake = brake();
    (Arc::clone(&brake), Arc::new(Spool::new(bounds, brake)))
}

async fn rest(spool: &Spool) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = spool.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

/// Waits until the disk has what it is to have.
async fn settled(spool: &Spool) {
    while lock(&spool.state).spilling > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn counted(from: u64, length: usize) -> Vec<u8> {
    (from..).flat_map(u64::to_le_bytes).take(length).collect()
}

#[tokio::test]
async fn bytes_come_out_as_they_went_in_through_memory_and_file() {
    let (brake, spool) = spool(SMALL);
    let files = Arc::new(Files(AtomicUsize::new(1)));
    let all = counted(0, 900_000);
    for part in all.chunks(30_000) {
        spool.push(part, &files).await.unwrap();
    }
    settled(&spool).await;
    assert_eq!(files.0.load(Ordering::Relaxed), 0, "no file was asked for");
    assert!(!brake.is_on());
    spool.end();
    assert!(rest(&spool).await == all);
}

#[tokio::test]
async fn the_ring_goes_round_without_a_hole() {
    let (_, spool) = spool(SMALL);
    let files = Arc::new(Files(AtomicUsize::new(1)));
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for turn in 0..40 {
        let part = counted(turn * 1_000_000, 300_000);
        spool.push(&part, &files).await.unwrap();
        sent.extend(part);
        // Something always stays behind.
        while sent.len() - got.len() > 500_000 {
            got.extend_from_slice(&spool.next().await.unwrap().unwrap());
        }
    }
    spool.end();
    got.extend(rest(&spool).await);
    assert!(sent == got);
    assert_eq!(files.0.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_brake_is_on_from_the_limit_to_half_of_it() {
    let (brake, spool) = spool(SMALL);
    let files = Arc::new(Files(AtomicUsize::new(9)));
    let part = vec![7; 64 * 1024];
    let mut sent = 0;
    while !brake.is_on() {
        spool.push(&part, &files).await.unwrap();
        sent += part.len();
    }
    assert_eq!(sent as u64, SMALL.total);
    let mut got = 0;
    while brake.is_on() {
        got += spool.next().await.unwrap().unwrap().len();
    }
    assert!(got >= sent / 2 && got < sent, "{got} of {sent}");
    // One that goes away takes its foot off.
    while !brake.is_on() {
        spool.push(&part, &files).await.unwrap();
    }
    settled(&spool).await;
    drop(spool);
    assert!(!brake.is_on());
}

#[tokio::test]
async fn a_client_that_ignores_its_windows_is_found_out() {
    let (_, spool) = spool(SMALL);
    let files = Arc::new(Files(AtomicUsize::new(1)));
    let part = vec![7; 64 * 1024];
    let mut sent = 0;
    while spool.push(&part, &files).await.is_ok() {
        sent += part.len() as u64;
    }
    assert_eq!(sent, SMALL.total + SMALL.overrun);
}

#[tokio::test]
async fn without_a_file_the_brake_is_on_early_and_nothing_is_lost() {
    let (brake, spool) = spool(SMALL);
    let files = Arc::new(Files(AtomicUsize::new(0)));
    let all = counted(0, 600_000);
    for part in all.chunks(10_000) {
        spool.push(part, &files).await.unwrap();
    }
    settled(&spool).await;
    assert!(brake.is_on());
    spool.end();
    assert!(rest(&spool).await == all);
    assert!(!brake.is_on());
}

#[tokio::test]
async fn a_full_disk_loses_nothing() {
    struct Full;
    impl Shelf for Full {
        async fn file(&self) -> Option<File> {
            File::options().read(true).write(true).open("/dev/full").ok()
        }
    }
    let (_, spool) = spool(SMALL);
    let full = Arc::new(Full);
    let all = counted(0, 600_000);
    for part in all.chunks(10_000) {
        spool.push(part, &full).await.unwrap();
    }
    spool.end();
    assert!(rest(&spool).await == all);
}

#[tokio::test]
async fn what_is_discarded_is_gone_and_wakes_the_reader() {
    let (brake, spool) = spool(SMALL);
    let reader = tokio::spawn({
        let spool = Arc::clone(&spool);
        async move { spool.next().await }
    });
    tokio::task::yield_now().await;
    spool.discard();
    assert_eq!(reader.await.unwrap(), Ok(None));
    let files = Arc::new(Files(AtomicUsize::new(1)));
    spool.push(&vec![1; 3_000_000], &files).await.unwrap();
    assert!(!brake.is_on());
    assert_eq!(spool.next().await, Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn order_is_kept(acts in prop::collection::vec((any::<bool>(), 1_usize..200_000), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bounds = Bounds { memory: 4096, total: 600_000, overrun: 20_000_000 };
            let (brake, spool) = spool(bounds);
            let files = Arc::new(Files(AtomicUsize::new(100)));
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for (push, length) in acts {
                if push {
                    let part = counted(sent.len() as u64, length);
                    spool.push(&part, &files).await.unwrap();
                    sent.extend(part);
                } else if got.len() < sent.len() {
                    got.extend_from_slice(&spool.next().await.unwrap().unwrap());
                }
                let backlog = (sent.len() - got.len()) as u64;
                prop_assert!(backlog < bounds.total || brake.is_on());
                prop_assert!(backlog > bounds.total / 2 || !brake.is_on());
            }
            spool.end();
            got.extend(rest(&spool).await);
            prop_assert!(sent == got);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn all_spools_together_have_a_bound() {
    let brake = Brake::new(Allowance { total: 1_000_000, overrun: 100_000, memory: u64::MAX });
    let [one, other] = [(); 2].map(|()| Arc::new(Spool::new(SMALL, Arc::clone(&brake))));
    let files = Arc::new(Files(AtomicUsize::new(2)));
    for part in counted(0, 600_000).chunks(30_000) {
        one.push(part, &files).await.unwrap();
    }
    assert!(!brake.is_on());
    for part in counted(0, 480_000).chunks(30_000) {
        other.push(part, &files).await.unwrap();
    }
    assert!(brake.is_on());
    assert_eq!(other.push(&[0; 30_000], &files).await, Err(Overrun::Window));
    settled(&one).await;
    settled(&other).await;
    // Half must go before the client may hurry again, and what is dropped is gone too.
    one.discard();
    assert!(!brake.is_on());
    drop(other);
    assert_eq!(brake.waiting.load(Ordering::Relaxed), 0);
    assert_eq!(brake.in_memory.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_waits_in_memory_for_want_of_files_has_a_bound() {
    let brake = Brake::new(Allowance { total: u64::MAX, overrun: 0, memory: 2_000_000 });
    let bounds = Bounds { memory: 100_000, total: 4_000_000, overrun: 4_000_000 };
    let spools = [(); 4].map(|()| Arc::new(Spool::new(bounds, Arc::clone(&brake))));
    let files = Arc::new(Files(AtomicUsize::new(0)));
    let mut kept = 0;
    let refused = 'pushing: loop {
        for spool in &spools {
            match spool.push(&[0; 30_000], &files).await {
                Ok(()) => kept += 30_000,
                Err(overrun) => break 'pushing overrun,
            }
            settled(spool).await;
        }
    };
    assert_eq!((refused, kept), (Overrun::Memory, 1_980_000));
    assert!(brake.is_on());
}

/// Its reader must not take that for the end.
#[tokio::test]
async fn what_cannot_be_read_again_is_no_end() {
    struct WriteOnly(tempfile::NamedTempFile);
    impl Shelf for WriteOnly {
        async fn file(&self) -> Option<File> {
            File::options().write(true).open(self.0.path()).ok()
        }
    }
    let (brake, spool) = spool(SMALL);
    let shelf = Arc::new(WriteOnly(tempfile::NamedTempFile::new().unwrap()));
    for part in counted(0, 900_000).chunks(30_000) {
        spool.push(part, &shelf).await.unwrap();
    }
    spool.end();
    let mut last = Ok(None);
    for _ in 0..3 {
        last = spool.next().await;
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(Unreadable));
    assert_eq!(spool.next().await, Err(Unreadable), "however often it is asked");
    settled(&spool).await;
    assert_eq!(brake.waiting.load(Ordering::Relaxed), 0);
    spool.push(&[1; 100], &shelf).await.unwrap();
    assert_eq!(spool.next().await, Err(Unreadable));
}

/// Has a file when it is told.
#[derive(Default)]
struct Late(Notify);

impl Shelf for Late {
    async fn file(&self) -> Option<File> {
        self.0.notified().await;
        tempfile::tempfile().ok()
    }
}

/// As much as a client sends that obeys its windows.
const LARGE: Bounds = Bounds { memory: 1024, total: 1 << 30, overrun: 1 << 20 };

#[tokio::test]
async fn a_slow_disk_makes_the_client_slow_and_no_writer_wait() {
    let (brake, spool) = spool(LARGE);
    let late = Arc::new(Late::default());
    let all = counted(0, 24 * 1024 * 1024);
    for part in all.chunks(64 * 1024) {
        let pushed = tokio::time::timeout(Duration::from_secs(10), spool.push(part, &late));
        pushed.await.expect("nobody waits for the disk").unwrap();
        let backlog = usize::try_from(spool.backlog()).unwrap();
        assert_eq!(brake.is_on(), backlog >= UNWRITTEN_BYTES, "{backlog}");
    }
    spool.end();
    // The disk is there at last.
    late.0.notify_one();
    assert!(rest(&spool).await == all);
    assert!(!brake.is_on());
    assert_eq!(brake.in_memory.load(Ordering::Relaxed), 0);
}

/// One whose disk may hold up its writer for so long.
fn impatient(disk_time: Duration) -> Arc<Spool> {
    let mut spool = Spool::new(LARGE, brake());
    spool.disk_time = disk_time;
    Arc::new(spool)
}

#[tokio::test]
async fn beyond_what_memory_is_for_the_writer_waits_for_the_disk_but_not_for_ever() {
    for (is_late, patience) in [(true, DISK_TIME), (false, Duration::from_millis(200))] {
        let spool = impatient(patience);
        let late = Arc::new(Late::default());
        let part = vec![7; 64 * 1024];
        while spool.backlog() <= UNWRITTEN_ALL_BYTES - part.len() as u64 {
            spool.push(&part, &late).await.unwrap();
        }
        let writer = tokio::spawn({
            let (spool, late) = (Arc::clone(&spool), Arc::clone(&late));
            async move { spool.push(&part, &late).await }
        });
        if is_late {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(!writer.is_finished());
            late.0.notify_one();
        }
        let pushed = writer.await.unwrap();
        assert_eq!(pushed, if is_late { Ok(()) } else { Err(Overrun::Disk) });
    }
}

#[tokio::test]
async fn what_comes_while_the_disk_writes_stays_behind_what_it_writes() {
    let (_, spool) = spool(SMALL);
    let late = Arc::new(Late::default());
    let all = counted(0, 700_000);
    let (first, rest_of_all) = all.split_at(400_000);
    spool.push(first, &late).await.unwrap();
    // Less than one that is handed to the disk, and what fits before the file in an empty spool.
    for part in rest_of_all.chunks(500) {
        spool.push(part, &late).await.unwrap();
        tokio::task::yield_now().await;
    }
    late.0.notify_one();
    spool.end();
    assert!(rest(&spool).await == all);
}

#[tokio::test]
async fn who_has_left_keeps_his_program_waiting_for_a_slow_disk_and_not_for_one_that_hangs() {
    for (is_late, patience) in [(true, DISK_TIME), (false, DRAIN_TIME * 2)] {
        let spool = impatient(patience);
        let late = Arc::new(Late::default());
        let all = counted(0, 900_000);
        spool.push(&all, &late).await.unwrap();
        spool.end();
        let read = Arc::new(Mutex::new(Vec::new()));
        let mut reader = AbortOnDropHandle::new(tokio::spawn({
            let (spool, read) = (Arc::clone(&spool), Arc::clone(&read));
            async move {
                while let Some(bytes) = spool.next().await.unwrap() {
                    lock(&read).extend_from_slice(&bytes);
                }
            }
        }));
        let disk = Arc::clone(&late);
        let mending = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(DRAIN_TIME * 5 / 2).await;
            disk.0.notify_one();
        }));
        if !is_late {
            drop(mending);
        }
        spool.drained_by(&mut reader).await;
        assert_eq!(*lock(&read) == all, is_late);
    }
}

#[tokio::test]
async fn a_disk_that_was_behind_leaves_the_brake_to_the_limit() {
    let (brake, spool) = spool(Bounds { total: 12 * 1024 * 1024, ..LARGE });
    let late = Arc::new(Late::default());
    let part = vec![7; 64 * 1024];
    while !brake.is_on() {
        spool.push(&part, &late).await.unwrap();
    }
    // More than half of what may wait.
    assert_eq!(spool.backlog(), UNWRITTEN_BYTES as u64);
    late.0.notify_one();
    settled(&spool).await;
    assert!(!brake.is_on(), "all is written");
}
