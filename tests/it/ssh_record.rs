//! What is kept of sessions: the audit, recordings, and what can be seen and done while they run.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use e2e::process::{Finished, Run};
use e2e::ssh_gateway::{CLEAN_UP_TIME_MAX, Setup, program, python, wait_until};
use serde_json::Value;

use crate::ssh::{ANSWER_TIME_MAX, BINARY, Scene, line};

/// Exit status of OpenSSH's client when there was no session, or a signal ended it.
const SSH_FAILED: i32 = 255;

/// The number of a user who owns nothing.
const NOBODY: u32 = 65534;

/// Everybody may do everything; of the key `typing` what it types is kept too, and of `free` nothing must be.
const RULES: &str = "
[[rule]]
name = 'typing'
who = ['typing']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal', 'sftp']
record = 'input'

[[rule]]
name = 'free'
who = ['free']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal', 'sftp']
forward = ['*']
unrecorded = 'allow'

[[rule]]
name = 'all'
who = ['*']
containers = ['*']
users = ['*']
allow = ['shell', 'exec', 'terminal', 'sftp']
forward = ['*']
";

fn policy(setup: Setup) -> Setup {
    setup.key("typing", "").key("free", "").policy(RULES)
}

/// A gateway that records output, in front of a container that has the programs of this machine.
fn scene(config: &str) -> Option<Scene> {
    Scene::new(
        |mut spec| {
            for directory in ["/usr", "/lib", "/lib64"] {
                // Where they are links, they lead below /usr.
                if Path::new(directory).exists() {
                    spec.binds.push(format!("{directory}:{directory}:ro"));
                }
            }
            spec
        },
        |setup| policy(setup).config(&format!("[record]\nsessions = 'output'\n{config}")),
    )
}

fn state(scene: &Scene) -> PathBuf {
    scene.gateway.sandbox().path("state")
}

fn gateway(words: &[&str], state: &Path) -> Run {
    Run::new(BINARY).args(words.iter().copied()).arg("--state").arg(state)
}

/// The lines of the audit, in their order.
fn audit(state: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for file in files(&state.join("audit"), ".jsonl") {
        let text = std::fs::read_to_string(file).expect("reads the audit");
        lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()));
    }
    lines
}

fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path(), end));
        } else if entry.path().to_string_lossy().ends_with(end) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The recording that is the last one of the audit once it has `count` of them.
fn recording(state: &Path, count: usize) -> PathBuf {
    let mut found = None;
    wait_until(CLEAN_UP_TIME_MAX, "a whole recording", || {
        let lines = audit(state);
        let whole: Vec<_> = lines.iter().filter(|line| line["event"] == "recording").collect();
        if whole.len() < count {
            return Err(format!("{lines:#?}"));
        }
        found = whole.last().and_then(|line| line["file"].as_str()).map(str::to_owned);
        Ok(())
    });
    state.join("recordings").join(found.expect("a recording has a file"))
}

/// What the client of a session got, and what its recording has.
fn assert_replays(state: &Path, count: usize, said: &Finished) -> PathBuf {
    let file = recording(state, count);
    let replayed = Run::new(BINARY).args(["replay", "--raw"]).arg(&file).succeed();
    assert!(
        replayed.stdout == said.stdout,
        "{} bytes were replayed, {} seen: {said}",
        replayed.stdout.len(),
        said.stdout.len()
    );
    file
}

