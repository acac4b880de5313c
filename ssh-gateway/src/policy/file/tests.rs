use chores_common::exit::chain;
use proptest::prelude::*;

use super::*;
use crate::config::PolicySource;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDi";

fn whole() -> String {
    format!(
        "[[identity]]\nname = 'alice'\nkeys = ['{KEY} laptop']\n\
         [[group]]\nname = 'dev'\nmembers = ['alice']\n\
         [[rule]]\nname = 'r'\nwho = ['dev']\ncontainers = ['*']\nusers = ['*']\nallow = ['shell']\n"
    )
}

/// The faults of a text, a line each.
fn faults(text: &str) -> Vec<String> {
    let faults = parse(text, &|_| false).err().unwrap_or_default();
    let told = |fault: &Fault| {
        let place = fault.place.map(|place| format!("{}:{}", place.line, place.column));
        format!("{} {}: {}", place.unwrap_or_default(), fault.key, fault.message)
    };
    faults.iter().map(told).collect()
}

#[test]
fn a_whole_policy_is_read() {
    let written = parse(&whole(), &|_| false).unwrap();
    let [rule] = written.rules.as_slice() else { panic!("{written:?}") };
    assert_eq!((rule.name.as_str(), rule.line), ("r", Some(7)));
    assert_eq!(rule.who, Who::Identities(BTreeSet::from(["alice".to_owned()])));
    assert_eq!((&rule.forward, &rule.listen), (&Places::none(), &Places::none()));
    assert_eq!(rule.allow, Allow { shell: true, ..Allow::default() });
    assert!(!rule.fan_out);
    let text = format!("{}fanout = true\n", whole());
    assert!(parse(&text, &|_| false).unwrap().rules[0].fan_out);
    // The wider word counts, in whatever order.
    for words in ["'sftp', 'sftp-read'", "'sftp-read', 'sftp'"] {
        let written = parse(&whole().replace("'shell'", words), &|_| false).unwrap();
        assert_eq!(written.rules[0].allow.sftp, Files::Write);
    }
}

#[test]
fn a_rule_says_when_there_is_a_toolbox() {
    let of = |lines: &str| {
        let text = whole().replace("allow =", &format!("{lines}\nallow ="));
        let rule = parse(&text, &|_| false).unwrap().rules.remove(0);
        (rule.toolbox, rule.toolbox_trace)
    };
    assert_eq!(of(""), (None, false));
    assert_eq!(of("toolbox = 'never'"), (Some(ToolboxUse::Never), false));
    assert_eq!(of("toolbox = 'always'\ntoolbox_trace = true"), (Some(ToolboxUse::Always), true));
    assert_eq!(of("toolbox_trace = false"), (None, false));
}

#[test]
fn a_rule_says_how_long_a_terminal_waits_for_its_client() {
    let of = |from: &str, to: &str| {
        let text = whole().replace(from, to);
        parse(&text, &|_| false).unwrap().rules.remove(0).linger
    };
    assert_eq!(of("", ""), None);
    let words = "allow = ['shell', 'terminal']\nlinger = '10m'\n";
    assert_eq!(of("allow = ['shell']\n", words), Some(Duration::from_secs(600)));
    let words = "command = 'top'\nallow = ['terminal']\nlinger = '24h'\n";
    assert_eq!(of("allow = ['shell']\n", words), Some(LINGER_MAX));
}

