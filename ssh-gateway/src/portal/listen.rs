//! Listens on TCP and unix sockets, and removes the files of the latter.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use rustix::process::geteuid;
use tokio::time::timeout;

use super::place::Place;
use super::resolver::Resolver;
use super::{Outcome, Sources, reason, shown};
use crate::wire::portal::Opened;

/// Connections that wait to be accepted, as OpenSSH's.
const BACKLOG: i32 = 128;
/// Socket files of one portal.
const FILES_MAX: usize = 64;
/// For the name of an address to listen on.
const RESOLVE_MAX: Duration = Duration::from_secs(20);
/// Where an agent's directory is made, before the home directory.
const AGENT_PARENTS: [&str; 2] = ["/tmp", "/dev/shm"];
/// The socket in an agent's directory.
const AGENT_NAME: &str = "agent.sock";
/// A socket that only the user may connect to (unix(7)): what umask 0177 would leave.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Listens on `port` of `host`, as in RFC 4254, 7.1, with one difference: an empty host and `*` are the
/// loopback address. Who may listen for the whole network is told so by `0.0.0.0` or `::`.
pub(super) async fn tcp(sources: &Sources, host: &str, port: u16) -> Outcome {
    let failed = |why: String| {
        Err(format!("cannot listen on {} port {port}: {why}", shown(host.as_bytes())))
    };
    let addresses = match host {
        "" | "*" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        _ => match timeout(RESOLVE_MAX, Resolver::of(sources).lookup(host)).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(_) => return failed(format!("no answer within {} s", RESOLVE_MAX.as_secs())),
        },
    };
    let mut failure = io::Error::from(Errno::ADDRNOTAVAIL);
    for address in addresses {
        match tcp_on(address, port) {
            Ok((socket, port)) => return Ok((Opened::Listening { port }, socket)),
            // A container without IPv6, or without IPv4: its other address will do.
            Err(error @ (Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)) => failure = error.into(),
            Err(error) => return failed(reason(&error.into())),
        }
    }
    failed(reason(&failure))
}

fn tcp_on(address: IpAddr, port: u16) -> rustix::io::Result<(OwnedFd, u16)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(address, port))?;
    listen(&socket, BACKLOG)?;
    let bound = SocketAddr::try_from(getsockname(&socket)?)?;
    Ok((socket, bound.port()))
}

/// The socket files of this portal, by the number of the order; they are removed with it.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeMap<u64, SocketFile>);

impl Made {
    /// Listens at a place where nothing is yet.
    pub(super) fn listen(&mut self, number: u64, at: &Place) -> Outcome {
        let failed = |why: String| Err(format!("cannot listen at {}: {why}", shown(&at.written())));
        if self.0.len() >= FILES_MAX {
            return failed(format!("there are {FILES_MAX} listeners already"));
        }
        let listening = match at {
            Place::Abstract(_) => unix_on(at),
            Place::File(path) => match SocketFile::listen(path) {
                Ok((socket, file)) => {
                    self.0.insert(number, file);
                    Ok(socket)
                }
                Err(error) => Err(error),
            },
        };
        match listening {
            Ok(socket) => Ok((Opened::ListeningUnix { path: at.written() }, socket)),
            Err(Errno::ADDRINUSE) => failed("something is there already".into()),
            Err(error) => failed(reason(&error.into())),
        }
    }

    /// Listens at a new place that only the user can reach.
    pub(super) fn listen_for_agent(&mut self, number: u64, home: &Path) -> Outcome {
        if self.0.len() >= FILES_MAX {
            return Err(format!(
                "no socket for the agent: there are {FILES_MAX} listeners already"
            ));
        }
        let parents = AGENT_PARENTS.iter().map(Path::new).chain([home]);
        let mut failure = io::Error::from(Errno::NOENT);
        for parent in parents {
            match SocketFile::listen_in_new_directory(parent) {
                Ok((socket, file, path)) => {
                    self.0.insert(number, file);
                    let path = Place::File(path).written();
                    return Ok((Opened::ListeningUnix { path }, socket));
                }
                Err(error) => failure = error.into(),
            }
        }
        Err(format!("no socket for the agent could be made: {}", reason(&failure)))
    }

    /// Removes the file that this order made, if it made one.
    pub(super) fn remove(&mut self, number: u64) {
        self.0.remove(&number);
    }
}

fn unix_on(at: &Place) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // bind(2) takes the mode of the file from here. A umask would be one for all we do.
    fchmod(&socket, SOCKET_MODE)?;
    bind(&socket, &at.address()?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A socket file, removed when this is dropped: through its directory as it was, and only if it is still ours.
#[derive(Debug)]
struct SocketFile {
    directory: OwnedFd,
    name: OsString,
    device: u64,
    inode: u64,
    own_directory: Option<OwnDirectory>,
}

impl SocketFile {
    fn listen(path: &Path) -> rustix::io::Result<(OwnedFd, Self)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR);
        };
        let directory = open_directory(CWD, parent.as_os_str(), OFlags::empty())?;
        Self::listen_at(path, directory, name)
    }

    fn listen_at(
        path: &Path,
        directory: OwnedFd,
        name: &OsStr,
    ) -> rustix::io::Result<(OwnedFd, Self)> {
        let socket = unix_on(&Place::File(path.to_path_buf()))?;
        // The path may have come to mean another directory meanwhile: then it is not ours to answer for.
        let found = found_socket(&directory, name)?;
        let file = Self {
            directory,
            name: name.to_os_string(),
            device: found.st_dev,
            inode: found.st_ino,
            own_directory: None,
        };
        Ok((socket, file))
    }

    fn listen_in_new_directory(parent: &Path) -> rustix::io::Result<(OwnedFd, Self, PathBuf)> {
        // A link there is someone's trap, or no place for secrets.
        let held = open_directory(CWD, parent.as_os_str(), OFlags::NOFOLLOW)?;
        let random = getrandom::u64().map_err(|_| Errno::IO)?;
        let name = OsString::from(format!("ssh-{random:016x}"));
        mkdirat(&held, &name, Mode::RWXU)?;
        let own = OwnDirectory { parent: held, name };
        let directory = open_directory(own.parent.as_fd(), &own.name, OFlags::NOFOLLOW)?;
        let found = fstat(&directory)?;
        let others = Mode::from_raw_mode(found.st_mode) & (Mode::RWXG | Mode::RWXO);
        if found.st_uid != geteuid().as_raw() || !others.is_empty() {
            return Err(Errno::PERM);
        }
        let path = parent.join(&own.name).join(AGENT_NAME);
        let (socket, mut file) = Self::listen_at(&path, directory, OsStr::new(AGENT_NAME))?;
        file.own_directory = Some(own);
        Ok((socket, file, path))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = found_socket(&self.directory, &self.name)
            .is_ok_and(|found| found.st_dev == self.device && found.st_ino == self.inode);
        if is_ours {
            // Nobody is left to tell, and nothing else to try.
            unlinkat(&self.directory, &self.name, AtFlags::empty()).ok();
        }
    }
}

/// A directory that we made, removed when this is dropped if it is empty then.
#[derive(Debug)]
struct OwnDirectory {
    parent: OwnedFd,
    name: OsString,
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR).ok();
    }
}

fn open_directory(from: BorrowedFd<'_>, path: &OsStr, more: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(from, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | more, Mode::empty())
}

fn found_socket(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<Stat> {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => Ok(found),
        _ => Err(Errno::STALE),
    }
}
