use std::thread;

use super::*;

fn spool(memory: usize, file: u64) -> (Spool, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let limits = SpoolLimits { memory, file, directory: directory.path().join("spool") };
    (Spool::new(limits), directory)
}

fn piece(number: u32, length: usize) -> Bytes {
    number.to_le_bytes().iter().copied().cycle().take(length).collect::<Vec<_>>().into()
}

#[test]
fn a_reader_is_never_held_up_and_all_comes_out_in_order() {
    let (spool, directory) = spool(1000, 1 << 20);
    let lengths: Vec<usize> = (0..300).map(|number| (number * 37) % 911 + 1).collect();
    let mut wanted = Vec::new();
    // Nobody takes anything yet.
    for (number, length) in lengths.iter().enumerate() {
        let piece = piece(u32::try_from(number).unwrap(), *length);
        wanted.extend_from_slice(&piece);
        spool.push(&piece).unwrap();
    }
    let mut found = Vec::new();
    while found.len() < wanted.len() {
        found.extend_from_slice(&spool.next(|| false).unwrap().unwrap());
    }
    assert_eq!(found, wanted);
    // It is empty now: memory serves again, then a file from its start.
    for round in 0..3 {
        let pieces = [piece(round, 900), piece(round + 1, 900), piece(round + 2, 10)];
        pieces.iter().for_each(|piece| spool.push(piece).unwrap());
        let mut found = Vec::new();
        while found.len() < 1810 {
            found.extend_from_slice(&spool.next(|| false).unwrap().unwrap());
        }
        assert_eq!(found, pieces.concat());
        assert_eq!(spool.lock().written, 910);
    }
    drop(spool.close_on_drop());
    assert!(spool.next(|| false).unwrap().is_none());
    assert_eq!(std::fs::read_dir(directory.path().join("spool")).unwrap().count(), 0);
}

#[test]
fn two_threads_agree_on_every_byte() {
    let (spool, _directory) = spool(5000, 64 << 20);
    let wanted: u64 = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let _close = spool.close_on_drop();
            let mut sum = 0;
            for number in 0..20_000_u32 {
                let piece = piece(number, (number % 701) as usize + 1);
                sum = piece.iter().fold(sum, |sum: u64, byte| {
                    sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
                });
                spool.push(&piece).unwrap();
            }
            sum
        });
        let mut sum = 0;
        while let Some(bytes) = spool.next(|| false).unwrap() {
            sum = bytes
                .iter()
                .fold(sum, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        }
        assert_eq!(sum, writer.join().unwrap());
        sum
    });
    assert_ne!(wanted, 0);
}

#[test]
fn a_full_spool_says_what_to_raise_and_an_abandoned_one_takes_nothing() {
    let (full, _directory) = spool(10, 100);
    full.push(&piece(1, 10)).unwrap();
    full.push(&piece(2, 100)).unwrap();
    let error = full.push(&piece(3, 1)).unwrap_err();
    assert!(matches!(error, SpoolError::Full { limit: 100, .. }));
    assert!(error.to_string().contains("--spool-max"));
    drop(full.abandon_on_drop());
    assert!(matches!(full.push(&piece(4, 1)), Err(SpoolError::Abandoned)));
    let limits = SpoolLimits { memory: 0, file: 10, directory: "/proc/no-such-place".into() };
    let nowhere = Spool::new(limits);
    assert!(matches!(nowhere.push(&piece(5, 1)), Err(SpoolError::File(..))));
}

#[test]
fn a_file_is_a_ring_and_short_pieces_share_a_buffer() {
    let (ring, _directory) = spool(0, 1000);
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for number in 0..3 {
        wanted.extend_from_slice(&piece(number, 300));
        ring.push(&piece(number, 300)).unwrap();
    }
    // Half of what is there is read as one piece; the rest of the room is at both ends.
    ring.lock().read = 700;
    found.extend_from_slice(&wanted[..700]);
    wanted.extend_from_slice(&piece(9, 500));
    ring.push(&piece(9, 500)).unwrap();
    assert!(matches!(ring.push(&piece(9, 400)), Err(SpoolError::Full { .. })));
    drop(ring.close_on_drop());
    while let Some(bytes) = ring.next(|| false).unwrap() {
        found.extend_from_slice(&bytes);
    }
    assert_eq!(found, wanted);

    let (spool, _directory) = spool(8 << 20, 0);
    (0..200_000).for_each(|_| spool.push(b"x").unwrap());
    assert!(spool.lock().memory.len() <= 4);
    assert!(matches!(spool.next(|| true), Ok(Some(_))), "what is there is taken first");
}

#[test]
fn a_wait_ends_when_the_store_has_failed() {
    let (spool, _directory) = spool(10, 10);
    assert!(matches!(spool.next(|| true), Err(SpoolError::Abandoned)));
    assert!(!spool.abandoned().is_requested());
    drop(spool.abandon_on_drop());
    assert!(spool.abandoned().is_requested());
}
