use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::object::tests::folders;
use crate::object::{Backend, ObjectStore};
use crate::sftp::{Code, Packet, answer};

/// OpenSSH's server, which speaks on standard input and output, as `ssh` connects us to it.
const SERVERS: [&str; 2] = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server"];

/// A store on a server of its own for each connection, or `None` with the reason printed.
fn store(root: &Path) -> Option<Arc<Sftp>> {
    let Some(program) = SERVERS.into_iter().find(|program| Path::new(program).exists()) else {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "there is no sftp-server (Debian package openssh-sftp-server)"
        );
        eprintln!("not tested here: there is no sftp-server (openssh-sftp-server)");
        return None;
    };
    let remote = Remote::Sftp {
        user: None,
        host: "localhost".to_owned(),
        port: None,
        path: root.to_str().unwrap().to_owned(),
    };
    let mut store = Sftp::new(remote, &RemoteSettings::default()).unwrap();
    store.ssh.program = program;
    store.ssh.arguments.clear();
    Some(Arc::new(store))
}

async fn new_store() -> Option<(tempfile::TempDir, Arc<Sftp>)> {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory.path().join("a/repo"))?;
    store.create_root().await.unwrap();
    Some((directory, store))
}

/// As others have it.
fn any(store: Arc<Sftp>) -> ObjectStore {
    ObjectStore { backend: Backend::Sftp(store) }
}

async fn keys(store: &Arc<Sftp>, prefix: &str) -> Vec<String> {
    folders::keys(&any(Arc::clone(store)), prefix).await
}

#[tokio::test]
async fn what_is_put_is_read_back_whole_and_in_ranges() {
    let Some((_directory, store)) = new_store().await else { return };
    // More than one window, and no whole number of packets.
    let content: Vec<u8> = (0..5_000_001_u32).map(|number| (number % 251) as u8).collect();
    store.put("packs/ab/one", Bytes::from(content.clone())).await.unwrap();
    assert!(store.get("packs/ab/one", 5_000_001).await.unwrap() == content);
    for range in [0..1, 32_767..32_769, 2_000_000..4_900_000, 5_000_000..5_000_001, 7..7] {
        let part = store.get_range("packs/ab/one", range.clone()).await.unwrap();
        assert!(part == content[range.start as usize..range.end as usize], "{range:?}");
    }
    let meta = store.head("packs/ab/one").await.unwrap();
    assert_eq!(meta.size, 5_000_001);
    assert!(SystemTime::now().duration_since(meta.modified).unwrap() < Duration::from_secs(60));
    store.put("packs/ab/one", Bytes::new()).await.unwrap();
    assert_eq!(store.get("packs/ab/one", 0).await.unwrap(), "");
}

#[tokio::test]
async fn files_and_directories_are_private() {
    let Some((directory, store)) = new_store().await else { return };
    let (store, root) = (any(store), directory.path().join("a/repo"));
    folders::private(&store, &root).await;
}

#[tokio::test]
async fn an_object_of_the_wrong_length_is_corrupt() {
    let Some((_directory, store)) = new_store().await else { return };
    let store = any(store);
    folders::wrong_lengths(&store).await;
}

#[tokio::test]
async fn listings_show_only_objects_and_follow_links() {
    let Some((directory, store)) = new_store().await else { return };
    let (store, root) = (any(store), directory.path().join("a/repo"));
    folders::listings(&store, &root).await;
}

