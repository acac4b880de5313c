//! A task, the process C1 of one session: enters a container for it, proves that its program is confined, and
//! ends all of it. See [`crate::enter`] for the processes and [`crate::wire::task`] for what it is told.
//!
//! It stays in the host's pid namespace and in the gateway's cgroup: the container can neither see nor freeze
//! it, so every deadline here holds whatever the container does.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, set_child_subreaper, waitpid};
use rustix::thread::{
    SecureComputingMode, ThreadNameSpaceType, no_new_privs, secure_computing_mode,
};

use serde::Serialize;

use crate::enter::cgroup::{self, Groups, SessionGroup};
use crate::enter::cross::{self, Crossing};
use crate::enter::lsm::{self, Label};
use crate::enter::namespaces::Namespaces;
use crate::enter::pin::Pinned;
use crate::enter::program::Confined;
use crate::enter::step::{
    FromProgram, FromSupervisor, GivenTools, Identity, OrFail as _, Step, ToSupervisor, failure,
    kernel_file, live,
};
use crate::enter::supervise::{self, Inside};
use crate::enter::sys::{self, Forked};
use crate::enter::verify::{self, Expected, Places};
use crate::enter::{capabilities, limits, seccomp, toolbox};
use crate::wire::Exit;
use crate::wire::socket::Socket;
use crate::wire::task::{
    CapabilitySets, Failure, FailureKind, Order, Pin, Report, Start, Target, Tools,
};

/// From the order to enter until a process waits inside.
const ENTER_TIME: Duration = Duration::from_secs(10);
/// From the order to start until the program runs.
const START_TIME: Duration = Duration::from_secs(10);
/// From the first SIGKILL until nothing is left.
const KILL_TIME: Duration = Duration::from_secs(10);
/// What allows C3 to go on.
const ALLOWED: u8 = 1;
/// What cannot be ended is tried again for this long; then it is left to the start of the next gateway.
const LINGER_TIME: Duration = Duration::from_hours(24);
/// Between two tries.
const LINGER_PERIOD: Duration = Duration::from_millis(200);
/// From the end of the last process until its supervisor has ended.
const REAP_TIME: Duration = Duration::from_secs(2);

/// Serves one socket, and ends with it.
pub fn run(socket: &Socket) -> ! {
    live(|| serve(socket))
}

fn serve(socket: &Socket) -> u8 {
    let done = match socket.receive() {
        Ok(Some((Order::Filter { pin }, _))) => filter(socket, &pin),
        Ok(Some((Order::Enter(target), _))) => hop(socket, *target),
        Ok(Some(_)) => Err(failure(FailureKind::Other, "an order that does not come first")),
        // Nobody wants anything any more.
        Ok(None) => return 0,
        Err(error) => Err(failure(FailureKind::Other, format!("an order: {error}"))),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            drop(socket.send(&Report::Failed(failure), &[]));
            1
        }
    }
}

fn filter(socket: &Socket, pin: &Pin) -> Step<()> {
    check_ourselves(false)?;
    let pinned = Pinned::new(pin)?;
    let instructions = seccomp::read(pinned.pid)?;
    pinned.check_alive()?;
    socket
        .send(&Report::Filter { instructions }, &[])
        .or_fail(FailureKind::Other, "a report to the broker")
}

/// Fails when we are confined ourselves: it would be inherited.
fn check_ourselves(may_lack_privileges: bool) -> Step<()> {
    let refuse = |reason: &str| Err(failure(FailureKind::NotNative, reason));
    match secure_computing_mode() {
        Ok(SecureComputingMode::Disabled) => {}
        _ => return refuse("the gateway has a seccomp filter: --security-opt seccomp=unconfined"),
    }
    if !may_lack_privileges && no_new_privs().unwrap_or(true) {
        return refuse("the gateway has no-new-privileges, which programs would inherit");
    }
    Ok(())
}

fn hop(socket: &Socket, target: Target) -> Step<()> {
    let mut session = Session::enter(socket, target)?;
    let result = session.await_inside().and_then(|()| session.serve(socket));
    let ended = session.end();
    match (result, ended) {
        // Whatever went wrong: that something is left is worse.
        (result, Err(left)) => {
            let failure = match result {
                Ok(()) => left,
                Err(first) => failure(first.kind, format!("{}; {}", first.reason, left.reason)),
            };
            linger(socket, &failure, &session.group);
            Err(failure)
        }
        (Err(failure), Ok(())) => Err(failure),
        (Ok(()), Ok(())) => {
            // The broker may be gone.
            drop(socket.send(&Report::Gone, &[]));
            Ok(())
        }
    }
}

