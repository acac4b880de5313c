use std::process::Command;

use super::*;
use crate::object::tests::folders::{self, keys};
use crate::object::{ObjectStore, S3Settings, body};

fn store(root: &Path) -> ObjectStore {
    ObjectStore::open(&Location::Directory(root.to_owned()), &S3Settings::default()).unwrap()
}

async fn new_store() -> (tempfile::TempDir, ObjectStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("repo"));
    store.create_root().await.unwrap();
    (directory, store)
}

/// A tmpfs that ends with the test, or `None` with the reason printed.
struct Tmpfs {
    directory: tempfile::TempDir,
}

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tested here: mounting a small file system needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let option = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &option, "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { directory }),
            refused => {
                eprintln!("not tested here: a tmpfs cannot be mounted: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.directory.path()).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_and_in_ranges() {
    let (_directory, store) = new_store().await;
    store.put("packs/ab/one", Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(store.get("packs/ab/one", 10).await.unwrap(), "0123456789");
    assert_eq!(store.get_range("packs/ab/one", 2..5).await.unwrap(), "234");
    assert_eq!(store.get_range("packs/ab/one", 0..10).await.unwrap(), "0123456789");
    assert_eq!(store.get_range("packs/ab/one", 10..10).await.unwrap(), "");
    assert_eq!(store.head("packs/ab/one").await.unwrap().size, 10);
}

#[tokio::test]
async fn files_and_directories_are_private() {
    let (directory, store) = new_store().await;
    folders::private(&store, &directory.path().join("repo")).await;
}

#[tokio::test]
async fn an_object_of_the_wrong_length_is_corrupt() {
    let (_directory, store) = new_store().await;
    folders::wrong_lengths(&store).await;
}

#[tokio::test]
async fn listings_are_sorted_and_show_only_objects() {
    let (directory, store) = new_store().await;
    folders::listings(&store, &directory.path().join("repo")).await;
}

#[tokio::test]
async fn what_must_be_new_is_stored_once_and_replaces_nothing() {
    let (directory, store) = new_store().await;
    folders::newness(&store, &directory.path().join("repo")).await;
}

#[tokio::test]
async fn links_in_a_circle_end() {
    let (directory, store) = new_store().await;
    std::os::unix::fs::symlink(".", directory.path().join("repo/loop")).unwrap();
    store.put("a", Bytes::new()).await.unwrap();
    assert!(keys(&store, "").await.contains(&"a".to_owned()));
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_deleting_it_again_is_no_error() {
    let (_directory, store) = new_store().await;
    folders::deletion(&store).await;
}

#[tokio::test]
async fn a_store_that_does_not_exist_is_said_to_be_missing_and_not_created() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("unmounted");
    folders::missing(&store(&root), &root).await;
}

#[tokio::test]
async fn a_key_that_leaves_the_store_is_refused_by_every_method() {
    let (_directory, store) = new_store().await;
    let key = "../outside";
    let kinds = [
        store.put(key, Bytes::new()).await.unwrap_err().kind(),
        store.put_stream(key, body(1).1).await.unwrap_err().kind(),
        store.get(key, 1).await.unwrap_err().kind(),
        store.get_range(key, 0..1).await.unwrap_err().kind(),
        store.head(key).await.unwrap_err().kind(),
        store.delete(key).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Invalid; 6]);
}

#[tokio::test]
async fn a_fifo_in_the_store_does_not_block() {
    let (directory, store) = new_store().await;
    let path = directory.path().join("repo/fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(store.get("fifo", 1).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_finished_stream_is_stored() {
    let (_directory, store) = new_store().await;
    let (sender, body) = body(1);
    let producer = std::thread::spawn(move || {
        for chunk in ["one ", "two ", "three"] {
            sender.blocking_send(Bytes::from(chunk)).unwrap();
        }
        sender.blocking_finish().unwrap();
    });
    assert_eq!(store.put_stream("a", body).await.unwrap(), 13);
    producer.join().unwrap();
    assert_eq!(store.get("a", 100).await.unwrap(), "one two three");
}

#[tokio::test]
async fn a_stream_whose_sender_vanishes_leaves_nothing() {
    let (directory, store) = new_store().await;
    let (sender, body) = body(1);
    sender.send(Bytes::from_static(b"half")).await.unwrap();
    drop(sender);
    let error = store.put_stream("a", body).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("its source stopped before the end"));
    assert_eq!(std::fs::read_dir(directory.path().join("repo")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_full_disk_is_reported_as_full_and_leaves_nothing() {
    let Some(disk) = Tmpfs::mount("256k") else { return };
    let store = store(disk.path());
    let bytes = Bytes::from(vec![7; 1024 * 1024]);
    let error = store.put("pack", bytes.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(
        error.to_string(),
        format!("cannot write pack to {}: the disk is full", disk.path().display())
    );
    let (sender, body) = body(1);
    sender.send(bytes).await.unwrap();
    assert_eq!(store.put_stream("pack", body).await.unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(sender.send(Bytes::new()).await, Err(crate::object::BodyClosed));
    assert!(keys(&store, "").await.is_empty());
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    store.put("small", Bytes::from_static(b"fits")).await.unwrap();
}

#[tokio::test]
async fn a_read_only_directory_is_reported_as_read_only() {
    let Some(disk) = Tmpfs::mount("256k") else { return };
    let store = store(disk.path());
    store.put("old", Bytes::from_static(b"x")).await.unwrap();
    let remounted =
        Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().unwrap();
    assert!(remounted.success());
    let error = store.put("new", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot write new to {}: the directory is mounted read-only",
            disk.path().display()
        )
    );
    assert_eq!(store.delete("old").await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(store.get("old", 1).await.unwrap(), "x");
}