#[test]
fn recordings_replay_what_the_client_got() {
    let Some(scene) = scene("") else { return };
    // As the container finds them: without the links of this machine's /etc.
    let real =
        |path: PathBuf| std::fs::canonicalize(path).expect("a program").display().to_string();
    let Some(vim) = program("vim", "vim").map(real) else { return };
    let Some(tmux) = program("tmux", "tmux").map(real) else { return };
    let edit = format!("HOME=/tmp TERM=xterm {vim} -u NONE -n /tmp/file");
    let multiplex = format!(
        "HOME=/tmp TERM=xterm LC_ALL=C.UTF-8 {tmux} -S /tmp/tmux new-session 'echo in tmux; ls -C /usr/bin'"
    );
    let state = state(&scene);
    let mut count = 0;
    for (script, typed, wanted) in [
        ("head -c 300000 /dev/urandom", "", ""),
        (
            "printf 'gr\\303\\274n \\342\\202'; sleep 0.1; printf '\\254\\377\\n'; exit 3",
            "",
            "grün €",
        ),
        (edit.as_str(), "ihello\u{1b}:wq\r", "\u{1b}[?1049h"),
        (multiplex.as_str(), "", "\u{1b}[?1049h"),
    ] {
        let run = scene.ssh().arg("-tt").arg(script).stdin(typed).deadline(ANSWER_TIME_MAX);
        let said = run.finish();
        count += 1;
        assert!(said.stdout_text().contains(wanted), "{script}: {said}");
        let file = assert_replays(&state, count, &said);
        // For a terminal it has nothing that one would obey, and says the same.
        let shown = Run::new(BINARY).args(["replay", "--speed", "1000"]).arg(file).succeed();
        let titles = shown.stdout.windows(2).any(|pair| pair == b"\x1b]" || pair == b"\x1bP");
        assert!(!titles, "{shown}");
    }
    let hello = scene.sh("cat /tmp/file");
    count += 1;
    assert_eq!(line(&hello), "hello");
    // Without a terminal: text, and no files.
    let file = assert_replays(&state, count, &hello);
    assert!(file.to_string_lossy().contains(scene.container.name()), "{}", file.display());
    let run = scene.gateway.client("sftp").args(["-b", "-"]);
    let run = run.arg(format!("{}@gateway", scene.container.name()));
    let sftp = run.stdin("get /etc/passwd /dev/null\n").deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(sftp.code(), Some(0), "{sftp}");
    scene.gateway.assert_idle(&[&scene.container]);
    assert_eq!(files(&state.join("recordings"), ".zst").len(), count);
    let mut sessions = audit(&state).into_iter().filter(|line| line["event"] == "session");
    let sftp = sessions.next_back().expect("a session of files");
    assert_eq!((sftp["program"].as_str(), sftp.get("recording")), (Some("sftp"), None), "{sftp}");
}

/// Text, since asciicasts have no other bytes; characters and moves of a terminal in it, some of them cut by a pause.
#[test]
fn asciinema_shows_what_replay_does() {
    let Some(python) = python() else { return };
    let Some(zstd) = program("zstd", "zstd") else { return };
    let Some(scene) = scene("") else { return };
    let state = state(&scene);
    let script = "printf 'gr\\303\\274n \\342\\202'; sleep 0.1; printf '\\254\\n\\033[1;31mred\\033[0m\\t\"\\\\\\n'; \
                  ls -lC --color /usr/bin; printf '\\360\\237\\246\\200\\177\\033[2J\\007'; exit 3";
    for (number, terminal) in ["-tt", "-T"].into_iter().enumerate() {
        let said = scene.ssh().arg(terminal).arg(script).deadline(ANSWER_TIME_MAX).finish();
        assert_eq!(said.code(), Some(3), "{said}");
        assert!(said.stdout_text().contains("grün €"), "{said}");
        let file = assert_replays(&state, number + 1, &said);
        let cast = Run::new(&zstd).arg("-dc").arg(file).succeed().stdout;
        let home = scene.gateway.sandbox().directory("home");
        for verb in ["cat", "play"] {
            let run = Run::new(&python).args(["-m", "asciinema", verb, "-"]).env("HOME", &home);
            let shown = run.env("LC_ALL", "C.UTF-8").stdin(cast.clone()).succeed();
            assert!(
                shown.stdout == said.stdout,
                "{verb}: {} bytes were shown, {} seen: {shown}",
                shown.stdout.len(),
                said.stdout.len()
            );
        }
    }
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn typed_words_are_kept_where_a_rule_says_so_and_never_those_that_are_not_echoed() {
    let Some(scene) = scene("") else { return };
    let mut command = scene.command();
    let config = scene.gateway.config("typing");
    let script =
        "stty -echo; echo asks; read secret; stty echo; echo shows; read word; echo \"got $word\"";
    let mut client =
        command.args(["-tt", "-F"]).arg(config).arg(script).spawn().expect("starts ssh");
    let mut stdin = client.stdin.take().expect("stdin is piped");
    let mut stdout = BufReader::new(client.stdout.take().expect("stdout is piped"));
    let mut until = |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(stdout.read_line(&mut line).expect("reads"), 0, "no {word}");
        }
    };
    until("asks");
    stdin.write_all(b"hunter2\r").expect("types");
    until("shows");
    stdin.write_all(b"visible\r").expect("types");
    until("got visible");
    drop(stdin);
    client.wait().expect("ssh ends");
    let file = recording(&state(&scene), 1);
    let bytes = std::fs::read(file).expect("reads the recording");
    let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).expect("zstd")).expect("text");
    let typed: Vec<Value> = text
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).expect("an event"))
        .filter(|event: &Value| event[1] == "i")
        .collect();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(
        typed.iter().map(|event| event[2].as_str()).collect::<Vec<_>>(),
        [Some("visible\r")]
    );
}

