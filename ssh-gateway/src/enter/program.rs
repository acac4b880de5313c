//! C3: becomes the program.
//!
//! All of the confinement is in force, and proved by C1 from outside, before the program's first instruction: C3
//! stops right before its exec until C1 allows it. What exec itself changes is known: root's capabilities
//! become those of the bounding set, another user's are dropped, and a security label takes effect; C1 looks at
//! that one afterwards.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{set_keep_capabilities, set_no_new_privs};

use super::account::{self, Account};
use super::command;
use super::environment::Environment;
use super::limits::{self, Limit};
use super::lsm::{self, Label};
use super::stdio::Stdio;
use super::step::{FromProgram, GivenTools, OrFail as _, Step, failure};
use super::supervise::{Inside, become_user, hide};
use super::{capabilities, seccomp, sys, toolbox};
use crate::sftp::Rights;
use crate::wire::Program;
use crate::wire::socket::Socket;
use crate::wire::task::{Confinement, Failure, FailureKind, Start, Tools};

/// What a shell ends with when a program is not there.
const STATUS_NOT_FOUND: u8 = 127;
/// What a shell ends with when a program is there and cannot be run.
const STATUS_NOT_RUN: u8 = 126;
/// Shells that are tried when a user's own cannot be run.
const SHELLS: [&[u8]; 3] = [b"/bin/bash", b"/bin/ash", b"/bin/sh"];
/// Names of programs that only say that there is no shell. Who may enter as this user is the gateway's rule, as
/// it is the engine's for `docker exec`, and not that of a file for login programs.
const NO_SHELLS: [&[u8]; 2] = [b"nologin", b"false"];

/// How a program is confined.
#[derive(Debug)]
pub struct Confined {
    /// By the specification.
    pub confinement: Confinement,
    /// All its limits.
    pub limits: Vec<Limit>,
}

/// Takes on the security label if the program is one of ours, which does not exec. With a label, no scp of ours
/// stands in for a missing one: that is known only when this has passed.
fn take_label(labels: &[Label], start: &Start) -> Step<()> {
    match &start.program {
        Program::Sftp | Program::SftpReadOnly | Program::Portal => lsm::become_labelled(labels),
        Program::Shell | Program::Command(_) | Program::Words(_) => Ok(()),
    }
}

/// The whole life of C3, if it does not become another program.
pub fn run(inside: &Inside, socket: Socket) -> u8 {
    match until_told(socket) {
        Ok(Some((socket, start))) => become_program(inside, socket, &start),
        // The session ended before it began.
        Ok(None) => 0,
        Err(_) => super::step::EXIT_BROKEN,
    }
}

/// Waits for what to run.
fn until_told(socket: Socket) -> io::Result<Option<(Socket, Start)>> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let [socket] = sys::keep_only([socket.into_descriptor()])?;
    let socket = Socket::from_descriptor(socket);
    rustix::process::setsid()?;
    socket.send(&FromProgram::Waits, &[])?;
    Ok(socket.receive()?.map(|(start, _)| (socket, start)))
}

fn become_program(inside: &Inside, socket: Socket, start: &Start) -> u8 {
    let socket = socket.into_descriptor();
    let has_label = !inside.labels.is_empty();
    let ready = take_label(&inside.labels, start)
        .and_then(|()| connect(&socket, start, has_label))
        .and_then(|person| confine(&inside.confined, &socket, start, person, has_label));
    let failure = match ready {
        Ok(None) => return STATUS_NOT_RUN,
        Ok(Some(Ready { run: Run::Execute(candidates), tools, .. })) => {
            without_tools(execute(&candidates), &tools)
        }
        Ok(Some(ready)) => {
            // Tells C1 that the program runs, as an exec would.
            drop(socket);
            return run_own(ready);
        }
        Err(failure) => failure,
    };
    let status = match failure.kind {
        FailureKind::Program { status } => status,
        _ => STATUS_NOT_RUN,
    };
    drop(say(&socket, &FromProgram::Failed(failure)));
    status
}

