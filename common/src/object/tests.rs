use super::*;

pub(super) mod folders;

fn assert_send<T: Send>(_: &T) {}

#[test]
fn every_future_may_move_between_threads() {
    let location = Location::Directory("/nowhere".into());
    let store = ObjectStore::open(&location, &S3Settings::default()).unwrap();
    assert_send(&store.create_root());
    assert_send(&store.put("a", Bytes::new()));
    assert_send(&store.put_stream("a", body(1).1));
    assert_send(&store.get("a", 1));
    assert_send(&store.get_range("a", 0..1));
    assert_send(&store.list(""));
    assert_send(&store.head("a"));
    assert_send(&store.delete("a"));
}

#[cfg(feature = "s3")]
#[test]
fn a_store_knows_its_location() {
    for text in ["/srv/repo", "s3://bucket", "s3://bucket/a/b"] {
        let settings = S3Settings {
            access_key: Some("access".to_owned()),
            secret_key: Some(Secret::new("secret".to_owned())),
            ..S3Settings::default()
        };
        let location = Location::parse(text).unwrap();
        let store = ObjectStore::open(&location, &settings).unwrap();
        assert_eq!(store.location(), location);
    }
}

#[cfg(feature = "stores")]
#[test]
fn futures_of_remote_stores_may_move_between_threads_too() {
    for text in ["sftp://host/repo", "webdav://host/repo"] {
        let location = Location::parse(text).unwrap();
        let settings = S3Settings::default();
        assert!(ObjectStore::open(&location, &settings).is_err());
        let store =
            ObjectStore::open_with(&location, &settings, &RemoteSettings::default()).unwrap();
        assert_eq!(store.location(), location);
        assert_send(&store.temporaries());
        assert_send(&store.remove_temporaries(Duration::ZERO));
    }
}