#[test]
fn an_audit_that_was_cut_or_changed_says_where() {
    let Some(scene) = scene("") else { return };
    let state = state(&scene);
    for number in 0..4 {
        let said = scene.ssh().args(["-tt", &format!("echo {number}; exit {number}")]).finish();
        assert_eq!(said.code(), Some(number), "{said}");
    }
    let refused = scene.gateway.ssh_as("typing", "nobody").arg("echo in").finish();
    assert_eq!(refused.code(), Some(SSH_FAILED), "{refused}");
    recording(&state, 4);
    scene.gateway.signal(rustix::process::Signal::TERM);
    wait_until(CLEAN_UP_TIME_MAX, "the last checkpoint", || {
        let lines = audit(&state);
        let logouts = lines.iter().filter(|line| line["event"] == "logout").count();
        let last = lines.last().map(|line| line["event"].clone());
        if logouts == 5 && last == Some("checkpoint".into()) {
            Ok(())
        } else {
            Err(format!("{lines:#?}"))
        }
    });
    let verify =
        |state: &Path| gateway(&["audit", "verify", "--recordings", "--json"], state).finish();
    let whole = verify(&state);
    assert_eq!(whole.code(), Some(0), "{whole}");
    let events: Vec<String> =
        audit(&state).iter().filter_map(|line| Some(line["event"].as_str()?.to_owned())).collect();
    for event in ["begin", "login", "session", "recording", "exit", "logout", "session refused"] {
        assert!(events.iter().any(|its| its == event), "{event}: {events:?}");
    }
    // OpenSSH finds the signatures good.
    let sandbox = scene.gateway.sandbox();
    let checkpoint = audit(&state).into_iter().rfind(|line| line["event"] == "checkpoint");
    let checkpoint = checkpoint.expect("a checkpoint");
    let signed = format!(
        "{} {}",
        checkpoint["number"].as_u64().expect("a number") - 1,
        checkpoint["previous"].as_str().expect("a hash")
    );
    let signature =
        sandbox.file("signature", checkpoint["signature"].as_str().expect("a signature"));
    let public = std::fs::read_to_string(state.join("audit/key.pub")).expect("the key");
    let allowed = sandbox.file("allowed", format!("gateway {public}"));
    let run =
        Run::new("ssh-keygen").args(["-Y", "verify", "-n", "chores-audit", "-I", "gateway", "-f"]);
    run.arg(allowed).arg("-s").arg(signature).stdin(signed).succeed();
    // A copy with something done to it.
    let file = state.join("audit/audit-00000001.jsonl");
    let text = std::fs::read_to_string(&file).expect("reads the audit");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for at in 0..lines.len() {
        let place = at + 1;
        let other = lines[at].replacen('2', "3", 1);
        let edited = [&lines[..at], &[other.as_str()], &lines[place..]].concat();
        let cut = [&lines[..at], &lines[place..]].concat();
        for (what, changed) in [("edited", edited), ("cut", cut), ("ended", lines[..at].to_vec())] {
            let copy = sandbox.directory(format!("{what}-{at}"));
            let run = Run::new("cp").arg("-a").arg(state.join("audit")).arg(&copy);
            run.succeed();
            let path = copy.join("audit/audit-00000001.jsonl");
            std::fs::write(&path, changed.concat()).expect("writes a copy");
            let said = gateway(&["audit", "verify", "--json"], &copy).finish();
            let answer: Value = serde_json::from_slice(&said.stdout).expect("an answer");
            let first = answer["damages"][0]["line"].as_u64();
            // Without its first line an audit is one whose beginning is elsewhere.
            if what == "cut" && at == 0 {
                assert_eq!((said.code(), &answer["first"]), (Some(3), &2.into()), "{said}");
                continue;
            }
            let wanted = match what {
                "ended" => at,
                "cut" => place.min(lines.len() - 1),
                _ => place,
            };
            assert_eq!(
                (said.code(), first),
                (Some(1), Some(wanted as u64)),
                "{what} {place}: {said}"
            );
        }
    }
    // A recording that was changed.
    let recording = files(&state.join("recordings"), ".zst").pop().expect("a recording");
    let mut bytes = std::fs::read(&recording).expect("reads it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&recording, bytes).expect("writes it");
    let said = verify(&state);
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stdout_text().contains("is not as it was recorded"), "{said}");
    scene.gateway.forget();
}

