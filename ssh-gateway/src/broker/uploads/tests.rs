use std::io::{Read as _, Seek as _};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::config::RecordConfig;
use crate::wire::Opaque;
use crate::wire::socket::Socket;

fn setup() -> Setup {
    Setup {
        location: "s3://bucket/prefix".to_owned(),
        endpoint: None,
        region: None,
        access_key: "id".to_owned(),
        secret_key: Opaque(b"secret".to_vec()),
        session_token: None,
    }
}

/// Uploads below a state directory with recordings of these names, whose content is their name.
fn made(names: &[&str], keeps_local: bool) -> (tempfile::TempDir, Uploads, Journal) {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join(AUDIT_DIRECTORY)).unwrap();
    let day = state.path().join(recording::DIRECTORY).join("2026-11-30");
    std::fs::create_dir_all(&day).unwrap();
    for name in names {
        std::fs::write(day.join(name), name).unwrap();
    }
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let journal = Journal::start(state.path(), key, 1 << 20).unwrap();
    let recordings = Recordings::new(state.path(), &RecordConfig::default(), journal.clone());
    let path = state.path().to_owned();
    let mut uploads = Uploads::new(setup(), path, keeps_local, recordings, journal.clone());
    uploads.done = upload_state::load(state.path()).unwrap();
    (state, uploads, journal)
}

/// Answers orders in their order, until the one behind the last answer comes; gives their keys and what their files hold.
async fn answer(uploader: AsyncSocket, answers: Vec<Result<(), Failure>>) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    let mut answers = answers.into_iter();
    loop {
        let (order, mut files) = uploader.receive::<Order>().await.unwrap().unwrap();
        let mut text = String::new();
        let mut file = File::from(files.remove(0));
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, name(&order.key));
        assert_eq!(<[u8; 32]>::from(Sha256::digest(name(&order.key))), order.sha256);
        seen.push((order.key.clone(), name(&order.key).to_owned()));
        let Some(result) = answers.next() else { return seen };
        uploader.send(&Report { number: order.number, result }, &[]).await.unwrap();
    }
}

fn name(key: &str) -> &str {
    key.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn files_go_one_after_the_other_and_only_what_is_there_is_removed() {
    let (state, mut uploads, journal) = made(&["a", "b", "c"], false);
    let (ours, theirs) = Socket::pair().unwrap();
    let (ours, theirs) = (ours.into_async().unwrap(), theirs.into_async().unwrap());
    let seen = tokio::select! {
        gone = uploads.serve(&ours) => panic!("{gone}"),
        seen = answer(theirs, vec![Ok(()), Err(Failure::Taken)]) => seen,
    };
    let names: Vec<_> = seen.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(seen[0].0, "recordings/2026-11-30/a");
    let is_here = |name: &str| state.path().join("recordings/2026-11-30").join(name).exists();
    assert_eq!(["a", "b", "c"].map(is_here), [false, true, true]);
    assert_eq!(uploads.taken.keys().collect::<Vec<_>>(), ["recordings/2026-11-30/b"]);
    journal.end().await;
    let audit = std::fs::read_to_string(state.path().join("audit/audit-00000001.jsonl")).unwrap();
    let told: Vec<_> = audit.lines().filter(|line| line.contains("\"upload\"")).collect();
    assert_eq!(told.len(), 1, "{audit}");
    assert!(told[0].contains("\"removed\":true"), "{told:?}");
}

#[tokio::test]
async fn what_the_store_has_is_not_uploaded_again_and_stays_unless_told_otherwise() {
    let (state, mut uploads, _journal) = made(&["a", "b"], true);
    let (ours, theirs) = Socket::pair().unwrap();
    let (ours, theirs) = (ours.into_async().unwrap(), theirs.into_async().unwrap());
    tokio::select! {
        gone = uploads.serve(&ours) => panic!("{gone}"),
        seen = answer(theirs, vec![Ok(())]) => assert_eq!(seen.len(), 2),
    }
    // The uploader was killed meanwhile; the next one gets what is left.
    drop(ours);
    uploads.done = upload_state::load(state.path()).unwrap();
    let (ours, theirs) = Socket::pair().unwrap();
    let (ours, theirs) = (ours.into_async().unwrap(), theirs.into_async().unwrap());
    let seen = tokio::select! {
        gone = uploads.serve(&ours) => panic!("{gone}"),
        seen = answer(theirs, vec![]) => seen,
    };
    assert_eq!(seen[0].0, "recordings/2026-11-30/b");
    assert!(state.path().join("recordings/2026-11-30/a").exists());
}

#[tokio::test]
async fn an_uploader_that_ends_or_answers_something_else_is_given_up() {
    let (_state, mut uploads, _journal) = made(&["a"], true);
    let (ours, theirs) = Socket::pair().unwrap();
    drop(theirs);
    uploads.serve(&ours.into_async().unwrap()).await;
    let (ours, theirs) = Socket::pair().unwrap();
    let (ours, theirs) = (ours.into_async().unwrap(), theirs.into_async().unwrap());
    let lying = async {
        let (order, _) = theirs.receive::<Order>().await.unwrap().unwrap();
        theirs.send(&Report { number: order.number + 1, result: Ok(()) }, &[]).await.unwrap();
    };
    let (gone, ()) = tokio::join!(uploads.serve(&ours), lying);
    assert!(gone.contains("what it was not told"), "{gone}");
}

#[test]
fn only_what_nobody_writes_to_is_looked_at() {
    let state = tempfile::tempdir().unwrap();
    let audit = state.path().join(AUDIT_DIRECTORY);
    std::fs::create_dir(&audit).unwrap();
    for name in ["audit-00000001.jsonl", "audit-00000002.jsonl", "head", "key"] {
        std::fs::write(audit.join(name), name).unwrap();
    }
    let day = state.path().join("recordings/2026-11-30");
    std::fs::create_dir_all(day.join("directory")).unwrap();
    std::fs::write(day.join("one"), "1").unwrap();
    std::fs::write(day.join("a\nb"), "1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", day.join("link")).unwrap();
    std::fs::write(state.path().join("recordings/loose"), "1").unwrap();
    let found = look(state.path()).unwrap();
    let keys: Vec<_> = found.iter().map(|local| local.key.as_str()).collect();
    assert_eq!(keys, ["audit/audit-00000001.jsonl", "recordings/2026-11-30/one"]);
    assert!(open(&day.join("link")).is_err());
}