/// Why nothing was found, when a toolbox might have had it.
fn without_tools(failure: Failure, tools: &Tools) -> Failure {
    match tools {
        Tools::Unavailable { reason } if matches!(failure.kind, FailureKind::Program { .. }) => {
            Failure { reason: format!("{}; no toolbox: {reason}", failure.reason), ..failure }
        }
        _ => failure,
    }
}

/// Whom to be, with what.
struct Person {
    account: Account,
    stdio: Stdio,
    tools: Tools,
}

/// Finds the user, gets what the image lacks, and connects the standard streams: in this order, so that a terminal is
/// opened where the session's mounts are.
fn connect(socket: &OwnedFd, start: &Start, has_label: bool) -> Step<Person> {
    let account = account::find(&start.user)?;
    let tools = tools(socket, start, &account, has_label)?;
    let mut stdio = Stdio::connect(start, account.identity.uid)?;
    let theirs = std::mem::take(&mut stdio.theirs);
    let descriptors: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
    let duplicate = socket.try_clone().or_fail(FailureKind::Other, "a descriptor")?;
    Socket::from_descriptor(duplicate)
        .send(&FromProgram::Connected(account.identity.clone()), &descriptors)
        .or_fail(FailureKind::Other, "a message to the task")?;
    Ok(Person { account, stdio, tools })
}

/// Gets the toolbox if the session may have it, and cannot do without.
fn tools(socket: &OwnedFd, start: &Start, account: &Account, has_label: bool) -> Step<Tools> {
    let Some(wanted) = &start.toolbox else { return Ok(Tools::Unused) };
    let environment = environment(start, account, None);
    let can_run = |name: &[u8]| can_run(name, account, &environment);
    let has_own_scp = match &start.program {
        Program::Command(line) => stands_in_for_scp(line, has_label, can_run(b"scp")),
        _ => false,
    };
    let has_shell = shells(account).any(can_run);
    if has_own_scp || !toolbox::is_needed(wanted, &start.program, has_shell, can_run) {
        return Ok(Tools::Unused);
    }
    let asking = "asking for the toolbox";
    let socket = Socket::from_descriptor(socket.try_clone().or_fail(FailureKind::Other, asking)?);
    socket.send(&FromProgram::LacksTools, &[]).or_fail(FailureKind::Other, asking)?;
    let given = socket.receive().or_fail(FailureKind::Other, asking)?;
    let refused = match given {
        Some((GivenTools::Here, descriptors)) => match descriptors.first() {
            Some(mount) => toolbox::attach(mount)?.err(),
            None => return Err(failure(FailureKind::Other, "a toolbox without a mount")),
        },
        Some((GivenTools::Unavailable { reason }, _)) => Some(reason),
        None => return Err(failure(FailureKind::Other, "nobody answers for the toolbox")),
    };
    Ok(refused.map_or(Tools::Attached, |reason| Tools::Unavailable { reason }))
}

/// Whether the user could run a program of the image, by its path or its name, as far as its mode says. Looked at before
/// this process is the user.
fn can_run(name: &[u8], account: &Account, environment: &Environment) -> bool {
    let may_run = |path: &[u8]| {
        rustix::fs::stat(path).is_ok_and(|file| toolbox::may_run(&file, &account.identity))
    };
    if name.contains(&b'/') {
        return may_run(name);
    }
    on_path(name, environment).any(|path| may_run(&path))
}

/// Whether our own scp does what this line wants.
fn stands_in_for_scp(line: &[u8], has_label: bool, has_scp: bool) -> bool {
    !has_label && !has_scp && crate::scp::understands(line)
}

/// What runs once all is in force and allowed.
struct Ready {
    run: Run,
    /// For one of our own programs.
    own: Option<Socket>,
    account: Account,
    tools: Tools,
}