/// Tells that something is left of a session, and stays until it is gone: no process of a container that is frozen
/// can be killed, but all are when it goes on.
fn linger(socket: &Socket, because: &Failure, group: &SessionGroup) {
    drop(socket.send(&Report::Failed(because.clone()), &[]));
    let deadline = Instant::now() + LINGER_TIME;
    while Instant::now() < deadline && group.end(Instant::now()).is_err() {
        sleep(LINGER_PERIOD);
    }
}

/// A process of the session as seen from here.
#[derive(Debug)]
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// A session whose processes wait or run.
#[derive(Debug)]
struct Session {
    proc: OwnedFd,
    first: OwnedFd,
    first_process: OwnedFd,
    /// By then C3 must wait inside.
    deadline: Instant,
    group: SessionGroup,
    namespaces: Namespaces,
    labels: Vec<Label>,
    confined: Confined,
    has_user_namespace: bool,
    supervisor: Process,
    from_supervisor: Socket,
    program: Option<Process>,
    from_program: Option<Socket>,
    exit: Option<Exit>,
    is_empty: bool,
}

impl Session {
    /// Enters the container: C2 waits inside.
    fn enter(socket: &Socket, target: Target) -> Step<Self> {
        let deadline = Instant::now() + ENTER_TIME;
        let Target { pin, cgroup_root, session_cgroup, confinement } = target;
        check_ourselves(confinement.no_new_privileges)?;
        capabilities::check_held(&confinement.capabilities)?;
        if let Some(filter) = &confinement.seccomp {
            seccomp::check(&filter.0)?;
        }
        let pinned = Pinned::new(&pin)?;
        let groups = Groups::open(&cgroup_root, &cgroup::memberships(&pinned.cgroup)?)?;
        groups.check_not_frozen()?;
        let entrances = groups.entrances()?;
        let namespaces = Namespaces::of(&pinned.process)?;
        let kinds = namespaces.differing(&Namespaces::of_ourselves(&pinned.proc)?);
        let labels = lsm::labels(&confinement, &pinned.proc)?;
        let known = "of the container's first process";
        let limits = kernel_file(&pinned.process, "limits")
            .or_errno(FailureKind::Other, format_args!("limits {known}"))?;
        let limits = limits::plan(&confinement.rlimits, &limits::parse(&limits))?;
        let oom_score_adj = match confinement.oom_score_adj {
            Some(wanted) => wanted,
            None => kernel_file(&pinned.process, "oom_score_adj")
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| {
                    failure(FailureKind::TargetGone, format!("oom_score_adj {known}"))
                })?,
        };
        let core_filter = kernel_file(&pinned.process, "coredump_filter").unwrap_or_default();
        let filter = seccomp::bytes(&seccomp::of_supervisor()?);
        let proc = clone(&pinned.proc)?;
        let first = clone(&pinned.pidfd)?;
        let first_process = clone(&pinned.process)?;
        supervise::hide()?;
        // So that C2 becomes our child when CX has ended.
        set_child_subreaper(Some(rustix::process::getpid()))
            .or_fail(FailureKind::Other, "adopting the supervisor")?;
        // The last thing that is done before something must be cleaned up.
        let group = groups.make_session(&session_cgroup)?;
        drop(groups);
        let crossing = Crossing {
            container_id: pin.container_id,
            entrances,
            session: group,
            kinds,
            oom_score_adj,
            core_filter,
            inside: Inside { labels, confined: Confined { confinement, limits }, filter },
            pinned,
        };
        let crossed = cross(&crossing, deadline);
        let Crossing { session: group, inside: Inside { labels, confined, .. }, .. } = crossing;
        let (supervisor, from_supervisor, from_program) = match crossed {
            Ok(crossed) => crossed,
            Err(failure) => {
                if group.end(Instant::now() + REAP_TIME).is_err() {
                    linger(socket, &failure, &group);
                }
                return Err(failure);
            }
        };
        Ok(Self {
            proc,
            first,
            first_process,
            deadline,
            group,
            namespaces,
            labels,
            confined,
            has_user_namespace: kinds.contains(ThreadNameSpaceType::USER),
            supervisor,
            from_supervisor,
            program: None,
            from_program: Some(from_program),
            exit: None,
            is_empty: false,
        })
    }

    /// Waits until C3 waits in the session's cgroup, and C2 is out of it.
    fn await_inside(&mut self) -> Step<()> {
        self.from_supervisor
            .send(&ToSupervisor::Begin, &[])
            .or_fail(FailureKind::Other, "a message to C2")?;
        let mut waits = false;
        while !waits || self.program.is_none() {
            match self.next(self.deadline, "enter the container")? {
                Next::Program(FromProgram::Waits, _) => waits = true,
                Next::Forked => self.group.release(self.supervisor.pid)?,
                other => return Err(self.unexpected(other)),
            }
        }
        Ok(())
    }

    /// Does what the broker says until nothing is left, or nobody wants it any more.
    fn serve(&mut self, socket: &Socket) -> Step<()> {
        report(socket, &Report::Entered, &[])?;
        let Some(start) = self.await_start(socket)? else { return Ok(()) };
        let (descriptors, tools) = self.start(&start)?;
        drop(start);
        if tools != Tools::Unused {
            report(socket, &Report::Tools(tools), &[])?;
        }
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        report(socket, &Report::Started, &borrowed)?;
        drop(descriptors);
        self.accompany(socket)
    }

    /// Waits to be told what to run; `None` when the session is not wanted any more.
    fn await_start(&mut self, socket: &Socket) -> Step<Option<Box<Start>>> {
        loop {
            match self.next_unless(None, Some(socket), "wait")? {
                Next::Order(Order::Start(start)) => return Ok(Some(start)),
                Next::Order(Order::Stop { .. }) | Next::NoMoreOrders => return Ok(None),
                Next::Order(Order::Signal { .. }) => {}
                other => return Err(self.unexpected(other)),
            }
        }
    }

    fn tell_program<T: Serialize>(&self, message: &T) -> Step<()> {
        let sent = self.from_program.as_ref().map(|socket| socket.send(message, &[]));
        match sent {
            Some(sent) => sent.or_fail(FailureKind::Other, "a message into the container"),
            None => Err(self.unexpected(Next::ProgramClosed)),
        }
    }

    /// Starts the program; gives the descriptors for the broker, and what came of a toolbox.
    fn start(&mut self, start: &Start) -> Step<(Vec<OwnedFd>, Tools)> {
        const DOING: &str = "start the program";
        let deadline = Instant::now() + START_TIME;
        self.tell_program(start)?;
        let mut connected = None;
        let mut ready = None;
        let mut has_given_up = false;
        let mut has_asked = false;
        let mut is_given = false;
        while ready.is_none() || !has_given_up {
            match self.next(deadline, DOING)? {
                Next::Program(FromProgram::Connected(identity), descriptors) => {
                    self.from_supervisor
                        .send(&ToSupervisor::GiveUp(identity.clone()), &[])
                        .or_fail(FailureKind::Other, "a message to C2")?;
                    connected = Some((identity, descriptors));
                }
                Next::Program(FromProgram::LacksTools, _) if !has_asked => {
                    has_asked = true;
                    is_given = self.give_tools(start)?;
                }
                Next::Program(FromProgram::Confined { is_own, tools }, _) => {
                    ready = Some((is_own, tools));
                }
                Next::GaveUp => has_given_up = true,
                other => return Err(self.unexpected(other)),
            }
        }
        let (Some((identity, descriptors)), Some((is_own, tools))) = (connected, ready) else {
            return Err(failure(FailureKind::Other, "C3 does not say who it is"));
        };
        let has_tools = tools == Tools::Attached;
        if has_tools && !is_given {
            return Err(failure(FailureKind::Confinement, "C3 has a toolbox that nobody gave it"));
        }
        let directory = self.verify(identity, is_own, has_tools)?;
        self.tell_program(&ALLOWED)?;
        // C3 closes its socket by its exec.
        loop {
            match self.next(deadline, DOING)? {
                Next::ProgramClosed => break,
                Next::Exited => {}
                other => return Err(self.unexpected(other)),
            }
        }
        lsm::check_current(&self.labels, &directory)?;
        Ok((descriptors, tools))
    }

    /// Makes the toolbox and hands it over, or says why there is none. Whether it was handed over.
    fn give_tools(&self, start: &Start) -> Step<bool> {
        let Some(wanted) = &start.toolbox else {
            return Err(failure(FailureKind::Other, "C3 asks for a toolbox that it may not have"));
        };
        let made = if self.labels.iter().any(|label| matches!(label, Label::SeLinux(_))) {
            Err("its files have no label that SELinux would let the container run".to_owned())
        } else {
            toolbox::make(&wanted.directory, wanted.trace)
        };
        let given = match &made {
            Ok(_) => GivenTools::Here,
            Err(reason) => GivenTools::Unavailable { reason: reason.clone() },
        };
        let descriptors: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        let sent = self.from_program.as_ref().map(|socket| socket.send(&given, &descriptors));
        match sent {
            Some(sent) => sent.or_fail(FailureKind::Other, "a message into the container")?,
            None => return Err(self.unexpected(Next::ProgramClosed)),
        }
        Ok(made.is_ok())
    }

    /// Proves from outside that C3 is confined; gives its directory in the host's `/proc`.
    fn verify(&self, identity: Identity, is_own: bool, has_tools: bool) -> Step<OwnedFd> {
        let confinement = &self.confined.confinement;
        let mut sets: CapabilitySets = confinement.capabilities;
        if is_own {
            let is_root = identity.uid == 0;
            let own = capabilities::after_exec(&sets, is_root, confinement.no_new_privileges);
            sets.effective = own.effective & sets.permitted;
            sets.permitted &= own.permitted;
        }
        let identity = if self.has_user_namespace {
            verify::outside(&identity, &self.first_process)?
        } else {
            identity
        };
        let expected = Expected {
            identity,
            capabilities: sets,
            no_new_privileges: confinement.no_new_privileges,
            filters: u32::from(confinement.seccomp.is_some()),
        };
        let Some(program) = &self.program else {
            return Err(failure(FailureKind::Other, "there is no program"));
        };
        let directory = self.directory(program)?;
        let gateway = has_tools.then(|| Namespaces::of_ourselves(&self.proc)).transpose()?;
        let places = Places { container: &self.namespaces, apart_from: gateway.as_ref() };
        verify::check(&directory, &expected, places)?;
        sys::send_signal(&program.pidfd, 0, false)
            .or_errno(FailureKind::TargetGone, "the program's process")?;
        Ok(directory)
    }

    /// The directory of a process in the host's `/proc`.
    fn directory(&self, process: &Process) -> Step<OwnedFd> {
        let name = process.pid.as_raw_nonzero().to_string();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.proc, name.as_str(), flags, Mode::empty())
            .or_errno(FailureKind::Other, "the program in /proc")
    }

    /// While the program runs.
    fn accompany(&mut self, socket: &Socket) -> Step<()> {
        let mut told = false;
        let mut deadline = None;
        loop {
            if let Some(exit) = self.exit.filter(|_| !told) {
                told = true;
                // A broker that is gone needs no exit status.
                drop(socket.send(&Report::Exited(exit), &[]));
            }
            if self.is_empty {
                return Ok(());
            }
            match self.next_unless(deadline, Some(socket), "end")? {
                Next::Order(Order::Signal { number }) => self.signal(number),
                Next::Order(Order::Stop { grace_ms }) => {
                    self.signal(libc::SIGHUP);
                    self.signal(libc::SIGTERM);
                    // What was stopped could not end.
                    self.signal(libc::SIGCONT);
                    deadline = Some(Instant::now() + Duration::from_millis(grace_ms.into()));
                }
                Next::Order(_) => {
                    return Err(failure(FailureKind::Other, "an order that comes too late"));
                }
                Next::NoMoreOrders => return Ok(()),
                Next::Exited => {}
                Next::Empty => {
                    // C2 is gone with what it knew: the program cannot have lived on.
                    let killed = Exit::Signal { number: libc::SIGKILL, core_dumped: false };
                    self.exit.get_or_insert(killed);
                    self.is_empty = true;
                }
                Next::TimedOut => return Ok(()),
                other => return Err(self.unexpected(other)),
            }
        }
    }

    /// Sends a signal to the program's process group.
    fn signal(&self, number: i32) {
        if !(1..=64).contains(&number) {
            return;
        }
        let Some(program) = &self.program else { return };
        let sent = sys::send_signal(&program.pidfd, number, true);
        let is_old_kernel = sent.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL));
        // Before Linux 6.9 there is only the number; it is the group's as long as its leader is not collected.
        if is_old_kernel && self.exit.is_none() {
            sys::send_signal_to_group(program.pid, number).ok();
        }
    }

    /// Ends what is left, and cleans up.
    fn end(&self) -> Step<()> {
        let deadline = Instant::now() + KILL_TIME;
        if !self.is_empty {
            self.group.kill().ok();
        }
        if let Some(program) = &self.program {
            sys::send_signal(&program.pidfd, libc::SIGKILL, false).ok();
        }
        // C2 ends when it has collected everything. Before it has a child, or stopped by someone, it does not.
        let collects = self.program.is_some();
        if !collects || !has_ended(&self.supervisor, Instant::now() + REAP_TIME) {
            sys::send_signal(&self.supervisor.pidfd, libc::SIGKILL, false).ok();
        }
        if !has_ended(&self.supervisor, deadline) {
            let reason = "the session's processes cannot be killed: the container is frozen";
            return Err(failure(FailureKind::TimedOut, reason));
        }
        // Who traces it inside gets its end first, and may keep it to himself: that is not waited for.
        waitpid(Some(self.supervisor.pid), WaitOptions::NOHANG)
            .or_fail(FailureKind::Other, "collecting the supervisor")?;
        self.group.end(deadline)
    }

    /// What happens next, before a deadline.
    fn next(&mut self, deadline: Instant, doing: &str) -> Step<Next> {
        match self.next_unless(Some(deadline), None, doing)? {
            Next::TimedOut => {
                let reason = format!(
                    "it takes too long to {doing}: the container may be frozen, or stops our processes"
                );
                Err(failure(FailureKind::TimedOut, reason))
            }
            next => Ok(next),
        }
    }

    /// What happens next; without a deadline whenever it does.
    fn next_unless(
        &mut self,
        deadline: Option<Instant>,
        orders: Option<&Socket>,
        doing: &str,
    ) -> Step<Next> {
        self.wait(deadline, orders).or_fail(FailureKind::Other, format_args!("waiting to {doing}"))
    }

    fn wait(&mut self, deadline: Option<Instant>, orders: Option<&Socket>) -> io::Result<Next> {
        // C3 closes its socket before C2 can say that it ended: so C3's comes first.
        let sockets = [self.from_program.as_ref(), Some(&self.from_supervisor), orders];
        match readable(sockets, deadline)? {
            None => Ok(Next::TimedOut),
            Some(0) => match self.from_program.as_ref().map(Socket::receive).transpose()?.flatten()
            {
                Some((message, descriptors)) => Ok(Next::Program(message, descriptors)),
                None => {
                    self.from_program = None;
                    Ok(Next::ProgramClosed)
                }
            },
            Some(1) => match self.from_supervisor.receive()? {
                Some((FromSupervisor::Crossed, _)) => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "C2 crosses a second time"))
                }
                Some((FromSupervisor::Forked, descriptors)) => {
                    self.program = Some(process(&self.proc, descriptors)?);
                    Ok(Next::Forked)
                }
                Some((FromSupervisor::GaveUp, _)) => Ok(Next::GaveUp),
                Some((FromSupervisor::Exited(exit), _)) => {
                    self.exit = Some(exit);
                    Ok(Next::Exited)
                }
                Some((FromSupervisor::Empty, _)) | None => Ok(Next::Empty),
                Some((FromSupervisor::Failed(failure), _)) => Ok(Next::Failed(failure)),
            },
            Some(_) => match orders.map(Socket::receive).transpose()?.flatten() {
                Some((order, _)) => Ok(Next::Order(order)),
                None => Ok(Next::NoMoreOrders),
            },
        }
    }

    /// What it means that something else happens than should.
    fn unexpected(&self, next: Next) -> Failure {
        if let Next::Failed(failure) | Next::Program(FromProgram::Failed(failure), _) = next {
            return failure;
        }
        if let Err(gone) = sys::send_signal(&self.first, 0, false)
            .or_errno(FailureKind::TargetGone, "the container")
        {
            return gone;
        }
        let reason = match next {
            Next::Exited | Next::Empty | Next::ProgramClosed => {
                "our process in the container was killed before it became the program"
            }
            _ => "something happened in another order than it can",
        };
        failure(FailureKind::Other, reason)
    }
}

