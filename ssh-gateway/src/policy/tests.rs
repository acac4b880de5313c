use std::net::{Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::verdict::{ACTIONS, Action, Client, enter};
use super::*;
use crate::authorized_keys::{AddressList, ListenPermit, OpenPermit, PatternList};
use crate::config::{ACCEPT_ENVIRONMENT_DEFAULT, KeySource, PolicySource};
use crate::login::Login;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDi";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFB+24IALc7hw32V/ob5hol75hmLbKIjlG6MMbREQvWIBGSSFI5XCjHNPESVACWDyUuQKNRLKDZ0mQ7vlxzEFlU=";

fn keys(text: &str) -> Policy {
    let text = text.replace("ED", ED25519).replace("EC", P256);
    let source = PolicySource::Keys(vec![KeySource::Text { variable: "KEYS", text }]);
    let (files, policy) = file::load(&source, &[], &|name| name == "LANG");
    let policy = policy.unwrap();
    assert_eq!((files, policy.keys().faults()), (Vec::new(), &[][..]));
    policy
}

/// The blob of the key in the first line.
fn blob(policy: &Policy) -> Vec<u8> {
    policy.keys().lines().next().unwrap().key.to_bytes().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// By a key that is no security key.
const SIGNED: Presence = Presence::Signed { touched: false, verified: false };

const NOW: &str = "2026-11-24T12:00:00Z";

fn admitted(text: &str) -> Result<Identity, Denial> {
    let keys = keys(text);
    admit(&keys, &blob(&keys), SIGNED, "192.0.2.7".parse().unwrap(), at(NOW))
}

fn container(name: &str) -> ListedContainer {
    ListedContainer {
        id: "a".repeat(64),
        name: name.to_owned(),
        image_ref: "image".to_owned(),
        labels: BTreeMap::new(),
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
    let unknown = admit(&others, b"something else", SIGNED, "192.0.2.7".parse().unwrap(), at(NOW));
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
    assert_eq!((command(&db), db.terminal()), (Some(dump), Err(Denial::Terminal)));
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
fn a_command_runs_in_several_containers_where_the_rules_of_all_say_so() {
    let mut policy = keys("ED");
    let of = |name: &str, fan_out| {
        let targets =
            Targets { names: Some(PatternList::parse(name).unwrap()), ..Targets::default() };
        let users = Users::Only(vec![RuleUser::Own]);
        Arc::new(Rule { fan_out, targets, users, ..Rule::of_keys() })
    };
    policy.rules = vec![of("web*", true), of("db", false)];
    let peer = "192.0.2.7".parse().unwrap();
    let identity = admit(&policy, &blob(&policy), SIGNED, peer, at(NOW)).unwrap();
    let root = "root".parse().unwrap();
    let may = |names: &[&str], user| {
        let containers: Vec<_> = names.iter().map(|name| container(name)).collect();
        identity.may_fan_out(&containers, user, at(NOW))
    };
    assert!(may(&["web1", "web2"], None));
    for (names, user) in [
        (&["web1", "db"][..], None),
        (&["web1", "other"], None),
        (&["web1", "web2"], Some(&root)),
        (&[], None),
    ] {
        assert!(!may(names, user), "{names:?}");
    }
    let action = |name| {
        let access = identity.access(&container(name), None, at(NOW)).unwrap();
        Action::FanOut.check(&access).is_ok()
    };
    assert!(action("web1") && !action("db"));
    // Where there are only keys, none says so.
    assert!(!access("ED").may_fan_out());
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
        let chosen = free.program(asked.clone()).unwrap();
        assert_eq!(chosen, Chosen { program: asked, original: None });
    }
    let forced = access("command=\"backup now\" ED");
    for (asked, original) in [
        (Program::Shell, None),
        (Program::Sftp, Some("internal-sftp")),
        (command("rm -rf /"), Some("rm -rf /")),
    ] {
        let chosen = forced.program(asked).unwrap();
        assert_eq!(chosen.program, command("backup now"));
        assert_eq!(chosen.original.as_deref(), original.map(str::as_bytes));
    }
    let files = access("restrict,command=\"internal-sftp -l INFO\" ED");
    assert_eq!(files.program(command("sh")).unwrap().program, Program::Sftp);
    assert_eq!(files.program(Program::Shell).unwrap().program, Program::Sftp);
    // What the operator wrote to keep the client from writing keeps it from writing.
    let reading = access("restrict,command=\"internal-sftp -R\" ED");
    assert_eq!(reading.program(Program::Sftp).unwrap().program, Program::SftpReadOnly);
    assert_eq!(reading.program(command("sh")).unwrap().program, Program::SftpReadOnly);
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

/// A policy with the key `ED` of alice, which may do all, and `EC` of bob, and these rules.
fn policy(rules: &str) -> Policy {
    let text = format!(
        "[[identity]]\nname = 'alice'\nkeys = ['{ED25519} laptop']\n\
         [[identity]]\nname = 'bob'\nkeys = ['restrict,pty {P256} desk']\n\
         [[group]]\nname = 'dev'\nmembers = ['alice', 'bob']\n{rules}"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let (_, policy) = file::load(&PolicySource::File(path), &[], &|_| false);
    policy.map_err(|error| chores_common::exit::chain(&error)).unwrap()
}

fn lines_for(policy: &Policy, owner: &str) -> Vec<Arc<AuthorizedKey>> {
    policy.keys.lines().filter(|key| key.owner.as_deref() == Some(owner)).cloned().collect()
}

fn blob_of(policy: &Policy, owner: &str) -> Vec<u8> {
    let mut lines = policy.keys().lines();
    let line = lines.find(|key| key.owner.as_deref() == Some(owner)).unwrap();
    line.key.to_bytes().unwrap()
}

/// What somebody may do in one of the containers `web`, `db` (of project `shop`) and `closed`.
fn may(policy: &Policy, who: &str, from: &str, target: &str) -> Result<Vec<String>, String> {
    let mut database = container("db");
    database.id = "d".repeat(64);
    database.labels.extend(login::compose_labels("shop", "db"));
    database.labels.insert("tier".to_owned(), "data".to_owned());
    let mut closed = container("closed");
    closed.id = "c".repeat(64);
    closed.labels.insert(login::ENABLE_LABEL.to_owned(), "false".to_owned());
    let lines = lines_for(policy, who);
    let client = Client { lines: &lines, peer: from.parse().unwrap(), now: at(NOW) };
    let target = Login::parse(target).unwrap();
    let (_, access) = enter(policy, client, &target, &[container("web"), database, closed])?;
    let allowed = ACTIONS.iter().filter(|action| action.check(&access).is_ok());
    let user = access.user().unwrap_or("@container").to_owned();
    Ok(allowed.map(ToString::to_string).chain([user]).collect())
}

const HERE: &str = "192.0.2.7";

#[test]
fn what_no_rule_names_is_not_allowed() {
    let rules = "[[rule]]\nname = 'data'\nwho = ['alice']\ncontainers = ['*']\ncompose = ['shop~d?']\n\
                 labels = ['tier=data']\nusers = ['@container', '70']\nallow = ['shell', 'sftp-read']\n\
                 [[rule]]\nname = 'everywhere'\nwho = ['dev']\ncontainers = ['*', '!db']\nusers = ['www-data']\n\
                 allow = ['exec', 'terminal', 'agent']\nfrom = ['192.0.2.0/24']\nforward = ['db:5432']\n";
    let policy = policy(rules);
    let words = |words: &str| Ok(words.split(' ').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(may(&policy, "alice", HERE, "db"), words("enter shell sftp-read @container"));
    assert_eq!(may(&policy, "alice", HERE, "db+70"), words("enter shell sftp-read 70"));
    assert_eq!(may(&policy, "alice", HERE, "shop~db"), may(&policy, "alice", HERE, "db"));
    assert_eq!(may(&policy, "alice", HERE, "web"), words("enter exec terminal agent www-data"));
    // What the key's line takes away, no rule gives back.
    assert_eq!(may(&policy, "bob", HERE, "web"), words("enter exec terminal www-data"));
    let denied = |who: &str, from: &str, target: &str| may(&policy, who, from, target).unwrap_err();
    assert_eq!(denied("alice", HERE, "web+root"), "the policy does not allow the user root");
    assert_eq!(denied("alice", HERE, "db+71"), "the policy does not allow the user 71");
    // From elsewhere only the first rule counts, and bob has none.
    assert_eq!(denied("bob", "198.51.100.1", "web"), "the key is not authorized from this address");
    // What may not be entered, what is closed and what does not exist look alike.
    let of = |who: &str, target: &str| denied(who, HERE, target).replace(target, "X");
    for (who, target) in [("bob", "db"), ("bob", "closed"), ("alice", "closed")] {
        assert_eq!(of(who, target), of(who, "none"), "{who} {target}");
    }
}

#[test]
fn labels_are_conditions_all_of_which_hold() {
    let rule = |labels: &str| {
        let rules = format!(
            "[[rule]]\nname = 'r'\nwho = ['alice']\ncontainers = ['*']\nlabels = {labels}\nusers = ['*']\nallow = ['shell']\n"
        );
        let policy = policy(&rules);
        ["web", "db"].map(|target| may(&policy, "alice", HERE, target).is_ok())
    };
    assert_eq!(rule("['tier=data']"), [false, true]);
    assert_eq!(rule("['tier=d*']"), [false, true]);
    assert_eq!(rule("['!tier=data']"), [true, false]);
    assert_eq!(rule("['!tier=x', 'tier=*']"), [false, true]);
    assert_eq!(rule("['tier=data', 'a=b']"), [false, false]);
    assert_eq!(rule("['tier=dat']"), [false, false]);
}

/// Which rule decides, and what `policy explain` says of each.
#[test]
fn the_first_rule_that_fits_decides() {
    let rule = |name: &str, allow: &str| {
        format!(
            "[[rule]]\nname = '{name}'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\nallow = ['{allow}']\n"
        )
    };
    for (first, second) in [("shell", "exec"), ("exec", "shell")] {
        let policy = policy(&(rule("first", first) + &rule("second", second)));
        let identity =
            admit(&policy, &blob_of(&policy, "alice"), SIGNED, HERE.parse().unwrap(), at(NOW));
        let access = identity.unwrap().access(&container("web"), None, at(NOW)).unwrap();
        assert_eq!(access.rule().name, "first");
        assert_eq!(may(&policy, "alice", HERE, "web").unwrap(), ["enter", first, "@container"]);
        let lines = lines_for(&policy, "alice");
        let client = Client { lines: &lines, peer: HERE.parse().unwrap(), now: at(NOW) };
        let verdicts = verdict::explain(&policy, client, &container("web"), None);
        let outcomes: Vec<_> = verdicts.into_iter().map(|verdict| verdict.outcome).collect();
        assert_eq!(outcomes, [verdict::Outcome::Decides, verdict::Outcome::TooLate]);
    }
}

#[test]
fn a_command_that_is_forced_is_no_permission_to_run_commands() {
    let rules = "[[rule]]\nname = 'r'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\ncommand = 'id'\n";
    assert_eq!(may(&policy(rules), "alice", HERE, "web").unwrap(), ["enter", "@container"]);
}

/// Whom the gateway itself answers, of which containers, and how.
#[test]
fn the_gateway_itself_answers_by_what_allows_programs_and_forces_none() {
    let rule = |name: &str, containers: &str, more: &str| {
        format!(
            "[[rule]]\nname = '{name}'\nwho = ['alice']\ncontainers = ['{containers}']\nusers = ['*']\n{more}\n"
        )
    };
    let identity = |rules: &str| {
        let policy = policy(rules);
        admit(&policy, &blob_of(&policy, "alice"), SIGNED, HERE.parse().unwrap(), at(NOW)).unwrap()
    };
    for more in ["allow = ['sftp', 'agent']", "allow = []\nforward = ['*']", "command = 'id'"] {
        let identity = identity(&rule("r", "*", more));
        assert_eq!(identity.inquirer().unwrap_err(), Denial::Inquiry, "{more}");
    }
    // A grant opens what it is about, and not what another one is about.
    let both = rule("forced", "prod-*", "command = 'id'")
        + &rule("files", "data-*", "allow = ['sftp', 'terminal']")
        + &rule("free", "scratch", "allow = ['exec']\nunrecorded = 'allow'");
    let one = identity(&both);
    let inquirer = one.inquirer().unwrap();
    let seen = ["prod-web", "data-1", "scratch"].map(|name| inquirer.sees(&container(name)));
    assert_eq!((seen, inquirer.rule()), ([false, false, true], "free"));
    assert_eq!(inquirer.terminal(), Err(Denial::Policy("a terminal".to_owned())));
    assert_eq!(inquirer.unrecorded(Unrecorded::Refuse), Unrecorded::Allow);
    // The strictest of them says what may be told that is not recorded.
    let strict = rule("strict", "web", "allow = ['shell', 'terminal']\nunrecorded = 'refuse'");
    let two = identity(&(both + &strict));
    let inquirer = two.inquirer().unwrap();
    assert_eq!(inquirer.terminal(), Ok(()));
    assert_eq!(inquirer.unrecorded(Unrecorded::Allow), Unrecorded::Refuse);
    // What is not enabled does not exist.
    let mut closed = container("scratch");
    closed.labels.insert(login::ENABLE_LABEL.to_owned(), "false".to_owned());
    assert!(!inquirer.sees(&closed));
    // Lines of keys force and take away too.
    let forced =
        admitted("command=\"id\",container=\"prod-*\" ED\nno-pty,container=\"scratch\" ED\n");
    let forced = forced.unwrap();
    let inquirer = forced.inquirer().unwrap();
    assert!(inquirer.sees(&container("scratch")) && !inquirer.sees(&container("prod-web")));
    assert_eq!(inquirer.terminal(), Err(Denial::Terminal));
}

#[test]
fn a_rule_that_lets_listen_at_a_port_means_the_loopback() {
    let rules = "[[rule]]\nname = 'r'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n\
                 listen = ['8080', '*:9090']\n";
    let policy = policy(rules);
    let identity =
        admit(&policy, &blob_of(&policy, "alice"), SIGNED, HERE.parse().unwrap(), at(NOW)).unwrap();
    let access = identity.access(&container("web"), None, at(NOW)).unwrap();
    for host in ["", "localhost", "LocalHost", "127.0.0.1", "::1"] {
        assert_eq!(access.listen(&tcp(host, 8080)), Ok(()), "{host}");
    }
    for host in ["0.0.0.0", "::", "*", "172.17.0.2"] {
        assert!(access.listen(&tcp(host, 8080)).is_err(), "{host}");
        assert_eq!(access.listen(&tcp(host, 9090)), Ok(()), "{host}");
    }
}

/// What a connection came in by counts as long as a policy says the same, wherever it says so.
#[test]
fn what_is_taken_away_is_gone_for_those_who_are_in() {
    let rule = |name: &str, more: &str| {
        format!(
            "[[rule]]\nname = '{name}'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n{more}"
        )
    };
    let of = |policy: &Policy| {
        admit(policy, &blob_of(policy, "alice"), SIGNED, HERE.parse().unwrap(), at(NOW))
    };
    let before = policy(&rule("r", ""));
    let access = of(&before).unwrap().access(&container("web"), None, at(NOW)).unwrap();
    let still = |rules: &str| of(&policy(rules)).is_ok_and(|now| now.still_has(&access));
    assert!(still(&rule("r", "")));
    assert!(still(&(rule("another", "hours = ['mon 00:00-00:01']\n") + &rule("r", ""))));
    assert!(!still(&rule("r", "from = ['192.0.2.0/24']\n")));
    assert!(!still(&rule("renamed", "")));
    assert!(!still(&rule("r", "").replace("'alice'", "'bob'")));
}

#[test]
fn forwards_need_the_line_and_the_rule() {
    let rules = "[[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n\
                 forward = ['db:5432', '*:443', '[2001:db8::1]:*', '/run/app.sock']\nlisten = ['localhost:8080']\n";
    let policy = policy(rules);
    let access = |who: &str| {
        let blob = blob_of(&policy, who);
        let identity = admit(&policy, &blob, SIGNED, HERE.parse().unwrap(), at(NOW)).unwrap();
        identity.access(&container("web"), None, at(NOW)).unwrap()
    };
    let (alice, bob) = (access("alice"), access("bob"));
    for place in [tcp("db", 5432), tcp("x", 443), tcp("2001:db8::1", 9), unix("/run/app.sock")] {
        assert_eq!(alice.connect(&place), Ok(()), "{place:?}");
        assert_eq!(bob.connect(&place), Err(Denial::Forwarding), "{place:?}");
    }
    let sockets = ["/run/app.sock2", "/run/../run/app.sock", "run/app.sock"].map(unix);
    for place in sockets.into_iter().chain([tcp("db", 5433), tcp("x", 80), tcp("DB", 5432)]) {
        assert!(matches!(alice.connect(&place), Err(Denial::Policy(_))), "{place:?}");
    }
    assert_eq!(alice.listen(&tcp("localhost", 8080)), Ok(()));
    for place in [tcp("", 8080), tcp("localhost", 0), tcp("0.0.0.0", 8080), unix("/run/app.sock")] {
        assert!(matches!(alice.listen(&place), Err(Denial::Policy(_))), "{place:?}");
    }
}

#[test]
fn a_rule_that_is_over_ends_what_it_allows() {
    let rules = "[[rule]]\nname = 'r'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n\
                 hours = ['tue 08:00-13:00']\nexpires = '20261201'\n";
    let policy = policy(rules);
    let blob = blob_of(&policy, "alice");
    let admit_at = |time| admit(&policy, &blob, SIGNED, HERE.parse().unwrap(), at(time));
    let access = admit_at(NOW).unwrap().access(&container("web"), None, at(NOW)).unwrap();
    assert_eq!(access.check(at(NOW)), Ok(()));
    for (time, said) in [
        ("2026-11-24T13:00:00Z", "the policy does not allow this at this time of the week"),
        ("2026-12-01T09:00:00Z", "the policy does not allow this any more: its rule has expired"),
    ] {
        assert_eq!(access.check(at(time)).unwrap_err().to_string(), said);
        assert_eq!(admit_at(time).unwrap_err().to_string(), said);
    }
}

#[test]
fn touch_and_pin_are_demanded_where_it_says_so() {
    const DEVICE: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDiAAAABHNzaDo=";
    let signed = |touched, verified| Presence::Signed { touched, verified };
    let told = |key: &str, require: &str, presence| {
        let rules = format!(
            "[[identity]]\nname = 'carl'\nkeys = ['{key}']\n[[rule]]\nname = 'r'\nwho = ['carl']\n\
             containers = ['*']\nusers = ['*']\nallow = ['shell']\n{require}\n"
        );
        let policy = policy(&rules);
        let blob = blob_of(&policy, "carl");
        admit(&policy, &blob, presence, HERE.parse().unwrap(), at(NOW)).map(drop)
    };
    let (plain, lax) = (DEVICE.to_owned(), format!("no-touch-required {DEVICE}"));
    let strict = format!("verify-required {DEVICE}");
    let (touch, pin) = ("require = ['touch']", "require = ['pin']");
    for (key, require, presence, wanted) in [
        (&plain, "", signed(false, false), Err(Denial::Touch)),
        (&plain, "", signed(false, true), Err(Denial::Touch)),
        (&plain, "", signed(true, false), Ok(())),
        (&plain, "", Presence::Offered, Ok(())),
        (&lax, "", signed(false, false), Ok(())),
        (&lax, touch, signed(false, false), Err(Denial::Touch)),
        (&strict, "", signed(true, false), Err(Denial::Verification)),
        (&strict, "", signed(false, true), Err(Denial::Touch)),
        (&strict, "", signed(true, true), Ok(())),
        (&plain, pin, signed(true, false), Err(Denial::Verification)),
        (&lax, pin, signed(false, true), Ok(())),
        (&strict, pin, Presence::Offered, Ok(())),
    ] {
        assert_eq!(told(key, require, presence), wanted, "{key} {require} {presence:?}");
    }
    // Certificates of an authority that is no device may be those of devices: explained as such.
    let rules = format!(
        "[[identity]]\nname = 'carl'\nkeys = ['cert-authority,principals=\"c\" ssh-ed25519 \
         AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDj']\n[[rule]]\nname = 'r'\n\
         who = ['carl']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n{touch}\n"
    );
    assert!(may(&policy(&rules), "carl", HERE, "web").is_ok());
    // A key that is no device has nothing to show, and is not even asked to sign.
    for presence in [Presence::Offered, signed(true, true)] {
        let rules = format!(
            "[[rule]]\nname = 'r'\nwho = ['alice']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n{touch}\n"
        );
        let policy = policy(&rules);
        let blob = blob_of(&policy, "alice");
        let admitted = admit(&policy, &blob, presence, HERE.parse().unwrap(), at(NOW));
        assert_eq!(admitted.err(), Some(Denial::SecurityKey));
    }
}

#[test]
fn a_forced_command_is_that_of_the_line_and_the_rule() {
    const CARL: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    let with = |of_rule: &str, options: &str| {
        let rules = format!(
            "[[identity]]\nname = 'carl'\nkeys = ['{options} {CARL}']\n[[rule]]\nname = 'r'\nwho = ['carl']\n\
             containers = ['*']\nusers = ['*']\n{of_rule}\n"
        );
        let policy = policy(&rules);
        let blob = blob_of(&policy, "carl");
        let identity = admit(&policy, &blob, SIGNED, HERE.parse().unwrap(), at(NOW)).unwrap();
        let access = identity.access(&container("web"), None, at(NOW)).unwrap();
        access.program(Program::Shell).map(|chosen| chosen.program)
    };
    let backup = Program::Command(b"backup".to_vec());
    let (rule, key) = ("command = 'backup'", "command=\"backup\"");
    assert_eq!(with(rule, ""), Ok(backup.clone()));
    assert_eq!(with(rule, key), Ok(backup.clone()));
    assert_eq!(with("command = 'other'", key), Err(Denial::Commands));
    assert_eq!(with("allow = ['exec']", key), Ok(backup));
    // What a line forces must be allowed too.
    assert!(matches!(with("allow = ['shell', 'sftp']", key), Err(Denial::Policy(_))));
    let files = "command=\"internal-sftp\"";
    assert_eq!(with("allow = ['sftp-read']", files), Ok(Program::SftpReadOnly));
    assert!(matches!(with("allow = ['shell', 'exec']", files), Err(Denial::Policy(_))));
}

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// The blob of a certificate for these principals, by this authority, that counts for ever.
fn certificate(principals: &[&str], authority: u8, serial: u64) -> Vec<u8> {
    let mut builder = Builder::new([3; 16], private(1).public_key(), 0, u64::MAX).unwrap();
    builder.serial(serial).unwrap().key_id("id").unwrap().cert_type(CertType::User).unwrap();
    for principal in principals {
        builder.valid_principal(*principal).unwrap();
    }
    builder.sign(&private(authority)).unwrap().to_bytes().unwrap()
}

#[test]
fn a_certificate_is_one_identity_or_none() {
    let authority = private(9).public_key().to_openssh().unwrap();
    let rules = format!(
        "[[identity]]\nname = 'carl'\nkeys = ['cert-authority,principals=\"carl,ops\" {authority}']\n\
         [[identity]]\nname = 'dora'\nkeys = ['cert-authority,principals=\"dora\",restrict {authority}']\n\
         [[rule]]\nname = 'r'\nwho = ['carl', 'dora']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell', 'agent']\n"
    );
    let mut policy = policy(&rules);
    let come =
        |policy: &Policy, blob: &[u8]| admit(policy, blob, SIGNED, HERE.parse().unwrap(), at(NOW));
    for (principals, wanted) in
        [(&["carl"][..], "carl"), (&["x", "ops"], "carl"), (&["dora"], "dora")]
    {
        let identity = come(&policy, &certificate(principals, 9, 7)).unwrap();
        assert_eq!(identity.name(), Some(wanted));
        assert_eq!(identity.issued().map(|issued| issued.serial), Some(7));
        // Without extensions neither has an agent, whatever line and rule say.
        let access = identity.access(&container("web"), None, at(NOW)).unwrap();
        assert!(!access.may_forward_agent());
    }
    let denied = |policy: &Policy, blob: &[u8]| come(policy, blob).unwrap_err();
    assert_eq!(denied(&policy, &certificate(&["carl", "dora"], 9, 7)), Denial::Identities);
    assert_eq!(
        denied(&policy, &certificate(&["x"], 9, 7)),
        Denial::Certificate(CertificateError::Nobody)
    );
    let strange = Denial::Certificate(CertificateError::Authority);
    assert_eq!(denied(&policy, &certificate(&["carl"], 8, 7)), strange);
    // The authority itself, and a certificate of it for its own key.
    let own = private(9).public_key().to_bytes().unwrap();
    assert_eq!(denied(&policy, &own), Denial::UnknownKey);
    let padded = [&certificate(&["carl"], 9, 7)[..], &[0]].concat();
    assert_eq!(denied(&policy, &padded), Denial::UnknownKey);
    // What is revoked: one key, and with it everything that it has signed.
    let directory = tempfile::tempdir().unwrap();
    let revoke = |seed: u8| {
        let path = directory.path().join("revoked");
        std::fs::write(&path, private(seed).public_key().to_openssh().unwrap()).unwrap();
        Revoked::load(&[path]).unwrap()
    };
    for seed in [1, 9] {
        policy.revoked = revoke(seed);
        assert_eq!(denied(&policy, &certificate(&["carl"], 9, 7)), Denial::Revoked);
    }
    policy.revoked = revoke(2);
    assert!(come(&policy, &certificate(&["carl"], 9, 7)).is_ok());
}

/// The connection stays, and what runs on it; nothing new begins.
#[test]
fn a_certificate_that_expires_on_an_open_connection_lets_nothing_begin_any_more() {
    let authority = private(9).public_key().to_openssh().unwrap();
    let rules = format!(
        "[[identity]]\nname = 'carl'\nkeys = ['cert-authority,principals=\"carl\" {authority}']\n\
         [[rule]]\nname = 'r'\nwho = ['carl']\ncontainers = ['*']\nusers = ['*']\n\
         allow = ['shell', 'exec']\n"
    );
    let policy = policy(&rules);
    let now = at(NOW);
    let end = u64::try_from(now.as_second()).unwrap() + 60;
    let mut builder = Builder::new([3; 16], private(1).public_key(), end - 120, end).unwrap();
    builder.key_id("id").unwrap().cert_type(CertType::User).unwrap();
    builder.valid_principal("carl").unwrap().extension("permit-port-forwarding", "").unwrap();
    let blob = builder.sign(&private(9)).unwrap().to_bytes().unwrap();
    let come = |time| admit(&policy, &blob, SIGNED, HERE.parse().unwrap(), time);
    let identity = come(now).unwrap();
    let access = identity.access(&container("web"), None, now).unwrap();
    let to = tcp("db", 22);
    let [last, over] = [59, 60].map(|seconds| now + Duration::from_secs(seconds));
    assert_eq!(access.check(last), Ok(()));
    assert_eq!(identity.may_go_on(&to, last), Ok(()));
    assert!(come(last).is_ok_and(|identity| identity.still_has(&access)));
    assert_eq!(access.check(over), Err(Denial::Expired));
    assert_eq!(identity.may_go_on(&to, over), Err(Denial::Expired));
    assert!(identity.access(&container("web"), None, over).is_err());
    assert_eq!(come(over).err(), Some(Denial::Certificate(CertificateError::Time)));
}

#[test]
fn who_goes_on_with_what_was_begun_is_the_same_by_the_same_rule() {
    let authority = private(9).public_key().to_openssh().unwrap();
    let rules = |more: &str| {
        format!(
            "[[identity]]\nname = 'carl'\nkeys = ['cert-authority,principals=\"carl\" {authority}']\n\
             [[identity]]\nname = 'dora'\nkeys = ['cert-authority,principals=\"dora\" {authority}']\n{more}\
             [[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['www', 'root']\n\
             allow = ['shell', 'terminal']\nlinger = '10m'\n"
        )
    };
    let plain = policy(&rules(""));
    let access = |policy: &Policy, blob: &[u8], user: &str| {
        let identity = admit(policy, blob, SIGNED, HERE.parse().unwrap(), at(NOW)).unwrap();
        identity.access(&container("web"), Some(&user.parse().unwrap()), at(NOW)).unwrap()
    };
    let [alice, bob] = ["alice", "bob"].map(|who| blob_of(&plain, who));
    let begun = access(&plain, &alice, "www");
    assert_eq!(begun.linger(), Some(Duration::from_secs(600)));
    assert!(access(&plain, &alice, "www").continues(&begun));
    assert!(!access(&plain, &alice, "root").continues(&begun));
    assert!(!access(&plain, &bob, "www").continues(&begun));
    // The same where it stands elsewhere, and not where another one decides.
    let moved = policy(&rules("[[group]]\nname = 'x'\nmembers = ['bob']\n"));
    assert!(access(&moved, &alice, "www").continues(&begun));
    let other = policy(&rules("").replace("10m", "11m"));
    assert!(!access(&other, &alice, "www").continues(&begun));
    // A new certificate of the same key is the same, and that of another identity is not.
    let begun = access(&plain, &certificate(&["carl"], 9, 7), "www");
    assert!(access(&plain, &certificate(&["carl"], 9, 8), "www").continues(&begun));
    assert!(!access(&plain, &certificate(&["dora"], 9, 8), "www").continues(&begun));
}

fn some<T: Clone + std::fmt::Debug + 'static>(choices: Vec<T>) -> impl Strategy<Value = T> + Clone {
    proptest::sample::select(choices)
}

fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
    let who = some(vec![vec!["alice"], vec!["bob"], vec!["alice", "bob"], vec![]]);
    let names = some(vec!["*", "web", "db", "*,!db", "d?"]);
    let users = some(vec![vec![], vec!["@"], vec!["root"], vec!["www", "@"], vec!["root", "www"]]);
    let allow = (any::<[bool; 4]>(), some(vec![Files::No, Files::Read, Files::Write]));
    let command = Some(Program::Command(b"x".to_vec()));
    let command = some(vec![None, None, command, Some(Program::Sftp)]);
    let place = some(vec!["", "a:1", "a:*", "*"]);
    let from = some(vec![None, Some("192.0.2.0/24")]);
    let hours = some(vec![None, Some("tue 11:00-13:00")]);
    let bounds = (from, hours, any::<bool>());
    let rule = (who, names, users, allow, command, (place.clone(), place), bounds);
    proptest::collection::vec(rule.prop_map(some_rule), 0..6)
}

type Parts = (
    Vec<&'static str>,
    &'static str,
    Vec<&'static str>,
    ([bool; 4], Files),
    Option<Program>,
    (&'static str, &'static str),
    (Option<&'static str>, Option<&'static str>, bool),
);

fn some_rule((who, names, users, (words, sftp), command, places, bounds): Parts) -> Rule {
    let [shell, exec, terminal, agent] = words;
    let (from, hours, is_over) = bounds;
    let user = |user: &str| match user {
        "@" => RuleUser::Own,
        user => RuleUser::Named(user.parse().unwrap()),
    };
    let users: Vec<_> = users.into_iter().map(user).collect();
    Rule {
        name: String::new(),
        line: None,
        who: Who::Identities(who.into_iter().map(str::to_owned).collect()),
        targets: Targets { names: Some(PatternList::parse(names).unwrap()), ..Targets::default() },
        users: if users.is_empty() { Users::Any } else { Users::Only(users) },
        allow: Allow { shell, exec, sftp, terminal, agent },
        command,
        forward: places_of(places.0, OpenPermit::parse),
        listen: places_of(places.1, ListenPermit::parse),
        require_touch: false,
        require_verification: false,
        require_code: false,
        from: from.map(|from| AddressList::parse(from).unwrap()),
        hours: hours.map(|hours| Hours::parse([hours]).unwrap()),
        record: None,
        unrecorded: None,
        fan_out: false,
        toolbox: None,
        toolbox_trace: false,
        linger: None,
        expiry: is_over.then(|| at("2026-11-24T11:30:00Z")),
    }
}

fn places_of<P>(text: &str, parse: impl Fn(&str) -> Option<P>) -> Places<P> {
    match text {
        "*" => Places::All,
        "" => Places::none(),
        text => Places::Only { tcp: vec![parse(text).unwrap()], unix: Vec::new() },
    }
}

type Question = (&'static str, &'static str, &'static str, &'static str);

fn some_question() -> impl Strategy<Value = Question> {
    (
        some(vec!["alice", "bob"]),
        some(vec!["192.0.2.7", "198.51.100.1"]),
        some(vec!["2026-11-24T11:15:00Z", "2026-11-24T12:00:00Z", "2026-11-25T12:00:00Z"]),
        some(vec!["web", "db", "web+root", "db+www", "web+other"]),
    )
}

/// Everything that these rules allow, and as whom.
fn allowed(rules: &[Rule], question: Question) -> Vec<(Option<String>, Action)> {
    let (who, from, time, target) = question;
    let mut policy = two_keys();
    policy.rules = rules.iter().cloned().map(Arc::new).collect();
    let lines = lines_for(&policy, who);
    let client = Client { lines: &lines, peer: from.parse().unwrap(), now: at(time) };
    let mut database = container("db");
    database.id = "d".repeat(64);
    let target = Login::parse(target).unwrap();
    let entered = enter(&policy, client, &target, &[container("web"), database]);
    let Ok((_, access)) = entered else { return Vec::new() };
    let places = ["forward a:1", "forward a:2", "forward /x", "listen a:1", "listen b:2"];
    let places = places.map(|text| text.parse().unwrap());
    let actions = ACTIONS.into_iter().chain(places).filter(|action| action.check(&access).is_ok());
    let user = access.user().map(str::to_owned);
    actions.map(|action| (user.clone(), action)).collect()
}

/// The keys of alice and bob; they are read once.
fn two_keys() -> Policy {
    static KEYS: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
    let rule = "[[rule]]\nname = 'r'\nwho = ['*']\ncontainers = ['*']\nusers = ['*']\nallow = []\n";
    KEYS.get_or_init(|| policy(rule)).clone()
}

proptest! {
    #[test]
    fn no_order_of_rules_grants_what_none_of_them_grants(
        (written, shuffled) in some_rules().prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        question in some_question(),
    ) {
        let alone: Vec<_> =
            written.iter().map(|rule| allowed(std::slice::from_ref(rule), question)).collect();
        for rules in [&written, &shuffled] {
            let together = allowed(rules, question);
            // All that is granted is granted by one and the same rule, and nothing is added by others.
            prop_assert!(together.is_empty() || alone.contains(&together), "{together:?}");
            // What one of them lets in, no order keeps out.
            prop_assert_eq!(together.is_empty(), alone.iter().all(Vec::is_empty));
        }
    }

    #[test]
    fn rules_about_others_change_nothing(rules in some_rules(), question in some_question()) {
        let (who, ..) = question;
        let is_its = |rule: &&Rule| rule.is_about(Some(who));
        let its: Vec<_> = rules.iter().filter(is_its).cloned().collect();
        prop_assert_eq!(allowed(&rules, question), allowed(&its, question));
    }

    #[test]
    fn what_a_line_takes_away_no_rule_gives_back(rules in some_rules(), question in some_question()) {
        let (_, from, time, target) = question;
        for (_, action) in allowed(&rules, ("bob", from, time, target)) {
            let is_taken = matches!(action, Action::Agent | Action::Forward(_) | Action::Listen(_));
            prop_assert!(!is_taken, "{action}");
        }
    }
}