/// Takes on the confinement in the order of the runtime, and waits for permission; `None` if there is none.
fn confine(
    confined: &Confined,
    socket: &OwnedFd,
    start: &Start,
    Person { account, stdio, tools }: Person,
    has_label: bool,
) -> Step<Option<Ready>> {
    let confinement = &confined.confinement;
    let filter = confinement.seccomp.as_ref().map(|filter| filter.0.as_slice());
    let mut environment = environment(start, &account, stdio.terminal.as_deref());
    if tools == Tools::Attached {
        // Behind the image's own: what that has is used.
        let path = toolbox::path_behind(environment.get(b"PATH").unwrap_or_default());
        environment.set(b"PATH", &path);
    }
    rustix::process::umask(Mode::from_raw_mode(confinement.umask & 0o777));
    limits::apply(&confined.limits)?;
    sys::reset_signals().or_fail(FailureKind::Other, "signals")?;
    let own = keep(socket, stdio.own)?;
    if confinement.no_new_privileges {
        set_no_new_privs(true).or_fail(FailureKind::Confinement, "no new privileges")?;
    } else if let Some(filter) = filter {
        // Needs a privilege that is about to be dropped.
        seccomp::install(filter)?;
    }
    let is_there = start.as_engine_exec && enter_directory_as_engine(start)?;
    capabilities::bound(confinement.capabilities.bounding)?;
    set_keep_capabilities(true).or_fail(FailureKind::Confinement, "keeping capabilities")?;
    become_user(&account.identity)?;
    set_keep_capabilities(false).or_fail(FailureKind::Confinement, "keeping capabilities")?;
    set_parent_process_death_signal(Some(Signal::KILL)).or_fail(FailureKind::Other, "signals")?;
    hide()?;
    capabilities::apply(&confinement.capabilities)?;
    if !is_there {
        enter_directory(start, &account)?;
    }
    check_directory()?;
    let run = choose(start, &account, &environment, has_label, &tools)?;
    let is_own = !matches!(run, Run::Execute(_));
    if is_own {
        let is_root = account.identity.uid == 0;
        let sets = &confinement.capabilities;
        let mut own = capabilities::after_exec(sets, is_root, confinement.no_new_privileges);
        own.permitted &= sets.permitted;
        own.effective &= sets.permitted;
        capabilities::apply(&own)?;
    }
    if confinement.no_new_privileges
        && let Some(filter) = filter
    {
        seccomp::install(filter)?;
    }
    say(socket, &FromProgram::Confined { is_own, tools: tools.clone() }).or_fail(
        FailureKind::Confinement,
        "the container's seccomp filter does not even allow to write",
    )?;
    Ok(is_allowed(socket).then_some(Ready { run, own, account, tools }))
}

/// Closes everything but the standard streams, the socket to C1, and that of one of our own programs. What stays closes on exec;
/// a socket cannot be reopened by its name in /proc.
fn keep(socket: &OwnedFd, own: Option<Socket>) -> Step<Option<Socket>> {
    sys::keep_beside(socket, own.map(Socket::into_descriptor))
        .map(|own| own.map(Socket::from_descriptor))
        .or_fail(FailureKind::Confinement, "closing descriptors")
}

/// Writes a message in one piece with the one call that hardly any filter forbids.
fn say(socket: &OwnedFd, message: &FromProgram) -> io::Result<()> {
    let bytes = postcard::to_extend(message, vec![0]).map_err(io::Error::other)?;
    rustix::io::retry_on_intr(|| rustix::io::write(socket, &bytes))?;
    Ok(())
}

/// Waits for C1's permission. Its end, or a filter that does not allow to read, is none.
fn is_allowed(socket: &OwnedFd) -> bool {
    let mut permission = [0_u8; 8];
    rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut permission))
        .is_ok_and(|length| length > 0)
}

