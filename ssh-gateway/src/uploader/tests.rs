use std::fs::File;
use std::io::Write as _;

use super::*;

fn store(directory: &tempfile::TempDir) -> ObjectStore {
    let location = Location::Directory(directory.path().to_owned());
    ObjectStore::open(&location, &S3Settings::default()).unwrap()
}

fn file(content: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.into()
}

fn order(content: &[u8]) -> Order {
    Order {
        number: 7,
        key: "recordings/2026-11-30/one".to_owned(),
        bytes: content.len() as u64,
        sha256: Sha256::digest(content).into(),
    }
}

#[tokio::test]
async fn a_file_is_there_once_whole_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    for content in [vec![], vec![b'x'; 2 * STEP_BYTES + 5]] {
        let mut order = order(&content);
        order.key.push_str(&content.len().to_string());
        for _ in 0..2 {
            assert_eq!(upload(&store, &order, file(&content)).await, Ok(()));
        }
        assert_eq!(std::fs::read(directory.path().join(&order.key)).unwrap(), content);
    }
}

#[tokio::test]
async fn nothing_that_is_there_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let order = order(b"ours");
    for other in [&b"else"[..], b"longer than ours"] {
        store.put(&order.key, Bytes::from_static(other)).await.unwrap();
        assert_eq!(upload(&store, &order, file(b"ours")).await, Err(Failure::Taken));
        assert_eq!(store.get(&order.key, 100).await.unwrap(), other);
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_it_was_is_not_uploaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let order = order(b"ours");
    for other in [&b"our"[..], b"hers", b""] {
        assert_eq!(upload(&store, &order, file(other)).await, Err(Failure::Changed));
    }
    let missing = store.head(&order.key).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn every_order_has_its_report() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = Socket::pair().unwrap();
    let (ours, theirs) = (ours.into_async().unwrap(), theirs.into_async().unwrap());
    let serving = serve(&theirs, Ok(store(&directory)));
    let asking = async move {
        let order = order(b"ours");
        let open: File = file(b"ours").into();
        ours.send(&order, &[std::os::fd::AsFd::as_fd(&open)]).await.unwrap();
        let (report, _) = ours.receive::<Report>().await.unwrap().unwrap();
        assert_eq!(report, Report { number: 7, result: Ok(()) });
        ours.send(&order, &[]).await.unwrap();
        let (report, _) = ours.receive::<Report>().await.unwrap().unwrap();
        assert!(matches!(report.result, Err(Failure::Later(_))), "{report:?}");
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.unwrap();
}
