use super::*;

fn ssh(settings: &RemoteSettings) -> Result<Ssh, String> {
    let remote = Remote::Sftp {
        user: Some("backup".to_owned()),
        host: "nas".to_owned(),
        port: Some(2222),
        path: "/srv".to_owned(),
    };
    Ssh::new(&remote, settings)
}

fn judged(said: &str) -> Fault {
    judge(said, &ssh(&RemoteSettings::default()).unwrap()).unwrap()
}

#[test]
fn a_call_asks_for_the_subsystem_and_for_strict_host_keys() {
    let arguments = ssh(&RemoteSettings::default()).unwrap().arguments;
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
    assert!(words.contains(&"StrictHostKeyChecking=yes"));
    assert!(words.contains(&"BatchMode=yes"));
    assert!(words.ends_with(&["-p", "2222", "-l", "backup", "-s", "--", "nas", "sftp"]));
}

#[test]
fn files_that_are_named_are_the_only_ones() {
    let settings = RemoteSettings {
        sftp_key_file: Some("/keys/id".into()),
        sftp_known_hosts: Some("/keys/known hosts".into()),
        ..RemoteSettings::default()
    };
    let arguments = ssh(&settings).unwrap().arguments;
    let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
    assert!(words.contains(&"UserKnownHostsFile=\"/keys/known hosts\""));
    assert!(words.contains(&"GlobalKnownHostsFile=/dev/null"));
    assert!(words.windows(3).any(|part| part == ["IdentitiesOnly=yes", "-i", "/keys/id"]));
}

#[test]
fn a_path_that_ssh_would_expand_is_refused() {
    for file in ["/keys/%h", "/keys/$HOME", "/keys/a\"b", "/keys/a\nb"] {
        let settings =
            RemoteSettings { sftp_key_file: Some(file.into()), ..RemoteSettings::default() };
        assert!(ssh(&settings).unwrap_err().starts_with("BACKUP_SFTP_KEY_FILE names a path"));
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let settings = RemoteSettings {
        sftp_known_hosts: Some("/no/such/file".into()),
        ..RemoteSettings::default()
    };
    let fault = ssh(&settings).unwrap().command().unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Invalid);
    assert!(fault.reason.starts_with("cannot read /no/such/file, which BACKUP_SFTP_KNOWN_HOSTS"));
}

#[test]
fn host_keys_are_told_apart_and_never_tried_again() {
    let unknown = judged(
        "No ED25519 host key is known for [nas]:2222 and you have requested strict checking.\r\n\
         Host key verification failed.\r\n",
    );
    assert_eq!((unknown.kind, unknown.is_temporary), (ErrorKind::Denied, false));
    assert_eq!(
        unknown.reason,
        "the host key is not known: compare what `ssh-keyscan -p 2222 nas` says with the server's own, and put it into ~/.ssh/known_hosts"
    );
    let changed = judged(
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n\
         Host key verification failed.\r\n",
    );
    assert_eq!(changed.kind, ErrorKind::Denied);
    assert!(changed.reason.starts_with("the host key is not the one in ~/.ssh/known_hosts: "));
}

#[test]
fn what_is_refused_is_told_from_what_is_away() {
    for (said, kind, is_temporary) in [
        ("backup@nas: Permission denied (publickey).\r\n", ErrorKind::Denied, false),
        ("subsystem request failed on channel 0\r\n", ErrorKind::Invalid, false),
        ("command-line: line 0: Bad configuration option: x\r\n", ErrorKind::Invalid, false),
        ("ssh: connect to host nas port 22: Connection refused\r\n", ErrorKind::Unavailable, true),
        ("ssh: Could not resolve hostname nas: …\r\n", ErrorKind::Unavailable, true),
        ("Connection closed by 10.0.0.1 port 22\r\n", ErrorKind::Unavailable, true),
    ] {
        let fault = judged(said);
        assert_eq!((fault.kind, fault.is_temporary), (kind, is_temporary), "{said}");
    }
    assert_eq!(judge("\n", &ssh(&RemoteSettings::default()).unwrap()), None);
}

#[test]
fn secrets_of_ours_are_not_handed_on() {
    // Whichever of these this very process has must be removed.
    let command = ssh(&RemoteSettings::default()).unwrap().command().unwrap();
    let is_removed = |name: &std::ffi::OsStr| {
        command.as_std().get_envs().any(|(removed, value)| removed == name && value.is_none())
    };
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_ours = ["BACKUP_", "AWS_", "AZURE_"].iter().any(|start| text.starts_with(start));
        assert_eq!(is_ours, is_removed(&name), "{text}");
    }
}
