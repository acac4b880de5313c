//! Certificates of OpenSSH: made by ssh-keygen, shown by ssh.

use std::path::PathBuf;

use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, wait_until};
use rustix::process::Signal;

use crate::ssh::{ANSWER_TIME_MAX, Scene, line};

/// Exit status of OpenSSH's client when there was no session.
const SSH_FAILED: i32 = 255;

/// The authority that the gateway trusts for alice, and one that it does not know.
const AUTHORITY: &str = "authority";
const STRANGE_AUTHORITY: &str = "strange";

/// Whose key is certified; it lets nobody in by itself.
const USER: &str = "user";

/// A gateway that trusts the authority, with these options in its line.
fn scene(options: &str) -> Option<Scene> {
    Scene::new(
        |spec| spec,
        |setup| {
            let revoked = setup.sandbox().file("revoked", "");
            let setup = setup.key(AUTHORITY, &format!("cert-authority,{options}"));
            let setup = setup.stranger(STRANGE_AUTHORITY).stranger(USER);
            setup.config(&format!("revoked_keys = ['{}']\n", revoked.display()))
        },
    )
}

/// Certifies the key of the user, in place of what was certified before.
fn certify(scene: &Scene, authority: &str, words: &[&str]) {
    let public = scene.gateway.key_file(&format!("{USER}.pub"));
    let run = Run::new("ssh-keygen").arg("-q").arg("-s").arg(scene.gateway.key_file(authority));
    run.args(["-I", "alice@laptop"]).args(words.iter().copied()).arg(public).succeed();
}

fn ask(scene: &Scene, words: &[&str]) -> Finished {
    let run = scene.gateway.ssh_as(USER, scene.container.name()).args(words.iter().copied());
    run.deadline(ANSWER_TIME_MAX).finish()
}

