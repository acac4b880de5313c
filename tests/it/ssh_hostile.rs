//! Containers and peers that want harm: the gateway answers or refuses in time, and gives nothing away.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::engine::{Container, Output, Spec};
use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, MAIN_KEY, wait_until};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, Scene, line};

/// It ended in time, and said no more than it may: the script's own words, or an error.
fn assert_answered(said: &Finished, words: &str) {
    match said.code() {
        Some(0) => assert_eq!(said.stdout_text().trim_end(), words, "{said}"),
        Some(_) => {}
        None => panic!("killed: {said}"),
    }
}

/// A container whose root may do more than usual.
fn powerful(capability: &'static str) -> impl FnOnce(Spec) -> Spec {
    move |spec| Spec { capabilities: vec![capability.to_owned()], ..spec }
}

/// A program that works against new processes as long as the test wants it.
fn in_background(
    scene: &Scene,
    command: &'static [&'static str],
) -> std::thread::JoinHandle<Output> {
    let exec =
        Run::new("docker").args(["exec", scene.container.id()]).args(command.iter().copied());
    std::thread::spawn(move || {
        let finished = exec.finish();
        Output {
            code: finished.code().map_or(-1, i64::from),
            stdout: finished.stdout,
            stderr: finished.stderr,
        }
    })
}

/// The last line, which tells the result.
fn result(output: &Output) -> Value {
    let text = output.stdout_text();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// `/etc` of a running container as its root could have made it, changed from outside: the engine's own exec hangs
/// for ever over a passwd that is a FIFO, and what it holds with it. Put right again on drop, before the engine has to
/// do anything with the container.
struct Etc {
    directory: PathBuf,
}

impl Etc {
    fn of(container: &Container) -> Self {
        let pid = container.inspect().state.and_then(|state| state.pid).expect("it runs");
        Self { directory: PathBuf::from(format!("/proc/{pid}/root/etc")) }
    }

    /// Takes away whatever is there, and puts something else there. No link is followed.
    fn replace(&self, name: &str, make: Make) -> io::Result<()> {
        let path = self.directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        make(&path)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        for name in ["passwd", "group"] {
            if let Err(error) = self.replace(name, |path| write(path, b"root:x:0:0::/:/bin/sh\n")) {
                e2e::notice!("{name} of a container is left as it is: {error}");
            }
        }
    }
}

type Make = fn(&Path) -> io::Result<()>;

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::File::create_new(path)?.write_all(bytes)
}

fn fifo(path: &Path) -> io::Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
}

/// What a passwd can be.
const PASSWDS: [(&str, Make); 11] = [
    ("a FIFO", fifo),
    ("a link to zeroes without end", |path| symlink("/dev/zero", path)),
    ("a link to standard input", |path| symlink("/proc/self/fd/0", path)),
    ("a link to itself", |path| symlink("/etc/passwd", path)),
    ("a link out of the container", |path| symlink("../../../../../../etc/passwd", path)),
    ("a directory", |path| fs::create_dir(path)),
    ("a sparse file of a terabyte", |path| fs::File::create_new(path)?.set_len(1 << 40)),
    ("one long line", |path| write(path, &vec![b'x'; 3_000_000])),
    ("impossible numbers", |path| {
        write(path, b"root:x:4294967295:0:::\nroot:x:-1:0:::/bin/sh\nwww:x:1000")
    }),
    ("zero bytes", |path| write(path, b"root:x:0:0:\0:/root:/bin/sh\n:::::::\n")),
    ("nothing", |_| Ok(())),
];