#[test]
fn sessions_are_listed_watched_and_ended() {
    let Some(scene) = scene("") else { return };
    let state = state(&scene);
    let mut client = scene
        .command()
        .args(["-tt", "stty -echo; echo ready; while read word; do printf \"told $word\\n\\033]0;title\\007\"; done"])
        .spawn()
        .expect("starts ssh");
    let mut stdout = BufReader::new(client.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("ssh says");
    assert_eq!(first.trim_end(), "ready");
    let mut session = String::new();
    wait_until(CLEAN_UP_TIME_MAX, "the session on the list", || {
        let listed = gateway(&["sessions", "ls", "--json"], &state).succeed().stdout_text();
        let Some(found) = listed.lines().find_map(|line| serde_json::from_str::<Value>(line).ok())
        else {
            return Err(listed);
        };
        assert_eq!(found["container"], scene.container.name());
        assert_eq!((&found["identity"], &found["rule"]), (&"main".into(), &"all".into()));
        session = found["session"].as_str().expect("a name").to_owned();
        Ok(())
    });
    let table = gateway(&["sessions", "ls"], &state).succeed().stdout_text();
    assert!(table.contains(&session) && table.starts_with("SESSION"), "{table}");
    // Who watches sees what comes from then on, without what a terminal would obey.
    let mut watch = std::process::Command::new(BINARY)
        .args(["sessions", "watch", &session, "--state"])
        .arg(&state)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts to watch");
    wait_until(CLEAN_UP_TIME_MAX, "somebody watches", || {
        let is_told = |line: &Value| line["event"] == "administration" && line["what"] == "watch";
        if audit(&state).iter().any(is_told) { Ok(()) } else { Err("nobody".to_owned()) }
    });
    let mut stdin = client.stdin.take().expect("stdin is piped");
    let mut seen = Vec::new();
    let mut watched = watch.stdout.take().expect("stdout is piped");
    // The first words may come before it is connected to what goes through.
    while !String::from_utf8_lossy(&seen).contains("told hello") {
        stdin.write_all(b"hello\r").expect("types");
        let mut bytes = [0; 256];
        let mut polled = [rustix::event::PollFd::new(&watched, rustix::event::PollFlags::IN)];
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if rustix::event::poll(&mut polled, Some(&pause)).expect("polls") > 0 {
            let length = watched.read(&mut bytes).expect("reads");
            assert_ne!(length, 0, "it ended");
            seen.extend_from_slice(&bytes[..length]);
        }
    }
    assert!(!String::from_utf8_lossy(&seen).contains("title"), "{seen:?}");
    let unknown = gateway(&["sessions", "kill", "nobody"], &state).finish();
    assert_eq!(unknown.code(), Some(1), "{unknown}");
    assert!(unknown.stderr_text().contains("there is no session or forward nobody"), "{unknown}");
    gateway(&["sessions", "kill", &session], &state).succeed();
    drop(stdin);
    let ended = client.wait().expect("ssh ends");
    assert_ne!(ended.code(), Some(0), "{ended}");
    watched.read_to_end(&mut seen).expect("reads the end");
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
    scene.gateway.assert_idle(&[&scene.container]);
    let listed = gateway(&["sessions", "ls", "--json"], &state).succeed();
    assert_eq!(listed.stdout_text(), "");
    let killed = audit(&state).into_iter().find(|line| line["what"] == "kill").expect("an event");
    assert_eq!((&killed["name"], &killed["uid"]), (&session.as_str().into(), &0.into()));
    // Nobody but root can connect, and nobody but root would be heard.
    let socket = state.join("control.sock");
    set_mode(scene.gateway.sandbox().root(), 0o755);
    assert_eq!(asked_by_nobody(&socket).expect_err("refused").kind(), ErrorKind::PermissionDenied);
    set_mode(&state, 0o755);
    set_mode(&socket, 0o666);
    let answer = asked_by_nobody(&socket).expect("an answer");
    assert_eq!(answer.trim_end(), "{\"no\":\"only root may ask\"}");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// What a user without any right is answered at a socket.
fn asked_by_nobody(socket: &Path) -> std::io::Result<String> {
    let socket = socket.to_owned();
    // Of this thread alone, which ends with it.
    let asking = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_groups(&[]).expect("no groups");
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user");
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    asking.join().expect("asks")
}

#[test]
fn a_degraded_session_that_is_killed_ends_for_its_client() {
    let Some(scene) = Scene::new(|spec| spec, |setup| setup.mode("engine")) else { return };
    let state = state(&scene);
    let mut client = scene.command().arg("echo ready; cat").spawn().expect("starts ssh");
    // As long as it is open, the program does not end by itself.
    let stdin = client.stdin.take().expect("stdin is piped");
    let mut stdout = BufReader::new(client.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    stdout.read_line(&mut first).expect("ssh says");
    assert_eq!(first.trim_end(), "ready");
    let listed = gateway(&["sessions", "ls", "--json"], &state).succeed().stdout_text();
    let listed: Value = serde_json::from_str(listed.trim()).expect("one session");
    let session = listed["session"].as_str().expect("a name");
    gateway(&["sessions", "kill", session], &state).succeed();
    let ended = client.wait().expect("ssh ends");
    assert_eq!(ended.code(), Some(SSH_FAILED), "{ended}");
    drop(stdin);
    wait_until(CLEAN_UP_TIME_MAX, "its end in the audit", || {
        let mut lines = audit(&state);
        lines.retain(|line| line["name"] == session);
        let events: Vec<_> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
        if events == ["session", "administration", "exit"] {
            Ok(())
        } else {
            Err(format!("{lines:#?}"))
        }
    });
}

#[test]
fn without_room_for_recordings_rules_decide() {
    let Some(scene) = scene("quota = '1MiB'\n") else { return };
    let noise = "head -c 3000000 /dev/urandom; echo; echo whole";
    let said = scene.ssh().args(["-tt", noise]).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(SSH_FAILED), "{}", said.stderr_text());
    assert!(
        said.stdout_text()
            .ends_with("This session can no longer be recorded, so it ends here.\r\n")
    );
    scene.gateway.assert_idle(&[&scene.container]);
    // Once it is full, nothing begins that must be recorded.
    wait_until(CLEAN_UP_TIME_MAX, "no room is left", || {
        scene.sh("head -c 20000 /dev/urandom");
        let said = scene.sh("echo in");
        let is_refused = said.stderr_text().contains("the gateway cannot keep its records");
        if is_refused && said.code() == Some(SSH_FAILED) { Ok(()) } else { Err(said.to_string()) }
    });
    let run = scene.gateway.ssh_as("free", scene.container.name()).args(["-tt", noise]);
    let said = run.deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(0), "{}", said.stderr_text());
    assert!(said.stdout_text().ends_with("whole\r\n"));
}

#[test]
fn without_room_for_the_audit_rules_decide() {
    let full = |setup: Setup| {
        let directory = setup.sandbox().directory("state/audit");
        let line = format!(
            "{{\"number\":1,\"event\":\"begin\",\"previous\":\"{}\",\"filler\":\"{}\"}}\n",
            "0".repeat(64),
            "x".repeat(50_000)
        );
        std::fs::write(directory.join("audit-00000001.jsonl"), line.repeat(30)).expect("fills it");
        // Without the key of what is there, no gateway begins.
        let run = Run::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        run.arg(directory.join("key")).succeed();
        set_mode(&directory, 0o700);
        policy(setup).config("[record]\naudit_quota = '1MiB'\n")
    };
    let Some(scene) = Scene::new(|spec| spec, full) else { return };
    let said = scene.sh("echo in");
    assert_eq!(said.code(), Some(SSH_FAILED), "{said}");
    assert!(said.stderr_text().contains("the gateway cannot keep its records"), "{said}");
    let said = scene.through("main", "localhost:1", "");
    assert_ne!(said.code(), Some(0), "{said}");
    assert_eq!(line(&scene.sh_as("free", "echo in")), "in");
    scene
        .gateway
        .wait_for_log(&["the audit is not written", "its quota of 1048576 bytes is used up"]);
    // Somebody makes room.
    std::fs::remove_file(state(&scene).join("audit/audit-00000001.jsonl")).expect("removes it");
    wait_until(CLEAN_UP_TIME_MAX, "the audit is written", || {
        let said = scene.sh("echo in");
        if said.code() == Some(0) { Ok(()) } else { Err(said.to_string()) }
    });
}

/// The lines of the audit about files of sessions that have ended: what was done, and the path.
fn files_told(state: &Path, exits: usize) -> Vec<Value> {
    let mut found = Vec::new();
    wait_until(CLEAN_UP_TIME_MAX, "the end of the sessions in the audit", || {
        found = audit(state);
        let ended = found.iter().filter(|line| line["event"] == "exit").count();
        if ended >= exits { Ok(()) } else { Err(format!("{found:#?}")) }
    });
    found.retain(|line| line["event"] == "file");
    found
}

#[test]
fn what_is_done_to_files_is_in_the_audit_with_sizes_and_hashes() {
    // An image without scp, so that it is ours.
    let Some(scene) = Scene::busybox() else { return };
    let state = state(&scene);
    let sandbox = scene.gateway.sandbox();
    let content = vec![b'x'; 3_000_000];
    let file = sandbox.file("file", &content);
    let sum = Run::new("sha256sum").arg(&file).succeed().stdout_text();
    let sum = sum.split(' ').next().unwrap_or_default();
    let run = scene.gateway.client("sftp").args(["-b", "-"]);
    let run = run.arg(format!("{}@gateway", scene.container.name()));
    let (file, back) = (file.display(), sandbox.path("back"));
    let batch = format!(
        "put {file} /tmp/one\nget /tmp/one {}\nrename /tmp/one /tmp/two\nmkdir /tmp/d\nln -s two /tmp/soft\n\
         ln /tmp/two /tmp/hard\nchmod 600 /tmp/two\nls -la /tmp\nrm /tmp/hard\nrmdir /tmp/d\n-get /etc/none\n\
         put {file} \"/tmp/gr\u{fc}n \u{1b}[2J\"\n",
        back.display()
    );
    let said = run.stdin(batch).deadline(ANSWER_TIME_MAX).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    let lines = files_told(&state, 1);
    let done: Vec<_> = lines
        .iter()
        .map(|line| (line["what"].as_str().unwrap_or(""), line["path"].as_str().unwrap_or("")))
        .collect();
    let wanted = [
        ("file", "/tmp/one"),
        ("file", "/tmp/one"),
        ("rename", "/tmp/one"),
        ("mkdir", "/tmp/d"),
        ("symlink", "/tmp/soft"),
        ("hardlink", "/tmp/two"),
        ("setstat", "/tmp/two"),
        ("remove", "/tmp/hard"),
        ("rmdir", "/tmp/d"),
        ("file", "/tmp/gr\\xc3\\xbcn \\x1b[2J"),
    ];
    assert_eq!(done, wanted, "{lines:#?}");
    assert_eq!(
        (&lines[0]["written"], &lines[0]["written_sha256"]),
        (&3_000_000.into(), &sum.into())
    );
    assert_eq!((&lines[1]["read"], &lines[1]["read_sha256"]), (&3_000_000.into(), &sum.into()));
    assert_eq!(lines[2]["to"], "/tmp/two");
    assert_eq!(lines[6]["mode"], "0600");
    let session = audit(&state).into_iter().find(|line| line["event"] == "session");
    let session = session.expect("a session");
    assert!(lines.iter().all(|line| line["name"] == session["name"]), "{lines:#?}");

    // The old form of scp, in both directions.
    let run = scene.gateway.client("scp").arg("-O").arg(file.to_string());
    let run = run.arg(format!("{}@gateway:/tmp/old", scene.container.name()));
    run.deadline(ANSWER_TIME_MAX).succeed();
    let run = scene.gateway.client("scp").arg("-O");
    let run = run.arg(format!("{}@gateway:/tmp/old", scene.container.name())).arg(&back);
    run.deadline(ANSWER_TIME_MAX).succeed();
    let lines = files_told(&state, 3);
    let old: Vec<_> = lines.iter().filter(|line| line["path"] == "/tmp/old").collect();
    assert_eq!((&old[0]["written"], &old[0]["written_sha256"]), (&3_000_000.into(), &sum.into()));
    assert_eq!((&old[1]["read"], &old[1]["read_sha256"]), (&3_000_000.into(), &sum.into()));
    let verified = gateway(&["audit", "verify"], &state).finish();
    assert_eq!(verified.code(), Some(0), "{verified}");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn a_file_whose_client_goes_in_its_midst_is_in_the_audit() {
    let Some(scene) = Scene::busybox() else { return };
    let state = state(&scene);
    let mut client = scene.command().args(["-s", "sftp"]).spawn().expect("starts ssh");
    let mut stdin = client.stdin.take().expect("stdin is piped");
    let mut stdout = client.stdout.take().expect("stdout is piped");
    let packet = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    // INIT, OPEN for reading, READ.
    stdin.write_all(&packet(&[1, 0, 0, 0, 3])).expect("says hello");
    let path = b"/etc/passwd";
    let open = [&[3, 0, 0, 0, 1, 0, 0, 0, 11], path.as_slice(), &[0, 0, 0, 1, 0, 0, 0, 0]].concat();
    stdin.write_all(&packet(&open)).expect("opens");
    let mut answer = || {
        let mut length = [0; 4];
        stdout.read_exact(&mut length).expect("a length");
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stdout.read_exact(&mut answer).expect("an answer");
        answer
    };
    answer();
    let opened = answer();
    assert_eq!(opened[0], 102, "{opened:?}");
    let read = [&[5, 0, 0, 0, 2], &opened[5..], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]].concat();
    stdin.write_all(&packet(&read)).expect("reads");
    assert_eq!(answer()[0], 103);
    client.kill().expect("kills ssh");
    client.wait().expect("ssh ends");
    let lines = files_told(&state, 1);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!((&lines[0]["path"], &lines[0]["read"]), (&"/etc/passwd".into(), &5.into()));
    assert_eq!(lines[0]["fault"], "its client did not close it");
    scene.gateway.assert_idle(&[&scene.container]);
}

#[test]
fn an_audit_of_an_older_format_verifies_for_ever() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ssh-gateway-audit-2");
    let said = Run::new(BINARY).args(["audit", "verify", "--json"]).arg(&golden).finish();
    assert_eq!(said.code(), Some(0), "{said}");
    let answer: Value = serde_json::from_slice(&said.stdout).expect("an answer");
    assert_eq!((&answer["lines"], &answer["signed"]), (&12.into(), &12.into()), "{said}");
    let notes = answer["notes"].to_string();
    for note in ["line 9 was not whole (20 bytes)", "3 events were not written, 3 of them refusals"]
    {
        assert!(notes.contains(note), "{said}");
    }
}
