use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::login::UserName;
use crate::wire::Program;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDi";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBFB+24IALc7hw32V/ob5hol75hmLbKIjlG6MMbREQvWIBGSSFI5XCjHNPESVACWDyUuQKNRLKDZ0mQ7vlxzEFlU=";
const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBJx3WhHUiIr1KfcoOEzD36nchOUvkdGJRBSbyCiMHteN3nh7KQh0sJIGiqlMYbkxYG1U89YlfSYS+Anj4y/FmD+R29BDfArJ1RFLR/t/J6eoi04SMlwJBtGsjoDfAkp6wg==";
const P521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBACBwLVnl+Q8FOlPZv5ZXKcdZ4MH0jniXAWpNzk6xT0IXfXGobm1IS8ZGNkxH8WJp0L6oUGZqXfzqJOSS0FBHzjz2gFln71nLDsFd3iJCdaaiWJzGKWfks42RfDuS/6lYo4qWR15/HPfikB0GjxgXYk9drQtCaxPkkbF4ICn3hduyQTpiQ==";
const RSA_2048: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCy62bAVDZZFltM/gzIikzn86mPK2woa4H0vYCNKRifWk1+f/8sajQG3VQVE9lyztEk6oEYqppccEa+0U5u+fx/UNtZQA+iMZXAhoUUYG5PVw3QBZGz9ansdJiJNFDePWSaVxvYRocALw9Noke15hA4hxaY7Y0FW3msONmN/lhvFZy7pr44XGhxYPpI2FEphhsej+cGh5Ac2vWQkcIfZV4PbhiHzk0hmcG4EcCcxmFTnCiH0nH6nOhztwiM5nDOrgOBdIIxnBO4ClB4liOa+41nROOw7wiHzuTrlT+NDxwY4A0n99psJCO0WlsA4XyHHCzHdrHzyryPTX/XdFLkoyaP";
const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7g4Tv26LmoqdyZ/zDB66HKNwFRodP3j7dTM/A9iYWbmi+nvxEa1XSkMGqBxMVmKWv7ch5uLjBQaoB4AflimFD+z6WcvsCc3rRoxzrE4QUApkPKHevHP6dMAJHkLUZl0t7futjfvKy004ssBxPwCPpb0/zpG8P+5yRJENDmLZFbw==";
const DSA: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAMjeO3aCOxEttSglgacndfTNuM/HgXI0rEcNCueKSF5ddONmmFDdgXwUyECClX4WBWekICqbdsNz+9qBQxM9PFy6A6fdwrJaI1yrAKyJR5iKi9dSJVb1Bf7aAfAUfOsqHrB+CJDqucjC2yYz7AYA095ZTHwlPDbDZ73a5rowhpeFAAAAFQClVrENz8SbXHdakTCUPxqk3HnquQAAAIA9C908XszTt55Zm2gQswdABMHgf+T804Iq/S2SfYFbWpmWbhuhqKpJdkMfZEMMsZ3LNoLoBTJN7iHhGwlSL/hm39hf8fUW5BCo9jJmebxEtZ2r0s1ZiQbu3GHcv2ZyTwcb3YLEA7WwKqKeKi3Xm+P+qHcHxQaJ1TDp33Q9+8L34AAAAIEAtVwq7o102M+8X8bkliWoWHq8v8pVtADGZ4LMa7ubkaNw6lRlMDu0qJr6GEohUIE84uWV7GT0N1zeGTBMFNBCzmBBxXOGqbSDOVxNZAf4PwNZ3iRH/rR+78U2Egje8COBjZ1a7eHXh4D0vXd6LN33Oe0iw1lkvbtsOws0BWGLnj0=";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIHkhMj6Y7fDHi3jzU2f12kOD6Y/tYmbKQf6Kn34JOkDiAAAABHNzaDo=";
const SK_ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBFB+24IALc7hw32V/ob5hol75hmLbKIjlG6MMbREQvWIBGSSFI5XCjHNPESVACWDyUuQKNRLKDZ0mQ7vlxzEFlUAAAAEc3NoOg==";
const CERTIFICATE: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAAKGVjZHNhLXNoYTItbmlzdHAyNTYtY2VydC12MDFAb3BlbnNzaC5jb20AAAAgLvUX7t/I1+WGghLD9DJpfwQeLCC84a70ah1j3od7Ok8AAAAIbmlzdHAyNTYAAABBBFB+24IALc7hw32V/ob5hol75hmLbKIjlG6MMbREQvWIBGSSFI5XCjHNPESVACWDyUuQKNRLKDZ0mQ7vlxzEFlUAAAAAAAAAAAAAAAEAAAABeAAAAAgAAAAEcm9vdAAAAAAAAAAA//////////8AAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACB5ITI+mO3wx4t481Nn9dpDg+mP7WJmykH+ip9+CTpA4gAAAFMAAAALc3NoLWVkMjU1MTkAAABAzV1nz309ResxmrN4opo0MBzxA0w8YJ6s8d05cEyHzihdemTq4LNGgxnIhF70VA4oDbkNqWI5s6e0wGaqrQxxCA==";

