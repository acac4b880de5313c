use proptest::prelude::*;

use super::*;
use crate::config::{ACCEPT_ENVIRONMENT_DEFAULT, KeySource};

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDi";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFB+24IALc7hw32V/ob5hol75hmLbKIjlG6MMbREQvWIBGSSFI5XCjHNPESVACWDyUuQKNRLKDZ0mQ7vlxzEFlU=";

fn keys(text: &str) -> AuthorizedKeys {
    let text = text.replace("ED", ED25519).replace("EC", P256);
    let source = KeySource::Text { variable: "KEYS", text };
    let keys = AuthorizedKeys::load(&[source], &|name| name == "LANG").unwrap();
    assert_eq!(keys.faults(), []);
    keys
}

/// The blob of the key in the first line.
fn blob(keys: &AuthorizedKeys) -> Vec<u8> {
    keys.lines().next().unwrap().key.to_bytes().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-24T12:00:00Z";

fn admitted(text: &str) -> Result<Identity, Denial> {
    let keys = keys(text);
    admit(&keys, &blob(&keys), "192.0.2.7".parse().unwrap(), at(NOW))
}

fn container(name: &str) -> ListedContainer {
    ListedContainer {
        id: "a".repeat(64),
        name: name.to_owned(),
        image_ref: "image".to_owned(),
        labels: std::collections::BTreeMap::new(),
        state: chores_common::engine::ContainerState::Running,
    }
}

fn access_in(text: &str, name: &str, user: Option<&str>) -> Result<Access, Denial> {
    let user = user.map(|user| user.parse().unwrap());
    admitted(text)?.access(&container(name), user.as_ref(), at(NOW))
}

fn access(text: &str) -> Access {
    access_in(text, "web", None).unwrap()
}

fn tcp(host: &str, port: u16) -> Place {
    Place::Tcp { host: host.to_owned(), port }
}

fn unix(path: &str) -> Place {
    Place::Unix { path: path.as_bytes().to_vec() }
}

#[test]
fn who_is_admitted() {
    let (denied, expired) = (Some(Denial::Address), Some(Denial::Expired));
    for (text, wanted) in [
        ("ED me", None),
        ("from=\"192.0.2.0/24\" ED", None),
        ("from=\"198.51.100.1\" ED", denied.clone()),
        ("from=\"*,!192.0.2.7\" ED", denied),
        ("expiry-time=\"20261124\" ED", expired.clone()),
        ("expiry-time=\"202611241200\" ED", expired),
        ("expiry-time=\"20261124120001Z\" ED", None),
        ("from=\"198.51.100.1\" ED\nno-pty ED", None),
    ] {
        assert_eq!(admitted(text).err(), wanted, "{text}");
    }
    let others = keys("EC");
    let unknown = admit(&others, b"something else", "192.0.2.7".parse().unwrap(), at(NOW));
    assert_eq!(unknown.err(), Some(Denial::UnknownKey));
    let identity = admitted("ED me").unwrap();
    assert_eq!(identity.comment(), "me");
    assert!(identity.fingerprint().starts_with("SHA256:"));
}

#[test]
fn the_first_line_that_fits_decides() {
    let text = "from=\"198.51.100.1\",command=\"far\" ED\n\
                container=\"db\",restrict,command=\"dump\" ED\n\
                container=\"web,shop-*\",user=\"www-data,0\" ED";
    let command = |access: &Access| access.key().options.command.clone();
    let db = access_in(text, "db", None).unwrap();
    let dump = Program::Command(b"dump".to_vec());
    assert_eq!((command(&db), db.may_have_terminal()), (Some(dump), false));
    let web = access_in(text, "web", None).unwrap();
    assert_eq!((command(&web), web.user()), (None, Some("www-data")));
    assert_eq!(access_in(text, "shop-1", Some("0")).unwrap().user(), Some("0"));
    let denial = access_in(text, "web", Some("root")).unwrap_err();
    assert_eq!(denial.to_string(), "the key does not allow the user root");
    assert_eq!(access_in(text, "blog", None).unwrap_err(), Denial::Container);
    let identity = admitted(text).unwrap();
    assert!(identity.may_enter(&container("db")) && !identity.may_enter(&container("blog")));
    let mut disabled = container("db");
    disabled.labels.insert("chores.ssh.enable".to_owned(), "false".to_owned());
    assert!(!identity.may_enter(&disabled));
    assert_eq!(identity.access(&disabled, None, at(NOW)), Err(Denial::Container));
    // Nothing said about users: any of them, and the container's own by default.
    assert_eq!(access("ED").user(), None);
    assert_eq!(access_in("ED", "web", Some("1000.5")).unwrap().user(), Some("1000:5"));
}

#[test]
fn a_key_that_expires_ends_what_it_may() {
    let access = access("expiry-time=\"202611241300\" ED");
    assert_eq!(access.check(at(NOW)), Ok(()));
    assert_eq!(access.check(at("2026-11-24T13:00:00Z")), Err(Denial::Expired));
    let identity = admitted("expiry-time=\"202611241300\" ED").unwrap();
    let later = identity.access(&container("web"), None, at("2026-11-24T13:00:01Z"));
    assert_eq!(later, Err(Denial::Expired));
}

#[test]
fn a_forced_command_takes_the_place_of_everything() {
    let command = |text: &str| Program::Command(text.as_bytes().to_vec());
    let free = access("ED");
    for asked in [Program::Shell, Program::Sftp, command("ls")] {
        let chosen = free.program(asked.clone());
        assert_eq!(chosen, Chosen { program: asked, original: None });
    }
    let forced = access("command=\"backup now\" ED");
    for (asked, original) in [
        (Program::Shell, None),
        (Program::Sftp, Some("internal-sftp")),
        (command("rm -rf /"), Some("rm -rf /")),
    ] {
        let chosen = forced.program(asked);
        assert_eq!(chosen.program, command("backup now"));
        assert_eq!(chosen.original.as_deref(), original.map(str::as_bytes));
    }
    let files = access("restrict,command=\"internal-sftp -l INFO\" ED");
    assert_eq!(files.program(command("sh")).program, Program::Sftp);
    assert_eq!(files.program(Program::Shell).program, Program::Sftp);
    // What the operator wrote to keep the client from writing keeps it from writing.
    let reading = access("restrict,command=\"internal-sftp -R\" ED");
    assert_eq!(reading.program(Program::Sftp).program, Program::SftpReadOnly);
    assert_eq!(reading.program(command("sh")).program, Program::SftpReadOnly);
}

#[test]
fn forwards() {
    let (free, none) = (access("ED"), access("no-port-forwarding ED"));
    let (restricted, some) = (
        access("restrict ED"),
        access("permitopen=\"db:5432\",permitlisten=\"localhost:8080\" ED"),
    );
    for place in [tcp("db", 5432), unix("/run/x.sock")] {
        assert_eq!((free.connect(&place), free.listen(&place)), (Ok(()), Ok(())));
        for access in [&none, &restricted] {
            assert_eq!(access.connect(&place), Err(Denial::Forwarding));
            assert_eq!(access.listen(&place), Err(Denial::Forwarding));
        }
    }
    assert_eq!(some.connect(&tcp("db", 5432)), Ok(()));
    for place in [tcp("db", 5433), tcp("db.", 5432), unix("/x"), tcp("localhost", 8080)] {
        assert!(matches!(some.connect(&place), Err(Denial::Destination(_))), "{place:?}");
    }
    assert_eq!(some.listen(&tcp("localhost", 8080)), Ok(()));
    for place in [tcp("", 8080), tcp("localhost", 0), unix("/x")] {
        assert!(matches!(some.listen(&place), Err(Denial::Listen(_))), "{place:?}");
    }
    for place in [tcp("", 1), tcp("x", 0), unix(""), unix("a\0b"), unix(&"x".repeat(108))] {
        assert!(matches!(free.connect(&place), Err(Denial::NoPlace(_))), "{place:?}");
    }
    assert_eq!(free.listen(&tcp("", 0)), Ok(()));
    let told = some.connect(&tcp("a\u{1b}[2J", 1)).unwrap_err().to_string();
    assert_eq!(told, "the key does not allow forwards to a\u{fffd}[2J:1");
    assert!(free.may_forward_agent() && !restricted.may_forward_agent());
}

#[test]
fn what_no_forward_may_reach() {
    let reserved = Reserved::new(vec![
        "172.17.0.5:2222".parse().unwrap(),
        "[2001:db8::5]:2222".parse().unwrap(),
    ]);
    for address in [
        "169.254.169.254:80",
        "169.254.169.254:443",
        "169.254.170.2:80",
        "100.100.100.200:80",
        "[fd00:ec2::254]:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::169.254.169.254]:80",
        "[::169.254.169.254]:80",
        "172.17.0.5:2222",
        "[::ffff:172.17.0.5]:2222",
        "[2001:db8::5]:2222",
    ] {
        let denied = reserved.check(address.parse().unwrap());
        assert!(matches!(denied, Err(Denial::Reserved(..))), "{address}");
    }
    for address in ["172.17.0.5:80", "172.17.0.6:2222", "127.0.0.1:80", "[::1]:80", "[fe80::1]:1"] {
        assert_eq!(reserved.check(address.parse().unwrap()), Ok(()), "{address}");
    }
}

#[test]
fn variables_of_clients() {
    let accepted = ACCEPT_ENVIRONMENT_DEFAULT.map(str::to_owned);
    for name in ["LANG", "LC_ALL", "LC_", "GIT_PROTOCOL", "COLORTERM"] {
        assert!(accepts_variable(&accepted, name), "{name}");
    }
    for name in
        ["", "lang", "LANGUAGE", "LD_PRELOAD", "PATH", "BASH_ENV", "LC_A=B", "LC_A B", "LC_\0", "1"]
    {
        assert!(!accepts_variable(&accepted, name), "{name:?}");
    }
    // Not even when somebody says so.
    for name in ["LD_PRELOAD", "ENV", "PYTHONPATH", "SSH_AUTH_SOCK", "HOME", "BASH_FUNC_ls"] {
        assert!(!accepts_variable(&[name.to_owned()], name), "{name}");
        assert!(environment_pattern_fault(name).is_some(), "{name}");
    }
    for pattern in [
        "",
        "*",
        "L*",
        "LD_*",
        "PYTHON*",
        "E*",
        "S*",
        "A-B",
        "A**",
        "1A",
        "HOM*",
        "GIT_*",
        "GIT_SSH*",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
        "GIT_EXEC_PATH",
        "PROMPT_COMMAND",
        "JDK_*",
        "_JAVA_OPTIONS",
        "OPENSSL_CONF",
        "LESSOPEN",
        "LESSCLOSE",
    ] {
        assert!(environment_pattern_fault(pattern).is_some(), "{pattern}");
    }
    for pattern in accepted.iter().map(String::as_str).chain(["EDITOR", "MY_*", "TZ"]) {
        assert_eq!(environment_pattern_fault(pattern), None, "{pattern}");
    }
}

#[test]
fn the_environment_of_a_session() {
    let accepted = ACCEPT_ENVIRONMENT_DEFAULT.map(str::to_owned);
    let ask = |pairs: &[(&str, &[u8])]| -> Vec<(String, Opaque)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Opaque(value.to_vec()))).collect()
    };
    let given = |access: &Access, asked: &[(String, Opaque)]| -> Vec<String> {
        let given = access.environment(&accepted, asked);
        given.iter().map(|pair| String::from_utf8_lossy(&pair.0).into_owned()).collect()
    };
    let asked = ask(&[
        ("LANG", b"de"),
        ("LD_PRELOAD", b"x"),
        ("LC_ALL", b"\xff"),
        ("LANG", b"en"),
        ("LC_X", b"a\0"),
    ]);
    assert_eq!(given(&access("ED"), &asked), ["LANG=en", "LC_ALL=\u{fffd}"]);
    assert_eq!(given(&access("environment=\"LANG=C\" ED"), &asked), ["LANG=C", "LC_ALL=\u{fffd}"]);
    let many: Vec<_> =
        (0..100).map(|number| (format!("LC_{number}"), Opaque(vec![b'x']))).collect();
    assert_eq!(given(&access("ED"), &many).len(), ENVIRONMENT_COUNT_MAX);
    let large = ask(&[("LC_A", &[b'x'; 8000]), ("LC_B", &[b'x'; 8000])]);
    assert_eq!(given(&access("ED"), &large).len(), 1);
}

