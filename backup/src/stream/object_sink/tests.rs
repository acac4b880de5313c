use std::path::Path;

use chores_common::object::{self, Location, ObjectError, ObjectStore, S3Settings};

use super::*;

/// Runs `produce` in a thread and stores what it sends as `archive` in `directory`.
fn stored(
    directory: &Path,
    produce: impl FnOnce(ObjectSink) + Send + 'static,
) -> Result<u64, ObjectError> {
    let location = Location::Directory(directory.to_path_buf());
    let store = ObjectStore::open(&location, &S3Settings::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        store.create_root().await?;
        let (sender, body) = object::body(2);
        let producer = std::thread::spawn(move || produce(ObjectSink::new(sender)));
        let outcome = store.put_stream("archive", body).await;
        producer.join().unwrap();
        outcome
    })
}

#[test]
fn every_byte_arrives_in_order_whatever_the_pieces() {
    let scratch = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..2 * CHUNK_BYTES as u32 + 77).map(|n| (n % 251) as u8).collect();
    let sent = content.clone();
    let length = stored(scratch.path(), move |mut sink| {
        for piece in sent.chunks(300_007) {
            sink.write_all(piece).unwrap();
        }
        sink.finish().unwrap();
    });
    assert_eq!(length.unwrap(), content.len() as u64);
    assert!(std::fs::read(scratch.path().join("archive")).unwrap() == content);
}

#[test]
fn a_sink_that_is_dropped_leaves_no_object() {
    let scratch = tempfile::tempdir().unwrap();
    let outcome = stored(scratch.path(), |mut sink| sink.write_all(&[1; 3 * CHUNK_BYTES]).unwrap());
    assert!(outcome.is_err());
    assert!(!scratch.path().join("archive").exists());
}

#[test]
fn an_upload_that_stopped_is_an_error_for_the_producer() {
    let (sender, body) = object::body(1);
    drop(body);
    let mut sink = ObjectSink::new(sender);
    let error = sink.write_all(&[1; CHUNK_BYTES]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(sink.finish().is_err());
}
