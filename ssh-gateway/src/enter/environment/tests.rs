use super::*;
use crate::enter::step::Identity;

fn opaque(lines: &[&str]) -> Vec<Opaque> {
    lines.iter().map(|line| Opaque(line.as_bytes().to_vec())).collect()
}

fn account() -> Account {
    Account {
        name: b"web".to_vec(),
        identity: Identity { uid: 1, gid: 1, groups: Vec::new() },
        home: b"/home/web".to_vec(),
        shell: None,
    }
}

fn text(environment: &Environment) -> Vec<String> {
    environment.lines().map(|line| String::from_utf8(line).unwrap()).collect()
}

#[test]
fn a_session_knows_its_user_and_what_the_client_said_wins() {
    let container = opaque(&["PATH=/bin", "HOME=/wrong", "TERM=xterm", "LANG=C", "A=1", "A=2"]);
    let session = opaque(&["LANG=de_DE.UTF-8", "SSH_CLIENT=x"]);
    let environment = Environment::of_session(&container, &session, &account(), None);
    let expected = [
        "PATH=/bin",
        "HOME=/home/web",
        "LANG=de_DE.UTF-8",
        "A=2",
        "USER=web",
        "LOGNAME=web",
        "SSH_CLIENT=x",
    ];
    assert_eq!(text(&environment), expected);
    let terminal = Some(("screen", b"/dev/pts/7".as_slice()));
    let environment = Environment::of_session(&container, &[], &account(), terminal);
    assert_eq!(environment.get(b"TERM"), Some(&b"screen"[..]));
    assert_eq!(environment.get(b"SSH_TTY"), Some(&b"/dev/pts/7"[..]));
}

#[test]
fn docker_exec_has_its_own_rule_for_term_and_home() {
    let with_terminal = ["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "X=1"];
    let without = ["PATH=/bin", "HOSTNAME=h", "X=1"];
    let of_image = ["PATH=/bin", "HOSTNAME=h", "X=1", "TERM=vt100", "HOME=/app"];
    let cases: [(&[&str], bool, &[&str]); 6] = [
        (&with_terminal, false, &["PATH=/bin", "HOSTNAME=h", "X=1", "HOME=/home/web"]),
        (&with_terminal, true, &["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "X=1", "HOME=/home/web"]),
        (&without, false, &["PATH=/bin", "HOSTNAME=h", "X=1", "HOME=/home/web"]),
        (&without, true, &["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "X=1", "HOME=/home/web"]),
        (&of_image, false, &of_image),
        (&of_image, true, &["PATH=/bin", "HOSTNAME=h", "TERM=vt100", "X=1", "HOME=/app"]),
    ];
    for (container, has_terminal, expected) in cases {
        let made = Environment::of_engine_exec(&opaque(container), &[], &account(), has_terminal);
        assert_eq!(text(&made), expected, "{container:?} {has_terminal}");
    }
}

#[test]
fn what_the_kernel_cannot_pass_on_is_left_out() {
    let environment = Environment::of(&opaque(&["A", "=x", "B\0=1", "C=1\0", "D="]));
    assert_eq!(text(&environment), ["D="]);
}