fn environment(start: &Start, account: &Account, terminal: Option<&[u8]>) -> Environment {
    let (container, session) = (&start.container_environment, &start.session_environment);
    if start.as_engine_exec {
        return Environment::of_engine_exec(container, session, account, start.terminal.is_some());
    }
    let terminal =
        start.terminal.as_ref().map(|asked| (asked.term.as_str(), terminal.unwrap_or_default()));
    Environment::of_session(container, session, account, terminal)
}

/// As the runtime does: first with its own rights. False if it must be tried again as the user.
fn enter_directory_as_engine(start: &Start) -> Step<bool> {
    let Some(directory) = &start.directory else { return Ok(false) };
    match rustix::process::chdir(directory.as_slice()) {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS) => Ok(false),
        Err(error) => Err(no_directory(directory, error)),
    }
}

fn enter_directory(start: &Start, account: &Account) -> Step<()> {
    match &start.directory {
        Some(directory) => rustix::process::chdir(directory.as_slice())
            .map_err(|error| no_directory(directory, error)),
        None => rustix::process::chdir(account.home.as_slice())
            .or_else(|_| rustix::process::chdir("/"))
            .map_err(|error| no_directory(b"/", error)),
    }
}

fn no_directory(directory: &[u8], error: Errno) -> Failure {
    let directory = String::from_utf8_lossy(directory);
    let kind = FailureKind::Program { status: STATUS_NOT_RUN };
    failure(kind, format!("the directory {directory:?}: {error}"))
}

/// The kernel says of a directory outside of our root that it cannot be reached.
fn check_directory() -> Step<()> {
    let directory = rustix::process::getcwd(Vec::new())
        .or_fail(FailureKind::Confinement, "the current directory")?;
    if directory.as_bytes().starts_with(b"/") {
        Ok(())
    } else {
        Err(failure(FailureKind::Confinement, "the current directory is outside of the container"))
    }
}

/// What to do once allowed.
enum Run {
    Execute(Vec<Candidate>),
    Sftp(Rights),
    Scp(Vec<u8>),
    Portal,
}

/// A program that may be there.
struct Candidate {
    path: CString,
    words: Vec<CString>,
    environment: Vec<CString>,
}

fn choose(
    start: &Start,
    account: &Account,
    environment: &Environment,
    has_label: bool,
    tools: &Tools,
) -> Step<Run> {
    // After those of the image.
    let spare = (*tools == Tools::Attached).then_some(toolbox::SHELL);
    match &start.program {
        Program::Sftp => Ok(Run::Sftp(Rights::All)),
        Program::SftpReadOnly => Ok(Run::Sftp(Rights::ReadOnly)),
        Program::Portal => Ok(Run::Portal),
        Program::Words(words) => named(words, environment).map(Run::Execute),
        Program::Shell => shells(account)
            .chain(spare)
            .map(|shell| {
                let login = [b"-".as_slice(), base_name(shell)].concat();
                candidate(shell, &[login], &with_shell(environment, shell))
            })
            .collect::<Step<_>>()
            .map(Run::Execute),
        Program::Command(line) => {
            if stands_in_for_scp(line, has_label, is_on_path(b"scp", environment)) {
                return Ok(Run::Scp(line.clone()));
            }
            let mut candidates = shells(account)
                .chain(spare)
                .map(|shell| {
                    let words = [base_name(shell).to_vec(), b"-c".to_vec(), line.clone()];
                    candidate(shell, &words, &with_shell(environment, shell))
                })
                .collect::<Step<Vec<_>>>()?;
            // An image without any shell can still run what needs none.
            if let Some(words) = command::plain_words(line) {
                candidates.extend(named(&words, environment)?);
            }
            Ok(Run::Execute(candidates))
        }
    }
}

fn shells(account: &Account) -> impl Iterator<Item = &[u8]> {
    let own = account.shell.as_deref().filter(|shell| !NO_SHELLS.contains(&base_name(shell)));
    own.into_iter().chain(SHELLS)
}

