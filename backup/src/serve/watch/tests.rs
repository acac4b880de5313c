use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// What an engine answers: a code and a document; nothing where it hangs.
type Answer = Option<(u16, Value)>;

/// An engine at a socket in a directory, which answers each path, without the version in front, as it is told.
struct FakeEngine {
    directory: tempfile::TempDir,
}

impl FakeEngine {
    async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Self, Engine) {
        let directory = tempfile::tempdir().unwrap();
        let engine = Self { directory };
        let listener = UnixListener::bind(engine.socket()).unwrap();
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match answer(&path(&mut stream).await) {
                    Some((code, body)) => reply(&mut stream, code, &body.to_string()).await,
                    None => hanging.push(stream),
                }
            }
        });
        let connected = Engine::connect(engine.socket().to_str()).await.unwrap();
        (engine, connected)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("socket")
    }
}

async fn path(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let versioned = path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    versioned.map_or_else(|| path.to_owned(), |(_, rest)| format!("/{rest}"))
}

async fn reply(stream: &mut UnixStream, code: u16, body: &str) {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    drop(stream.write_all(answer.as_bytes()).await);
}

/// So long a hanging one is waited for; one that answers is waited for as long as a slow machine needs.
const SHORT: Duration = Duration::from_secs(2);

fn patient() -> Patience {
    Patience::new(Duration::from_secs(60))
}

const LABELS: &str = "chores.backup.enable";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn listed(digit: char) -> Value {
    let name = format!("/web-{digit}");
    json!({"Id": id(digit), "Names": [name], "State": "running", "Labels": {LABELS: "true"}})
}

fn inspected(digit: char) -> Value {
    json!({
        "Id": id(digit),
        "Name": format!("/web-{digit}"),
        "Image": format!("sha256:{digit}"),
        "State": {"Running": true, "Status": "running"},
        "Config": {"Labels": {LABELS: "true"}, "Image": "app:1"},
        "Mounts": [],
    })
}

/// An engine with two containers, `a` and `b`, and what else it answers.
fn usual(path: &str) -> Answer {
    let ok = |body| Some((200, body));
    match path {
        "/version" => ok(json!({"ApiVersion": "1.41", "Version": "20.10.24"})),
        "/info" => ok(json!({"ID": "E1", "Name": "machine"})),
        "/containers/json" => ok(json!([listed('a'), listed('b')])),
        "/images/sha256:a/json" | "/images/sha256:b/json" => ok(json!({"Config": {"Labels": {}}})),
        _ => ['a', 'b']
            .into_iter()
            .find(|digit| path == format!("/containers/{}/json", id(*digit)))
            .map_or(Some((404, json!({"message": "nothing of that name"}))), |digit| {
                ok(inspected(digit))
            }),
    }
}

fn names(found: &Found) -> Vec<&str> {
    found.containers.iter().map(|container| container.name.as_str()).collect()
}

#[tokio::test]
async fn a_container_that_the_engine_cannot_show_hides_no_other() {
    let broken = format!("/containers/{}/json", id('a'));
    let (_fake, engine) = FakeEngine::start(move |path| {
        if path == broken {
            return Some((500, json!({"message": "its layer is unexpectedly nil"})));
        }
        usual(path)
    })
    .await;
    let found = look(&engine, &mut Known::default(), patient()).await.unwrap();
    assert_eq!(names(&found), ["web-b"]);
    let (container, problem) = &found.unseen[0];
    assert!(container.name == "web-a" && problem.contains("unexpectedly nil"), "{problem}");
    assert_eq!(found.host.as_deref(), Some("machine"));
}

#[tokio::test]
async fn a_container_that_is_locked_is_taken_for_what_it_was() {
    let is_locked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (own, hangs) = (is_locked.clone(), format!("/containers/{}/json", id('a')));
    let (_fake, engine) = FakeEngine::start(move |path| {
        let is_locked = own.load(std::sync::atomic::Ordering::SeqCst);
        if is_locked && path == hangs { None } else { usual(path) }
    })
    .await;
    let mut known = Known::default();
    let before = look(&engine, &mut known, patient()).await.unwrap();
    assert_eq!(names(&before), ["web-a", "web-b"]);
    is_locked.store(true, std::sync::atomic::Ordering::SeqCst);
    let found = look(&engine, &mut known, Patience::new(SHORT)).await.unwrap();
    assert_eq!(found.containers, before.containers);
    // One that was never seen is told, and the other one is there.
    let found = look(&engine, &mut Known::default(), Patience::new(SHORT)).await.unwrap();
    assert_eq!(names(&found), ["web-b"]);
    assert!(found.unseen[0].1.contains("longer than 2.00 s"), "{:?}", found.unseen);
}

#[tokio::test]
async fn an_image_that_the_engine_cannot_show_hides_no_other() {
    let (_fake, engine) = FakeEngine::start(|path| match path {
        "/images/sha256:a/json" => Some((500, json!({"message": "broken"}))),
        path => usual(path),
    })
    .await;
    let found = look(&engine, &mut Known::default(), patient()).await.unwrap();
    assert_eq!(names(&found), ["web-a", "web-b"]);
    assert_eq!(found.image_labels.keys().collect::<Vec<_>>(), ["sha256:b"]);
}

#[tokio::test]
async fn an_engine_that_lets_nobody_look_is_an_error() {
    let denied = |path: &str| match path {
        path if path.starts_with("/containers/") && path != "/containers/json" => {
            Some((403, json!({"message": "not for you"})))
        }
        path => usual(path),
    };
    let (_fake, engine) = FakeEngine::start(denied).await;
    let error = look(&engine, &mut Known::default(), patient()).await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Denied);
}
