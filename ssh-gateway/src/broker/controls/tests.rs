use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use tokio_util::sync::CancellationToken;

use super::super::journal;
use super::super::words::Words;
use super::*;
use crate::control::{Connection, LINE_BYTES_MAX, Session};
use crate::host_keys::AUDIT_DIRECTORY;
use crate::wire::net::Word;

/// Nothing runs, and nobody is in.
fn subjects(state: &Path) -> Subjects {
    std::fs::create_dir(state.join(AUDIT_DIRECTORY)).unwrap();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let journal = Journal::start(state, key, 1 << 20).unwrap();
    Subjects { sessions: Sessions::default(), connections: Connections::default(), journal }
}

/// What is answered to one question.
async fn asked(ask: &Ask, subjects: &Subjects) -> Vec<Answer> {
    let (mut client, ours) = UnixStream::pair().unwrap();
    let mut line = serde_json::to_vec(ask).unwrap();
    line.push(b'\n');
    client.write_all(&line).await.unwrap();
    let mut said = String::new();
    let (answered, read) = tokio::join!(answer(ours, subjects), client.read_to_string(&mut said));
    answered.unwrap();
    read.unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn connection(number: u64) -> Connection {
    Connection {
        connection: number,
        identity: Some("somebody".to_owned()),
        key: "SHA256:x".to_owned(),
        certificate: None,
        login: "web".to_owned(),
        peer: "192.0.2.1:5".to_owned(),
        client: "SSH-2.0-test".to_owned(),
        sessions: 0,
        forwards: 0,
        since: "2026-11-30T06:00:00Z".to_owned(),
    }
}

fn session(number: usize) -> Session {
    Session {
        session: format!("{number:012x}"),
        kind: Kind::Session,
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
    let subjects = subjects(state.path());
    let sessions = &subjects.sessions;
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
    let (answered, (seen, bytes)) = tokio::join!(answer(ours, &subjects), reading);
    answered.unwrap();
    assert_eq!(seen, count);
    assert!(bytes > LINE_BYTES_MAX, "it would have a place in one line");
}

#[tokio::test]
async fn a_connection_is_ended_with_its_reason_and_what_runs_in_it() {
    let state = tempfile::tempdir().unwrap();
    let subjects = subjects(state.path());
    let (words, mut said) = Words::new();
    let open = |number| connections::Open {
        told: connection(number),
        words: words.clone(),
        is_ended: Arc::default(),
    };
    let opened = [open(1), open(2)];
    let _listed = opened.clone().map(|open| subjects.connections.add(open));
    // A session, a forward, one that waits for its client and was that of another connection of this number, and others'.
    let of_others = |told: &mut Session| told.connection = 2;
    let changes: [fn(&mut Session); 4] = [
        |_| {},
        |told| told.kind = Kind::Forward,
        |told| told.lingering = Some("2026-11-30T07:00:00Z".to_owned()),
        of_others,
    ];
    let running: Vec<_> = changes
        .iter()
        .enumerate()
        .map(|(number, change)| {
            let (mut told, end) = (session(number), CancellationToken::new());
            change(&mut told);
            (end.clone(), subjects.sessions.add(Running { told, end, tap: None }))
        })
        .collect();

    let told = asked(&Ask::Connections, &subjects).await;
    let counts: Vec<_> = told
        .iter()
        .filter_map(|answer| match answer {
            Answer::Connection(one) => Some((one.connection, one.sessions, one.forwards)),
            _ => None,
        })
        .collect();
    assert_eq!(counts, [(1, 1, 1), (2, 1, 0)]);
    assert_eq!(told.last(), Some(&Answer::Done));

    assert_eq!(asked(&Ask::Disconnect(1), &subjects).await, [Answer::Done]);
    let (word, _) = said.try_recv().unwrap();
    assert_eq!(word, Word::News(News::Disconnect { connection: 1, reason: ENDED.to_owned() }));
    let ended: Vec<_> = running.iter().map(|(end, _)| end.is_cancelled()).collect();
    assert_eq!(ended, [true, true, false, false]);
    let refuses = opened.map(|open| open.is_ended.load(Ordering::Acquire));
    assert_eq!(refuses, [true, false], "whatever net does");
    subjects.journal.written(subjects.journal.mark()).await.unwrap();
    let audit = state.path().join(AUDIT_DIRECTORY).join(journal::file_name(1));
    let audit = std::fs::read_to_string(audit).unwrap();
    assert_eq!(audit.matches("\"what\":\"disconnect\"").count(), 1, "{audit}");
    assert!(audit.contains("\"connection\":1,"), "{audit}");

    let answer = asked(&Ask::Disconnect(3), &subjects).await;
    let no = "there is no connection 3: see `ssh-gateway connections ls`";
    assert_eq!(answer, [Answer::No(no.to_owned())]);
    assert!(said.try_recv().is_err());
}

#[tokio::test]
async fn a_forward_is_ended_like_a_session_and_shows_nothing() {
    let state = tempfile::tempdir().unwrap();
    let subjects = subjects(state.path());
    let (mut told, end) = (session(1), CancellationToken::new());
    told.kind = Kind::Forward;
    let name = told.session.clone();
    let _listed = subjects.sessions.add(Running { told, end: end.clone(), tap: None });
    let no = "it is a forward, whose bytes do not go through here".to_owned();
    assert_eq!(asked(&Ask::Watch(name.clone()), &subjects).await, [Answer::No(no)]);
    assert_eq!(asked(&Ask::Kill(name), &subjects).await, [Answer::Done]);
    assert!(end.is_cancelled());
    let answer = asked(&Ask::Kill("nobody".to_owned()), &subjects).await;
    let no = "there is no session or forward nobody: see `ssh-gateway sessions ls`";
    assert_eq!(answer, [Answer::No(no.to_owned())]);
}

#[test]
fn what_a_former_gateway_tells_is_still_understood() {
    let mut told = serde_json::to_value(Answer::Session(Box::new(session(1)))).unwrap();
    told["session"].as_object_mut().unwrap().remove("kind").unwrap();
    let Answer::Session(told) = serde_json::from_value(told).unwrap() else { panic!("no session") };
    assert_eq!(*told, session(1));
}