/// `ssh-rsa …` with a modulus of so many bits, which is odd and no product of primes.
fn rsa(bits: usize, exponent: &[u8]) -> String {
    let mut modulus = vec![0; bits.div_ceil(8)];
    modulus[0] = 1 << ((bits + 7) % 8);
    *modulus.last_mut().unwrap() |= 1;
    if modulus[0] >= 0x80 {
        modulus.insert(0, 0);
    }
    let mut blob = Vec::new();
    for part in [b"ssh-rsa", exponent, &modulus] {
        blob.extend((part.len() as u32).to_be_bytes());
        blob.extend(part);
    }
    format!("ssh-rsa {}", base64(&blob))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
        let number = number << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = (number >> (18 - 6 * digit)) & 63;
            text.push(if digit > chunk.len() { '=' } else { DIGITS[at as usize] as char });
        }
    }
    text
}

fn accepts(name: &str) -> bool {
    name == "LANG" || name == "TEAM"
}

/// The one key of a text.
fn key(text: &str) -> Result<Arc<AuthorizedKey>, String> {
    let mut keys = AuthorizedKeys::default();
    keys.add(None, "k", text.as_bytes(), &accepts).map_err(|error| error.to_string())?;
    match (keys.lines.as_slice(), keys.faults()) {
        ([one], []) => Ok(Arc::clone(one)),
        ([], [fault]) => Err(fault.reason.clone()),
        other => panic!("{text}: {other:?}"),
    }
}

fn options(text: &str) -> Result<Options, String> {
    key(&format!("{text} {ED25519} comment")).map(|key| key.options.clone())
}

#[test]
fn keys_that_are_accepted() {
    let big = rsa(8192, &[1, 0, 1]);
    for text in [ED25519, P256, P384, P521, RSA_2048, &big] {
        let read = key(&format!("{text} a comment with  blanks \n")).unwrap();
        assert_eq!(read.comment, "a comment with  blanks");
        assert_eq!(read.options, Options::default());
        assert!(read.fingerprint.starts_with("SHA256:"), "{}", read.fingerprint);
        assert!(key(text).unwrap().comment.is_empty());
        assert!(key(&format!(" \t{text}\r\n")).is_ok());
        assert!(key(&text.replace(' ', "\t  ")).is_ok());
    }
    for text in [SK_ED25519, SK_ECDSA] {
        for options in ["", "no-touch-required ", "verify-required "] {
            let key = key(&format!("{options}{text}")).unwrap();
            assert!(key.is_security_key());
            assert_eq!(key.options.no_touch_required, options.starts_with("no-touch"));
            assert_eq!(key.options.verify_required, options.starts_with("verify"));
        }
    }
}