/// Sends CX over into the container, and becomes the parent of C2; gives C2, its socket and that of C3.
fn cross(crossing: &Crossing, deadline: Instant) -> Step<(Process, Socket, Socket)> {
    let pair = || Socket::pair().or_errno(FailureKind::Exhausted, "a socket");
    let (from_supervisor, for_supervisor) = pair()?;
    let (from_program, for_program) = pair()?;
    let pid = match sys::fork().or_errno(FailureKind::Exhausted, "a process for the hop")? {
        Forked::Child => {
            drop((from_supervisor, from_program));
            live(|| cross::run(crossing, for_supervisor, for_program))
        }
        Forked::Parent(pid) => pid,
    };
    drop((for_supervisor, for_program));
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .or_errno(FailureKind::Other, "the process that crosses")?;
    let crosser = Process { pid, pidfd };
    let crossed = await_crossed(crossing, &from_supervisor, deadline);
    if crossed.is_err() {
        sys::send_signal(&crosser.pidfd, libc::SIGKILL, false).ok();
    }
    let has_ended = has_ended(&crosser, deadline);
    let supervisor = crossed?;
    if !has_ended {
        let reason = "it takes too long to enter the container: it may be frozen";
        return Err(failure(FailureKind::TimedOut, reason));
    }
    waitpid(Some(crosser.pid), WaitOptions::empty())
        .or_fail(FailureKind::Other, "collecting the process that crosses")?;
    Ok((supervisor, from_supervisor, from_program))
}

