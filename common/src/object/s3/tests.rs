use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::object::{Body, LockMode, body};
use crate::retry::Retry;

const BUCKET: &str = "bucket";

/// Makes the pauses short, not the attempts fewer.
fn store(endpoint: &str, bucket: &str, prefix: &str, secret_key: &str) -> Arc<S3> {
    let settings = S3Settings {
        endpoint: Some(endpoint.to_owned()),
        access_key: Some("access".to_owned()),
        secret_key: Some(Secret::new(secret_key.to_owned())),
        ..S3Settings::default()
    };
    let mut store = S3::new(bucket, prefix, &settings).unwrap();
    store.tries.retry = Retry {
        attempts: store.tries.retry.attempts,
        base: Duration::from_millis(2),
        cap: Duration::from_millis(4),
    };
    Arc::new(store)
}

/// An S3 service over a directory, until the runtime of the test ends.
async fn serve(root: &Path) -> String {
    std::fs::create_dir(root.join(BUCKET)).unwrap();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(connection), service).await);
            });
        }
    });
    endpoint
}

async fn new_store(prefix: &str) -> (tempfile::TempDir, Arc<S3>) {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = serve(directory.path()).await;
    (directory, store(&endpoint, BUCKET, prefix, "secret"))
}

/// A service that gives one prepared answer per connection; afterwards it counts as unreachable.
/// Returns what was asked, head and body, as text.
struct Script {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn serve_script(answers: &[String]) -> Script {
    let mut answers: VecDeque<String> = answers.iter().cloned().collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(answer) = answers.pop_front() {
            let (mut connection, _) = listener.accept().await.unwrap();
            let request = read_request(&mut connection).await;
            log.lock().unwrap().push(request);
            connection.write_all(answer.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
        }
    });
    Script { endpoint, asked }
}

async fn read_request(connection: &mut tokio::net::TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let read = connection.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.parse().unwrap());
            if body.len() >= length || read == 0 {
                return text;
            }
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn slow_down() -> String {
    answer("503 Slow Down", "<Error><Code>SlowDown</Code><Message>later</Message></Error>")
}