fn with_shell(environment: &Environment, shell: &[u8]) -> Environment {
    let mut environment = environment.clone();
    environment.set(b"SHELL", shell);
    environment
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Where a program of these words may be: as execvp(3) looks for it, but never in the current directory.
fn named(words: &[Vec<u8>], environment: &Environment) -> Step<Vec<Candidate>> {
    let Some(name) = words.first().filter(|name| !name.is_empty()) else {
        let kind = FailureKind::Program { status: STATUS_NOT_FOUND };
        return Err(failure(kind, "no program is named"));
    };
    if name.contains(&b'/') {
        return Ok(vec![candidate(name, words, environment)?]);
    }
    on_path(name, environment).map(|path| candidate(&path, words, environment)).collect()
}

fn on_path(name: &[u8], environment: &Environment) -> impl Iterator<Item = Vec<u8>> {
    let path = environment.get(b"PATH").unwrap_or_default();
    let directories = path.split(|byte| *byte == b':').filter(|part| part.starts_with(b"/"));
    directories.map(|directory| [directory, b"/", name].concat())
}

/// Whether the user could run a program of this name.
fn is_on_path(name: &[u8], environment: &Environment) -> bool {
    on_path(name, environment).any(|path| {
        let may_run = rustix::fs::accessat(CWD, path.as_slice(), Access::EXEC_OK, AtFlags::EACCESS);
        may_run.is_ok()
            && rustix::fs::stat(path.as_slice())
                .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
    })
}

fn candidate(path: &[u8], words: &[Vec<u8>], environment: &Environment) -> Step<Candidate> {
    let text = |bytes: Vec<u8>| {
        CString::new(bytes).map_err(|_| {
            let kind = FailureKind::Program { status: STATUS_NOT_RUN };
            failure(kind, "the command has a zero byte")
        })
    };
    Ok(Candidate {
        path: text(path.to_vec())?,
        words: words.iter().map(|word| text(word.clone())).collect::<Step<_>>()?,
        environment: environment.lines().map(text).collect::<Step<_>>()?,
    })
}

/// Executes the first that can be. Returns why none could.
fn execute(candidates: &[Candidate]) -> Failure {
    let mut refused = None;
    for candidate in candidates {
        let error = sys::execute(&candidate.path, &candidate.words, &candidate.environment);
        let path = candidate.path.to_string_lossy();
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => {}
            Errno::ACCESS => refused = refused.or(Some(format!("{path:?}: {error}"))),
            error => {
                let kind = super::step::kind_of(&error.into())
                    .unwrap_or(FailureKind::Program { status: STATUS_NOT_RUN });
                return failure(kind, format!("{path:?}: {error}"));
            }
        }
    }
    match refused {
        Some(reason) => failure(FailureKind::Program { status: STATUS_NOT_RUN }, reason),
        None => {
            let tried: Vec<_> =
                candidates.iter().map(|candidate| candidate.path.to_string_lossy()).collect();
            let reason = format!("not found in the container: {}", tried.join(", "));
            failure(FailureKind::Program { status: STATUS_NOT_FOUND }, reason)
        }
    }
}

fn run_own(ready: Ready) -> u8 {
    let home = Path::new(std::ffi::OsStr::from_bytes(&ready.account.home));
    match (ready.run, ready.own) {
        (Run::Sftp(rights), own) => {
            crate::sftp::serve(home, rights, own.map(Socket::into_descriptor))
        }
        // Its patterns are the user's: nothing is looked for before everything is in force.
        (Run::Scp(line), own) => crate::scp::words(&line)
            .map_or(super::step::EXIT_BROKEN, |words| {
                crate::scp::run(&words, own.map(Socket::into_descriptor))
            }),
        (Run::Portal, Some(socket)) => crate::portal::run(socket, home),
        (Run::Portal, None) | (Run::Execute(_), _) => super::step::EXIT_BROKEN,
    }
}

#[cfg(test)]
mod tests;
