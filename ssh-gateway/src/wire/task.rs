//! Between the broker and the task of one session.
//!
//! ```text
//! broker                           task
//!   Order::Filter ─────────────────→      (a task that only reads a seccomp filter, and ends)
//!        ←──────────────── Report::Filter
//!   Order::Enter ──────────────────→      namespaces and cgroup joined, before the client has said what for
//!        ←──────────────── Report::Entered
//!   Order::Start ──────────────────→
//!        ←──────────────── Report::Tools       where a toolbox was asked for
//!        ←──────────────── Report::Started     with descriptors
//!   Order::Signal ─────────────────→      any number of times
//!        ←──────────────── Report::Exited      the program itself ended
//!   Order::Stop ───────────────────→      HUP, TERM, grace, KILL of everything the session left
//!        ←──────────────── Report::Gone        nothing is left of the session; the task ends
//! ```
//!
//! `Enter` and `Start` may be sent one after the other without waiting. The broker closing its end is a
//! [`Order::Stop`] without grace. A task that cannot do what it is told says [`Report::Failed`] and ends;
//! nothing of it then runs in the container.

use serde::{Deserialize, Serialize};

use super::{Exit, Opaque, Program, Terminal};

/// What the broker tells a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Read the seccomp filter that the runtime gave to a container's first process.
    Filter {
        /// That process.
        pin: Pin,
    },
    /// Get ready to run in this container.
    Enter(Box<Target>),
    /// Run this.
    Start(Box<Start>),
    /// Send a signal to the process group of the program.
    Signal {
        /// Its number.
        number: i32,
    },
    /// End everything the session started.
    Stop {
        /// Milliseconds between TERM and KILL.
        grace_ms: u32,
    },
}

/// What a task tells the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The instructions of the oldest filter as the kernel has them: `struct sock_filter`, eight bytes each;
    /// empty if the process has none.
    Filter {
        /// A multiple of eight bytes.
        instructions: Vec<u8>,
    },
    /// The container is entered as far as this is possible without a program.
    Entered,
    /// What came of the toolbox; said only where one was needed, and before [`Report::Started`].
    Tools(Tools),
    /// The program runs, and is proved to be confined as it must be. Descriptors: with a terminal its master;
    /// without one the other ends of standard input, output and error; behind them, of a program that may serve
    /// files, the socket on which it tells of them; for [`Program::Portal`] its message socket only.
    Started,
    /// The program ended.
    Exited(Exit),
    /// Nothing of the session is left.
    Gone,
    /// It could not be done.
    Failed(Failure),
}

/// A container's first process, so that no other can be taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its number in the pid namespace of the task.
    pub pid: i32,
    /// 64 hexadecimal digits that must stand in its `/proc/PID/cgroup`.
    pub container_id: String,
}

/// The container to enter, and how its processes are confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its first process.
    pub pin: Pin,
    /// Where the host's cgroup hierarchies are in our own mount namespace.
    pub cgroup_root: String,
    /// Name of the session's own cgroup below the container's: `ssh-…` of letters, digits and dashes.
    pub session_cgroup: String,
    /// How it is confined.
    pub confinement: Confinement,
}

/// What the runtime gives to a process that is executed in the container (OCI runtime specification,
/// config.md: `process` and `linux`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// Its capabilities.
    pub capabilities: CapabilitySets,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// The filter that the runtime installs, as `struct sock_filter`s of eight bytes; `None` when the
    /// specification has none.
    pub seccomp: Option<Opaque>,
    /// Resource (`RLIMIT_…` number of setrlimit(2)), soft and hard limit. What is missing here is taken from
    /// the container's first process.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// File mode creation mask.
    pub umask: u32,
    /// AppArmor profile for the program.
    pub apparmor: Option<String>,
    /// SELinux label for the program.
    pub selinux: Option<String>,
}

/// The five sets of capabilities(7) as bit masks: bit N is capability number N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    /// Upper bound of what exec can gain.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Kept over exec by files that allow it.
    pub inheritable: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept over exec of ordinary files.
    pub ambient: u64,
}

/// What to run, as whom, with what around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What.
    pub program: Program,
    /// As whom.
    pub user: User,
    /// With a terminal, or with three pipes.
    pub terminal: Option<Terminal>,
    /// The environment of the container's specification, `NAME=value`, in order. `HOME`, `USER`, `LOGNAME`,
    /// `SHELL` and `TERM` are found inside and win over it.
    pub container_environment: Vec<Opaque>,
    /// What wins over both: `SSH_…` and what the client may set.
    pub session_environment: Vec<Opaque>,
    /// Where to start; `None` is the user's home directory, or `/` if that cannot be entered.
    pub directory: Option<Vec<u8>>,
    /// What it may have where the image has no programs for it.
    pub toolbox: Option<Toolbox>,
    /// Only the environment, groups and directory that `docker exec` would set: for comparisons with it.
    pub as_engine_exec: bool,
}

/// The gateway's own programs, for a session that may have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolbox {
    /// Where they are in our own mount namespace: see [`crate::toolbox`].
    pub directory: String,
    /// Those that look into other processes too.
    pub trace: bool,
    /// Also where the image has all that is needed.
    pub always: bool,
}

/// What came of a toolbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Tools {
    /// None was needed.
    #[default]
    Unused,
    /// It is mounted in the session.
    Attached,
    /// One was needed, and there is none.
    Unavailable {
        /// One sentence.
        reason: String,
    },
}

/// Whom to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; `None` is the user of the container.
    pub name: Option<String>,
    /// The uid of the container's own user, from the specification.
    pub container_uid: u32,
    /// Its gid.
    pub container_gid: u32,
    /// Its additional groups.
    pub container_groups: Vec<u32>,
    /// `--group-add` of the container: names or numbers.
    pub group_add: Vec<String>,
}

/// Why a task did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// One sentence for the operator: no secrets, but perhaps hostile bytes of the container.
    pub reason: String,
}

/// What a failure means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The container is not running any more, or is another one.
    TargetGone,
    /// The container is paused or frozen.
    TargetPaused,
    /// This machine, or the flags of our own container, do not allow it; the engine's exec may.
    NotNative,
    /// A part of the confinement could not be reproduced or proved.
    Confinement,
    /// There is no such user or group in the container.
    User,
    /// The program could not be started.
    Program {
        /// What a shell would end with: 126 or 127.
        status: u8,
    },
    /// The container has no room for another process, or another resource is at its end.
    Exhausted,
    /// It took too long.
    TimedOut,
    /// Anything else.
    Other,
}
