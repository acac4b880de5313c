//! What tests run inside containers: it says how it is confined, and it plays the hostile program.
//!
//! ```text
//! probe                    everything that decides what this process may do, as one JSON object
//! probe words ARG…         its arguments, as a JSON array of strings
//! probe hold               sleeps until it is killed
//! probe status N           exits with N
//! probe agent              asks the agent at $SSH_AUTH_SOCK for its keys; prints how many
//! probe spy SECONDS        opens what it can of every new process; prints what it could open
//! probe stop SECONDS       sends SIGSTOP to every new process but its own children; prints to how many
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::{Map, Value, json};

type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Files of `/proc/self` that are text about this process.
const PLAIN_FILES: [&str; 10] = [
    "attr/current",
    "autogroup",
    "cgroup",
    "coredump_filter",
    "gid_map",
    "mountinfo",
    "oom_score_adj",
    "personality",
    "timerslack_ns",
    "uid_map",
];

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] => say(&myself()),
        ["words", rest @ ..] => say(&json!(rest)),
        ["hold"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["status", code] => code.parse::<u8>().map(ExitCode::from).map_err(Into::into),
        ["agent"] => agent(),
        ["spy", seconds] => seconds.parse().map_err(Into::into).and_then(spy),
        ["stop", seconds] => seconds.parse().map_err(Into::into).and_then(stop_all),
        unknown => Err(format!("unknown arguments: {unknown:?}").into()),
    };
    outcome.unwrap_or_else(|error| {
        // A closed standard error leaves nobody to tell.
        drop(writeln!(std::io::stderr(), "probe: {error}"));
        ExitCode::FAILURE
    })
}

fn say(value: &Value) -> Outcome {
    writeln!(std::io::stdout(), "{value}")?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: impl AsRef<Path>) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\0']).to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

fn link(path: impl AsRef<Path>) -> String {
    match fs::read_link(path) {
        Ok(target) => target.to_string_lossy().into_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Everything that decides what this process may do.
fn myself() -> Value {
    let status: Map<String, Value> = read("/proc/self/status")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), json!(value.trim())))
        .collect();
    let limits: Map<String, Value> = read("/proc/self/limits")
        .lines()
        .skip(1)
        .map(|line| {
            let (name, values) = line.split_at_checked(26).unwrap_or((line, ""));
            let values: Vec<_> = values.split_whitespace().take(2).collect();
            (name.trim().to_owned(), json!(values.join(" ")))
        })
        .collect();
    let files: Map<String, Value> = PLAIN_FILES
        .into_iter()
        .map(|name| (name.to_owned(), json!(read(format!("/proc/self/{name}")))))
        .collect();
    let namespaces: Map<String, Value> =
        ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"]
            .into_iter()
            .map(|name| (name.to_owned(), json!(link(format!("/proc/self/ns/{name}")))))
            .collect();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| {
            (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
        })
        .collect();
    // Behind the name, which may hold spaces: field 3 is the first one here.
    let stat = read("/proc/self/stat");
    let stat: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let field = |number: usize| stat.get(number - 3).copied().unwrap_or_default();
    json!({
        "status": status,
        "limits": limits,
        "files": files,
        "namespaces": namespaces,
        "environment": environment,
        "descriptors": descriptors(),
        "terminal": terminal(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "directory": std::env::current_dir().map_or_else(|e| format!("error: {e}"), |d| d.display().to_string()),
        "executable": link("/proc/self/exe"),
        "root": fs::metadata("/").map_or_else(|e| format!("error: {e}"), |m| format!("{}:{}", m.dev(), m.ino())),
        "scheduling": format!("nice {} priority {} policy {}", field(19), field(40), field(41)),
        "has_controlling_terminal": field(7) != "0",
        "kernel": kernel(),
    })
}

/// What no file of `/proc` tells.
fn kernel() -> Value {
    let told = |value: Result<String, rustix::io::Errno>| value.unwrap_or_else(|e| e.to_string());
    json!({
        "secure_bits": told(rustix::thread::capabilities_secure_bits().map(|bits| format!("{bits:?}"))),
        "timer_slack": told(rustix::thread::current_timer_slack().map(|slack| slack.to_string())),
    })
}

fn descriptors() -> Value {
    let mut found = Map::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let target = link(entry.path());
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        // The one that reads this folder.
        if target.starts_with("/proc/") {
            continue;
        }
        let kind = metadata.file_type();
        let kind = if kind.is_fifo() {
            "pipe"
        } else if kind.is_socket() {
            "socket"
        } else if kind.is_char_device() {
            "character device"
        } else {
            "file"
        };
        let flags = read(format!("/proc/self/fdinfo/{name}"))
            .lines()
            .find_map(|line| line.strip_prefix("flags:").map(|flags| flags.trim().to_owned()));
        let path = if target.starts_with('/') { target } else { kind.to_owned() };
        found.insert(
            name,
            json!({
                "kind": kind,
                "path": path,
                "owner": format!("{}:{}", metadata.uid(), metadata.gid()),
                "mode": format!("{:o}", metadata.mode() & 0o7777),
                "flags": flags,
            }),
        );
    }
    Value::Object(found)
}