#[test]
fn every_fault_is_told_with_its_place() {
    for (from, to, wanted) in [
        ("name = 'alice'", "", "1:1 identity[1].name: a name is needed"),
        ("name = 'alice'", "name = 'a b'", "2:8 identity[1].name: \"a b\" is no name"),
        ("keys =", "keis =", "3:1 identity[1].keis: there is no such key here"),
        ("keys = [", "keys = []#", "3:8 identity[1].keys: there is no key in it"),
        (KEY, "ssh-ed25519 AAAA", "3:9 identity[1].keys[1]: this key cannot be accepted"),
        (
            KEY,
            "odd ssh-ed25519 AAAA",
            "3:9 identity[1].keys[1]: this key cannot be accepted: ssh-ed25519 and what follows it are no key",
        ),
        (
            "members = ['alice']",
            "members = ['alicia']",
            "6:12 group[1].members[1]: there is no identity or group alicia: define it above",
        ),
        (
            "members = ['alice']",
            "members = ['dev']",
            "6:12 group[1].members[1]: there is no identity or group dev",
        ),
        (
            "who = ['dev']",
            "who = ['Dev']",
            "9:8 rule[1].who[1]: there is no identity or group Dev: did you mean dev?",
        ),
        ("who = ['dev']", "who = []", "9:7 rule[1].who: it is empty"),
        ("who = ['dev']", "", "7:1 rule[1].who: say whom the rule is about"),
        ("who = ['dev']", "who = ['*', 'dev']", "9:7 rule[1].who: \"*\" is everybody already"),
        ("containers = ['*']", "", "7:1 rule[1].containers: say which containers"),
        (
            "containers = ['*']",
            "containers = []",
            "10:14 rule[1].containers: \"\" has an empty element",
        ),
        ("containers = ['*']", "labels = []", "10:10 rule[1].labels: it is empty"),
        (
            "containers = ['*']",
            "labels = ['tier']",
            "10:11 rule[1].labels[1]: \"tier\" is no label",
        ),
        (
            "['*']\nusers",
            "['*', '! db']\nusers",
            "10:14 rule[1].containers: \" db\" is no name of a container",
        ),
        (
            "['*']\nusers",
            "['*', '!/db']\nusers",
            "10:14 rule[1].containers: \"/db\" is no name of a container",
        ),
        (
            "['*']\nusers",
            "['*', '!!db']\nusers",
            "10:14 rule[1].containers: \"!db\" is no name of a container",
        ),
        ("['*']\nusers", "['!db']\nusers", "10:14 rule[1].containers: \"!db\" only leaves out"),
        (
            "containers = ['*']",
            "labels = ['! a=b']",
            "10:11 rule[1].labels[1]: \"! a=b\" is no label",
        ),
        (
            "containers = ['*']",
            "labels = ['!a = b']",
            "10:11 rule[1].labels[1]: \"!a = b\" is no label",
        ),
        (
            "containers = ['*']",
            "labels = ['!a==b']",
            "10:11 rule[1].labels[1]: \"!a==b\" is no label",
        ),
        ("containers = ['*']", "labels = ['!a=b']", "10:10 rule[1].labels: it only leaves out"),
        (
            "containers = ['*']",
            "labels = ['t*=x']",
            "10:11 rule[1].labels[1]: \"t*=x\" is no label",
        ),
        (
            "containers = ['*']",
            "compose = ['a~b~c']",
            "10:12 rule[1].compose[1]: \"a~b~c\" is no place",
        ),
        ("users = ['*']", "", "7:1 rule[1].users: say as which users"),
        ("users = ['*']", "users = []", "11:9 rule[1].users: it is empty"),
        ("users = ['*']", "users = ['a b']", "11:10 rule[1].users[1]: a b is no user"),
        ("users = ['*']", "users = ['*', 'root']", "11:9 rule[1].users: \"*\" is any user already"),
        ("allow = ['shell']", "", "7:1 rule[1].allow: say what is allowed"),
        ("['shell']", "['shel']", "12:10 rule[1].allow[1]: \"shel\" is none of shell"),
        (
            "['shell']",
            "['shell']\ncommand = 'x'",
            "12:10 rule[1].allow[1]: the command takes its place",
        ),
        ("allow = ['shell']", "command = ''", "12:11 rule[1].command: it is empty"),
        (
            "allow = ['shell']",
            "command = 'internal-sftp -d /'",
            "12:11 rule[1].command: internal-sftp does not keep",
        ),
        (
            "['shell']",
            "['shell']\nforward = ['db']",
            "13:12 rule[1].forward[1]: \"db\" is no place",
        ),
        (
            "['shell']",
            "['shell']\nforward = ['*', 'db:1']",
            "13:11 rule[1].forward: \"*\" is every place already",
        ),
        (
            "['shell']",
            "['shell']\nlisten = ['a:b']",
            "13:11 rule[1].listen[1]: \"a:b\" is no place",
        ),
        ("['shell']", "['shell']\nfrom = ['host']", "13:8 rule[1].from: \"host\" is no address"),
        (
            "['shell']",
            "['shell']\nhours = ['always']",
            "13:9 rule[1].hours: \"always\" is no time of the week",
        ),
        ("['shell']", "['shell']\nhours = []", "13:9 rule[1].hours: there is no time in it"),
        ("['shell']", "['shell']\nexpires = 'soon'", "13:11 rule[1].expires: \"soon\" is no time"),
        (
            "['shell']",
            "['shell']\nrequire = ['touch', 'badge']",
            "13:21 rule[1].require[2]: \"badge\" is none of touch, pin and totp",
        ),
        (
            "['shell']",
            "['shell']\nrequire = ['totp']",
            "13:12 rule[1].require[1]: alice has no totp_file",
        ),
        (
            "keys =",
            "totp_file = 'a'\nkeys =",
            "3:13 identity[1].totp_file: \"a\" is no absolute path",
        ),
        ("['shell']", "['shell']\nrequire = []", "13:11 rule[1].require: it is empty"),
        (
            "['shell']",
            "['shell']\nrecords = true",
            "13:1 rule[1].records: there is no such key here",
        ),
        (
            "['shell']",
            "['shell']\nrecord = 'all'",
            "13:10 rule[1].record: \"all\" is none of nothing, output and input",
        ),
        (
            "['shell']",
            "['shell']\nunrecorded = 'yes'",
            "13:14 rule[1].unrecorded: \"yes\" is none of refuse and allow",
        ),
        (
            "['shell']",
            "['shell']\ntoolbox = 'maybe'",
            "13:11 rule[1].toolbox: \"maybe\" is none of auto, never and always",
        ),
        (
            "['shell']",
            "['shell']\ntoolbox = 'never'\ntoolbox_trace = true",
            "14:17 rule[1].toolbox_trace: there is no toolbox by this rule",
        ),
        (
            "['shell']",
            "['shell', 'terminal']\nlinger = '25h'",
            "13:10 rule[1].linger: it is out of range: give 1s to 24h",
        ),
        (
            "['shell']",
            "['shell', 'terminal']\nlinger = '0s'",
            "13:10 rule[1].linger: it is out of range",
        ),
        (
            "['shell']",
            "['shell', 'terminal']\nlinger = 10",
            "13:10 rule[1].linger: it is a whole number; give a time such as",
        ),
        (
            "['shell']",
            "['shell']\nlinger = '10m'",
            "13:10 rule[1].linger: only shells and commands with a terminal wait",
        ),
        (
            "['shell']",
            "['sftp', 'terminal']\nlinger = '10m'",
            "13:10 rule[1].linger: only shells and commands with a terminal wait",
        ),
    ] {
        let text = whole().replacen(from, to, 1);
        assert_ne!(text, whole(), "{from}");
        let told = faults(&text);
        assert!(told.iter().any(|fault| fault.starts_with(wanted)), "{wanted}\n{told:#?}");
    }
    let told = faults("");
    assert_eq!(told.len(), 2, "{told:#?}");
    let again = whole();
    let (_, again) = again.split_once("[[rule]]").unwrap();
    let told = faults(&format!("{}[[rule]]{again}", whole()));
    assert!(told.iter().any(|fault| fault.contains("a rule of this name already")), "{told:?}");
    let told = faults(&whole().replace("'dev'\nmembers", "'alice'\nmembers"));
    assert!(told.iter().any(|fault| fault.contains("group of this name already")), "{told:?}");
}