#[test]
fn keys_that_are_not_and_why() {
    let (large, short, one, even) =
        (rsa(16_384, &[1, 0, 1]), rsa(2047, &[1, 0, 1]), rsa(2048, &[1]), rsa(2048, &[4]));
    let damaged = ED25519.replace("AAAAC3", "AAAAC4");
    let other_type = ED25519.replace("ssh-ed25519 ", "ssh-rsa ");
    let long = format!("{ED25519} {}", "x".repeat(LINE_BYTES_MAX));
    let verify = format!("verify-required {ED25519}");
    let authority = format!("cert-authority {ED25519}");
    let cases = [
        (RSA_1024, "its 1024 bits of RSA are fewer than 2048: use ed25519"),
        (&short, "its 2047 bits of RSA are fewer than 2048: use ed25519"),
        (&large, "its 16384 bits of RSA are more than the 8192 that can be checked"),
        (&one, "its RSA exponent makes it no key at all"),
        (&even, "its RSA exponent makes it no key at all"),
        (DSA, "DSA keys are too weak"),
        (CERTIFICATE, "it is a certificate: give the key of its authority, with cert-authority"),
        (&authority, "cert-authority needs principals="),
        (&verify, "verify-required is for security keys (sk-…), and this is none"),
        (&damaged, "ssh-ed25519 and what follows it are no key"),
        (&other_type, "ssh-rsa and what follows it are no key"),
        ("ssh-ed25519", "there is no key in the line"),
        ("ssh-ed25519 ", "there is no key in the line"),
        ("restrict", "there is no key in the line"),
        ("restrict,command=\"x y\"", "there is no key in the line"),
        ("ssh-ed25519 !!!!", "ssh-ed25519 and what follows it are no key"),
        ("ssh-unheard-of AAAA", "ssh-unheard-of and what follows it are no key"),
        ("ecdsa-\u{1b}[2J AAAA", "ecdsa-\u{fffd}[2J and what follows it are no key"),
        (&long, "the line is longer than 8192 bytes"),
        ("ssh-ed25519 \0", "there is a NUL in the line"),
    ];
    for (text, said) in cases {
        let told = key(text).unwrap_err();
        assert!(told.starts_with(said), "{text}: {told}");
    }
    // A line with the largest key that sshd takes is no long line.
    assert!(large.len() < LINE_BYTES_MAX / 2);
}

#[test]
fn a_bad_line_does_not_count_and_the_others_do() {
    let text = format!("# comment\n\n{ED25519} a\nnonsense\n\t# more\nno-pty {P256} b\n");
    let mut bytes = text.into_bytes();
    bytes.extend([0xff, 0xfe]);
    let mut keys = AuthorizedKeys::default();
    keys.add(None, "/keys", &bytes, &accepts).unwrap();
    let lines: Vec<_> = keys.lines().map(|key| (key.line, key.comment.as_str())).collect();
    assert_eq!(lines, [(3, "a"), (6, "b")]);
    let faults: Vec<_> = keys.faults().iter().map(ToString::to_string).collect();
    assert_eq!(
        faults[0],
        "/keys:4: this key is not accepted: there is no key in the line: TYPE KEY is missing"
    );
    assert_eq!(
        faults.last().unwrap(),
        "/keys:7: this key is not accepted: the line is no UTF-8 text"
    );
    assert_eq!(keys.of_blob(b"unknown").count(), 0);
    let blob = keys.lines().next().unwrap().key.to_bytes().unwrap();
    assert_eq!(keys.of_blob(&blob).map(|key| key.line).collect::<Vec<_>>(), [3]);
}

