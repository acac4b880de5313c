use tokio::sync::oneshot;

use super::super::connection::Proved;
use super::super::linger::Waiting;
use super::super::tests::lingering::policy as lingering_policy;
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
    let proved = Proved { key, presence, has_code: false };
    let connection = Connection::new(1, shared, words, identity, proved, login, addresses);
    let end = CancellationToken::new();
    let account = Account {
        name: "a1b2".to_owned(),
        tap: None,
        book: None,
        unrecorded: Unrecorded::Refuse,
        end: end.clone(),
        listed: None,
        lasting: None,
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

#[test]
fn the_rule_says_who_gets_the_toolbox_and_the_configuration_where_it_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut enter = config(directory.path(), Mode::Native).enter;
    let mut rule = Rule::of_keys();
    assert_eq!(toolbox_by(&enter, &rule, &Program::Shell), Ok(None));
    rule.toolbox = Some(ToolboxUse::Always);
    let command = Program::Command(b"ls".to_vec());
    for program in [&Program::Shell, &command] {
        assert!(matches!(toolbox_by(&enter, &rule, program), Err(Tools::Unavailable { .. })));
    }
    for program in [Program::Sftp, Program::SftpReadOnly] {
        assert_eq!(toolbox_by(&enter, &rule, &program), Ok(None));
    }
    enter.toolbox = Some("/toolbox".into());
    let toolbox =
        |trace, always| Ok(Some(Toolbox { directory: "/toolbox".to_owned(), trace, always }));
    assert_eq!(toolbox_by(&enter, &rule, &Program::Shell), toolbox(false, true));
    rule.toolbox_trace = true;
    rule.toolbox = None;
    assert_eq!(toolbox_by(&enter, &rule, &Program::Shell), toolbox(true, false));
    enter.toolbox_use = ToolboxUse::Never;
    assert_eq!(toolbox_by(&enter, &rule, &Program::Shell), Ok(None));
    rule.toolbox = Some(ToolboxUse::Auto);
    assert_eq!(toolbox_by(&enter, &rule, &Program::Shell), toolbox(true, false));
}

#[tokio::test]
async fn what_counts_no_more_in_the_last_moment_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _spawner) = shared(config(directory.path(), Mode::Native), &line("", 1)).await;
    shared.set_policy(lingering_policy("linger = '10m'"));
    let (words, _said) = Words::new();
    let key = key(1).to_bytes().unwrap();
    let presence = Presence::Signed { touched: false, verified: false };
    let addresses = ("192.0.2.1:5000".parse().unwrap(), "192.0.2.2:22".parse().unwrap());
    let peer = "192.0.2.1".parse().unwrap();
    let identity = policy::admit(&shared.policy(), &key, presence, peer, Timestamp::now()).unwrap();
    let login = LoginName { user: "web".to_owned(), host: None };
    let proved = Proved { key, presence, has_code: false };
    let its = Arc::clone(&shared);
    let connection = Connection::new(1, its, words, identity, proved, login, addresses);
    let choice = connection.choice().await.ok().unwrap();
    let waiting = Waiting {
        name: "a1b2".to_owned(),
        container: choice.container.id.clone(),
        access: choice.access.clone(),
        asked: Program::Shell,
        program: Program::Shell,
        told: "shell".to_owned(),
        started: Timestamp::now(),
        lost: Timestamp::now(),
    };
    let mut place = shared.lingering.add("one", waiting).unwrap();
    let found = || shared.lingering.of(&choice.container.id, &choice.access);
    // The audit has its line, and then the policy changes.
    let claim = shared.lingering.claim(&found()[0]).unwrap();
    assert!(found().is_empty());
    shared.set_policy(lingering_policy(""));
    let (ours, master) = Terminal::new(SIZE_DEFAULT).unwrap();
    let taken = lasting::take(&connection, 5, claim, Arc::clone(&choice), ours).await;
    assert_eq!(taken.err(), Some(255));
    let mut told = [0; 256];
    let length = rustix::io::read(&master, &mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..length]);
    assert!(told.contains("has been changed since"), "{told:?}");
    // It was not asked for, and is free again.
    assert_eq!(found().len(), 1);
    assert!(timeout(Duration::from_millis(20), place.asked()).await.is_err());
}
