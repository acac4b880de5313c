use std::time::Duration;

use super::*;
use crate::object::opendal::Service;
use crate::object::opendal::tests::{Script, answer, serve_script};
use crate::object::{ObjectStore, Remote};
use crate::retry::Retry;
use crate::secret::Secret;

const KEY: &str = "c2VjcmV0LXNlY3JldA==";

fn settings(endpoint: Option<&str>) -> RemoteSettings {
    RemoteSettings {
        azure_account: Some("account".to_owned()),
        azure_key: Some(Secret::new(KEY.to_owned())),
        azure_endpoint: endpoint.map(str::to_owned),
        ..RemoteSettings::default()
    }
}

fn remote() -> Remote {
    Remote::Azure { container: "backups".to_owned(), prefix: "repo".to_owned() }
}

fn service(script: &Script) -> Service {
    let endpoint = format!("http://{}/account", script.authority);
    let mut service = Service::new(remote(), &settings(Some(&endpoint))).unwrap();
    service.tries.retry = Retry {
        attempts: service.tries.retry.attempts,
        base: Duration::from_millis(2),
        cap: Duration::from_millis(4),
    };
    service
}

fn refusal(status: &str, code: &str) -> String {
    answer(status, "").replace("\r\n\r\n", &format!("\r\nx-ms-error-code: {code}\r\n\r\n"))
}

/// One page of a listing, with what stands after its blobs.
fn page(names: &[&str], end: &str) -> String {
    let blob = |name: &&str| {
        format!(
            "<Blob><Name>{name}</Name><Properties><Last-Modified>Mon, 30 Nov 2026 18:00:00 GMT</Last-Modified>\
             <Etag>0x1</Etag><Content-Length>7</Content-Length></Properties></Blob>"
        )
    };
    let blobs: String = names.iter().map(blob).collect();
    answer(
        "200 OK",
        &format!("<EnumerationResults><Blobs>{blobs}</Blobs>{end}</EnumerationResults>"),
    )
}

fn judged(status: u16, code: &str) -> Option<(ErrorKind, bool, String)> {
    let mut headers = HeaderMap::new();
    headers.insert(CODE, code.parse().unwrap());
    let fault = judge(&Method::PUT, StatusCode::from_u16(status).unwrap(), &headers)?;
    Some((fault.kind, fault.is_temporary, fault.reason))
}

#[test]
fn a_code_says_more_than_the_status() {
    for (status, code, kind) in [
        (404, "ContainerNotFound", ErrorKind::NoBucket),
        (409, "ContainerBeingDeleted", ErrorKind::NoBucket),
        (401, "NoAuthenticationInformation", ErrorKind::Denied),
        (403, "AuthenticationFailed", ErrorKind::Denied),
        (403, "AuthorizationFailure", ErrorKind::Denied),
        (409, "BlobArchived", ErrorKind::Denied),
        (409, "BlobImmutableDueToPolicy", ErrorKind::Denied),
        (409, "SnapshotsPresent", ErrorKind::Denied),
        (412, "LeaseIdMissing", ErrorKind::Denied),
        (400, "InvalidHeaderValue", ErrorKind::Invalid),
        (413, "RequestBodyTooLarge", ErrorKind::Invalid),
    ] {
        let (found, is_temporary, reason) = judged(status, code).unwrap();
        assert_eq!((found, is_temporary), (kind, false), "{code}: {reason}");
        assert!(reason.contains(&format!("(HTTP {status}, {code})")), "{reason}");
    }
    assert_eq!(judged(416, "InvalidRange").unwrap().0, ErrorKind::Corrupt);
    for (status, code) in [
        (409, "BlobAlreadyExists"),
        (412, "ConditionNotMet"),
        (429, ""),
        (500, "OperationTimedOut"),
        (503, "ServerBusy"),
        (409, ""),
    ] {
        let (kind, is_temporary, reason) = judged(status, code).unwrap();
        assert_eq!((kind, is_temporary), (ErrorKind::Unavailable, true), "{code}: {reason}");
    }
    assert_eq!(judged(404, "BlobNotFound"), None);
    assert_eq!(judged(201, ""), None);
}

#[test]
fn what_is_no_code_is_not_shown() {
    for code in ["<b>no</b>", "two words", &"a".repeat(CODE_BYTES_MAX + 1)] {
        let (_, _, reason) = judged(403, code).unwrap();
        assert_eq!(reason, "access is denied (HTTP 403)");
    }
}

