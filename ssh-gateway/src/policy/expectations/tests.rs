use super::super::file;
use super::*;
use crate::config::PolicySource;

const POLICY: &str = "
[[identity]]
name = 'alice'
keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDi']
[[rule]]
name = 'shop'
who = ['alice']
compose = ['shop']
users = ['www-data']
allow = ['shell', 'sftp-read']
hours = ['mon-fri 08:00-18:00']
forward = ['db:5432']
";

fn policy() -> Policy {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, POLICY).unwrap();
    file::load(&PolicySource::File(path), &[], &|_| false).1.unwrap()
}

fn surprises(rows: &str) -> Vec<String> {
    let text = format!(
        "[[container]]\nname = 'web'\ncompose = 'shop~web'\n\
         [[container]]\nname = 'blog'\nlabels = {{a = 'b'}}\n\
         [[expect]]\nat = '2026-11-30T12:00:00Z'\nwho = 'alice'\n{rows}"
    );
    let table = parse(&text).unwrap();
    assert_eq!((table.len(), table.is_empty()), (1, false));
    let surprises = table.surprises(&policy(), Timestamp::UNIX_EPOCH).into_iter();
    surprises.map(|surprise| format!("{}: {}", surprise.line, surprise.message)).collect()
}

#[test]
fn what_is_as_expected_is_no_surprise() {
    for rows in [
        "target = 'web'\nmay = ['enter', 'shell', 'sftp-read', 'forward db:5432']\n\
         may_not = ['sftp', 'exec', 'agent']",
        "target = 'shop~web+www-data'\nrule = 'shop'\nmay_not = ['forward db:22', 'listen 80']",
        "target = 'web+root'\nmay_not = ['enter']",
        "target = 'blog'\nmay_not = ['enter']",
    ] {
        assert_eq!(surprises(rows), [""; 0], "{rows}");
    }
}

#[test]
fn what_is_expected_of_no_container_is_told() {
    let told = surprises("target = 'bolg'\nmay_not = ['enter']");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("7: the table has no one such container: "), "{told:#?}");
    let twice = parse(
        "[[container]]\nname = 'web'\n[[container]]\nname = 'web'\n\
         [[expect]]\nwho = 'a'\ntarget = 'web'\nmay_not = ['enter']",
    );
    let faults = twice.unwrap_err();
    assert!(faults.iter().any(|fault| fault.message.contains("already")), "{faults:?}");
}

#[test]
fn what_is_not_is_told_with_its_line_and_reason() {
    let told = surprises("target = 'web'\nmay = ['exec']\nmay_not = ['shell']\nrule = 'other'");
    let [exec, shell, rule] = told.as_slice() else { panic!("{told:#?}") };
    assert!(exec.starts_with("7: alice with SHA256:"), "{exec}");
    assert!(exec.ends_with("may not exec in web: the policy does not allow commands"), "{exec}");
    assert!(shell.ends_with("may shell in web"), "{shell}");
    assert!(rule.starts_with("7: shop decides for alice"), "{rule}");
    let told = surprises("target = 'blog'\nmay = ['enter']\nrule = 'shop'");
    assert!(told[0].ends_with("there is no container blog that this key may enter"), "{told:?}");
    assert!(told[1].starts_with("7: no rule decides"), "{told:?}");
}

#[test]
fn faults_of_a_table_are_told() {
    let row = "[[expect]]\nwho = 'a'\ntarget = 'a'\n";
    for (text, wanted) in [
        (String::new(), "there is no [[expect]]"),
        ("[[expect]]".to_owned(), "say who"),
        ("[[expect]]\nwho = 'a'\ntarget = 'a:b'".to_owned(), "':' cannot be in a login name"),
        (row.to_owned(), "nothing is expected"),
        (format!("{row}may = ['fly']"), "is nothing that can be done"),
        (format!("{row}may = ['exec']\nat = 'noon'"), "is no time"),
        (format!("{row}may = ['exec']\nfrom = 'home'"), "is no address"),
        (format!("[[container]]\n{row}may = ['exec']"), "a container needs a name"),
    ] {
        let faults = parse(&text).unwrap_err();
        let told: Vec<_> = faults.into_iter().map(|fault| fault.message).collect();
        assert!(told.iter().any(|message| message.contains(wanted)), "{text}: {told:?}");
    }
    let table =
        "[[container]]\nname = 'a'\n[[expect]]\nwho = 'carl'\ntarget = 'a'\nmay_not = ['enter']";
    let told = parse(table).unwrap().surprises(&policy(), Timestamp::UNIX_EPOCH);
    // Somebody who does not exist is no test of what he may not do.
    assert!(told[0].message.contains("carl is no identity"), "{told:?}");
}