#[test]
fn files_of_identities_are_read_and_each_key_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let keys = file("bob", &format!("no-such-option {KEY}\n"));
    let bob = format!("[[identity]]\nname = 'bob'\nauthorized_keys = ['{}']\n", keys.display());
    let path = file("policy.toml", &(bob + &whole()));
    let load = || load(&PolicySource::File(path.clone()), &[], &|_| false);
    let (files, policy) = load();
    let policy = policy.unwrap();
    assert_eq!(files, [path.clone(), keys.clone()]);
    assert_eq!(policy.files(), files);
    // A line that does not count is said, as everywhere.
    assert_eq!((policy.keys().lines().len(), policy.keys().faults().len()), (1, 1));
    file("bob", &format!("{KEY}\n"));
    let (files, policy) = load();
    let told = chain(&policy.unwrap_err());
    assert!(told.contains("bob's (") && told.contains("and alice's ("), "{told}");
    // What must be looked at for the mend is known all the same.
    assert_eq!(files, [path.clone(), keys.clone()]);
    std::fs::remove_file(&keys).unwrap();
    let (files, policy) = load();
    assert!(chain(&policy.unwrap_err()).starts_with("cannot read "));
    assert_eq!(files, [path.clone(), keys]);
    std::fs::write(&path, b"\xff").unwrap();
    let told = chain(&load().1.unwrap_err());
    assert!(told.ends_with("policy.toml: it is no UTF-8 text"), "{told}");
}

proptest! {
    #[test]
    fn no_text_is_too_strange(
        text in "\\PC{0,200}", at in 0_usize..400, more in "[\\[\\]='\"a-z*~!\n ]{1,8}",
    ) {
        drop(parse(&text, &|_| true));
        let mut whole = whole();
        let at = whole.char_indices().map(|(at, _)| at).nth(at).unwrap_or(whole.len());
        whole.insert_str(at, &more);
        drop(parse(&whole, &|_| true));
    }
}
