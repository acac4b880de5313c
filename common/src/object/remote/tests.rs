use super::*;
use crate::object::Location;

fn parsed(text: &str) -> Remote {
    match Location::parse(text) {
        Ok(Location::Remote(remote)) => remote,
        other => panic!("{text} became {other:?}"),
    }
}

fn sentence(text: &str) -> String {
    Location::parse(text).unwrap_err().to_string()
}

#[test]
fn every_kind_is_read_and_shown_as_it_was_written() {
    for text in [
        "sftp://user@host:2222/srv/repo",
        "sftp://host/srv/repo",
        "sftp://user@[::1]:22/srv/repo",
        "sftp://user@host/~/repo",
        "webdav://host:8080/dav/repo",
        "webdavs://host/repo",
        "webdavs://[::1]:8443/a b",
        "azblob://container/a/b",
        "azblob://container",
    ] {
        assert_eq!(parsed(text).to_string(), text);
    }
}

#[test]
fn slashes_at_the_end_mean_nothing() {
    assert_eq!(parsed("sftp://host/repo/"), parsed("sftp://host/repo"));
    assert_eq!(parsed("webdavs://host/repo/"), parsed("webdavs://host/repo"));
}

#[test]
fn a_port_and_a_user_are_taken_apart() {
    assert_eq!(
        parsed("sftp://back+up@nas.example:2222/srv/repo"),
        Remote::Sftp {
            user: Some("back+up".to_owned()),
            host: "nas.example".to_owned(),
            port: Some(2222),
            path: "/srv/repo".to_owned(),
        }
    );
}

#[test]
fn what_is_no_host_or_would_be_an_option_is_refused() {
    for text in [
        "sftp:///srv",
        "sftp://-oProxyCommand=x/srv",
        "sftp://-l@host/srv",
        "sftp://@host/srv",
        "sftp://host:0/srv",
        "sftp://host:65536/srv",
        "sftp://host:/srv",
        "sftp://::1/srv",
        "sftp://[::1/srv",
        "sftp://[host]/srv",
        "sftp://ho st/srv",
    ] {
        assert_eq!(sentence(text), format!("{text} is not of the form sftp://user@host/path"));
    }
    assert!(sentence("webdavs:///x").ends_with("not of the form webdavs://host/path"));
    assert!(sentence("azblob:///x").ends_with("not of the form azblob://container/prefix"));
}

#[test]
fn what_azure_calls_no_container_is_refused() {
    for container in ["ab", "Backups", "back_ups", "-backups", "backups-", "back--ups", "back.ups"]
    {
        let said = sentence(&format!("azblob://{container}/x"));
        assert!(said.ends_with("is not of the form azblob://container/prefix"), "{said}");
    }
    assert!(sentence(&format!("azblob://{}", "a".repeat(64))).contains("not of the form"));
    for container in ["abc", "back-ups-1", "0-1"] {
        let azure = Remote::Azure { container: container.to_owned(), prefix: "x".to_owned() };
        assert_eq!(parsed(&format!("azblob://{container}/x")), azure);
    }
}

#[test]
fn a_password_is_refused_and_not_repeated() {
    let said = sentence("sftp://user:hunter2@host/srv");
    assert!(said.contains("sftp://user:…@host/srv and let BACKUP_SFTP_KEY_FILE"), "{said}");
    let said = sentence("webdavs://user:hunter2@host/srv");
    assert!(said.contains("set BACKUP_WEBDAV_USER and BACKUP_WEBDAV_PASSWORD_FILE"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    for text in ["webdavs://TOKEN@host/srv", "webdavs://TOKEN:@host/srv", "azblob://TOKEN@host"] {
        let said = sentence(text);
        assert!(said.contains("://…@host") && !said.contains("KEN"), "{said}");
    }
    assert!(sentence("webdavs://TOKEN@host/srv").contains("BACKUP_WEBDAV_USER"));
    for text in ["sftp://me:hun/ter2@host/x", "sftp://me:hun?ter2@host", "s3://me:hunter2@bucket"] {
        let said = sentence(text);
        assert!(said.contains("…@") && !said.contains("ter2"), "{said}");
    }
}

#[test]
fn a_directory_is_wanted_and_not_the_root() {
    assert!(sentence("webdavs://host/").ends_with("names no directory; write webdavs://host/path"));
    for text in ["sftp://host", "sftp://host/", "sftp://host/~", "sftp://host/~/"] {
        assert_eq!(
            sentence(text),
            format!("{text} names no directory; write sftp://user@host/path")
        );
    }
    assert!(sentence("sftp://host/a/../b").ends_with("leave out empty, . and .. parts"));
}

#[test]
fn services_that_speak_s3_are_sent_there() {
    assert!(sentence("b2://bucket/x").ends_with("--s3-endpoint https://s3.REGION.backblazeb2.com"));
    assert!(sentence("gcs://bucket/x").ends_with("--s3-endpoint https://storage.googleapis.com"));
}
