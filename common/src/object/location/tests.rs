use super::*;

fn s3(bucket: &str, prefix: &str) -> Result<Location, LocationError> {
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn directory(path: &str) -> Result<Location, LocationError> {
    Ok(Location::Directory(path.into()))
}

fn sentence(text: &str) -> String {
    Location::parse(text).unwrap_err().to_string()
}

#[test]
fn buckets_with_and_without_a_prefix_are_read() {
    assert_eq!(Location::parse("s3://bucket"), s3("bucket", ""));
    assert_eq!(Location::parse("s3://bucket/"), s3("bucket", ""));
    assert_eq!(Location::parse("s3://my.bucket-1/a/b/"), s3("my.bucket-1", "a/b"));
}

#[test]
fn everything_without_a_scheme_is_a_directory() {
    for path in ["/srv/repo", "repo", "./s3:", "a:b", "/mnt/x://y", "C:\\x"] {
        assert_eq!(Location::parse(path), directory(path));
    }
}

#[test]
fn what_was_read_is_shown_as_it_was_written() {
    for text in ["s3://bucket", "s3://bucket/a/b", "/srv/repo"] {
        assert_eq!(Location::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn every_fault_is_one_clear_sentence() {
    assert_eq!(sentence(""), "the location is empty; give a directory or s3://bucket/prefix");
    assert_eq!(
        sentence("ftp://host/x"),
        "ftp:// is not supported; give a directory or s3://bucket/prefix"
    );
    for text in ["s3://", "s3:///x", "s3://.b", "s3://b u/x", "s3://b?x=y", "s3://ü/x"] {
        assert_eq!(
            sentence(text),
            format!("{text} has no usable bucket name; write s3://bucket/prefix")
        );
    }
    for text in ["s3://b//x", "s3://b/../x", "s3://b/a//c"] {
        assert_eq!(
            sentence(text),
            format!("{text} has an unusable prefix; leave out empty, . and .. parts")
        );
    }
    assert_eq!(sentence("/a\0b"), "a path with a NUL byte is no directory");
}

#[test]
fn a_url_with_a_slip_is_no_directory() {
    for (text, meant) in [
        ("s3//bucket/web", "s3://bucket/web"),
        ("s3:/bucket", "s3://bucket"),
        ("s3:bucket", "s3://bucket"),
        ("s3;//bucket", "s3://bucket"),
        ("sftp//user@host/srv", "sftp://user@host/srv"),
        ("webdavs:/host/x", "webdavs://host/x"),
        ("webdav//host", "webdav://host"),
    ] {
        let scheme = meant.split(':').next().unwrap();
        assert_eq!(
            sentence(text),
            format!(
                "{text} looks like {scheme}:// mistyped: write {meant}, or ./{text} for a directory of that name"
            )
        );
    }
    for path in ["s3", "s3/bucket", "./s3//bucket", "/s3//bucket", "s3files//x", "sftp.d/x"] {
        assert_eq!(Location::parse(path), directory(path));
    }
    let said = sentence("webdavs//user:secret@host");
    assert!(!said.contains("secret") && said.contains("webdavs://…@host"), "{said}");
}

#[test]
fn a_password_is_never_shown() {
    for (text, shown) in [
        ("sftp://user:secret@host/x", "sftp://user:…@host/x"),
        ("webdavs://user:se@cret@host", "webdavs://…@host"),
        ("webdavs://TOKEN@host/x", "webdavs://…@host/x"),
        ("webdav://TO/KEN:@host/x", "webdav://…@host/x"),
        ("https://TOKEN@host/x", "https://…@host/x"),
        ("sftp://user:p/w@host/x", "sftp://user:…@host/x"),
        ("sftp://user:p?w#d@host/x", "sftp://user:…@host/x"),
        ("s3://key:secret@bucket", "s3://…@bucket"),
        ("sftp://user@host/x", "sftp://user@host/x"),
        ("webdavs://host/x", "webdavs://host/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("webdavs//user:secret@host/x", "webdavs//…@host/x"),
        ("sftp:/user:secret@host/x", "sftp:/user:…@host/x"),
        ("/a:b@c", "/a:b@c"),
    ] {
        assert_eq!(without_password(text), shown);
    }
}
