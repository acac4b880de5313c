use super::*;
use crate::enter::step::Identity;

fn account(shell: Option<&[u8]>) -> Account {
    Account {
        name: b"web".to_vec(),
        identity: Identity { uid: 1, gid: 1, groups: Vec::new() },
        home: b"/".to_vec(),
        shell: shell.map(<[u8]>::to_vec),
    }
}

#[test]
fn the_users_own_shell_is_first_unless_it_only_says_no() {
    let first = |shell| shells(&account(shell)).next().map(<[u8]>::to_vec);
    assert_eq!(first(Some(b"/bin/zsh")), Some(b"/bin/zsh".to_vec()));
    assert_eq!(first(Some(b"/usr/sbin/nologin")), Some(b"/bin/bash".to_vec()));
    assert_eq!(first(Some(b"/bin/false")), Some(b"/bin/bash".to_vec()));
    assert_eq!(first(None), Some(b"/bin/bash".to_vec()));
}

#[test]
fn programs_are_looked_for_on_absolute_directories_of_the_path_only() {
    let mut environment = Environment::default();
    environment.set(b"PATH", b"/a::relative:.:/b");
    let paths: Vec<_> = named(&[b"x".to_vec(), b"y".to_vec()], &environment)
        .unwrap()
        .into_iter()
        .map(|candidate| candidate.path.into_string().unwrap())
        .collect();
    assert_eq!(paths, ["/a/x", "/b/x"]);
    let direct = named(&[b"./x".to_vec()], &environment).unwrap();
    assert_eq!(direct[0].path.to_bytes(), b"./x");
    assert!(named(&[], &environment).is_err());
    assert!(named(&[b"a\0b".to_vec()], &environment).is_err());
}

#[test]
fn what_cannot_be_executed_is_said_as_a_shell_says_it() {
    let environment = Environment::default();
    let status = |path: &str| {
        let candidate = candidate(path.as_bytes(), &[], &environment).unwrap();
        execute(&[candidate]).kind
    };
    assert_eq!(status("/nothing/there"), FailureKind::Program { status: 127 });
    assert_eq!(status("/etc/hostname/x"), FailureKind::Program { status: 127 });
    assert_eq!(status("/etc"), FailureKind::Program { status: 126 });
}