/// A body that is complete in its queue.
async fn full_body(chunks: &[Bytes]) -> Body {
    let (sender, body) = body(chunks.len() + 1);
    for chunk in chunks {
        sender.send(chunk.clone()).await.unwrap();
    }
    sender.finish().await.unwrap();
    body
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_and_in_ranges() {
    let (_directory, store) = new_store("some/prefix").await;
    store.create_root().await.unwrap();
    store.put("packs/one", Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(store.get("packs/one", 10).await.unwrap(), "0123456789");
    assert_eq!(store.get_range("packs/one", 2..5).await.unwrap(), "234");
    assert_eq!(store.get_range("packs/one", 4..4).await.unwrap(), "");
    let head = store.head("packs/one").await.unwrap();
    assert_eq!((head.key.as_str(), head.size), ("packs/one", 10));
    assert!(head.modified > UNIX_EPOCH);
    store.delete("packs/one").await.unwrap();
    let error = store.get("packs/one", 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("cannot read packs/one from {}: it does not exist", store.tries.name)
    );
    assert_eq!(store.head("packs/one").await.unwrap_err().kind(), ErrorKind::NotFound);
    store.delete("packs/one").await.unwrap();
}

#[tokio::test]
async fn the_part_is_cut_out_of_the_whole_of_a_service_that_ignores_ranges() {
    let part = |range: &str, body: &str| {
        let named = format!("206 Partial Content\r\nContent-Range: bytes {range}");
        answer(&named, body)
    };
    let answers = [
        answer("200 OK", "0123456789"),
        answer("200 OK", "01234"),
        part("0-2/10", "012"),
        part("2-4/10", "234"),
        part("2-3/4", "23"),
        // As long as the part, and not it.
        answer("200 OK", "012"),
        // A part that does not say which: only of the length of the one that was asked for.
        answer("206 Partial Content", "0123456789"),
        answer("206 Partial Content", "234"),
    ];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "", "secret");
    for _answer in 0..3 {
        assert_eq!(store.get_range("a", 2..5).await.unwrap(), "234");
    }
    for end in [4, 3] {
        let error = store.get_range("a", 2..5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let reason = format!("it ends at byte {end}, but bytes 2 to 5 are needed");
        assert!(error.to_string().ends_with(&reason), "{error}");
    }
    assert_eq!(store.get_range("a", 2..5).await.unwrap(), "234");
    assert_eq!(script.asked.lock().unwrap().len(), answers.len());
}

#[tokio::test]
async fn an_object_of_the_wrong_length_is_corrupt() {
    let (_directory, store) = new_store("").await;
    store.put("a", Bytes::from_static(b"0123")).await.unwrap();
    assert_eq!(store.get("a", 3).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.get_range("a", 2..5).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.get_range("a", 7..9).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_listing_of_many_pages_is_complete_and_stays_below_its_prefix() {
    let (directory, store) = new_store("repo").await;
    let packs = directory.path().join(BUCKET).join("repo/packs");
    std::fs::create_dir_all(&packs).unwrap();
    for number in 0..2345 {
        std::fs::write(packs.join(format!("{number:05}")), b"x").unwrap();
    }
    std::fs::write(directory.path().join(BUCKET).join("repository"), b"x").unwrap();
    store.put("repo.json", Bytes::from_static(b"x")).await.unwrap();
    let listed = store.list("packs/").await.unwrap();
    assert_eq!(listed.len(), 2345);
    assert!(listed.iter().any(|object| object.key == "packs/02344" && object.size == 1));
    let all = store.list("").await.unwrap();
    assert_eq!(all.len(), 2346);
    assert!(all.iter().any(|object| object.key == "repo.json"));
}

#[tokio::test]
async fn a_missing_bucket_is_one_clear_sentence() {
    let (_directory, other) = new_store("").await;
    let endpoint = other.tries.name.rsplit_once(' ').unwrap().1;
    let store = store(endpoint, "missing", "p", "secret");
    let error = store.list("packs/").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot list packs/ in s3://missing/p at {endpoint}: the bucket does not exist")
    );
    let kinds = [
        error.kind(),
        store.create_root().await.unwrap_err().kind(),
        store.head("a").await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::NoBucket; 3]);
}

#[tokio::test]
async fn a_bucket_that_is_missing_for_a_write_is_one_clear_sentence() {
    let body = "<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>";
    let script = serve_script(&[answer("404 Not Found", body)]).await;
    let endpoint = &script.endpoint;
    let error = store(endpoint, BUCKET, "p", "secret").put("a", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoBucket);
    assert_eq!(
        error.to_string(),
        format!("cannot write a to s3://bucket/p at {endpoint}: the bucket does not exist")
    );
}

#[tokio::test]
async fn wrong_keys_are_one_clear_sentence_and_are_not_tried_again() {
    let (_directory, other) = new_store("").await;
    let endpoint = other.tries.name.rsplit_once(' ').unwrap().1;
    let error = store(endpoint, BUCKET, "", "wrong").put("a", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot write a to s3://bucket at {endpoint}: \
             the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY"
        )
    );
}

#[tokio::test]
async fn an_endpoint_where_nothing_listens_is_one_clear_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = store(&endpoint, BUCKET, "", "secret").list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot list s3://bucket at {endpoint}: \
             it cannot be reached: Connection refused (os error 111) (5 attempts)"
        )
    );
}

#[tokio::test]
async fn a_service_that_fails_for_a_while_is_tried_again() {
    let answers = [slow_down(), slow_down(), slow_down(), slow_down(), answer("200 OK", "")];
    let script = serve_script(&answers).await;
    store(&script.endpoint, BUCKET, "", "secret")
        .put("a", Bytes::from_static(b"content"))
        .await
        .unwrap();
    let asked = script.asked.lock().unwrap();
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|request| request.ends_with("\r\n\r\ncontent")));
}

#[tokio::test]
async fn a_service_that_keeps_failing_is_unavailable_after_the_last_attempt() {
    let script = serve_script(&vec![slow_down(); 6]).await;
    let error = store(&script.endpoint, BUCKET, "", "secret").get("a", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.to_string().ends_with("the store fails (HTTP 503, SlowDown, later) (5 attempts)"),
        "{error}"
    );
    assert_eq!(script.asked.lock().unwrap().len(), 5);
}