#[test]
fn options_take_away_and_give_back_in_their_order() {
    let of = |text: &str| {
        let options = options(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        (options.pty, options.agent_forwarding, options.port_forwarding)
    };
    assert_eq!(of("restrict"), (false, false, false));
    assert_eq!(of("restrict,pty"), (true, false, false));
    assert_eq!(of("pty,restrict"), (false, false, false));
    assert_eq!(of("RESTRICT,Agent-Forwarding,port-forwarding"), (false, true, true));
    assert_eq!(
        of("no-pty,no-X11-forwarding,no-user-rc,X11-forwarding,user-rc"),
        (false, true, true)
    );
    assert_eq!(of("no-agent-forwarding,no-port-forwarding"), (true, false, false));
}

#[test]
fn options_with_values() {
    let read = options(
        r#"command="echo \"a b\", c\d",from="192.0.2.0/24,!192.0.2.7",expiry-time="20300101",expiry-time="202912312359",environment="TEAM=a=b",environment="TEAM=second",permitopen="db:5432",permitopen="[::1]:*",permitlisten="8080",permitlisten="LocalHost:9000",container="shop-*,!shop-db",user="www-data,1000.5""#,
    )
    .unwrap();
    assert_eq!(read.command, Some(command(r#"echo "a b", c\d"#)));
    let from = read.from.unwrap();
    assert!(from.contains("192.0.2.1".parse().unwrap()));
    assert!(!from.contains("192.0.2.7".parse().unwrap()));
    assert_eq!(read.expiry.unwrap().to_string(), "2029-12-31T23:59:00Z");
    assert_eq!(read.environment, [("TEAM".to_owned(), "a=b".to_owned())]);
    let open = read.permit_open.unwrap();
    assert!(
        open[0].allows("db", 5432) && !open[0].allows("db", 5433) && !open[0].allows("DB", 5432)
    );
    assert!(open[1].allows("::1", 1) && !open[1].allows("::2", 1));
    let listen = read.permit_listen.unwrap();
    assert!(listen[0].allows("", 8080) && listen[0].allows("localhost", 8080));
    assert!(!listen[0].allows("localhost", 0));
    assert!(listen[1].allows("localhost", 9000) && !listen[1].allows("", 9000));
    let containers = read.containers.unwrap();
    assert!(containers.matches("shop-web") && !containers.matches("shop-db"));
    assert!(!containers.matches("blog"));
    let users: Vec<_> = read.users.iter().map(UserName::as_str).collect();
    assert_eq!(users, ["www-data", "1000:5"]);
    assert_eq!(options("permitopen=\"*:*\"").unwrap().permit_open.unwrap()[0].port, None);
    assert_eq!(options("command=\"\"").unwrap().command, Some(command("")));
}

fn command(text: &str) -> Program {
    Program::Command(text.as_bytes().to_vec())
}

#[test]
fn the_own_sftp_server_keeps_what_the_line_says_or_the_key_is_kept_out() {
    for (text, wanted) in [
        ("internal-sftp", Program::Sftp),
        ("internal-sftp -e -f AUTH -l VERBOSE", Program::Sftp),
        ("internal-sftp  -lINFO\t-fAUTH", Program::Sftp),
        ("internal-sftp -R", Program::SftpReadOnly),
        ("internal-sftp -eRl INFO", Program::SftpReadOnly),
        ("internal-sftp -l INFO -R", Program::SftpReadOnly),
        // As sshd has it, this is another program.
        ("internal-sftp2 -P write", command("internal-sftp2 -P write")),
        ("/bin/internal-sftp -R", command("/bin/internal-sftp -R")),
    ] {
        assert_eq!(
            options(&format!("command=\"{text}\"")).unwrap().command,
            Some(wanted),
            "{text}"
        );
    }
    for (text, named) in [
        ("internal-sftp -P write,remove", "-P"),
        ("internal-sftp -p open,read", "-p"),
        ("internal-sftp -R -d /data", "-d"),
        ("internal-sftp -u 077", "-u"),
        ("internal-sftp -ReP write", "-ReP"),
        ("internal-sftp -h", "-h"),
        ("internal-sftp -l", "-l"),
        ("internal-sftp -", "-"),
        ("internal-sftp --", "--"),
        ("internal-sftp ; rm x", ";"),
        ("internal-sftp R", "R"),
    ] {
        let told = options(&format!("command=\"{text}\"")).map(drop).unwrap_err();
        let begin = format!("internal-sftp does not keep {named}: in this release only -R");
        assert!(told.starts_with(&begin), "{text}: {told}");
    }
}

#[test]
fn options_that_are_wrong_keep_the_key_out() {
    let cases = [
        ("magic", "there is no option magic"),
        ("no-restrict", "there is no option no-restrict"),
        ("no-command=\"x\"", "there is no option no-command"),
        ("command", "the option command lacks its value: command=\"…\""),
        ("pty=\"yes\"", "the option pty takes no value"),
        ("command=ls", "the value of the option command is not in quotes"),
        ("command=\"ls\"pty", "a comma is missing after the option command"),
        ("pty,", "the options end with a comma"),
        ("pty,,no-pty", "there is no option "),
        ("command=\"a\",command=\"b\"", "there is more than one option command"),
        ("from=\"1.1.1.1\",from=\"1.1.1.1\"", "there is more than one option from"),
        ("from=\"\"", "\"\" has an empty element"),
        ("from=\"192.0.2.1/24\"", "\"192.0.2.1/24\" has bits set behind the first 24"),
        ("from=\"192.0.2.0/33\"", "\"192.0.2.0/33\" is no ADDRESS/BITS"),
        ("from=\"192.0.2.0/+8\"", "\"192.0.2.0/+8\" is no ADDRESS/BITS"),
        ("from=\"*.example.com\"", "\"*.example.com\" is no address"),
        ("from=\"host\"", "\"host\" is no address"),
        ("expiry-time=\"2030\"", "expiry-time=\"2030\" is no time"),
        ("expiry-time=\"20301301\"", "expiry-time=\"20301301\" is no time"),
        ("expiry-time=\"203001012460\"", "expiry-time=\"203001012460\" is no time"),
        ("environment=\"LD_PRELOAD=x\"", "the variable LD_PRELOAD may not be set: see accept_env"),
        ("environment=\"TEAM\"", "environment=\"TEAM\" is no NAME=value"),
        ("permitopen=\"db\"", "permitopen=\"db\" is no HOST:PORT"),
        ("permitopen=\"5432\"", "permitopen=\"5432\" is no HOST:PORT"),
        ("permitopen=\"db:0\"", "permitopen=\"db:0\" is no HOST:PORT"),
        ("permitopen=\"db:65536\"", "permitopen=\"db:65536\" is no HOST:PORT"),
        ("permitopen=\"::1:80\"", "permitopen=\"::1:80\" is no HOST:PORT"),
        ("permitopen=\":80\"", "permitopen=\":80\" is no HOST:PORT"),
        ("permitlisten=\"host\"", "permitlisten=\"host\" is no [HOST:]PORT"),
        ("user=\"\"", "user=\"\": "),
        ("user=\"a b\"", "user=\"a b\": a b is no user"),
        ("user=\"a\",user=\"b\"", "there is more than one option user"),
        ("container=\"a,,b\"", "\"a,,b\" has an empty element"),
        ("container=\"*,!/db\"", "\"/db\" is no name of a container"),
        ("container=\"!db\"", "\"!db\" only leaves out"),
        ("from=\"*,!2001:db8:*\"", "\"2001:db8:*\" is no pattern for IPv4"),
        ("principals=\"x\"", "principals is for lines with cert-authority"),
        ("tunnel=\"0\"", "tunnel: there are no tunnels in this release"),
    ];
    for (text, said) in cases {
        let told = options(text).map(drop).unwrap_err();
        assert!(told.starts_with(said), "{text}: {told}");
    }
    let unfinished = key(&format!("command=\"ls {ED25519}")).unwrap_err();
    assert!(unfinished.starts_with("there is no key"), "{unfinished}");
    let many = "permitopen=\"a:1\",".repeat(257);
    assert!(options(many.trim_end_matches(',')).unwrap_err().contains("more than 256"));
}

#[test]
fn where_clients_may_come_from() {
    let cases = [
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false),
        ("192.0.2.7", "::ffff:192.0.2.7", true),
        ("::ffff:192.0.2.7", "192.0.2.7", true),
        ("192.0.2.0/24", "192.0.2.255", true),
        ("192.0.2.0/24", "192.0.3.0", false),
        ("0.0.0.0/0", "203.0.113.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "192.0.2.1", false),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("2001:DB8::/32", "2001:db8::1", true),
        ("*,!::ffff:10.0.0.0/104", "10.0.0.1", false),
        ("*,!::ffff:10.0.0.0/104", "11.0.0.1", true),
        ("192.0.2.*", "192.0.2.77", true),
        ("192.0.2.*", "192.0.20.7", false),
        ("192.0.2.?", "192.0.2.77", false),
        ("*", "2001:db8::1", true),
        ("*,!192.0.2.7", "192.0.2.7", false),
        ("!192.0.2.7,*", "192.0.2.7", false),
        ("!192.0.2.7", "192.0.2.8", false),
        ("!192.0.2.0/24 , 192.0.0.0/16", "192.0.3.8", true),
        ("!::ffff:192.0.2.7,*", "192.0.2.7", false),
    ];
    for (list, address, wanted) in cases {
        let list_read = AddressList::parse(list).unwrap_or_else(|fault| panic!("{list}: {fault}"));
        assert_eq!(list_read.contains(address.parse().unwrap()), wanted, "{list} {address}");
    }
}

#[test]
fn patterns_match_as_in_ssh_config() {
    for (pattern, text, wanted) in [
        ("*", "", true),
        ("?", "", false),
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("a**?c", "ac", false),
        ("a*b*c", "a-b-b-c", true),
        ("*.x", "a.x.x", true),
        ("", "", true),
        ("", "a", false),
        ("ä?", "äö", true),
    ] {
        assert_eq!(is_match(pattern, text), wanted, "{pattern} {text}");
    }
}

#[test]
fn files_are_bounded_and_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let load = || AuthorizedKeys::load(&[KeySource::File(path.clone())], &accepts);
    let told = || chores_common::exit::chain(&load().unwrap_err());
    assert!(told().starts_with("cannot read "), "{}", told());
    assert!(told().ends_with("No such file or directory (os error 2)"), "{}", told());
    std::fs::write(&path, "# nobody\nnonsense\n").unwrap();
    let set_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o644);
    assert!(told().starts_with("there is no key in "), "{}", told());
    let of_line =
        format!("; {}:2: there is no key in the line: TYPE KEY is missing", path.display());
    assert!(told().ends_with(&of_line), "{}", told());
    std::fs::write(&path, format!("{ED25519}\n{ED25519} again\n")).unwrap();
    assert_eq!(load().unwrap().lines().len(), 2);
    for mode in [0o664, 0o646] {
        set_mode(mode);
        assert!(told().contains("can be written by others than its owner"), "{}", told());
    }
    set_mode(0o600);
    let set_directory_mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(directory.path(), mode).unwrap();
    };
    for mode in [0o770, 0o707] {
        set_directory_mode(mode);
        assert!(told().contains("can write in"), "{}", told());
    }
    set_directory_mode(0o1777);
    assert_eq!(load().unwrap().lines().len(), 2);
    set_directory_mode(0o700);
    std::fs::write(&path, vec![b'\n'; FILE_BYTES_MAX + 1]).unwrap();
    assert!(told().ends_with("keys is larger than 1048576 bytes"), "{}", told());
    let text = format!("{ED25519}\n").repeat(KEYS_MAX + 1);
    let mut keys = AuthorizedKeys::default();
    let half = text.len() / 2 / (ED25519.len() + 1) * (ED25519.len() + 1);
    keys.add(None, "a", &text.as_bytes()[..half], &accepts).unwrap();
    assert!(matches!(
        keys.add(None, "b", &text.as_bytes()[half..], &accepts),
        Err(KeysError::TooMany)
    ));
    let of_variable = KeySource::Text { variable: "KEYS", text: format!("{ED25519} me") };
    let keys = AuthorizedKeys::load(&[of_variable], &accepts).unwrap();
    assert_eq!(keys.lines().next().unwrap().source, "KEYS");
}

/// A file that is mounted by itself stays the old one when an editor puts another in its place. What it says is not
/// what the operator says any more.
#[test]
fn a_file_without_a_name_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    std::fs::write(&path, format!("{ED25519}\n")).unwrap();
    let mounted = File::open(&path).unwrap();
    // As such a mount does, this leads to the file and not to its name.
    let mount = PathBuf::from(format!("/proc/self/fd/{}", mounted.as_raw_fd()));
    let load = |path: &PathBuf| AuthorizedKeys::load(&[KeySource::File(path.clone())], &accepts);
    assert_eq!(load(&mount).unwrap().lines().len(), 1);
    let new = directory.path().join("new");
    std::fs::write(&new, format!("{P256}\n")).unwrap();
    std::fs::rename(&new, &path).unwrap();
    let told = load(&mount).unwrap_err().to_string();
    assert!(told.contains("was replaced or removed outside"), "{told}");
    assert!(told.contains("mount its directory"), "{told}");
    assert_eq!(load(&path).unwrap().lines().len(), 1);
}