fn terminal() -> Value {
    let stdin = std::io::stdin();
    let stdin = stdin.as_fd();
    if !rustix::termios::isatty(stdin) {
        return Value::Null;
    }
    let modes = rustix::termios::tcgetattr(stdin);
    let size = rustix::termios::tcgetwinsize(stdin);
    json!({
        "path": link("/proc/self/fd/0"),
        "device": fs::metadata("/proc/self/fd/0").map_or_else(|e| e.to_string(), |m| m.rdev().to_string()),
        "modes": modes.map_or_else(|e| e.to_string(), |m| format!(
            "{:?} {:?} {:?} {:?} {} {}",
            m.input_modes, m.output_modes, m.control_modes, m.local_modes, m.input_speed(), m.output_speed()
        )),
        "size": size.map_or_else(|e| e.to_string(), |s| format!("{}x{}", s.ws_col, s.ws_row)),
    })
}

/// `SSH_AGENTC_REQUEST_IDENTITIES` and its answer (draft-ietf-sshm-ssh-agent, 3.5).
fn agent() -> Outcome {
    let path = std::env::var_os("SSH_AUTH_SOCK").ok_or("SSH_AUTH_SOCK is not set")?;
    let mut socket = UnixStream::connect(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(&[0, 0, 0, 1, 11])?;
    let mut head = [0; 9];
    socket.read_exact(&mut head)?;
    let [_, _, _, _, kind, count @ ..] = head;
    if kind != 12 {
        return Err(format!("the agent answered with message {kind}").into());
    }
    let mode = fs::symlink_metadata(&path)?;
    let folder = PathBuf::from(&path);
    let folder = fs::metadata(folder.parent().ok_or("no folder")?)?;
    say(&json!({
        "keys": u32::from_be_bytes(count),
        "owner": mode.uid(),
        "folder_owner": folder.uid(),
        "folder_mode": format!("{:o}", folder.mode() & 0o7777),
    }))
}

/// The numbers of all processes.
fn processes() -> BTreeSet<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_child(pid: i32) -> bool {
    let mine = std::process::id().to_string();
    let stat = read(format!("/proc/{pid}/stat"));
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1).map(|parent| parent == mine))
        == Some(true)
}

/// Opens what it can of every new process, again and again while it lives.
fn spy(seconds: u64) -> Outcome {
    let own_root = fs::metadata("/")?;
    let old = processes();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seen = BTreeSet::new();
    let mut opened: BTreeMap<&str, u64> = BTreeMap::new();
    let mut foreign: BTreeSet<String> = BTreeSet::new();
    say(&json!("ready"))?;
    std::io::stdout().flush()?;
    while Instant::now() < end {
        for pid in processes() {
            if old.contains(&pid) || is_child(pid) {
                continue;
            }
            seen.insert(pid);
            let at = |name: &str| format!("/proc/{pid}/{name}");
            let has_memory = OpenOptions::new().read(true).write(true).open(at("mem")).is_ok();
            for name in ["environ", "maps", "auxv", "stack", "syscall", "io"] {
                if fs::read(at(name)).is_ok() {
                    *opened.entry(name).or_default() += 1;
                }
            }
            if let Ok(metadata) = fs::metadata(at("root")) {
                *opened.entry("root").or_default() += 1;
                if (metadata.dev(), metadata.ino()) != (own_root.dev(), own_root.ino()) {
                    foreign.insert(format!("root is {}:{}", metadata.dev(), metadata.ino()));
                }
            }
            for entry in fs::read_dir(at("fd")).into_iter().flatten().flatten() {
                foreign.extend(foreign_descriptor(&entry.path(), &at("fdinfo")));
            }
            // Last: before its exec a process is still ours, and must show nothing.
            let executable = link(at("exe"));
            let is_ours = executable.starts_with("/memfd:");
            if is_ours {
                foreign.insert(format!("exe {executable}"));
                if OpenOptions::new().write(true).open(at("exe")).is_ok() {
                    foreign.insert("exe can be written".to_owned());
                }
            }
            if has_memory {
                *opened.entry("mem").or_default() += 1;
                if is_ours || executable.starts_with("error: Permission") {
                    foreign.insert(format!("memory of {executable}"));
                }
            }
        }
    }
    say(&json!({ "seen": seen.len(), "opened": opened, "foreign": foreign }))
}

/// What a descriptor of another process is, unless it is of this container for certain.
fn foreign_descriptor(descriptor: &Path, information: &str) -> Option<String> {
    let target = link(descriptor);
    let foreign = Some(format!("descriptor {target}"));
    // The last are its own signals. What cannot be looked at any more was closed meanwhile.
    let plain = ["pipe:", "socket:", "anon_inode:[signalfd]", "error:"];
    if plain.iter().any(|start| target.starts_with(start)) {
        return None;
    }
    // A pidfd of a process outside has number 0 here (proc(5)).
    if target == "anon_inode:[pidfd]" || target.starts_with("pidfd:") {
        let name = descriptor.file_name()?.to_string_lossy().into_owned();
        let text = fs::read_to_string(Path::new(information).join(name)).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().to_owned();
        return foreign.filter(|_| pid == "0");
    }
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let opened = fs::metadata(descriptor).map(identity).ok()?;
    let ours = fs::metadata(&target).map(identity).ok();
    foreign.filter(|_| ours != Some(opened))
}

fn stop_all(seconds: u64) -> Outcome {
    let old = processes();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut stopped = BTreeSet::new();
    say(&json!("ready"))?;
    std::io::stdout().flush()?;
    while Instant::now() < end {
        for pid in processes() {
            if old.contains(&pid) {
                continue;
            }
            if let Some(process) = Pid::from_raw(pid)
                && rustix::process::kill_process(process, Signal::STOP).is_ok()
            {
                stopped.insert(pid);
            }
        }
    }
    say(&json!({ "stopped": stopped.len() }))
}