proptest! {
    #[test]
    fn nothing_that_is_restricted_gets_through(
        host in "\\PC{0,20}", port in any::<u16>(), path in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let restricted = access("restrict ED");
        for place in [tcp(&host, port), Place::Unix { path }] {
            prop_assert_eq!(restricted.connect(&place), Err(Denial::Forwarding));
            prop_assert_eq!(restricted.listen(&place), Err(Denial::Forwarding));
        }
    }

    #[test]
    fn only_accepted_names_get_in(name in "[A-Z_]{0,12}|\\PC{0,8}", pattern in "[A-Z_]{0,8}\\*?") {
        let accepted = [pattern.clone()];
        if environment_pattern_fault(&pattern).is_none() && accepts_variable(&accepted, &name) {
            prop_assert!(name.starts_with(pattern.trim_end_matches('*')));
            prop_assert!(!name.starts_with("LD_") && name != "PATH" && !name.contains(['=', '\0']));
        }
    }

    #[test]
    fn metadata_has_no_other_spelling(a in any::<[u16; 8]>()) {
        let six = Ipv6Addr::from(a);
        let reserved = Reserved::default();
        let refused = reserved.check(SocketAddr::new(six.into(), 80)).is_err();
        prop_assert_eq!(refused, is_metadata(six.into()));
    }
}