#[tokio::test]
async fn a_download_that_breaks_off_is_tried_again() {
    let broken = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\ncon".to_owned();
    let script = serve_script(&[broken, answer("200 OK", "content")]).await;
    let store = store(&script.endpoint, BUCKET, "", "secret");
    assert_eq!(store.get("a", 7).await.unwrap(), "content");
}

#[tokio::test]
async fn a_listing_that_repeats_itself_ends() {
    let page = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                <NextContinuationToken>same</NextContinuationToken></ListBucketResult>";
    let script = serve_script(&vec![answer("200 OK", page); 3]).await;
    let error = store(&script.endpoint, BUCKET, "", "secret").list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn what_is_locked_and_must_be_new_says_both() {
    let error = "<Error><Code>PreconditionFailed</Code></Error>";
    let answers = [answer("200 OK", ""), answer("412 Precondition Failed", error)];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    let lock = in_2027(LockMode::Compliance);
    for stored in [true, false] {
        let put = store.put_new_retained("a", Bytes::from_static(b"0"), lock);
        assert_eq!(put.await, Ok(stored));
    }
    for request in script.asked.lock().unwrap().iter() {
        let request = request.to_ascii_lowercase();
        assert!(request.contains("if-none-match: *"), "{request}");
        assert!(request.contains("x-amz-object-lock-mode: compliance"), "{request}");
    }
}

#[tokio::test]
async fn a_listing_cannot_bring_in_keys_that_are_no_names() {
    let page = "<ListBucketResult><IsTruncated>false</IsTruncated>\
                <Contents><Key>p/../../x</Key><Size>1</Size></Contents>\
                <Contents><Key>p/folder/</Key><Size>0</Size></Contents>\
                <Contents><Key>outside</Key><Size>1</Size></Contents>\
                <Contents><Key>p/good</Key><Size>1</Size></Contents></ListBucketResult>";
    let script = serve_script(&[answer("200 OK", page)]).await;
    let listed = store(&script.endpoint, BUCKET, "p", "secret").list("").await.unwrap();
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[tokio::test]
async fn an_object_without_a_length_is_no_object_less() {
    let page = "<ListBucketResult><IsTruncated>false</IsTruncated>\
                <Contents><Key>p/snapshots/a</Key></Contents>\
                <Contents><Key>p/snapshots/b</Key><Size>1</Size></Contents></ListBucketResult>";
    let script = serve_script(&[answer("200 OK", page)]).await;
    let error = store(&script.endpoint, BUCKET, "p", "secret").list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn requests_carry_no_trailers_and_no_chunks() {
    let script = serve_script(&[answer("200 OK", "")]).await;
    let store = store(&script.endpoint, BUCKET, "", "secret");
    store.put("a", Bytes::from_static(b"content")).await.unwrap();
    let request = script.asked.lock().unwrap().concat().to_ascii_lowercase();
    assert!(request.starts_with("put /bucket/a"), "{request}");
    assert!(request.contains("content-length: 7\r\n"));
    for unwanted in ["trailer", "aws-chunked", "transfer-encoding", "x-amz-checksum", "streaming"] {
        assert!(!request.contains(unwanted), "{unwanted} in {request}");
    }
}

#[tokio::test]
async fn a_stream_of_several_parts_is_stored_whole() {
    let (directory, store) = new_store("").await;
    let chunk = Bytes::from((0..5_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let chunks = vec![chunk; 8];
    let length = store.put_stream("big", full_body(&chunks).await).await.unwrap();
    assert_eq!(length, 40_000_000);
    let stored = std::fs::read(directory.path().join(BUCKET).join("big")).unwrap();
    assert!(stored == chunks.concat());
}

#[tokio::test]
async fn a_stream_that_fills_its_parts_exactly_is_stored_whole() {
    let (_directory, store) = new_store("").await;
    for chunks in [vec![], vec![Bytes::from(vec![1; PART]); 1], vec![Bytes::from(vec![2; PART]); 2]]
    {
        let length = store.put_stream("exact", full_body(&chunks).await).await.unwrap();
        assert_eq!(length, (chunks.len() * PART) as u64);
        assert_eq!(store.head("exact").await.unwrap().size, length);
    }
}

const PART: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_short_stream_is_a_single_put() {
    let script = serve_script(&[answer("200 OK", "")]).await;
    let store = store(&script.endpoint, BUCKET, "", "secret");
    let chunks = [Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"two")];
    assert_eq!(store.put_stream("a", full_body(&chunks).await).await.unwrap(), 7);
    let asked = script.asked.lock().unwrap();
    assert!(asked.concat().ends_with("\r\n\r\none two"));
}

#[tokio::test]
async fn a_stream_whose_sender_vanishes_is_not_stored_and_its_parts_are_removed() {
    let (directory, store) = new_store("").await;
    for length in [10, 2 * PART] {
        let (sender, body) = body(1);
        sender.send(Bytes::from(vec![7; length])).await.unwrap();
        drop(sender);
        let error = store.put_stream("torn", body).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().ends_with("its source stopped before the end"));
    }
    assert!(store.list("").await.unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn unusable_settings_are_one_clear_sentence() {
    let sentence = |settings| S3::new(BUCKET, "", &settings).unwrap_err().to_string();
    let keys = S3Settings {
        access_key: Some("access".to_owned()),
        secret_key: Some(Secret::new("secret".to_owned())),
        ..S3Settings::default()
    };
    let missing = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must both be set";
    assert_eq!(sentence(S3Settings::default()), format!("cannot use s3://bucket: {missing}"));
    assert!(sentence(S3Settings { secret_key: None, ..keys.clone() }).ends_with(missing));
    for endpoint in ["localhost:9000", "ftp://host", "http://", "http://host/path", "http://a b"] {
        let settings = S3Settings { endpoint: Some(endpoint.to_owned()), ..keys.clone() };
        assert!(
            sentence(settings).ends_with("must be http://host:port or https://host"),
            "{endpoint}"
        );
    }
}

#[test]
fn an_endpoint_without_tls_is_used_without_roots_of_trust() {
    // An image of one program has none, and asking the library for them would panic.
    let context = format!("{:?}", tls_context(Some("http://minio:9000")).unwrap());
    assert!(context.contains("enable_native_roots: false"), "{context}");
}

/// 2027-01-15T08:00:00Z, and a part of a second that goes.
fn in_2027(mode: LockMode) -> Retention {
    Retention { mode, until: UNIX_EPOCH + Duration::from_millis(1_800_000_000_250) }
}

#[tokio::test]
async fn a_locked_object_goes_with_its_lock_and_a_checksum_in_one_plain_request() {
    let script = serve_script(&[answer("200 OK", ""), answer("200 OK", "")]).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    let content = Bytes::from_static(b"0123456789");
    store.put_retained("a", content.clone(), in_2027(LockMode::Compliance)).await.unwrap();
    store.put("a", content).await.unwrap();
    let asked = script.asked.lock().unwrap();
    for line in [
        "x-amz-object-lock-mode: COMPLIANCE\r\n",
        "x-amz-object-lock-retain-until-date: 2027-01-15T08:00:00Z\r\n",
        "x-amz-checksum-sha256: hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=\r\n",
    ] {
        assert!(asked[0].contains(line), "{line}: {}", asked[0]);
    }
    assert!(asked[0].ends_with("\r\n\r\n0123456789"), "{}", asked[0]);
    assert!(!asked[0].contains("aws-chunked") && !asked[0].contains("x-amz-trailer"));
    assert!(!asked[1].contains("checksum") && !asked[1].contains("lock"), "{}", asked[1]);
}

#[tokio::test]
async fn a_lock_is_made_longer_with_a_checksum_and_read_from_the_head() {
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\
        x-amz-object-lock-mode: GOVERNANCE\r\n\
        x-amz-object-lock-retain-until-date: 2027-01-15T08:00:00.000Z\r\n\r\n";
    let bare = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";
    let answers = [answer("200 OK", ""), head.to_owned(), bare.to_owned()];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    let wanted = in_2027(LockMode::Governance);
    store.retain("a", Some("v0"), wanted).await.unwrap();
    let (meta, held) = store.retention("a", Some("v1")).await.unwrap();
    assert_eq!((meta.key.as_str(), meta.size), ("a", 10));
    let until = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(held, Some(Retention { until, ..wanted }));
    assert_eq!(store.retention("a", None).await.unwrap().1, None);
    let asked = script.asked.lock().unwrap();
    assert!(asked[0].starts_with("PUT /bucket/repo/a?retention"), "{}", asked[0]);
    for text in [
        "versionId=v0",
        "<Mode>GOVERNANCE</Mode>",
        "2027-01-15T08:00:00Z<",
        "x-amz-checksum-sha256: ",
    ] {
        assert!(asked[0].contains(text), "{text}: {}", asked[0]);
    }
    assert!(asked[1].starts_with("HEAD /bucket/repo/a?versionId=v1"), "{}", asked[1]);
}

#[tokio::test]
async fn versions_of_many_pages_are_all_read_and_removed_by_name() {
    let page = |truncated: &str, rest: &str| {
        let text = format!(
            "<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{rest}</ListVersionsResult>"
        );
        answer("200 OK", &text)
    };
    let first = "<NextKeyMarker>repo/a</NextKeyMarker><NextVersionIdMarker>m1</NextVersionIdMarker>\
        <DeleteMarker><Key>repo/a</Key><VersionId>m1</VersionId><IsLatest>true</IsLatest>\
        <LastModified>2026-11-30T00:00:01.000Z</LastModified></DeleteMarker>";
    let second = "<Version><Key>repo/a</Key><VersionId>v1</VersionId><IsLatest>false</IsLatest>\
        <LastModified>2026-11-30T00:00:00.000Z</LastModified><Size>10</Size></Version>";
    let answers = [page("true", first), page("false", second), answer("204 No Content", "")];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    let versions = store.versions("").await.unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|one| (one.key.as_str(), one.version.as_str(), one.is_latest, one.is_marker, one.size))
        .collect();
    assert_eq!(told, [("a", "m1", true, true, 0), ("a", "v1", false, false, 10)]);
    store.delete_version("a", "v1").await.unwrap();
    let asked = script.asked.lock().unwrap();
    assert!(asked[1].contains("key-marker=repo%2Fa") && asked[1].contains("version-id-marker=m1"));
    assert!(asked[2].starts_with("DELETE /bucket/repo/a?"), "{}", asked[2]);
    assert!(asked[2].contains("versionId=v1"), "{}", asked[2]);
}

#[tokio::test]
async fn a_condition_that_a_store_does_not_know_is_an_error_of_its_own() {
    let unknown = "<Error><Code>NotImplemented</Code></Error>";
    let answers = [answer("501 Not Implemented", unknown), answer("501 Not Implemented", unknown)];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    let error = store.put_new("a", Bytes::from_static(b"0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unconditional, "{error}");
    let error = store.put("a", Bytes::from_static(b"0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[test]
fn keys_in_an_endpoint_are_refused_and_not_shown() {
    let settings = S3Settings {
        endpoint: Some("https://key:secret@host".to_owned()),
        ..S3Settings::default()
    };
    let error = S3::new(BUCKET, "repo", &settings).unwrap_err().to_string();
    assert!(error.contains("the S3 endpoint must be"), "{error}");
    assert!(!error.contains("key:") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_bucket_says_whether_it_has_locks_and_a_store_whether_it_keeps_to_conditions() {
    let enabled = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let error = |code: &str| format!("<Error><Code>{code}</Code></Error>");
    let answers = [
        answer("200 OK", enabled),
        answer("404 Not Found", &error("ObjectLockConfigurationNotFoundError")),
        answer("501 Not Implemented", &error("NotImplemented")),
        answer("200 OK", ""),
        answer("412 Precondition Failed", &error("PreconditionFailed")),
    ];
    let script = serve_script(&answers).await;
    let store = store(&script.endpoint, BUCKET, "repo", "secret");
    for enabled in [true, false, false] {
        assert_eq!(store.has_object_lock().await, Ok(enabled));
    }
    for written in [true, false] {
        assert_eq!(store.put_new("a", Bytes::from_static(b"0")).await, Ok(written));
    }
    let asked = script.asked.lock().unwrap();
    assert!(asked[4].to_lowercase().contains("if-none-match: *"), "{}", asked[4]);
}