proptest! {
    #[test]
    fn no_line_is_too_strange(
        line in "(?s).{0,80}|[a-z\\-]{0,20}(=\"[^\"]{0,20}\")?[, ]ssh-ed25519 [A-Za-z0-9+/=]{0,100}( .{0,20})?",
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut keys = AuthorizedKeys::default();
        keys.add(None, "k", line.as_bytes(), &accepts).unwrap();
        keys.add(None, "k", &bytes, &accepts).unwrap();
        for key in keys.lines() {
            prop_assert!(keys.of_blob(&key.key.to_bytes().unwrap()).count() >= 1);
        }
    }

    #[test]
    fn options_before_a_key_are_read_or_keep_it_out(options in "[ -~]{1,60}") {
        let text = format!("{options} {ED25519}");
        let mut keys = AuthorizedKeys::default();
        keys.add(None, "k", text.as_bytes(), &accepts).unwrap();
        // Whatever they are, they are never passed over.
        if let Some(key) = keys.lines().next() {
            let names = ["restrict", "pty", "forwarding", "user-rc", "command", "from", "touch",
                "expiry", "environment", "permit", "container", "user"];
            let lower = options.to_lowercase();
            let is_blank = options.trim().is_empty();
            prop_assert!(is_blank || names.iter().any(|name| lower.contains(name)), "{key:?}");
        } else {
            prop_assert!(!keys.faults().is_empty() || options.trim_start().starts_with('#'));
        }
    }

    #[test]
    fn values_survive_quoting(value in "[^\0\r\n\\\\\"]{0,60}") {
        let quoted = value.replace('"', "\\\"");
        let read = options(&format!("command=\"{quoted}\"")).unwrap();
        let is_sftp = value.split_whitespace().next() == Some(INTERNAL_SFTP);
        prop_assert!(is_sftp || read.command == Some(command(&value)), "{:?}", read.command);
    }

    #[test]
    fn networks_contain_their_addresses(address in any::<[u8; 16]>(), bits in 0_u32..=128) {
        let six = std::net::Ipv6Addr::from(address);
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let network = std::net::Ipv6Addr::from_bits(six.to_bits() & mask);
        let list = AddressList::parse(&format!("{network}/{bits}")).unwrap();
        if six.to_ipv4_mapped().is_none() {
            prop_assert!(list.contains(six.into()));
        }
        if bits > 0 {
            let flipped = std::net::Ipv6Addr::from_bits(six.to_bits() ^ (1 << (128 - bits)));
            prop_assert!(!list.contains(flipped.into()));
        }
    }

    #[test]
    fn a_pattern_is_matched_in_bounded_time(pattern in "[a*?]{0,60}", text in "a{0,60}") {
        let stars = pattern.contains('*');
        let least = pattern.chars().filter(|one| *one != '*').count();
        let wanted = if stars { text.len() >= least } else { text.len() == least };
        prop_assert_eq!(is_match(&pattern, &text), wanted);
    }
}