#[test]
fn files_of_accounts_that_are_no_files_do_not_hold_a_session_up() {
    // What such a file does must never lead to the engine's exec, which would hang over it.
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.mode("auto")) else { return };
    let etc = Etc::of(&scene.container);
    let answered = |login: &str, trick: &str| {
        let said = scene.gateway.ssh(login).arg("echo in").deadline(ANSWER_TIME_MAX).finish();
        assert_answered(&said, "in");
        assert!(!said.stderr_text().contains("degraded"), "{trick}: {said}");
        said
    };
    let name = scene.container.name();
    for (trick, make) in PASSWDS {
        etc.replace("passwd", make).unwrap_or_else(|error| panic!("{trick}: {error}"));
        for login in [name.to_owned(), format!("{name}+0"), format!("{name}+1234")] {
            assert_eq!(answered(&login, trick).code(), Some(0), "{trick}: {login}");
        }
        let said = answered(&format!("{name}+www"), trick);
        assert_ne!(said.code(), Some(0), "{trick}: a user of nowhere: {said}");
    }
    etc.replace("passwd", |path| write(path, b"root:x:0:0::/root:/bin/sh\n")).expect("a passwd");
    etc.replace("group", fifo).expect("a FIFO");
    assert_eq!(answered(name, "a FIFO of groups").code(), Some(0));
    drop(etc);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn shells_that_are_our_own_program_do_nothing() {
    let Some(scene) = Scene::busybox() else { return };
    scene.container.sh(
        "printf '#!/proc/self/exe\\n' > /evil; printf '#!/proc/self/fd/3\\n' > /evil3; chmod 755 /evil /evil3; \
         for s in /proc/self/exe /evil /evil3 /proc/1/exe /proc/self/fd/0; do \
         i=$((i+1)); echo \"u$i:x:0:0::/:$s\" >> /etc/passwd; done; \
         echo 'home:x:0:0::/proc/self/fd/3:/bin/sh' >> /etc/passwd",
    );
    for user in ["u1", "u2", "u3", "u4", "u5"] {
        for words in [&["role", "spawner"][..], &["serve"], &["-c", "id"], &[]] {
            let login = format!("{}+{user}", scene.container.name());
            let run =
                scene.gateway.ssh(&login).args(words.iter().copied()).deadline(ANSWER_TIME_MAX);
            let said = run.finish();
            assert!(
                !said.stdout_text().contains("listening")
                    && !said.stderr_text().contains("listening"),
                "{said}"
            );
            assert_ne!(said.code(), None, "{user} {words:?}: {said}");
        }
    }
    let said = scene.gateway.ssh(&format!("{}+home", scene.container.name())).arg("pwd").finish();
    assert_answered(&said, "/");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_proc_that_lies_is_not_believed() {
    let Some(scene) = Scene::new(powerful("SYS_ADMIN"), |setup| setup) else { return };
    let before = line(&scene.sh("grep -E '^(Cap|Seccomp|NoNew|Uid|Gid)' /proc/self/status"));
    scene.container.sh(
        "mount -t tmpfs none /proc && mkdir -p /proc/self/attr /proc/self/fd /proc/thread-self /proc/1 && \
         printf 'CapEff: 0\\n' > /proc/self/status && mkfifo /proc/self/attr/exec /proc/self/oom_score_adj /proc/self/loginuid",
    );
    let said = scene.sh("echo in");
    assert_answered(&said, "in");
    let said = scene.ssh().args(["-tt", "echo in"]).deadline(ANSWER_TIME_MAX).finish();
    assert_answered(&said, "in");
    // The real one, mounted again, shows the confinement as it was.
    let said = scene.sh("mkdir -p /real && mount -t proc none /real && grep -E '^(Cap|Seccomp|NoNew|Uid|Gid)' /real/self/status");
    assert_answered(&said, &before);
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_terminal_comes_from_devpts_or_not_at_all() {
    let Some(scene) = Scene::new(powerful("SYS_ADMIN"), |setup| setup) else { return };
    for trick in [
        "mount -t tmpfs none /dev/pts && mknod -m 666 /dev/pts/ptmx c 5 2",
        "mount -t tmpfs none /dev/pts && ln -s /dev/null /dev/pts/ptmx",
        "mount -t tmpfs none /dev/pts && mkfifo /dev/pts/ptmx",
        "mount -t tmpfs none /dev/pts",
    ] {
        scene.container.sh(trick);
        let said = scene.ssh().args(["-tt", "echo in; tty"]).deadline(ANSWER_TIME_MAX).finish();
        if said.code() == Some(0) {
            assert!(said.stdout_text().starts_with("in"), "{trick}: {said}");
        }
        assert_eq!(line(&scene.sh("echo in")), "in", "{trick}");
        scene.container.sh("umount /dev/pts");
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn nothing_of_the_host_shows_during_the_hop() {
    for capability in [None, Some("SYS_PTRACE")] {
        let shape = |spec: Spec| match capability {
            Some(capability) => powerful(capability)(spec),
            None => spec,
        };
        let Some(scene) = Scene::new(shape, |setup| setup) else { return };
        let spy = in_background(&scene, &["/probe", "spy", "6"]);
        while !spy.is_finished() {
            assert_answered(&scene.sh("echo in"), "in");
            let sftp = scene.gateway.client("sftp").args([
                "-b",
                "-",
                &format!("{}@gateway", scene.container.name()),
            ]);
            drop(sftp.stdin("pwd\n").deadline(ANSWER_TIME_MAX).finish());
        }
        let seen = result(&spy.join().expect("the spy"));
        assert!(seen["seen"].as_u64().is_some_and(|seen| seen > 0), "{seen}");
        let foreign: Vec<&str> =
            seen["foreign"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if capability.is_none() {
            assert!(foreign.is_empty(), "{seen}");
        } else {
            // Who may trace everything in the container may look at us there: at nothing of the host.
            let harmless = |what: &&str| {
                what.starts_with("exe /memfd:") || what.starts_with("memory of /memfd:")
            };
            assert!(foreign.iter().all(harmless), "{seen}");
        }
        scene.gateway.assert_idle(&[&scene.container]);
    }
}

/// Seizes every new process and stops it, for some seconds; says how many it got. They go on when it ends.
const TRACER: &str = r"
import ctypes, os, time
c = ctypes.CDLL(None, use_errno=True)
c.ptrace.argtypes = [ctypes.c_long] * 4
old = set(os.listdir('/proc'))
end = time.time() + 6
seized = 0
while time.time() < end:
    for pid in os.listdir('/proc'):
        if pid in old or not pid.isdigit() or int(pid) == os.getpid():
            continue
        if c.ptrace(0x4206, int(pid), 0, 0) == 0:
            seized += 1
            c.ptrace(0x4207, int(pid), 0, 0)
        old.add(pid)
print(seized)
";

#[test]
fn a_tracer_inside_does_not_hold_the_gateway_up() {
    let Some(engine) = e2e::engine::connect() else { return };
    let Some(setup) = e2e::ssh_gateway::Setup::new(crate::ssh::BINARY) else { return };
    let Some(image) = e2e::images::ssh_debian(&engine, Path::new(crate::ssh::PROBE)) else {
        return;
    };
    let container =
        engine.start(powerful("SYS_PTRACE")(Spec::new(image.name(), ["/probe", "hold"])));
    let scene = Scene { gateway: setup.start(), container, image, engine };
    let tracer =
        Run::new("docker").args(["exec", scene.container.id(), "python3", "-c", TRACER]).start();
    while !tracer.ended_within(Duration::ZERO) {
        let said = scene
            .ssh()
            .args(["-o", "ServerAliveInterval=5", "echo in"])
            .start()
            .kill_at(Duration::from_secs(5));
        drop(said);
    }
    let seized = line(&tracer.wait());
    assert!(seized.parse::<u32>().is_ok_and(|count| count > 0), "seized {seized}");
    // When it is gone, all is as before.
    wait_until(CLEAN_UP_TIME_MAX, "a session", || {
        let said = scene.sh("echo in");
        if said.code() == Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn processes_stopped_from_inside_do_not_stay() {
    let Some(scene) = Scene::busybox() else { return };
    let stopper = in_background(&scene, &["/probe", "stop", "6"]);
    while !stopper.is_finished() {
        drop(scene.ssh().arg("echo in").start().kill_at(Duration::from_secs(4)));
    }
    assert!(
        result(&stopper.join().expect("the stopper"))["stopped"]
            .as_u64()
            .is_some_and(|stopped| stopped > 0)
    );
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(line(&scene.sh("echo in")), "in");
    // The last session takes a moment to go, too.
    scene.gateway.assert_idle(&[&scene.container]);
    // A dead one whose parent was stopped and killed is the first process's to reap, and this one never does.
    wait_until(CLEAN_UP_TIME_MAX, "nothing of a session is left but the dead", || {
        let script = "for status in /proc/[0-9]*/status; do \
                      echo $(grep -h -e ^Name -e ^State -e ^PPid $status); done";
        let states = scene.container.sh(script).stdout_text();
        let is_left = |line: &str| line.contains("ssh-gatew") && !line.contains("zombie");
        let is_clean = !states.contains("stopped") && !states.lines().any(is_left);
        if is_clean { Ok(()) } else { Err(states) }
    });
}

fn limited(pids: i64) -> impl FnOnce(Spec) -> Spec {
    move |spec| {
        let mut spec = spec;
        spec.host.pids_limit = Some(pids);
        spec
    }
}

#[test]
fn a_container_without_room_for_a_process_gives_an_error() {
    let Some(scene) = Scene::new(limited(1), |setup| setup) else { return };
    for flag in ["-T", "-tt"] {
        let said = scene.ssh().args([flag, "echo in"]).deadline(ANSWER_TIME_MAX).finish();
        assert_ne!(said.code(), Some(0), "{said}");
        assert_ne!(said.code(), None, "{said}");
    }
    let sftp = scene.gateway.client("sftp").args([
        "-b",
        "-",
        &format!("{}@gateway", scene.container.name()),
    ]);
    let said = sftp.stdin("pwd\n").deadline(ANSWER_TIME_MAX).finish();
    assert_ne!(said.code(), Some(0), "{said}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_fork_bomb_is_answered_and_ends_with_its_session() {
    let Some(scene) = Scene::new(limited(40), |setup| setup) else { return };
    let mut bomb =
        scene.command().arg("b() { b | b & }; b; sleep 1000").spawn().expect("starts ssh");
    wait_until(CLEAN_UP_TIME_MAX, "the container is full", || {
        let path = format!("/sys/fs/cgroup/pids/docker/{}/pids.events", scene.container.id());
        let Ok(events) = fs::read_to_string(path) else { return Ok(()) };
        if events.trim() == "max 0" { Err(events) } else { Ok(()) }
    });
    // There may be room for a moment or not.
    assert_answered(&scene.sh("echo in"), "in");
    bomb.kill().expect("kills ssh");
    bomb.wait().expect("ssh is gone");
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(line(&scene.sh("echo in")), "in");
    let top = scene.container.sh("ls /proc | grep -c '^[0-9]'").stdout_text();
    assert!(top.trim().parse::<u32>().is_ok_and(|count| count < 8), "{top}");
}

#[test]
fn a_paused_container_is_told_and_a_session_of_one_goes() {
    let Some(scene) = Scene::busybox() else { return };
    let mut running = scene.command().arg("echo in; cat").spawn().expect("starts ssh");
    let mut first = [0; 3];
    running.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("ssh says");
    scene.container.pause();
    let said = scene.sh("echo in");
    assert_ne!(said.code(), Some(0), "{said}");
    assert!(said.stderr_text().contains("paused"), "{said}");
    // The end of a session in a paused container waits for nobody: when it goes on, it is over.
    running.kill().expect("kills ssh");
    running.wait().expect("ssh is gone");
    std::thread::sleep(Duration::from_millis(500));
    scene.container.unpause();
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(line(&scene.sh("echo in")), "in");
    // Paused while it is entered, again and again.
    for pause in 0..6_u64 {
        let session = scene.ssh().arg("echo in").deadline(ANSWER_TIME_MAX).start();
        std::thread::sleep(Duration::from_millis(pause * 30));
        let is_paused = scene.container.pause_if_possible();
        drop(session.kill_at(Duration::from_secs(2)));
        if is_paused {
            scene.container.unpause();
        }
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_session_that_ends_in_a_paused_container_is_gone_when_that_goes_on() {
    let Some(scene) = Scene::busybox() else { return };
    let mut running = scene.command().arg("echo in; sleep 1000").spawn().expect("starts ssh");
    let mut first = [0; 3];
    running.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("ssh says");
    scene.container.pause();
    running.kill().expect("kills ssh");
    running.wait().expect("ssh is gone");
    // Every deadline of the gateway passes: nothing that is frozen can be killed.
    scene.gateway.wait_for_log(&["a session is lost", "frozen"]);
    assert!(!e2e::ssh_gateway::session_groups(scene.container.id()).is_empty());
    scene.container.unpause();
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(line(&scene.sh("echo in")), "in");
}

#[test]
fn a_container_restarted_during_the_hop_is_entered_or_refused() {
    let Some(scene) = Scene::busybox() else { return };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for _ in 0..3 {
                scene.container.restart_hard();
                std::thread::sleep(Duration::from_millis(150));
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            assert_answered(&scene.sh("echo in"), "in");
        }
    });
    assert_eq!(line(&scene.sh("echo in")), "in");
    // What runs when the container ends, ends.
    let mut running = scene.command().arg("echo in; sleep 1000").spawn().expect("starts ssh");
    let mut first = [0; 3];
    running.stdout.as_mut().expect("stdout is piped").read_exact(&mut first).expect("ssh says");
    scene.container.kill();
    wait_until(CLEAN_UP_TIME_MAX, "the client ends", || match running.try_wait() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn labels_with_escape_sequences_do_not_reach_terminals_or_break_the_log() {
    let evil = "web\u{1b}]0;evil\u{7}\u{9b}31m\r\n{\"forged\": true}";
    let project = e2e::sandbox::unique_name();
    let labels = HashMap::from([
        ("com.docker.compose.project".to_owned(), project.clone()),
        ("com.docker.compose.service".to_owned(), evil.to_owned()),
        ("chores.test.all".to_owned(), project.clone()),
    ]);
    let Some(scene) = Scene::new(|spec| Spec { labels: labels.clone(), ..spec }, |setup| setup)
    else {
        return;
    };
    let second =
        scene.engine.start(Spec { labels, ..Spec::new(scene.image.name(), ["/probe", "hold"]) });
    for login in [
        format!("chores.test.all={project}"),
        format!("{project}~web"),
        "we\u{301}b\u{202e}".to_owned(),
    ] {
        let said = scene.gateway.ssh(&login).arg("echo in").deadline(ANSWER_TIME_MAX).finish();
        assert_ne!(said.code(), Some(0), "{said}");
        let text = said.stderr_text();
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{9b}') && !text.contains("forged"),
            "{said}"
        );
    }
    for log_line in scene.gateway.log().lines() {
        assert!(
            serde_json::from_str::<Value>(log_line).is_ok_and(|line| line.get("forged").is_none()),
            "{log_line}"
        );
        assert!(!log_line.contains('\u{1b}'), "{log_line}");
    }
    drop(second);
}

#[test]
fn a_large_environment_of_the_image_is_bounded() {
    let env: Vec<String> = (0..14).map(|n| format!("LARGE_{n}={}", "x".repeat(100_000))).collect();
    let Some(scene) = Scene::new(|spec| Spec { env, ..spec }, |setup| setup) else { return };
    let said = scene.sh("echo ${#LARGE_13}");
    assert_answered(&said, "100000");
    scene.gateway.assert_idle(&[&scene.container]);
}

/// Long enough for sixteen key exchanges at once of clients in Python, in seconds.
const SHORT_GRACE: u32 = 30;

#[test]
fn before_authentication_only_its_messages_count() {
    // All of them connect at once.
    let limits = format!("[limits]\nlogin_grace = \"{SHORT_GRACE}s\"\nstartups = \"50:30:100\"\n");
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.config(&limits)) else { return };
    let grace = SHORT_GRACE.to_string();
    let Some(run) = scene.python("before_authentication.py", &[&grace]) else { return };
    let said = run.deadline(Duration::from_secs(250)).finish();
    assert_eq!(line(&said), "done", "{said}\n{}", scene.gateway.log());
    assert_eq!(line(&scene.sh("echo in")), "in");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn bytes_that_are_not_ssh_end_the_connection() {
    let Some(scene) = Scene::busybox() else { return };
    let large = [b"SSH-2.0-x\r\n".as_slice(), &[0xff; 64]].concat();
    let long = vec![b'x'; 100_000];
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n\0\0\0\0\0\0\0\0",
        b"SSH-2.0-x\r\n\x7f\xff\xff\xff",
        &large,
        &long,
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.gateway.port())).expect("connects");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a timeout");
        // It may close before all is written.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset,
                    "{}",
                    bytes.escape_ascii()
                );
            }
        }
    }
    // One that says nothing does not stand in the way of others.
    let silent = TcpStream::connect(("127.0.0.1", scene.gateway.port())).expect("connects");
    assert_eq!(line(&scene.sh_as(MAIN_KEY, "echo in")), "in");
    drop(silent);
    scene.gateway.assert_idle(&[&scene.container]);
}
