use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::control::{LINE_BYTES_MAX, Session};
use crate::host_keys::AUDIT_DIRECTORY;

fn session(number: usize) -> Session {
    Session {
        session: format!("{number:012x}"),
        connection: 1,
        identity: Some("somebody".to_owned()),
        key: "SHA256:x".to_owned(),
        peer: "192.0.2.1:5".to_owned(),
        container: "web".to_owned(),
        user: None,
        // The longest that is told.
        program: "\\x00".repeat(1024),
        terminal: true,
        rule: "r".to_owned(),
        recording: None,
        since: "2026-11-30T06:00:00Z".to_owned(),
        lingering: None,
    }
}

#[tokio::test]
async fn many_sessions_are_many_lines() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let journal = Journal::start(state.path(), key, 1 << 20).unwrap();
    let sessions = Sessions::default();
    let count = 500;
    let _listed: Vec<_> = (0..count)
        .map(|number| {
            let (told, end) = (session(number), CancellationToken::new());
            sessions.add(Running { told, end, tap: None })
        })
        .collect();
    let (client, ours) = UnixStream::pair().unwrap();
    let mut client = BufReader::new(client);
    let mut line = serde_json::to_vec(&Ask::Sessions).unwrap();
    line.push(b'\n');
    client.write_all(&line).await.unwrap();
    let reading = async {
        let (mut seen, mut bytes) = (0, 0);
        loop {
            let mut line = String::new();
            client.read_line(&mut line).await.unwrap();
            assert!(line.len() < LINE_BYTES_MAX, "{} bytes", line.len());
            bytes += line.len();
            match serde_json::from_str(&line).unwrap() {
                Answer::Session(_) => seen += 1,
                Answer::Done => return (seen, bytes),
                other => panic!("{other:?}"),
            }
        }
    };
    let (answered, (seen, bytes)) = tokio::join!(answer(ours, &sessions, &journal), reading);
    answered.unwrap();
    assert_eq!(seen, count);
    assert!(bytes > LINE_BYTES_MAX, "it would have a place in one line");
}