#[test]
fn certificates_count_as_they_do_for_sshd() {
    let Some(scene) = scene("principals=\"alice\"") else { return };
    let said = ask(&scene, &["echo in"]);
    assert_eq!(said.code(), Some(SSH_FAILED), "without a certificate: {said}");
    let named = ["-n", "alice"];
    for (authority, words, is_allowed) in [
        (AUTHORITY, &named[..], true),
        (AUTHORITY, &["-n", "bob,alice"], true),
        (AUTHORITY, &["-n", "bob"], false),
        (AUTHORITY, &["-n", "alice2"], false),
        (AUTHORITY, &["-n", "ALICE"], false),
        (AUTHORITY, &["-n", "*"], false),
        (AUTHORITY, &[], false),
        (AUTHORITY, &["-n", "alice", "-V", "-2h:-1h"], false),
        (AUTHORITY, &["-n", "alice", "-V", "+1h:+2h"], false),
        (AUTHORITY, &["-n", "alice", "-V", "-1h:+1h"], true),
        (AUTHORITY, &["-n", "alice", "-V", "always:forever"], true),
        (AUTHORITY, &["-n", "alice", "-h"], false),
        (AUTHORITY, &["-n", "alice", "-O", "source-address=127.0.0.0/8"], true),
        (AUTHORITY, &["-n", "alice", "-O", "source-address=192.0.2.0/24"], false),
        (AUTHORITY, &["-n", "alice", "-O", "critical:odd@example.com=x"], false),
        (AUTHORITY, &["-n", "alice", "-O", "extension:odd@example.com=x"], true),
        // No security key, and so nothing to unlock.
        (AUTHORITY, &["-n", "alice", "-O", "verify-required"], false),
        (STRANGE_AUTHORITY, &named, false),
    ] {
        certify(&scene, authority, words);
        let said = ask(&scene, &["echo in"]);
        let wanted = if is_allowed { (Some(0), "in\n") } else { (Some(SSH_FAILED), "") };
        assert_eq!(
            (said.code(), said.stdout_text().as_str()),
            wanted,
            "{authority} {words:?}: {said}"
        );
        if !is_allowed {
            assert!(said.stderr_text().contains("Permission denied (publickey)"), "{said}");
        }
    }
    scene.gateway.wait_for_log(&[
        "login",
        "\"certificate\":\"alice@laptop\"",
        "\"authority\":\"SHA256:",
    ]);
    scene.gateway.wait_for_log(&["key refused", "odd@example.com"]);
    // What is forced, and what an extension that is not there does not give.
    certify(&scene, AUTHORITY, &["-n", "alice", "-O", "force-command=echo forced"]);
    assert_eq!(line(&ask(&scene, &["rm -rf /"])), "forced");
    for (words, has_terminal) in [(&["-O", "clear"][..], false), (&[], true)] {
        certify(&scene, AUTHORITY, &[&named[..], words].concat());
        let said = ask(&scene, &["-tt", "test -t 0 && echo terminal"]);
        assert_eq!(said.stdout_text().contains("terminal"), has_terminal, "{said}");
        let said =
            ask(&scene, &["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "echo in"]);
        assert_eq!(said.code() == Some(0), has_terminal, "{said}");
    }
    // The authority itself is nobody.
    let said = scene.sh_as(AUTHORITY, "echo in");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn every_kind_of_key_can_be_certified() {
    let Some(scene) = scene("principals=\"alice\"") else { return };
    for words in [["-t", "ecdsa"], ["-t", "rsa"]] {
        let key = scene.gateway.key_file(USER);
        std::fs::remove_file(&key).expect("our own key");
        Run::new("ssh-keygen").args(["-q", "-N", ""]).args(words).arg("-f").arg(&key).succeed();
        certify(&scene, AUTHORITY, &["-n", "alice"]);
        let said = ask(&scene, &["echo in"]);
        assert_eq!(line(&said), "in", "{words:?}: {said}");
    }
}

#[test]
fn every_kind_of_key_can_certify_and_none_with_sha1() {
    let Some(scene) = scene("principals=\"alice\"") else { return };
    let mut lines = std::fs::read_to_string(scene.gateway.authorized_keys()).expect("our own file");
    for kind in ["ecdsa", "rsa"] {
        let key = scene.gateway.key_file(kind);
        Run::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&key).succeed();
        let public = std::fs::read_to_string(scene.gateway.key_file(&format!("{kind}.pub")));
        lines.push_str("cert-authority,principals=\"alice\" ");
        lines.push_str(&public.expect("ssh-keygen wrote it"));
    }
    let new = scene.gateway.sandbox().file("new", lines);
    std::fs::rename(new, scene.gateway.authorized_keys()).expect("our own files");
    scene.gateway.signal(Signal::HUP);
    scene.gateway.wait_for_log(&["policy read", "\"keys\":4"]);
    let named = ["-n", "alice"];
    for (authority, words, is_allowed) in [
        ("ecdsa", &[][..], true),
        ("rsa", &[], true),
        ("rsa", &["-t", "rsa-sha2-256"], true),
        ("rsa", &["-t", "ssh-rsa"], false),
    ] {
        certify(&scene, authority, &[words, &named].concat());
        let said = ask(&scene, &["echo in"]);
        let wanted = if is_allowed { (Some(0), "in\n") } else { (Some(SSH_FAILED), "") };
        let got = (said.code(), said.stdout_text());
        assert_eq!((got.0, got.1.as_str()), wanted, "{authority} {words:?}: {said}");
    }
    // A certificate with the private key of somebody else: the client offers it, and cannot prove it.
    certify(&scene, "ecdsa", &named);
    let stranger = format!("CertificateFile={}", scene.gateway.key_file("user-cert.pub").display());
    let run = scene.gateway.ssh_as(STRANGE_AUTHORITY, scene.container.name());
    let said = run.args(["-o", &stranger, "echo in"]).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

/// Its default template, with what it fills in for `alice@example`. The numbers go to the largest that it takes.
#[test]
fn a_certificate_as_step_ca_issues_it_counts() {
    const SERIAL: &str = "18446744073709551615";
    for (principals, is_allowed) in [("alice", true), ("alice@example", true), ("bob", false)] {
        let Some(scene) = scene("principals=\"nobody\"") else { return };
        for name in [AUTHORITY, USER] {
            let key = scene.gateway.key_file(name);
            std::fs::remove_file(&key).expect("our own key");
            let words = ["-q", "-N", "", "-t", "ecdsa", "-b", "256", "-f"];
            Run::new("ssh-keygen").args(words).arg(&key).succeed();
        }
        let public = std::fs::read_to_string(scene.gateway.key_file("authority.pub"));
        let line = format!(
            "cert-authority,principals=\"{principals}\" {}",
            public.expect("ssh-keygen wrote it")
        );
        let new = scene.gateway.sandbox().file("new", line);
        std::fs::rename(new, scene.gateway.authorized_keys()).expect("our own files");
        scene.gateway.signal(Signal::HUP);
        scene.gateway.wait_for_log(&["policy read", "\"keys\":1"]);
        let issued = ["-I", "alice@example", "-n", "alice,alice@example", "-z", SERIAL];
        certify(&scene, AUTHORITY, &[&issued[..], &["-V", "-1m:+16h"]].concat());
        let said = ask(&scene, &["echo in"]);
        assert_eq!(said.code() == Some(0), is_allowed, "{principals}: {said}");
        if is_allowed {
            let serial = format!("\"serial\":{SERIAL}");
            scene.gateway.wait_for_log(&["login", "\"certificate\":\"alice@example\"", &serial]);
            let said = ask(&scene, &["-tt", "test -t 0 && echo terminal"]);
            assert!(said.stdout_text().contains("terminal"), "{said}");
        }
        scene.gateway.assert_idle(&[&scene.container]);
    }
}

#[test]
fn what_is_revoked_comes_in_no_more() {
    let Some(scene) = scene("principals=\"alice\"") else { return };
    let sandbox = scene.gateway.sandbox();
    let list = sandbox.path("revoked");
    let revoke = |specification: &str| {
        let specification = sandbox.file("specification", specification);
        let new = sandbox.path("new");
        let run = Run::new("ssh-keygen").args(["-q", "-k", "-f"]).arg(&new).arg("-s");
        run.arg(scene.gateway.key_file("authority.pub")).arg(specification).succeed();
        // Whole or not at all, for who reads it meanwhile.
        std::fs::rename(new, &list).expect("our own files");
        scene.gateway.signal(Signal::HUP);
    };
    certify(&scene, AUTHORITY, &["-n", "alice", "-z", "41"]);
    assert_eq!(line(&ask(&scene, &["echo in"])), "in");
    revoke("serial: 41\n");
    let until_refused = || {
        wait_until(CLEAN_UP_TIME_MAX, "the certificate is refused", || {
            let said = ask(&scene, &["echo in"]);
            if said.code() == Some(SSH_FAILED) { Ok(()) } else { Err(said.to_string()) }
        });
    };
    until_refused();
    scene.gateway.wait_for_log(&["key refused", "the key is revoked"]);
    certify(&scene, AUTHORITY, &["-n", "alice", "-z", "42"]);
    assert_eq!(line(&ask(&scene, &["echo in"])), "in");
    revoke("id: alice@laptop\n");
    until_refused();
    // A list that cannot be read lets nobody in.
    std::fs::write(&list, "SSHKRL\n\0").expect("writes the list");
    scene.gateway.signal(Signal::HUP);
    wait_until(CLEAN_UP_TIME_MAX, "nobody comes in", || {
        let said = scene.sh("echo in");
        if said.code() == Some(SSH_FAILED) { Ok(()) } else { Err(said.to_string()) }
    });
    scene.gateway.wait_for_log(&["policy refused", "it ends too early"]);
}

#[test]
fn one_authority_certifies_the_people_of_a_policy() {
    let rules = "[[group]]\nname = 'dev'\nmembers = ['authority']\n[[rule]]\nname = 'r'\nwho = ['dev']\n\
                 containers = ['*']\nusers = ['www']\nallow = ['exec']\n";
    let Some(scene) = Scene::new(
        |spec| spec,
        |setup| {
            let setup = setup.key(AUTHORITY, "cert-authority,principals=\"alice\"");
            setup.stranger(USER).policy(rules)
        },
    ) else {
        return;
    };
    certify(&scene, AUTHORITY, &["-n", "alice"]);
    assert_eq!(line(&ask(&scene, &["id -un"])), "www");
    scene.gateway.wait_for_log(&["session", "\"identity\":\"authority\"", "\"rule\":\"r\""]);
    let said = ask(&scene, &["-tt", "test -t 0 && echo terminal"]);
    assert!(!said.stdout_text().contains("terminal"), "{said}");
}

#[test]
fn clients_know_the_gateway_by_its_certificate() {
    let certified = |setup: e2e::ssh_gateway::Setup| {
        let setup = setup.stranger(AUTHORITY);
        let sandbox = setup.sandbox();
        let path = |name: &str| sandbox.path(name).display().to_string();
        let (keys, authority) = (path("state/host_keys"), path("keys/authority"));
        let lines = format!(
            "umask 077; mkdir -p {keys}; key={keys}/ssh_host_ed25519_key\n\
             test -e $key || ssh-keygen -q -t ed25519 -N '' -f $key\n\
             ssh-keygen -y -f $key > $key.pub\n\
             ssh-keygen -q -s {authority} -h -I gateway -n gateway,web $key.pub\n"
        );
        setup.by(&lines, "")
    };
    let Some(scene) = Scene::new(|spec| spec, certified) else { return };
    let public = std::fs::read_to_string(scene.gateway.key_file("authority.pub"));
    let public = public.expect("the authority");
    let sandbox = scene.gateway.sandbox();
    let known = |name: &str, names: &str| -> PathBuf {
        sandbox.file(name, format!("@cert-authority {names} {public}"))
    };
    let ask = |known: PathBuf, alias: &str| {
        let option = format!("UserKnownHostsFile={}", known.display());
        let run = scene.ssh().args(["-o", &option, "-o", &format!("HostKeyAlias={alias}")]);
        run.arg("echo in").deadline(ANSWER_TIME_MAX).finish()
    };
    for (alias, is_known) in [("gateway", true), ("web", true), ("db", false)] {
        let said = ask(known("known", "*"), alias);
        assert_eq!(said.code() == Some(0), is_known, "{alias}: {said}");
    }
}
