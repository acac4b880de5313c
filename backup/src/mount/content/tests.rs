use super::*;
use crate::browse::tests::{Fixture, noise};

#[test]
fn what_was_asked_for_longest_ago_goes_first() {
    let id = |number: u8| ChunkId([number; 16]);
    let mut kept = Kept::default();
    let content = Bytes::from(vec![7; KEPT_BYTES_MAX / 4]);
    for number in 0..4 {
        kept.keep(id(number), content.clone());
    }
    assert!(kept.get(&id(0)).is_some());
    kept.keep(id(4), content.clone());
    kept.keep(id(4), content);
    let has: Vec<_> = (0..5).map(|number| kept.has(&id(number))).collect();
    assert_eq!(has, [true, false, true, true, true]);
    assert_eq!((kept.bytes, kept.order.len()), (KEPT_BYTES_MAX, 4));
}

#[test]
fn chunks_come_whole_or_not_at_all() {
    let fixture = Fixture::new();
    fixture.write("noise", noise(3 << 20, 1));
    let (_, snapshot) = fixture.back_up("n", 1);
    let index = Arc::new(fixture.repository.index_for_reading([&snapshot]).unwrap().0);
    let contents = Contents::start(&fixture.repository, &Shutdown::new()).unwrap();
    let ids: Vec<_> = index.chunks().iter().map(|(id, _)| *id).collect();
    for id in &ids {
        contents.ask(&index, *id);
    }
    for id in &ids {
        let content = contents.chunk(&index, *id).unwrap();
        assert_eq!(fixture.repository.key().id_of(&content), *id);
    }
    let unknown = ChunkId([9; 16]);
    assert!(
        matches!(contents.chunk(&index, unknown), Err(ContentError::Read(ReadError::Missing(id))) if id == unknown)
    );
    fixture.damage_content();
    // Nobody has read anything yet.
    let contents = Contents::start(&fixture.repository, &Shutdown::new()).unwrap();
    let read: Vec<_> = ids.iter().map(|id| contents.chunk(&index, *id)).collect();
    let is_damaged = |read: &&Result<Bytes, ContentError>| matches!(read, Err(ContentError::Read(error)) if error.is_damage());
    let damaged = read.iter().filter(is_damaged).count();
    let whole = read.iter().filter(|read| read.is_ok()).count();
    assert!(damaged > 0 && whole > 0 && damaged + whole == ids.len(), "{damaged} and {whole}");
}

impl Contents {
    /// Threads that have ended, as by a panic.
    pub(crate) fn ended() -> Self {
        let threads = (0..FETCH_THREADS).map(|_| bounded(JOBS_WAITING_MAX).0).collect();
        Self { threads, kept: Arc::default() }
    }
}

#[test]
fn threads_that_have_ended_are_told_from_chunks_that_are_missing() {
    let fixture = Fixture::new();
    fixture.write("file", "content");
    let (_, snapshot) = fixture.back_up("n", 1);
    let index = Arc::new(fixture.repository.index_for_reading([&snapshot]).unwrap().0);
    let id = index.chunks().first().unwrap().0;
    assert!(matches!(Contents::ended().chunk(&index, id), Err(ContentError::Ended)));
}

#[test]
fn a_panic_leaves_nobody_waiting_and_ends_the_mount() {
    let fixture = Fixture::new();
    fixture.write("file", "content");
    let (_, snapshot) = fixture.back_up("n", 1);
    let index = Arc::new(fixture.repository.index_for_reading([&snapshot]).unwrap().0);
    let id = index.chunks().first().unwrap().0;
    let (sender, jobs) = bounded(JOBS_WAITING_MAX);
    let (reply, content) = bounded(1);
    sender.send(Job { index, id, reply: Some(reply) }).unwrap();
    let broken = Shutdown::new();
    let ends = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let _work = Work { jobs: &jobs, broken: &broken };
            panic!("as one that reads may");
        });
        work.join()
    });
    assert!(ends.is_err() && broken.is_requested());
    // The sender is there still.
    assert!(content.try_recv().is_err_and(|error| error.is_disconnected()));
    drop(sender);
}