/// Waits until C2 is there.
fn await_crossed(
    crossing: &Crossing,
    from_supervisor: &Socket,
    deadline: Instant,
) -> Step<Process> {
    const WHAT: &str = "entering the container";
    match from_supervisor.receive_by(deadline) {
        Ok(Some((FromSupervisor::Crossed, descriptors))) => {
            process(&crossing.pinned.proc, descriptors).or_fail(FailureKind::Other, WHAT)
        }
        Ok(Some((FromSupervisor::Failed(failure), _))) => Err(failure),
        Ok(Some(_)) => Err(failure(FailureKind::Other, "C2 speaks before it is there")),
        Ok(None) => {
            crossing.pinned.check_alive()?;
            Err(failure(FailureKind::Other, "our process was killed on its way into the container"))
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let reason = "it takes too long to enter the container: it may be frozen";
            Err(failure(FailureKind::TimedOut, reason))
        }
        Err(error) => Err(error).or_fail(FailureKind::Other, WHAT),
    }
}

/// The process behind a pidfd that was sent, by its number in our own pid namespace.
fn process(proc: &OwnedFd, descriptors: Vec<OwnedFd>) -> io::Result<Process> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "no process of the session");
    let pidfd = descriptors.into_iter().next().ok_or_else(missing)?;
    let information = kernel_file(proc, &format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = information
        .lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw);
    Ok(Process { pid: pid.ok_or_else(missing)?, pidfd })
}

