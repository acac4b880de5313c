//! What stores of files in folders promise alike, whoever has the folders.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

pub(in crate::object) async fn keys(store: &ObjectStore, prefix: &str) -> Vec<String> {
    store.list(prefix).await.unwrap().into_iter().map(|object| object.key).collect()
}

/// Of files and of all directories that were made for them.
pub(in crate::object) async fn private(store: &ObjectStore, root: &Path) {
    store.put("packs/ab/one", Bytes::new()).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in [root, &root.join("packs"), &root.join("packs/ab")] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    assert_eq!(mode(&root.join("packs/ab/one")), 0o600);
}

pub(in crate::object) async fn wrong_lengths(store: &ObjectStore) {
    store.put("a", Bytes::from_static(b"0123")).await.unwrap();
    let error = store.get("a", 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("it is 4 bytes long, at most 3 were expected"));
    let error = store.get_range("a", 2..5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("it ends at byte 4, but bytes 2 to 5 are needed"));
}

pub(in crate::object) async fn listings(store: &ObjectStore, root: &Path) {
    for key in ["snapshots/b", "packs/ab/2", "packs/ab/1", "packs/aa/3", "repo.json", "packs2"] {
        store.put(key, Bytes::from_static(b"x")).await.unwrap();
    }
    std::fs::write(root.join("packs/ab/.1.tmp-0123456789abcdef"), b"x").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("packs/dangling")).unwrap();
    for (prefix, listed) in [
        ("packs/", &["packs/aa/3", "packs/ab/1", "packs/ab/2"][..]),
        ("packs/ab/", &["packs/ab/1", "packs/ab/2"]),
        ("packs", &["packs/aa/3", "packs/ab/1", "packs/ab/2", "packs2"]),
        ("packs/a", &["packs/aa/3", "packs/ab/1", "packs/ab/2"]),
        ("marks/", &[]),
        ("../", &[]),
        ("repo.json/x/", &[]),
    ] {
        assert_eq!(keys(store, prefix).await, listed, "{prefix}");
    }
    assert_eq!(keys(store, "").await.len(), 6);
    // An operator may keep a folder on another disk.
    std::os::unix::fs::symlink("ab", root.join("packs/link")).unwrap();
    assert!(keys(store, "packs/").await.contains(&"packs/link/1".to_owned()));
}

pub(in crate::object) async fn deletion(store: &ObjectStore) {
    store.put("a", Bytes::new()).await.unwrap();
    store.delete("a").await.unwrap();
    store.delete("a").await.unwrap();
    assert_eq!(store.get("a", 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.head("a").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// `store` is at a directory that does not exist.
pub(in crate::object) async fn missing(store: &ObjectStore, root: &Path) {
    let put = store.put("a/b", Bytes::new()).await.unwrap_err();
    let place = store.location();
    assert_eq!(
        put.to_string(),
        format!("cannot write a/b to {place}: the directory does not exist")
    );
    let kinds = [
        put.kind(),
        store.put_new("a", Bytes::new()).await.unwrap_err().kind(),
        store.get("a", 1).await.unwrap_err().kind(),
        store.list("").await.unwrap_err().kind(),
        store.delete("a").await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::NoBucket; 5]);
    assert!(!root.exists());
}

/// Of several at once one is stored, and nothing else is left.
pub(in crate::object) async fn newness(store: &ObjectStore, root: &Path) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..4_u8 {
        let store = store.clone();
        tasks.spawn(async move {
            let is_stored = store.put_new("repo.json", Bytes::from(vec![number; 9])).await.unwrap();
            is_stored.then_some(number)
        });
    }
    let stored: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let [winner] = stored.as_slice() else { panic!("{stored:?} were stored") };
    assert_eq!(store.get("repo.json", 9).await.unwrap(), vec![*winner; 9]);
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 1);
}
