use tokio::sync::oneshot;

use super::super::connection::Proved;
use super::super::tests::{PATIENCE, config, key, line, shared};
use super::super::words::Words;
use super::*;
use crate::policy;
use crate::proof::Presence;
use crate::wire::net::{LoginName, Word};

#[tokio::test]
async fn a_degraded_session_that_is_killed_ends_for_its_client() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _spawner) = shared(config(directory.path(), Mode::Engine), &line("", 1)).await;
    let (words, mut said) = Words::new();
    let key = key(1).to_bytes().unwrap();
    let presence = Presence::Signed { touched: false, verified: false };
    let addresses = ("192.0.2.1:5000".parse().unwrap(), "192.0.2.2:22".parse().unwrap());
    let peer = "192.0.2.1".parse().unwrap();
    let identity = policy::admit(&shared.policy(), &key, presence, peer, Timestamp::now()).unwrap();
    let login = LoginName { user: "web".to_owned(), host: None };
    let proved = Proved { key, presence };
    let connection = Connection::new(1, shared, words, identity, proved, login, addresses);
    let end = CancellationToken::new();
    let account = Account {
        name: "a1b2".to_owned(),
        tap: None,
        unrecorded: Unrecorded::Refuse,
        end: end.clone(),
        _listed: None,
    };
    // The engine never says that it has ended.
    let (_exit, exited) = oneshot::channel();
    let way = Way::Engine(EngineProgram::told_by(exited));
    let (_orders, receiver) = mpsc::channel(1);
    let watching = watch(&connection, 5, way, Some(account), Instant::now(), receiver);
    let mut watching = std::pin::pin!(watching);
    assert!(timeout(Duration::from_millis(20), watching.as_mut()).await.is_err(), "it runs");
    end.cancel();
    timeout(PATIENCE, watching).await.unwrap();
    let exit = Exit::Signal { number: libc::SIGKILL, core_dumped: false };
    for news in [News::Cut { session: 5, exit }, News::Exited { session: 5, exit }] {
        let (word, _) = timeout(PATIENCE, said.recv()).await.unwrap().unwrap();
        assert_eq!(word, Word::News(news));
    }
}