/// What a session waits for.
#[derive(Debug)]
enum Next {
    /// C3 says something.
    Program(FromProgram, Vec<OwnedFd>),
    /// C3 has executed, or ended.
    ProgramClosed,
    /// C2 has forked C3.
    Forked,
    /// C2 has no privileges any more.
    GaveUp,
    /// C3 ended, whatever it was.
    Exited,
    /// Nothing is left, or C2 was killed.
    Empty,
    /// C2 cannot do its part.
    Failed(Failure),
    /// The broker says something.
    Order(Order),
    /// The broker does not want the session any more.
    NoMoreOrders,
    /// Nothing happened in time.
    TimedOut,
}

/// The first of these sockets that has something to say; `None` at the deadline.
fn readable<const N: usize>(
    sockets: [Option<&Socket>; N],
    deadline: Option<Instant>,
) -> io::Result<Option<usize>> {
    loop {
        let (places, mut waited): (Vec<usize>, Vec<PollFd<'_>>) = sockets
            .iter()
            .enumerate()
            .filter_map(|(place, socket)| Some((place, PollFd::new((*socket)?, PollFlags::IN))))
            .unzip();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = places.iter().zip(&waited).find(|(_, one)| !one.revents().is_empty());
        if let Some((place, _)) = ready {
            return Ok(Some(*place));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
    }
}

/// Whether a process ends before a deadline.
fn has_ended(process: &Process, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut waited = [PollFd::new(&process.pidfd, PollFlags::IN)];
        match poll(&mut waited, timeout.as_ref()) {
            Ok(0) | Err(_) if Instant::now() >= deadline => return false,
            Ok(0) | Err(_) => {}
            Ok(_) => return true,
        }
    }
}

fn report(socket: &Socket, report: &Report, descriptors: &[BorrowedFd<'_>]) -> Step<()> {
    socket.send(report, descriptors).or_fail(FailureKind::Other, "a report to the broker")
}

fn clone(descriptor: &OwnedFd) -> Step<OwnedFd> {
    descriptor.try_clone().or_errno(FailureKind::Exhausted, "a descriptor")
}
