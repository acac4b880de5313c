use proptest::prelude::*;

use super::*;

const FILE: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
    # a comment\n\
    www:x:33:33:www:/var/www:/usr/sbin/nologin\n\
    www:x:0:0:a second one of the same name:/:/bin/sh\n\
    minus:x:-1:-1::/:/bin/sh\n\
    huge:x:4294967295:0::/:/bin/sh\n\
    wide:x:99999999999999999999:0::/:/bin/sh\n\
    word:x:zero:0::/:/bin/sh\n\
    short:x:0\n\
    relative:x:50:50::home:sh\n";
const GROUPS: &[u8] =
    b"root:x:0:\nwww:x:33:\nlog:x:44:root,www\naudio:x:63:www,wwww\nbad:x:-1:www\n";

fn who(name: Option<&str>, group_add: &[&str]) -> Result<Account, String> {
    let user = User {
        name: name.map(str::to_owned),
        container_uid: 1000,
        container_gid: 5,
        container_groups: vec![5, 6],
        group_add: group_add.iter().map(|group| (*group).to_owned()).collect(),
    };
    resolve(&user, FILE, GROUPS)
}

fn numbers(account: &Account) -> (u32, u32, &[u32]) {
    (account.identity.uid, account.identity.gid, &account.identity.groups)
}

#[test]
fn users_are_found_as_the_engine_finds_them() {
    type Case<'a> = (&'a str, &'a [&'a str], u32, u32, &'a [u32], &'a str);
    let cases: [Case<'_>; 9] = [
        ("root", &[], 0, 0, &[0, 44], "/root"),
        ("0", &["audio"], 0, 0, &[0, 44, 63], "/root"),
        ("www", &[], 33, 33, &[33, 44, 63], "/var/www"),
        ("33", &["3000"], 33, 33, &[33, 44, 63, 3000], "/var/www"),
        ("33:44", &[], 33, 44, &[44], "/var/www"),
        ("www:log", &["log"], 33, 44, &[44, 44], "/var/www"),
        ("1000", &[], 1000, 0, &[0], "/"),
        ("1000:5", &["3000"], 1000, 5, &[5, 3000], "/"),
        ("www:", &[], 33, 33, &[33, 44, 63], "/var/www"),
    ];
    for (name, group_add, uid, gid, groups, home) in cases {
        let account = who(Some(name), group_add).unwrap();
        assert_eq!(numbers(&account), (uid, gid, groups), "{name}");
        assert_eq!(account.home, home.as_bytes(), "{name}");
    }
}

#[test]
fn the_user_of_the_container_needs_no_entry() {
    let account = who(None, &["audio"]).unwrap();
    assert_eq!(numbers(&account), (1000, 5, &[5, 6][..]));
    assert_eq!(
        (account.name, account.home, account.shell),
        (b"1000".to_vec(), b"/".to_vec(), None)
    );
}

#[test]
fn no_entry_that_is_not_strictly_right_makes_a_user() {
    for name in ["minus", "huge", "wide", "word", "short", "nobody", "-1", "4294967295", "#"] {
        assert!(who(Some(name), &[]).is_err(), "{name}");
    }
    for group in ["bad", "nothing", "-1", "4294967295"] {
        assert!(who(Some(&format!("0:{group}")), &[]).is_err(), "{group}");
        assert!(who(Some("0"), &[group]).is_err(), "{group}");
    }
}

#[test]
fn a_home_or_shell_that_is_not_absolute_is_none() {
    let account = who(Some("relative"), &[]).unwrap();
    assert_eq!((account.home, account.shell), (b"/".to_vec(), None));
}

#[test]
fn the_files_are_bounded() {
    let mut file = vec![b'a'; LINE_BYTES_MAX + 1];
    file.extend(b":x:0:0::/:/bin/sh\n");
    assert_eq!(users(&file).count(), 0);
    let many = b"a:x:1:1::/:/bin/sh\n".repeat(ENTRIES_MAX + 5);
    assert_eq!(users(&many).count(), ENTRIES_MAX);
}

#[test]
fn only_regular_files_are_read_and_nobody_waits() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    for path in [fifo.to_str().unwrap(), "/dev/zero", "/", "/proc/self/fd/0", "/nothing"] {
        assert!(read(path).is_err(), "{path}");
    }
    let sparse = directory.path().join("sparse");
    File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read(sparse.to_str().unwrap()).unwrap().len() as u64, FILE_BYTES_MAX);
}

proptest! {
    #[test]
    fn any_bytes_are_a_file(passwd: Vec<u8>, group: Vec<u8>, name in ".{0,12}") {
        let user = User { name: Some(name), ..User::default() };
        if let Ok(account) = resolve(&user, &passwd, &group) {
            prop_assert!(account.identity.uid <= ID_MAX);
            prop_assert!(account.home.starts_with(b"/"));
        }
    }
}
