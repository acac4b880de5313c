use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use std::time::SystemTime;

use super::*;
use crate::retry::Retry;

/// Answers as written, one a connection, in their order, and remembers what was asked.
pub(super) struct Script {
    pub(super) authority: String,
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

pub(super) async fn serve_script(answers: &[String]) -> Script {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, heard) = (answers.to_vec(), Arc::clone(&asked));
    tokio::spawn(async move {
        for answer in answers {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let length = connection.read(&mut buffer).await.unwrap();
                request.extend_from_slice(&buffer[..length]);
                if length == 0 || is_whole(&request) {
                    break;
                }
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    Script { authority, asked }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

pub(super) fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One resource of a multistatus (RFC 4918, 13).
fn resource(href: &str, properties: &str) -> String {
    format!(
        "<D:response><D:href>{href}</D:href><D:propstat><D:prop>{properties}</D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )
}

const FOLDER: &str = "<D:resourcetype><D:collection/></D:resourcetype>\
                      <D:getlastmodified>Mon, 30 Nov 2026 18:00:00 GMT</D:getlastmodified>";
const FILE: &str = "<D:resourcetype/><D:getcontentlength>7</D:getcontentlength>\
                    <D:getlastmodified>Mon, 30 Nov 2026 18:00:00 GMT</D:getlastmodified>";

fn multistatus(resources: &[String]) -> String {
    let body = format!("<D:multistatus xmlns:D=\"DAV:\">{}</D:multistatus>", resources.concat());
    answer("207 Multi-Status", &body)
}

fn root() -> String {
    multistatus(&[resource("/dav/repo/", FOLDER)])
}

/// The listing of the place itself, which has `packs`.
fn top() -> String {
    multistatus(&[resource("/dav/repo/", FOLDER), resource("/dav/repo/packs/", FOLDER)])
}

fn not_found() -> String {
    answer("404 Not Found", "")
}

fn service(authority: &str) -> Service {
    let remote = Remote::WebDav {
        is_tls: false,
        authority: authority.to_owned(),
        path: "dav/repo".to_owned(),
    };
    let mut service = Service::new(remote, &RemoteSettings::default()).unwrap();
    service.tries.retry = Retry {
        attempts: service.tries.retry.attempts,
        base: Duration::from_millis(2),
        cap: Duration::from_millis(4),
    };
    service
}

#[tokio::test]
async fn a_listing_has_sizes_and_the_times_of_the_store() {
    let folder = multistatus(&[
        resource("/dav/repo/packs/", FOLDER),
        resource("/dav/repo/packs/a%20b", FILE),
        resource("/dav/repo/packs/.a.tmp-0123456789abcdef", FILE),
    ]);
    let script = serve_script(&[root(), top(), folder]).await;
    let listed = service(&script.authority).list("packs/").await.unwrap();
    let [object] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((object.key.as_str(), object.size), ("packs/a b", 7));
    let seconds = object.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_796_061_600);
}

#[tokio::test]
async fn a_listing_of_something_else_is_an_error_and_not_an_empty_one() {
    for href in
        ["/other/packs/a", "/dav/repo/a", "/dav/repo/packs2/a", "http://host/dav/repo/packs/a"]
    {
        let folder = multistatus(&[resource(href, FILE)]);
        let script = serve_script(&[root(), top(), folder]).await;
        let error = service(&script.authority).list("packs/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{href}: {error}");
    }
}

#[tokio::test]
async fn an_object_without_a_time_is_an_error() {
    let file = "<D:resourcetype/><D:getcontentlength>7</D:getcontentlength>";
    let folder = multistatus(&[resource("/dav/repo/packs/a", file)]);
    let script = serve_script(&[root(), top(), folder]).await;
    let error = service(&script.authority).list("packs/").await.unwrap_err();
    assert!(error.to_string().contains("missing getlastmodified"), "{error}");
}

#[tokio::test]
async fn a_place_that_does_not_exist_is_missing_and_not_made() {
    let script = serve_script(&[answer("404 Not Found", "")]).await;
    let store = service(&script.authority);
    let error = store.put("a", Bytes::from_static(b"content")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoBucket);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot write a to webdav://{}/dav/repo: the directory does not exist",
            script.authority
        )
    );
    assert_eq!(script.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_password_is_one_clear_sentence_and_is_not_tried_again() {
    let script = serve_script(&[answer("401 Unauthorized", "<html>no</html>")]).await;
    let error = service(&script.authority).list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().ends_with("the user or the password is wrong (HTTP 401)"), "{error}");
}

#[tokio::test]
async fn the_part_is_cut_out_of_the_whole_of_a_server_that_ignores_ranges() {
    let whole = || answer("200 OK", "0123456789");
    let unknown = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789".to_owned();
    let packed = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\
                  Content-Encoding: gzip\r\n\r\n0123456789"
        .to_owned();
    let script = serve_script(&[whole(), whole(), answer("200 OK", "0123"), unknown, packed]).await;
    let service = service(&script.authority);
    assert_eq!(service.get_range("a", 2..5).await.unwrap(), "234");
    assert_eq!(service.get_range("a", 0..10).await.unwrap(), "0123456789");
    for (kind, reason) in [
        (ErrorKind::Corrupt, "it ends at byte 4, but bytes 2 to 5 are needed"),
        (ErrorKind::Invalid, "cannot send a part of a file"),
        (ErrorKind::Invalid, "packed, which nobody asked for"),
    ] {
        let error = service.get_range("a", 2..5).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// What has no answers of its own is in the way of a name: one resource.
fn there() -> String {
    multistatus(&[resource("/dav/repo/a", FILE)])
}

#[tokio::test]
async fn what_must_be_new_is_moved_where_nothing_is_and_replaces_nothing() {
    let made = || answer("201 Created", "");
    let file = || multistatus(&[resource("/dav/repo/.a.tmp", FILE)]);
    // The place, the folder of what is written, the file, its length; its look before a MOVE, the folder, and the MOVE.
    let written = [root(), root(), made(), file(), file(), root()];
    let new = [written.to_vec(), vec![made()]].concat();
    let taken = answer("412 Precondition Failed", "");
    let taken = [written.to_vec(), vec![taken, answer("204 No Content", ""), there()]].concat();
    let script = serve_script(&[new, taken].concat()).await;
    let service = service(&script.authority);
    assert_eq!(service.put_new("a", Bytes::from_static(b"content")).await, Ok(true));
    assert_eq!(service.put_new("a", Bytes::from_static(b"content")).await, Ok(false));
    let asked = script.asked.lock().unwrap();
    let moves: Vec<_> = asked.iter().filter(|request| request.starts_with("MOVE ")).collect();
    assert_eq!(moves.len(), 2);
    for request in moves {
        let request = request.to_ascii_lowercase();
        assert!(
            request.contains("overwrite: f\r\n") && !request.contains("overwrite: t"),
            "{request}"
        );
    }
}

/// A MOVE that replaces nothing is refused by `refusal`, and the look behind it by `look`, at every attempt.
async fn refused_and_unseen(refusal: &str, look: &str, attempts: usize) -> ObjectError {
    let made = || answer("201 Created", "");
    let file = || multistatus(&[resource("/dav/repo/.a.tmp", FILE)]);
    let mut round = vec![root(), root(), made(), file(), file(), root(), answer(refusal, "")];
    round.extend([answer("204 No Content", ""), answer(look, "")]);
    if look == "404 Not Found" {
        round.push(root());
    }
    let answers: Vec<_> = (0..attempts).flat_map(|_| round.clone()).collect();
    let script = serve_script(&answers).await;
    let service = service(&script.authority);
    let error = service.put_new("a", Bytes::from_static(b"content")).await.unwrap_err();
    assert_eq!(script.asked.lock().unwrap().len(), answers.len(), "{refusal}, {look}: {error}");
    error
}

#[tokio::test]
async fn what_may_be_taken_is_never_said_to_be_free() {
    for look in ["503 Service Unavailable", "429 Too Many Requests"] {
        for refusal in ["412 Precondition Failed", "400 Bad Request"] {
            let error = refused_and_unseen(refusal, look, 5).await;
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{refusal}, {look}: {error}");
        }
    }
    // Nothing is there, and the server may not know the condition.
    let error = refused_and_unseen("412 Precondition Failed", "404 Not Found", 5).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = refused_and_unseen("400 Bad Request", "404 Not Found", 1).await;
    assert_eq!(error.kind(), ErrorKind::Unconditional, "{error}");
}

#[tokio::test]
async fn a_server_that_fails_for_a_while_is_tried_again() {
    let busy = || answer("503 Service Unavailable", "");
    let part = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 3\r\n\
                Content-Range: bytes 2-4/10\r\n\r\n234";
    let script = serve_script(&[busy(), busy(), part.to_owned()]).await;
    let bytes = service(&script.authority).get_range("a", 2..5).await.unwrap();
    assert_eq!(bytes, "234");
    assert!(script.asked.lock().unwrap()[2].to_ascii_lowercase().contains("range: bytes=2-4"));
}

#[tokio::test]
async fn a_full_store_is_called_full() {
    let script = serve_script(&[
        root(),
        root(),
        answer("507 Insufficient Storage", ""),
        answer("404 Not Found", ""),
    ])
    .await;
    let error = service(&script.authority).put("a", Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
}

#[tokio::test]
async fn where_nothing_listens_is_one_clear_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = service(&authority).list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error
            .to_string()
            .ends_with("it cannot be reached: Connection refused (os error 111) (5 attempts)"),
        "{error}"
    );
}

#[test]
fn half_of_the_credentials_is_refused() {
    let remote =
        Remote::WebDav { is_tls: false, authority: "host".to_owned(), path: String::new() };
    let settings =
        RemoteSettings { webdav_user: Some("me".to_owned()), ..RemoteSettings::default() };
    let error = Service::new(remote, &settings).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("BACKUP_WEBDAV_USER and BACKUP_WEBDAV_PASSWORD belong together")
    );
}

#[cfg(not(feature = "stores-cloud"))]
#[test]
fn a_build_without_clouds_says_so() {
    let remote = Remote::Azure { container: "container".to_owned(), prefix: String::new() };
    let error = Service::new(remote, &RemoteSettings::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot use azblob://container: this build has no Azure Blob Storage: build it with `--features stores-cloud`"
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_empty_because_the_place_does_not_name_it() {
    let script = serve_script(&[root(), top()]).await;
    assert!(service(&script.authority).list("marks/").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_folder_that_is_there_and_answers_404_is_not_believed_to_be_empty() {
    let away = [root(), top(), not_found()];
    let answers: Vec<_> = (0..5).flat_map(|_| away.clone()).collect();
    let script = serve_script(&answers).await;
    let error = service(&script.authority).list("packs/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), answers.len());
}

#[tokio::test]
async fn a_folder_below_that_answers_404_is_not_believed_to_be_empty_either() {
    let packs = multistatus(&[
        resource("/dav/repo/packs/", FOLDER),
        resource("/dav/repo/packs/ab/", FOLDER),
    ]);
    let ab = multistatus(&[
        resource("/dav/repo/packs/ab/", FOLDER),
        resource("/dav/repo/packs/ab/1", FILE),
    ]);
    let script =
        serve_script(&[root(), top(), packs.clone(), not_found(), root(), top(), packs, ab]).await;
    let listed = service(&script.authority).list("packs/").await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_not_taken() {
    let part = |range: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 3\r\n\
             Content-Range: bytes {range}/10\r\n\r\n234"
        )
    };
    // A whole object would be as long.
    let unnamed =
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 10\r\n\r\n2345678901";
    let script = serve_script(&[part("0-2"), unnamed.to_owned(), part("2-4")]).await;
    assert_eq!(service(&script.authority).get_range("a", 2..5).await.unwrap(), "234");
    assert_eq!(script.asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn more_than_the_part_that_was_asked_for_is_not_gathered() {
    let part = format!(
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 4000\r\n\
         Content-Range: bytes 2-4/10\r\n\r\n{}",
        "x".repeat(4000)
    );
    let script = serve_script(&vec![part; 5]).await;
    let error = service(&script.authority).get_range("a", 2..5).await.unwrap_err();
    assert!(error.to_string().contains("sends 4000 bytes and says that they are 3"), "{error}");
}

#[tokio::test]
async fn what_is_replaced_while_it_is_read_is_read_again() {
    let stat = |length: u64| {
        let file = FILE.replace(">7<", &format!(">{length}<"));
        multistatus(&[resource("/dav/repo/a", &file)])
    };
    let part = |range: &str, body: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Range: bytes {range}\r\n\r\n{body}",
            body.len()
        )
    };
    let script = serve_script(&[
        stat(3),
        part("0-2/5", "new"),
        stat(5),
        stat(5),
        part("0-4/5", "newer"),
        stat(5),
    ])
    .await;
    assert_eq!(service(&script.authority).get("a", 10).await.unwrap(), "newer");
}

#[tokio::test]
async fn nothing_is_called_missing_while_the_place_cannot_be_looked_at() {
    let busy = answer("503 Service Unavailable", "");
    let script = serve_script(&[not_found(), busy, not_found(), root()]).await;
    let error = service(&script.authority).head("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(script.asked.lock().unwrap().len(), 4);
}