#[test]
fn an_endpoint_is_a_host_and_the_path_of_an_account() {
    assert_eq!(endpoint("acc", None).unwrap(), "https://acc.blob.core.windows.net");
    for given in [
        "https://acc.blob.core.usgovcloudapi.net",
        "http://127.0.0.1:10000/devstoreaccount1",
        "https://[::1]:10000/devstoreaccount1",
    ] {
        assert_eq!(endpoint("acc", Some(given)).unwrap(), given);
        assert_eq!(endpoint("acc", Some(&format!("{given}/"))).unwrap(), given);
    }
    for given in [
        "",
        "acc.blob.core.windows.net",
        "ftp://host",
        "https://",
        "https://me:hunter2@host",
        "https://host/?sig=hunter2",
        "https://host/account#x",
    ] {
        let said = endpoint("acc", Some(given)).unwrap_err();
        assert!(said.ends_with("the form https://host or https://host/account"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    for key in ["hunter2", "", "=", "hunter2!", "aGk=aGk=", "aG k", "a==="] {
        let settings =
            RemoteSettings { azure_key: Some(Secret::new(key.to_owned())), ..settings(None) };
        let error = Service::new(remote(), &settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot use azblob://backups/repo: AZURE_STORAGE_KEY is no key of an account, which is base64"
        );
    }
    Service::new(remote(), &settings(None)).unwrap();
}

#[test]
fn half_of_the_credentials_is_refused() {
    let without_key = RemoteSettings { azure_key: None, ..settings(None) };
    let without_account = RemoteSettings { azure_account: None, ..settings(None) };
    for settings in [without_key, without_account] {
        let error = Service::new(remote(), &settings).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY must both be set"),
            "{error}"
        );
    }
}

#[test]
fn a_store_does_not_show_its_key() {
    let location = crate::object::Location::Remote(remote());
    let store = ObjectStore::open_with(&location, &Default::default(), &settings(None)).unwrap();
    assert!(!format!("{store:?}").contains(KEY));
}

#[tokio::test]
async fn a_listing_is_all_of_its_pages_also_of_empty_ones() {
    let script = serve_script(&[
        page(&["repo/a"], "<NextMarker>2!4!YQ==--</NextMarker>"),
        page(&[], "<NextMarker>2!4!YQ==--</NextMarker>"),
        page(&["repo/b"], "<NextMarker />"),
    ])
    .await;
    let listed = service(&script).list("").await.unwrap();
    let keys: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["a", "b"]);
    assert!(script.asked.lock().unwrap()[1].contains("marker=2!4!YQ%3D%3D--"));
}

#[tokio::test]
async fn a_listing_that_does_not_say_where_it_ends_is_an_error() {
    let first = || page(&["repo/a", "repo/b"], "");
    let script = serve_script(&[first(), first()]).await;
    let error = service(&script).list("").await.unwrap_err();
    assert!(error.to_string().ends_with("the listing begins anew instead of ending"), "{error}");
}

#[tokio::test]
async fn a_container_that_is_gone_is_no_missing_object() {
    let gone = || refusal("404 Not Found", "ContainerNotFound");
    let script = serve_script(&[gone(), gone(), gone(), gone(), gone()]).await;
    let service = service(&script);
    let kinds = [
        service.head("a").await.unwrap_err(),
        service.get_range("a", 0..1).await.unwrap_err(),
        service.delete("a").await.unwrap_err(),
        service.put("a", "x".into()).await.unwrap_err(),
        service.list("").await.unwrap_err(),
    ];
    for error in kinds {
        assert_eq!(error.kind(), ErrorKind::NoBucket, "{error}");
    }
}

#[tokio::test]
async fn nothing_is_missing_because_a_proxy_says_so() {
    let proxy = || answer("404 Not Found", "<html>");
    let blob = refusal("404 Not Found", "BlobNotFound");
    let deleted = || answer("202 Accepted", "");
    let script = serve_script(&[proxy(), blob, proxy(), deleted()]).await;
    let service = service(&script);
    assert_eq!(service.head("a").await.unwrap_err().kind(), ErrorKind::NotFound);
    service.delete("a").await.unwrap();
    assert_eq!(script.asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_must_be_new_is_put_under_a_condition() {
    let taken = refusal("409 Conflict", "BlobAlreadyExists");
    let there = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\n".to_owned();
    let script = serve_script(&[answer("201 Created", ""), taken, there]).await;
    let service = service(&script);
    assert_eq!(service.put_new("a", "x".into()).await, Ok(true));
    assert_eq!(service.put_new("a", "x".into()).await, Ok(false));
    let asked = script.asked.lock().unwrap();
    for request in &asked[..2] {
        let request = request.to_ascii_lowercase();
        assert!(request.starts_with("put /account/backups/repo/a "), "{request}");
        assert!(request.contains("\r\nif-none-match: *\r\n"), "{request}");
        assert!(request.contains("\r\nauthorization: sharedkey account:"), "{request}");
        assert!(!request.contains(&KEY.to_ascii_lowercase()), "{request}");
    }
}