#[test]
fn a_private_key_in_place_of_the_public_one_is_told_as_that() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id");
    let load = || AuthorizedKeys::load(&[KeySource::File(path.clone())], &accepts);
    let private =
        "-----BEGIN OPENSSH PRIVATE KEY-----\r\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----\n";
    for text in [
        private,
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n",
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let told = load().unwrap_err().to_string();
        let wanted = format!("{} is a private key, and must stay with its owner", path.display());
        assert!(told.starts_with(&wanted) && told.ends_with(".pub"), "{told}");
    }
    // Beside keys that count it is one line that does not.
    std::fs::write(&path, format!("{ED25519} a\n{private}{ED25519} b\n")).unwrap();
    let keys = load().unwrap();
    let faults: Vec<_> = keys.faults().iter().map(|fault| (fault.line, &*fault.reason)).collect();
    assert_eq!((keys.lines().len(), faults), (2, vec![(2, PRIVATE)]));
    // One without an end locks out nobody below it.
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPublic-Lines: 1\nAAAA\n";
    for end in ["", "Private-MAC: 00\n", " -----END RSA PRIVATE KEY-----\n"] {
        std::fs::write(&path, format!("{putty}{end}{ED25519} a\n{ED25519} b\n")).unwrap();
        let keys = load().unwrap();
        assert_eq!((keys.lines().len(), keys.faults().len()), (2, 1), "{end}");
    }
}
