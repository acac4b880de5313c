//! Sessions of OpenSSH's client: commands, terminals, environment, signals, agents, and who may do what.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use e2e::engine::Spec;
use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, Tmux, wait_until};
use rustix::process::Signal;

use crate::ssh::{ANSWER_TIME_MAX, Scene, line, soak, start_echo};

/// Exit status of OpenSSH's client when there was no session, or a signal ended it.
const SSH_FAILED: i32 = 255;

/// A master connection of OpenSSH that others share.
fn control_path(scene: &Scene) -> String {
    format!("ControlPath={}", scene.gateway.sandbox().path("control").display())
}

/// What a container calls itself, and the shortest form of its id that is a login name.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or_default()
}

#[test]
fn a_command_runs_in_the_container_with_its_environment() {
    let Some(scene) = Scene::busybox() else { return };
    let said = scene
        .sh("echo \"$IMAGE_WORD\"; id -u; id -g; pwd; echo $HOME $USER $LOGNAME $SHELL; hostname");
    let hostname = short(scene.container.id());
    assert_eq!(
        line(&said),
        format!("two words\n0\n0\n/root\n/root root root /bin/sh\n{hostname}"),
        "{said}"
    );
    let www = format!("{}+www", scene.container.name());
    let said = scene.gateway.ssh(&www).arg("id; pwd; echo $HOME $USER").finish();
    assert_eq!(
        line(&said),
        "uid=1000(www) gid=1000(www) groups=1000(www),2000(extra)\n/home/www\n/home/www www",
        "{said}"
    );
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn output_and_errors_arrive_apart_and_whole() {
    let Some(scene) = Scene::busybox() else { return };
    let said = scene.sh(
        "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done; printf 'no\\0line'",
    );
    assert_eq!(said.code(), Some(0), "{said}");
    let lines = |word: &str| (0..2000).map(|i| format!("{word} {i}\n")).collect::<String>();
    assert!(
        said.stdout == [lines("out").as_bytes(), b"no\0line"].concat(),
        "{}",
        said.stdout.len()
    );
    assert!(said.stderr_text() == lines("err"), "{}", said.stderr_text());
}

#[test]
fn the_end_of_input_reaches_the_program_and_its_last_words_come_back() {
    let Some(scene) = Scene::busybox() else { return };
    let said = scene.ssh().arg("cat; echo the end").stdin("hello\n").finish();
    assert_eq!(line(&said), "hello\nthe end");
    // A program that closes its output first may still read.
    let said = scene.ssh().arg("exec >&- 2>&-; cat > /tmp/kept; exit 3").stdin("kept\n").finish();
    assert_eq!(said.code(), Some(3), "{said}");
    assert_eq!(line(&scene.sh("cat /tmp/kept")), "kept");
    // A program that ends without reading does not hang its client.
    let said =
        scene.ssh().arg("exit 4").stdin(vec![b'x'; 5_000_000]).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(4), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn every_exit_status_comes_back_over_one_connection() {
    let Some(scene) = Scene::busybox() else { return };
    let control = control_path(&scene);
    let master = scene.ssh().args(["-M", "-N", "-o", &control]).start();
    wait_for_master(&scene, &control);
    std::thread::scope(|threads| {
        for part in 0..4 {
            let (scene, control) = (&scene, &control);
            threads.spawn(move || {
                for status in (part..256).step_by(4) {
                    let run = scene.ssh().args(["-S", control.trim_start_matches("ControlPath=")]);
                    let said = run.arg(format!("exit {status}")).finish();
                    assert_eq!(said.code(), Some(status), "{said}");
                }
            });
        }
    });
    let missing = scene.sh("/no/such/program");
    assert_eq!(missing.code(), Some(127), "{missing}");
    let no_program = scene.sh("/etc/passwd");
    assert_eq!(no_program.code(), Some(126), "{no_program}");
    drop(master);
    scene.gateway.assert_idle(&[&scene.container]);
}

fn wait_for_master(scene: &Scene, control: &str) {
    wait_until(CLEAN_UP_TIME_MAX, "a master connection", || {
        let check = scene.ssh().args(["-o", control, "-O", "check"]).finish();
        if check.code() == Some(0) { Ok(()) } else { Err(check.to_string()) }
    });
}

#[test]
fn twenty_channels_of_one_connection_work_at_once() {
    let more = "[limits]\nsessions = 20\n";
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.config(more)) else { return };
    let control = control_path(&scene);
    let master = scene.ssh().args(["-M", "-N", "-o", &control]).start();
    wait_for_master(&scene, &control);
    let channels: Vec<_> = (0..20)
        .map(|number| {
            let mut command = scene.command();
            command.args(["-o", &control]).arg(format!("read line; echo {number} $line"));
            command.spawn().expect("starts ssh")
        })
        .collect();
    // All of them run before the first one may end.
    wait_until(CLEAN_UP_TIME_MAX, "twenty sessions", || {
        let shells = scene.container.exec([
            "/bin/sh",
            "-c",
            "grep -l 'read line' /proc/[0-9]*/cmdline | wc -l",
        ]);
        let text = shells.stdout_text();
        // The counting shell has these words too.
        if text.trim().parse::<u32>().is_ok_and(|count| count >= 21) { Ok(()) } else { Err(text) }
    });
    // The twenty-first is refused, and costs the others nothing.
    let said =
        scene.ssh().args(["-S", control.trim_start_matches("ControlPath="), "echo in"]).finish();
    assert!(said.stderr_text().contains("Session open refused by peer"), "{said}");
    for (number, mut channel) in channels.into_iter().enumerate() {
        let mut stdin = channel.stdin.take().expect("stdin is piped");
        stdin.write_all(b"word\n").expect("ssh reads");
        drop(stdin);
        let output = channel.wait_with_output().expect("ssh ends");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{number} word\n"),
            "{output:?}"
        );
    }
    drop(master);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn signals_arrive_and_ends_by_signal_are_told() {
    let Some(scene) = Scene::busybox() else { return };
    let Some(run) = scene.python("signals.py", &[]) else { return };
    let said = run.succeed();
    assert!(said.stdout_text().trim_end().ends_with("all signals"), "{said}");
    // OpenSSH's client has one status for all of them.
    let said = scene.sh("kill -KILL $$");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_terminal_is_one_of_the_container_and_takes_sizes_and_keys() {
    let Some(scene) = Scene::busybox() else { return };
    let Some(terminal) =
        Tmux::start(scene.gateway.sandbox(), &scene.ssh().env("TERM", "screen-256color"), 100, 30)
    else {
        return;
    };
    terminal.line("PS1='> '; echo ready:$((40+2))");
    terminal.wait_for_line("ready:42");
    terminal
        .line("tty; stty size; echo $0 $TERM $SSH_TTY; test -t 0 && test -t 2 && echo three ttys");
    terminal.wait_for_line("/dev/pts/0");
    terminal.wait_for_line("30 100");
    terminal.wait_for_line("three ttys");
    let screen = terminal.screen();
    let is_login_shell =
        |line: &str| line.starts_with("-sh ") && line.ends_with("-256color /dev/pts/0");
    assert!(screen.lines().any(is_login_shell), "{screen}");
    terminal.resize(80, 24);
    terminal.line("until [ \"$(stty size)\" = \"24 8\"\"0\" ]; do sleep 0.1; done; stty size");
    terminal.wait_for_line("24 80");
    terminal.line("echo be''gin; sleep 1000; echo status:$?");
    terminal.wait_for_line("begin");
    terminal.press("C-c");
    terminal.line("echo in''terrupted:$?");
    terminal.wait_for_line("interrupted:130");
    terminal.line("stty -a | tr ' ' '\\n' | grep -c '^icanon$'; exit 7");
    terminal.wait_for_line("1");
    terminal.wait_for_line("[ended with 7]");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn the_processes_of_a_session_do_not_outlive_it() {
    let Some(scene) = Scene::busybox() else { return };
    // A child that ignores HUP and TERM, one that has left the session, and an orphan.
    let script = "trap '' HUP TERM; (trap '' HUP TERM; sleep 3001) & setsid sleep 3002 & \
                  (setsid sh -c 'trap \"\" HUP TERM; sleep 3003 & exit' &) ; echo ready; sleep 3004";
    let count = || {
        let count = scene.container.exec([
            "/bin/sh",
            "-c",
            "grep -l '^sleep.300' /proc/[0-9]*/cmdline | wc -l",
        ]);
        count.stdout_text().trim().to_owned()
    };
    for terminal in ["-T", "-tt"] {
        let mut command = scene.command();
        command.args([terminal, script]);
        let mut client = command.spawn().expect("starts ssh");
        let mut stdout = BufReader::new(client.stdout.take().expect("stdout is piped"));
        let mut first = String::new();
        stdout.read_line(&mut first).expect("ssh says");
        assert_eq!(first.trim_end(), "ready");
        wait_until(CLEAN_UP_TIME_MAX, "four sleepers", || {
            if count() == "4" { Ok(()) } else { Err(count()) }
        });
        client.kill().expect("kills ssh");
        client.wait().expect("ssh is gone");
        scene.gateway.assert_idle(&[&scene.container]);
        assert_eq!(count(), "0", "{terminal}");
        let processes = scene.container.sh("grep -h '^State' /proc/[0-9]*/status");
        assert!(!processes.stdout_text().contains("zombie"), "{}", processes.stdout_text());
    }
}

#[test]
fn what_a_program_leaves_behind_goes_with_it() {
    let Some(scene) = Scene::busybox() else { return };
    let said = scene.sh("(sleep 3001 >/dev/null 2>&1 </dev/null &); setsid sleep 3002 >/dev/null 2>&1 </dev/null & exit 5");
    assert_eq!(said.code(), Some(5), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
    let sleepers =
        scene.container.exec(["/bin/sh", "-c", "grep -l '^sleep.300' /proc/[0-9]*/cmdline"]);
    assert_eq!(sleepers.stdout_text(), "");
}

#[test]
fn only_listed_variables_pass() {
    let Some(scene) = Scene::busybox() else { return };
    let names = [
        ("LANG", "de_DE.UTF-8"),
        ("LC_TIME", "C"),
        ("COLORTERM", "truecolor"),
        ("GIT_PROTOCOL", "version=2"),
        ("LD_PRELOAD", "/evil.so"),
        ("BASH_ENV", "/evil"),
        ("ENV", "/evil"),
        ("PATH", "/evil"),
        ("IFS", "x"),
        ("FOREIGN", "word"),
    ];
    let mut run = scene.ssh();
    for (name, value) in names {
        run = run.args(["-o".to_owned(), format!("SendEnv={name}")]).env(name, value);
    }
    // The client's own PATH would be evil too.
    let said = run.env("PATH", std::env::var_os("PATH").unwrap_or_default()).arg("env").finish();
    assert_eq!(said.code(), Some(0), "{said}");
    let seen: HashMap<_, _> = said.stdout_text().lines().filter_map(owned_pair).collect();
    for (name, value) in names.iter().take(4) {
        assert_eq!(seen.get(*name).map(String::as_str), Some(*value), "{name}: {seen:?}");
    }
    for (name, _) in names.iter().skip(4).filter(|(name, _)| *name != "PATH") {
        assert!(!seen.contains_key(*name), "{name}: {seen:?}");
    }
    assert_eq!(seen.get("PATH").map(String::as_str), Some("/bin:/usr/bin:/sbin:/usr/sbin"));
    assert!(seen.contains_key("SSH_CONNECTION") && seen.contains_key("SSH_CLIENT"), "{seen:?}");
}

fn owned_pair(line: &str) -> Option<(String, String)> {
    line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

#[test]
fn a_variable_that_is_no_text_costs_its_own_connection_at_most() {
    let Some(scene) = Scene::busybox() else { return };
    let Some(run) = scene.python("odd_environment.py", &[]) else { return };
    let mut other = scene.command().arg("cat; echo end").spawn().expect("starts ssh");
    let said = run.finish();
    // russh reads text only, and drops the connection: see docs/ssh-gateway.md.
    assert!(said.code() != Some(0) || said.stdout_text() == "still here\n", "{said}");
    drop(other.stdin.take());
    let output = other.wait_with_output().expect("ssh ends");
    assert_eq!(output.stdout, b"end\n", "{output:?}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn an_agent_is_reached_from_inside_by_its_user_only() {
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.key("no-agent", "no-agent-forwarding"))
    else {
        return;
    };
    let socket = scene.gateway.sandbox().path("agent");
    let agent = Run::new("ssh-agent").args(["-D", "-a"]).arg(&socket).start();
    wait_until(CLEAN_UP_TIME_MAX, "an agent", || {
        if socket.exists() { Ok(()) } else { Err("no socket".to_owned()) }
    });
    let add = Run::new("ssh-add").arg("-q").arg(scene.gateway.key_file(MAIN_KEY));
    add.env("SSH_AUTH_SOCK", &socket).succeed();
    let login = format!("{}+www", scene.container.name());
    let ask = |key: &str, flag: &str| {
        let run = scene.gateway.ssh_as(key, &login).args([flag, "/probe agent"]);
        run.env("SSH_AUTH_SOCK", &socket).finish()
    };
    let said = ask(MAIN_KEY, "-A");
    assert_eq!(said.code(), Some(0), "{said}");
    let answer = said.json();
    assert_eq!(answer["keys"], 1, "{answer}");
    assert_eq!(answer["owner"], 1000, "{answer}");
    assert_eq!(answer["folder_owner"], 1000, "{answer}");
    assert_eq!(answer["folder_mode"], "700", "{answer}");
    for (key, flag) in [(MAIN_KEY, "-a"), ("no-agent", "-A")] {
        let said = ask(key, flag);
        assert_eq!(said.code(), Some(1), "{said}");
        assert!(said.stderr_text().contains("SSH_AUTH_SOCK is not set"), "{said}");
    }
    drop(agent);
    scene.gateway.assert_idle(&[&scene.container]);
    // Neither socket nor folder of an agent stays.
    assert_eq!(scene.container.sh("find /tmp /dev/shm -mindepth 1").stdout_text(), "");
}

#[test]
fn options_of_keys_bind_their_sessions() {
    let Some(scene) = Scene::new(
        |spec| spec,
        |setup| {
            setup
                .key("forced", "command=\"echo forced: $SSH_ORIGINAL_COMMAND\"")
                .key("restricted", "restrict")
                .key("pty-again", "restrict,pty")
                .key("no-pty", "no-pty")
                .key("near", "from=\"127.0.0.0/8\"")
                .key("far", "from=\"192.0.2.0/24\"")
                .key("not-here", "from=\"!127.0.0.0/8,*\"")
                .key("old", "expiry-time=\"20200101\"")
                .key("fresh", "expiry-time=\"29990101\"")
                .key("odd", "no-such-option")
        },
    ) else {
        return;
    };
    assert_eq!(line(&scene.sh_as("forced", "rm -rf /")), "forced: rm -rf /");
    // A subsystem is a command too.
    let sftp = Run::new("sftp").arg("-F").arg(scene.gateway.config("forced")).args(["-b", "-"]);
    let sftp = sftp.arg(format!("{}@gateway", scene.container.name())).stdin("ls\n").finish();
    assert_ne!(sftp.code(), Some(0), "{sftp}");
    for (key, has_terminal) in
        [("restricted", false), ("no-pty", false), ("pty-again", true), ("near", true)]
    {
        let run = scene
            .gateway
            .ssh_as(key, scene.container.name())
            .args(["-tt", "test -t 0 && echo terminal"]);
        let said = run.deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.stdout_text().contains("terminal"), has_terminal, "{key}: {said}");
    }
    for key in ["near", "fresh", "restricted"] {
        assert_eq!(line(&scene.sh_as(key, "echo in")), "in", "{key}");
    }
    for key in ["far", "not-here", "old", "odd"] {
        let said = scene.sh_as(key, "echo in");
        assert_eq!(said.code(), Some(SSH_FAILED), "{key}: {said}");
        assert!(said.stderr_text().contains("Permission denied"), "{key}: {said}");
    }
    // Somebody answers there, so that it is the option that keeps the key away.
    start_echo(&scene.container, 7000);
    for (key, is_allowed) in [("near", true), ("restricted", false), ("pty-again", false)] {
        let code = Some(if is_allowed { 0 } else { SSH_FAILED });
        let said = scene.through(key, "localhost:7000", "hello\n");
        assert_eq!(said.stdout_text(), if is_allowed { "hello\n" } else { "" }, "{key}: {said}");
        assert_eq!(said.code(), code, "{key}: {said}");
        let run = scene.gateway.ssh_as(key, scene.container.name());
        let run = run.args(["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", "echo in"]);
        let said = run.deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.code(), code, "{key}: {said}");
    }
}

#[test]
fn a_key_that_is_not_authorized_gets_nothing() {
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.stranger("stranger")) else { return };
    let known = scene.sh_as("stranger", "echo in");
    assert_eq!(known.code(), Some(SSH_FAILED), "{known}");
    assert!(known.stderr_text().contains("Permission denied (publickey)"), "{known}");
    // What is refused before authentication does not tell which containers there are.
    let unknown = scene.gateway.ssh_as("stranger", "no-such-container").arg("echo in").finish();
    assert_eq!(unknown.code(), Some(SSH_FAILED), "{unknown}");
    assert_eq!(
        unknown.stderr_text().replace("no-such-container", "X"),
        known.stderr_text().replace(scene.container.name(), "X")
    );
    // Its operator is told, although the client never came as far as a signature.
    scene.gateway.wait_for_log(&[
        "key refused",
        "no-such-container",
        "SHA256:",
        "is not authorized",
    ]);
}

#[test]
fn a_source_that_fails_again_and_again_is_kept_out() {
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.stranger("stranger")) else { return };
    let attempt = |key: &str, source: &str| {
        let run = Run::new("ssh").arg("-F").arg(scene.gateway.config(key)).args(["-b", source]);
        run.args([&format!("{}@gateway", scene.container.name()), "echo in"])
    };
    // All at once: what is held against a source runs off with time.
    let attempts: Vec<_> = (0..8).map(|_| attempt("stranger", "127.0.0.7").start()).collect();
    for said in attempts.into_iter().map(e2e::process::Running::wait) {
        assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    }
    let said = attempt(MAIN_KEY, "127.0.0.7").finish();
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    assert!(!said.stderr_text().contains("Permission denied"), "{said}");
    assert_eq!(line(&attempt(MAIN_KEY, "127.0.0.8").finish()), "in");
}

#[test]
fn login_names_mean_one_container_or_none() {
    let project = e2e::sandbox::unique_name();
    let labelled = |spec: Spec, number: &str| {
        let mut spec = spec;
        for (name, value) in [
            ("com.docker.compose.project", project.as_str()),
            ("com.docker.compose.service", "web"),
            ("com.docker.compose.container-number", number),
            ("chores.test.tier", &format!("{project}-{number}")),
            ("chores.test.all", &project),
        ] {
            spec.labels.insert(name.to_owned(), value.to_owned());
        }
        spec
    };
    let Some(scene) = Scene::new(|spec| labelled(spec, "1"), |setup| setup) else { return };
    let spec = || Spec::new(scene.image.name(), ["/probe", "hold"]);
    let second = scene.engine.start(labelled(spec(), "2"));
    let mut closed = spec();
    closed.labels.insert("chores.ssh.enable".to_owned(), "false".to_owned());
    let closed = scene.engine.start(closed);
    let stopped = scene.engine.create(spec());

    let ask = |login: &str| {
        scene.gateway.ssh(login).arg("hostname; id -u").deadline(ANSWER_TIME_MAX).finish()
    };
    let (first_id, second_id) = (scene.container.id().to_owned(), second.id().to_owned());
    for (login, id, user) in [
        (format!("{project}~web~1"), &first_id, "0"),
        (format!("{project}~web~2"), &second_id, "0"),
        (format!("{project}~web~2+www"), &second_id, "1000"),
        (format!("{project}~web~2+1234"), &second_id, "1234"),
        (format!("chores.test.tier={project}-2"), &second_id, "0"),
        (format!("chores.test.all={project},chores.test.tier={project}-1"), &first_id, "0"),
        (second_id.clone(), &second_id, "0"),
        (short(&second_id).to_owned(), &second_id, "0"),
        (second.name().to_owned(), &second_id, "0"),
    ] {
        assert_eq!(line(&ask(&login)), format!("{}\n{user}", short(id)), "{login}");
    }
    for login in [format!("{project}~web"), format!("chores.test.all={project}")] {
        let said = ask(&login);
        assert_ne!(said.code(), Some(0), "{login}: {said}");
        // The choice is told, since the key may enter both.
        for name in [scene.container.name(), second.name()] {
            assert!(said.stderr_text().contains(name), "{login}: {said}");
        }
    }
    // Forbidden, stopped and unknown ones look alike.
    let answers: Vec<Finished> =
        [closed.name(), stopped.name(), "no-such-container", &format!("{project}~web~3")]
            .map(&ask)
            .into();
    for said in &answers {
        assert_ne!(said.code(), Some(0), "{said}");
        assert_eq!(said.stdout, b"", "{said}");
    }
    let words = |said: &Finished, name: &str| said.stderr_text().replace(name, "X");
    assert_eq!(words(&answers[0], closed.name()), words(&answers[2], "no-such-container"));
    for login in [
        "web:root",
        "a/b",
        "web%h",
        "+",
        "~",
        "=",
        "web++x",
        "web+www+x",
        "x=y=",
        "..",
        "web+no-such-user",
    ] {
        let said = ask(login);
        assert_ne!(said.code(), Some(0), "{login}: {said}");
    }
    let no_user = ask(&format!("{}+nobody-here", second.name()));
    assert_ne!(no_user.code(), Some(0), "{no_user}");
}

#[test]
fn changes_of_the_authorized_keys_count_for_the_next_connection() {
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.key("second", "")) else { return };
    let file = scene.gateway.authorized_keys();
    let before = std::fs::read_to_string(&file).expect("the authorized keys");
    assert_eq!(line(&scene.sh_as("second", "echo in")), "in");
    let without: String = before
        .lines()
        .filter(|line| !line.ends_with("second"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&file, without).expect("writes the authorized keys");
    scene.gateway.signal(Signal::HUP);
    wait_until(CLEAN_UP_TIME_MAX, "the key is refused", || {
        let said = scene.sh_as("second", "echo in");
        if said.code() == Some(SSH_FAILED) { Ok(()) } else { Err(said.to_string()) }
    });
    assert_eq!(line(&scene.sh("echo in")), "in");
}

#[test]
fn the_end_of_the_gateway_ends_its_sessions() {
    let Some(scene) = Scene::busybox() else { return };
    let mut client = scene
        .command()
        .arg("trap '' TERM HUP; echo ready; sleep 3005")
        .spawn()
        .expect("starts ssh");
    let mut stdout = client.stdout.take().expect("stdout is piped");
    let mut first = [0; 6];
    stdout.read_exact(&mut first).expect("ssh says");
    let Scene { gateway, container, image: _image, engine: _engine } = scene;
    // Processes of sessions are looked for by number after this.
    drop(gateway.processes());
    gateway.stop();
    client.wait().expect("ssh ends");
    let sleepers = container.exec(["/bin/sh", "-c", "grep -l '^sleep.300' /proc/[0-9]*/cmdline"]);
    assert_eq!(sleepers.stdout_text(), "");
    assert_eq!(e2e::ssh_gateway::session_groups(container.id()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_death_of_the_gateway_ends_its_sessions() {
    let Some(scene) = Scene::busybox() else { return };
    let mut client = scene
        .command()
        .arg("trap '' TERM HUP; echo ready; sleep 3006")
        .spawn()
        .expect("starts ssh");
    let mut stdout = client.stdout.take().expect("stdout is piped");
    let mut first = [0; 6];
    stdout.read_exact(&mut first).expect("ssh says");
    let processes = scene.gateway.processes();
    let broker = scene.gateway.id();
    let pid = rustix::process::Pid::from_raw(i32::try_from(broker).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("kills the gateway");
    let is_there = |pid: &&u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // The broker itself stays a zombie until the test has waited for it.
        !status.is_empty() && **pid != broker
    };
    wait_until(CLEAN_UP_TIME_MAX, "all processes are gone", || {
        let left: Vec<_> = processes.iter().filter(is_there).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    client.wait().expect("ssh ends");
    let sleepers =
        scene.container.exec(["/bin/sh", "-c", "grep -l '^sleep.300' /proc/[0-9]*/cmdline"]);
    assert_eq!(sleepers.stdout_text(), "");
    wait_until(CLEAN_UP_TIME_MAX, "no cgroup is left", || {
        let left = e2e::ssh_gateway::session_groups(scene.container.id());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    scene.gateway.forget();
}

#[test]
fn a_client_that_does_not_answer_is_given_up() {
    let impatient = "[limits]\nkeepalive = \"4s\"\nkeepalive_count = 2\n";
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.config(impatient)) else { return };
    // One that answers, though it says nothing, may stay.
    let quiet = scene.command().arg("sleep 20; echo still here").spawn().expect("starts ssh");
    let mut client = scene.command().arg("echo ready; sleep 3010").spawn().expect("starts ssh");
    let mut first = [0; 6];
    client.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("ssh says");
    let pid = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(pid, Signal::STOP).expect("stops ssh");
    wait_until(CLEAN_UP_TIME_MAX, "its session is gone", || {
        let sleepers =
            scene.container.exec(["/bin/sh", "-c", "grep -l '^sleep.3010' /proc/[0-9]*/cmdline"]);
        if sleepers.stdout.is_empty() { Ok(()) } else { Err("still there".to_owned()) }
    });
    client.kill().expect("kills ssh");
    client.wait().expect("ssh is gone");
    let output = quiet.wait_with_output().expect("ssh ends");
    assert_eq!(output.stdout, b"still here\n", "{output:?}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn who_does_not_log_in_is_sent_away() {
    let Some(scene) =
        Scene::new(|spec| spec, |setup| setup.config("[limits]\nlogin_grace = \"10s\"\n"))
    else {
        return;
    };
    let mut silent =
        std::net::TcpStream::connect(("127.0.0.1", scene.gateway.port())).expect("connects");
    silent.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a timeout");
    let mut said = Vec::new();
    silent.read_to_end(&mut said).expect("the gateway closes");
    assert!(said.starts_with(b"SSH-2.0-"), "{said:?}");
    assert_eq!(line(&scene.sh("sleep 12; echo in")), "in");
}

/// Sessions that are opened and killed; `CHORES_SOAK` multiplies them.
const KILLED_SESSIONS: usize = 500;

#[test]
fn sessions_killed_at_random_leave_nothing() {
    let Some(scene) = Scene::busybox() else { return };
    let sockets = || std::fs::read_to_string("/proc/net/unix").unwrap_or_default().lines().count();
    assert_eq!(line(&scene.sh("echo in")), "in");
    scene.gateway.assert_idle(&[&scene.container]);
    let house = scene.gateway.processes();
    let open = |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let descriptors_before: Vec<_> = house.iter().map(open).collect();
    let sockets_before = sockets();
    std::thread::scope(|threads| {
        for part in 0..4_u64 {
            let scene = &scene;
            threads.spawn(move || {
                let mut random = e2e::random::Random::new(part);
                for _ in 0..KILLED_SESSIONS * soak() / 4 {
                    let kind = ["-T", "-tt"][random.below(2) as usize];
                    let script = [
                        "sleep 3007",
                        "cat /dev/zero",
                        "cat",
                        "(trap '' HUP TERM; sleep 3008) & sleep 3009",
                        "while :; do sleep 0.01 & done",
                    ][random.below(5) as usize];
                    let client = scene.ssh().args([kind, script]).start();
                    drop(client.kill_at(Duration::from_millis(random.below(400))));
                }
            });
        }
    });
    scene.gateway.assert_idle(&[&scene.container]);
    let processes = scene
        .container
        .sh("grep -h '^State' /proc/[0-9]*/status; ls /dev/pts; find /tmp -mindepth 1");
    assert!(!processes.stdout_text().contains("zombie"), "{}", processes.stdout_text());
    wait_until(CLEAN_UP_TIME_MAX, "no descriptor is left", || {
        let after: Vec<_> = house.iter().map(open).collect();
        let is_same =
            after.iter().zip(&descriptors_before).all(|(after, before)| *after <= before + 2);
        if is_same { Ok(()) } else { Err(format!("{descriptors_before:?} became {after:?}")) }
    });
    // Other tests of this process have sockets of their own.
    assert!(sockets() < sockets_before + KILLED_SESSIONS, "{sockets_before} became {}", sockets());
}
