use chores_common::engine::{ContainerState, ListedContainer};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::config::PolicySource;
use crate::policy;
use crate::proof::Presence;

const NOW: &str = "2026-11-30T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key(number: u8) -> Vec<u8> {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]));
    key.public_key().to_bytes().unwrap()
}

/// What the key of this number may do, where its line has these options and the rule these words.
fn access(number: u8, options: &str, words: &str) -> Access {
    let key = |number: u8| {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[number; 32]));
        key.public_key().to_openssh().unwrap()
    };
    let text = format!(
        "[[identity]]\nname = 'one'\nkeys = ['{options} {}']\n\
         [[identity]]\nname = 'two'\nkeys = ['{options} {}']\n\
         [[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\n{words}\n",
        key(1),
        key(2)
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let (_, policy) = policy::file::load(&PolicySource::File(path), &[], &|_| true);
    let policy = policy.map_err(|error| chores_common::exit::chain(&error)).unwrap();
    let signed = Presence::Signed { touched: false, verified: false };
    let peer = "192.0.2.1".parse().unwrap();
    let identity = policy::admit(&policy, &self::key(number), signed, peer, at(NOW)).unwrap();
    let container = ListedContainer {
        id: "c".to_owned(),
        name: "web".to_owned(),
        image_ref: "image".to_owned(),
        labels: BTreeMap::new(),
        state: ContainerState::Running,
    };
    identity.access(&container, None, at(NOW)).unwrap()
}

const WORDS: &str = "allow = ['shell', 'exec', 'terminal']\nlinger = '10m'";

fn command() -> Program {
    Program::Command(b"top".to_vec())
}

fn waiting(name: &str, lost: &str) -> Waiting {
    Waiting {
        name: name.to_owned(),
        container: "c".to_owned(),
        access: access(1, "", WORDS),
        asked: command(),
        program: command(),
        told: "command top".to_owned(),
        started: at("2026-11-30T08:05:00Z"),
        lost: at(lost),
    }
}

#[test]
fn only_the_same_client_returns_to_a_session_and_only_where_it_could_begin_it() {
    let one = waiting("a", NOW);
    let of = |access: Access| may_return(&one, "c", &access);
    assert!(of(access(1, "", WORDS)));
    assert!(!may_return(&one, "d", &access(1, "", WORDS)));
    assert!(!of(access(2, "", WORDS)));
    for words in [
        "allow = ['shell', 'exec', 'terminal']",
        "allow = ['shell', 'exec', 'terminal']\nlinger = '11m'",
        "allow = ['shell', 'terminal']\nlinger = '10m'",
        "allow = ['shell', 'exec', 'terminal']\nlinger = '10m'\nrecord = 'input'",
    ] {
        assert!(!of(access(1, "", words)), "{words}");
    }
    // The line of the key has taken it away meanwhile.
    assert!(!of(access(1, "no-pty", WORDS)));
    assert!(!of(access(1, "command=\"date\"", WORDS)));
    assert!(of(access(1, "no-agent-forwarding", WORDS)));
}

#[tokio::test]
async fn one_of_two_gets_a_session_and_who_gives_it_up_leaves_it_to_others() {
    let lingering: Lingering<u32> = Lingering::default();
    let found = || lingering.of("c", &access(1, "", WORDS));
    let names = || found().iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    let mut place = lingering.add("one", waiting("a", NOW)).unwrap();
    let _later = lingering.add("one", waiting("b", "2026-11-30T12:00:01Z")).unwrap();
    assert_eq!(names(), ["a", "b"]);
    let first = found().remove(0);
    let claim = lingering.claim(&first).unwrap();
    assert!(lingering.claim(&first).is_none());
    assert_eq!(names(), ["b"]);
    drop(claim);
    assert_eq!(names(), ["a", "b"]);
    let claim = lingering.claim(&first).unwrap();
    let (taken, ()) = tokio::join!(claim.take(), async {
        let taker = place.asked().await;
        place.give_up_room();
        taker.send(7).unwrap();
    });
    assert_eq!(taken, Some(7));
    // It waits again before it has left its old place; who was asked about that time does not get it.
    let mut again = lingering.add("one", waiting("a", NOW)).unwrap();
    drop((place, claim));
    assert_eq!(names(), ["a", "b"]);
    assert!(lingering.claim(&first).is_none());
    // Who has claimed it is gone when it is handed over.
    let claim = lingering.claim(&found().remove(0)).unwrap();
    let asking = async { claim.take().await };
    let asked = async {
        let taker = again.asked().await;
        assert!(!taker.is_closed());
        taker
    };
    let taker = tokio::select! {
        _ = asking => unreachable!(),
        taker = asked => taker,
    };
    assert_eq!(taker.send(8), Err(8));
    drop(claim);
    assert_eq!(names(), ["a", "b"]);
    // One that ends while somebody wants it.
    let claim = lingering.claim(&found().remove(0)).unwrap();
    drop(again);
    assert_eq!(names(), ["b"]);
    assert_eq!(claim.take().await, None);
}

#[test]
fn so_many_of_one_identity_wait_and_no_more() {
    let lingering: Lingering<u32> = Lingering::default();
    let add =
        |who: &str, number: usize| lingering.add(who, waiting(&format!("{who}{number}"), NOW));
    let mut places: Vec<_> =
        (0..WAITING_OF_ONE_MAX).map(|number| add("one", number).unwrap()).collect();
    assert_eq!(add("one", 99).err(), Some(Full::OfOne));
    places.pop();
    places.push(add("one", 99).unwrap());
    for number in WAITING_OF_ONE_MAX..WAITING_MAX {
        places.push(add(&format!("other{number}"), 0).unwrap());
    }
    assert_eq!(add("last", 0).err(), Some(Full::OfAll));
}

#[test]
fn what_is_asked_and_what_an_answer_means() {
    let now = at("2026-11-30T12:03:10Z");
    let one = Arc::new(waiting("a", NOW));
    let text = question(std::slice::from_ref(&one), now);
    assert_eq!(
        text,
        "You have a session here that lost its connection 3 min ago (started 2026-11-30 08:05 UTC): command top.\n\
         Return to it? [Y/n] "
    );
    let text = question(&[one, Arc::new(waiting("b", "2026-11-30T12:03:09Z"))], now);
    assert!(text.contains("\n   2  lost its connection 1 s ago"), "{text}");
    for (answer, count, wanted) in [
        (&b"\n"[..], 1, Answer::Return(0)),
        (b"Y\r\n", 1, Answer::Return(0)),
        (b"yes\n", 1, Answer::Return(0)),
        (b"n\n", 1, Answer::New),
        (b"No\n", 2, Answer::New),
        (b"2\n", 2, Answer::Return(1)),
        (b"\n", 2, Answer::Return(0)),
        (b"y\n", 2, Answer::Unclear),
        (b"3\n", 2, Answer::Unclear),
        (b"0\n", 2, Answer::Unclear),
        (b"\xff\n", 1, Answer::Unclear),
        (b"", 1, Answer::GiveUp),
        (b"y\x03", 1, Answer::GiveUp),
        (b"\x04", 2, Answer::GiveUp),
    ] {
        assert_eq!(meaning(answer, count), wanted, "{answer:?} of {count}");
    }
    for (seconds, wanted) in
        [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h")]
    {
        assert_eq!(spoken(Duration::from_secs(seconds)), wanted);
    }
}