#[tokio::test]
async fn more_folders_and_names_than_one_question_has_are_listed() {
    let Some((directory, store)) = new_store().await else { return };
    let root = directory.path().join("a/repo/packs");
    for folder in 0..70 {
        let folder = root.join(folder.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        for file in 0..3 {
            std::fs::write(folder.join(file.to_string()), b"x").unwrap();
        }
    }
    for file in 0..500 {
        std::fs::write(root.join(format!("file-{file}")), b"x").unwrap();
    }
    assert_eq!(keys(&store, "packs/").await.len(), 710);
}

#[tokio::test]
async fn temporary_files_are_found_and_removed_by_age() {
    let Some((directory, store)) = new_store().await else { return };
    store.put("packs/ab/1", Bytes::new()).await.unwrap();
    let left = directory.path().join("a/repo/packs/ab/.1.tmp-0123456789abcdef");
    std::fs::write(&left, b"half").unwrap();
    let found = store.temporaries().await.unwrap();
    assert_eq!(found.iter().map(|file| file.size).collect::<Vec<_>>(), [4]);
    assert_eq!(store.remove_temporaries(Duration::from_secs(3600)).await.unwrap(), 0);
    let old = SystemTime::now() - Duration::from_secs(7200);
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(old).unwrap();
    assert_eq!(store.remove_temporaries(Duration::from_secs(3600)).await.unwrap(), 1);
    assert!(!left.exists());
    assert_eq!(keys(&store, "").await, ["packs/ab/1"]);
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_deleting_it_again_is_no_error() {
    let Some((_directory, store)) = new_store().await else { return };
    let store = any(store);
    folders::deletion(&store).await;
}

#[tokio::test]
async fn a_store_that_does_not_exist_is_said_to_be_missing_and_not_created() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("unmounted");
    let Some(store) = store(&root) else { return };
    folders::missing(&any(store), &root).await;
}

#[tokio::test]
async fn many_at_once_take_turns() {
    let Some((_directory, store)) = new_store().await else { return };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            store.put(&format!("packs/{number}"), Bytes::from(vec![number; 70_000])).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(keys(&store, "packs/").await.len(), 20);
    assert!(store.idle.lock().unwrap().len() <= CONNECTIONS_MAX);
}

#[tokio::test]
async fn an_act_that_is_given_up_leaves_nothing_under_the_name_and_no_answer_to_others() {
    let Some((_directory, store)) = new_store().await else { return };
    for wait in [0, 1, 3, 10, 30] {
        let put = store.put("a", Bytes::from(vec![7; 30_000_000]));
        let given_up = tokio::time::timeout(Duration::from_millis(wait), put).await;
        match store.head("a").await {
            Ok(meta) => assert_eq!(meta.size, 30_000_000, "{given_up:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
        store.delete("a").await.unwrap();
    }
}

#[tokio::test]
async fn what_must_be_new_is_stored_once_and_replaces_nothing() {
    let Some((directory, store)) = new_store().await else { return };
    let (store, root) = (any(store), directory.path().join("a/repo"));
    folders::newness(&store, &root).await;
}

/// A server that answers what it was told to, whatever it is asked, and then waits for the end.
fn scripted(answers: &[Packet]) -> (tempfile::TempDir, Sftp) {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    for answer in answers {
        bytes.extend_from_slice(&u32::try_from(answer.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(answer.bytes());
    }
    let said = directory.path().join("said");
    std::fs::write(&said, bytes).unwrap();
    let remote = Remote::Sftp {
        user: None,
        host: "localhost".to_owned(),
        port: None,
        path: "/repo".to_owned(),
    };
    let mut store = Sftp::new(remote, &RemoteSettings::default()).unwrap();
    store.tries.retry.attempts = 1;
    store.ssh.program = "/bin/sh";
    let script = "cat \"$0\"; exec cat > /dev/null";
    store.ssh.arguments = ["-c".into(), script.into(), said.into_os_string()].to_vec();
    (directory, store)
}

fn hello() -> Packet {
    Packet::new(answer::VERSION).u32(3)
}

/// Attributes with a size, of a mode and from the year 1970.
fn attributes(packet: Packet, mode: u32) -> Packet {
    packet.u32(0x1 | 0x4 | 0x8).u64(7).u32(mode).u32(0).u32(0)
}

fn directory_attributes(id: u32) -> Packet {
    attributes(Packet::to(answer::ATTRS, id), 0o040_755)
}

fn names(id: u32, names: &[&[u8]]) -> Packet {
    let packet = Packet::to(answer::NAME, id).u32(u32::try_from(names.len()).unwrap());
    names.iter().fold(packet, |packet, name| attributes(packet.string(name).string(b""), 0o100_600))
}

#[tokio::test]
async fn a_hostile_server_is_one_clear_sentence() {
    let handle = |id| Packet::to(answer::HANDLE, id).string(b"0");
    let long = Packet::to(answer::HANDLE, 1).string(&[b'0'; 257]);
    let endless = Packet::to(answer::ATTRS, 0).u32(0x8000_0000).u32(u32::MAX);
    let cut = Packet::to(answer::NAME, 2).u32(u32::MAX).string(b"name");
    let outside = [hello(), directory_attributes(0), handle(1), names(2, &[b"../../etc/passwd"])];
    for (answers, kind, reason) in [
        (vec![Packet::new(answer::VERSION).u32(4)], ErrorKind::Invalid, "version 4 of SFTP"),
        (vec![hello(), directory_attributes(7)], ErrorKind::Unavailable, "nobody has asked for"),
        (vec![hello(), endless], ErrorKind::Unavailable, "attributes without an end"),
        (vec![hello(), Packet::to(answer::ATTRS, 0)], ErrorKind::Unavailable, "is too short"),
        (vec![hello(), Packet::to(42, 0)], ErrorKind::Unavailable, "an answer of kind 42"),
        (vec![hello(), directory_attributes(0), long], ErrorKind::Unavailable, "handle that is"),
        (vec![hello(), directory_attributes(0), handle(1), cut], ErrorKind::Unavailable, "short"),
        (outside.into(), ErrorKind::Corrupt, "outside of what was asked for"),
    ] {
        let (_directory, store) = scripted(&answers);
        let error = store.list("").await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn names_that_are_no_keys_are_passed_over() {
    let status = |id, code| Packet::status(id, code, "");
    let listed = names(2, &[b".", b"..", b"a\0b", b"\xff", b"...", b"good"]);
    let (_directory, store) = scripted(&[
        hello(),
        directory_attributes(0),
        Packet::to(answer::HANDLE, 1).string(b"0"),
        listed,
        status(3, Code::Eof),
        status(4, Code::Ok),
    ]);
    assert_eq!(keys(&Arc::new(store), "").await, ["...", "good"]);
}

#[tokio::test]
async fn a_directory_without_an_end_is_left() {
    let answers = [hello(), Packet::to(answer::HANDLE, 0).string(b"0")];
    let rounds = (1..5).map(|id| names(id, &[b".", b".."]));
    let (_directory, store) = scripted(&answers.into_iter().chain(rounds).collect::<Vec<_>>());
    let mut session = Session::start(&store.ssh).await.unwrap();
    let listed = session.list(&["/repo".to_owned()], 5).await.unwrap();
    assert!(listed.is_none(), "{listed:?}");
}

#[tokio::test]
async fn a_name_that_no_file_system_has_is_not_kept() {
    let (long, longest) = ([b'x'; 256], [b'x'; 255]);
    let answers = [
        hello(),
        Packet::to(answer::HANDLE, 0).string(b"0"),
        names(1, &[&long, &longest]),
        Packet::to(answer::STATUS, 2).u32(1).string(b"").string(b""),
        Packet::to(answer::STATUS, 3).u32(0).string(b"").string(b""),
    ];
    let (_directory, store) = scripted(&answers);
    let mut session = Session::start(&store.ssh).await.unwrap();
    let listed = session.list(&["/repo".to_owned()], 5).await.unwrap().unwrap();
    assert_eq!(listed.iter().map(|(_, name, _)| name.len()).collect::<Vec<_>>(), [255]);
}

#[tokio::test]
async fn a_name_counts_as_taken_only_where_the_server_may_mean_that() {
    let status = |id, code: u32| Packet::to(answer::STATUS, id).u32(code).string(b"").string(b"");
    let there = |id| attributes(Packet::to(answer::ATTRS, id), 0o100_600);
    // FAILURE, and what later drafts have for it; then what was to be renamed is gone, and what may not be renamed.
    for (code, is_taken) in [(4, true), (11, true), (2, false), (3, false)] {
        let (_directory, store) = scripted(&[hello(), status(0, code), there(1)]);
        let mut session = Session::start(&store.ssh).await.unwrap();
        let renamed = session.rename_new("/repo/.a", "/repo/a").await;
        assert_eq!(renamed.is_ok_and(|is_new| !is_new), is_taken, "{code}");
    }
    // Whether something is there cannot be seen: nothing is said of it.
    let (_directory, store) = scripted(&[hello(), status(0, 4), status(1, 3)]);
    let mut session = Session::start(&store.ssh).await.unwrap();
    let fault = Fault::from(session.rename_new("/repo/.a", "/repo/a").await.unwrap_err());
    assert_eq!(fault.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn a_program_that_is_missing_is_one_clear_sentence() {
    let Some((_directory, store)) = new_store().await else { return };
    let mut store = Arc::into_inner(store).unwrap();
    store.idle.lock().unwrap().clear();
    store.ssh.program = "/no/such/ssh";
    let error = store.list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("there is no `ssh` on PATH: install"), "{error}");
}

#[tokio::test]
async fn what_is_no_server_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let Some(store) = store(directory.path()) else { return };
    let mut store = Arc::into_inner(store).unwrap();
    store.tries.retry.attempts = 2;
    store.ssh.program = "/bin/echo";
    store.ssh.arguments = vec!["Welcome to this machine".into()];
    let error = store.list("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("does the shell there print something?"), "{error}");
}

#[test]
fn the_folders_of_a_path_come_from_the_outside() {
    assert_eq!(ancestors("packs/ab/x"), ["packs", "packs/ab"]);
    assert_eq!(ancestors("/srv/a"), ["/srv"]);
    assert!(ancestors("x").is_empty());
}

/// The server under strace(1), which writes its system calls to a file; `None` where there is no strace.
fn watched(store: Arc<Sftp>, calls: &Path) -> Option<Sftp> {
    let mut store = Arc::into_inner(store).unwrap();
    store.idle.lock().unwrap().clear();
    if !Path::new("/usr/bin/strace").exists() {
        assert!(std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(), "strace is missing");
        eprintln!("not tested here: there is no strace");
        return None;
    }
    let server = store.ssh.program;
    store.ssh.program = "/usr/bin/strace";
    store.ssh.arguments = [
        "-f",
        "-y",
        "-e",
        "trace=fsync,rename,renameat,renameat2",
        "-o",
        calls.to_str().unwrap(),
        server,
    ]
    .map(Into::into)
    .to_vec();
    Some(store)
}

#[tokio::test]
async fn a_file_its_name_and_its_folders_are_on_disk_before_it_is_said() {
    let Some((directory, store)) = new_store().await else { return };
    let calls = directory.path().join("calls");
    let Some(store) = watched(store, &calls) else { return };
    store.put("packs/ab/1", Bytes::from_static(b"x")).await.unwrap();
    let calls = std::fs::read_to_string(&calls).unwrap();
    let order: Vec<_> = calls
        .lines()
        .filter_map(|line| match line {
            _ if line.contains("rename") => Some("rename"),
            _ if line.contains("fsync") && line.contains(".tmp-") => Some("file"),
            _ if line.contains("fsync") && line.contains("/packs/ab>") => Some("ab"),
            _ if line.contains("fsync") && line.contains("/packs>") => Some("packs"),
            _ if line.contains("fsync") && line.contains("/repo>") => Some("repo"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["packs", "repo", "file", "rename", "ab"], "{calls}");
}
