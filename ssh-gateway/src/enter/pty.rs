//! A pseudo-terminal from the container's own devpts (pts(4)), so that it has a name there.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
    Winsize, tcgetattr, tcsetattr, tcsetwinsize,
};

use super::step::{OrFail as _, Step, failure};
use crate::wire::task::FailureKind;
use crate::wire::{Terminal, WindowSize};

/// DEVPTS_SUPER_MAGIC (statfs(2)).
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// Inode of `ptmx` in every devpts.
const PTMX_INODE: u64 = 2;
/// Device of `ptmx`: major and minor number (Linux, devices.txt).
const PTMX_DEVICE: (u32, u32) = (5, 2);
/// O_LARGEFILE as the kernel has it; the C library says 0 on 64-bit machines.
const LARGE_FILE: u32 = 0o100_000;
/// Modes that are read of a client; it cannot mean more.
const MODES_MAX: usize = 256;

/// Both ends.
#[derive(Debug)]
pub struct Pty {
    /// For the broker.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
    /// Path of the slave inside.
    pub path: CString,
}

impl Pty {
    /// Opens a terminal for this user.
    pub fn open(terminal: &Terminal, uid: u32) -> Step<Self> {
        let master = open_master()?;
        let what = "a terminal of the container";
        unlockpt(&master).or_errno(FailureKind::Confinement, what)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let flags = flags | OpenptFlags::from_bits_retain(LARGE_FILE);
        let slave = ioctl_tiocgptpeer(&master, flags).or_errno(FailureKind::Confinement, what)?;
        let path = ptsname(&master, Vec::new()).or_errno(FailureKind::Confinement, what)?;
        match rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>) {
            // In a user namespace without this user, and on a devpts that is read-only, it stays root's.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(error) => return Err(error).or_fail(FailureKind::Confinement, what),
        }
        let mut modes = tcgetattr(&slave).or_fail(FailureKind::Other, what)?;
        apply_modes(&mut modes, &terminal.modes);
        tcsetattr(&slave, OptionalActions::Now, &modes).or_fail(FailureKind::Other, what)?;
        tcsetwinsize(&master, window(terminal.size)).or_fail(FailureKind::Other, what)?;
        Ok(Self { master, slave, path })
    }
}

/// Opens `/dev/pts/ptmx`, and nothing else that may be there.
fn open_master() -> Step<OwnedFd> {
    const WHAT: &str = "/dev/pts of the container";
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let devpts =
        rustix::fs::openat2(CWD, "/dev/pts", directory, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
            .or_errno(FailureKind::Confinement, WHAT)?;
    let found = rustix::fs::fstatfs(&devpts).or_fail(FailureKind::Confinement, WHAT)?;
    if u64::try_from(found.f_type).ok() != Some(DEVPTS_MAGIC) {
        return Err(failure(FailureKind::Confinement, format!("{WHAT} is not a devpts")));
    }
    // Not leaving this file system, `ptmx` is a name that only the kernel gives.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let master = rustix::fs::openat2(&devpts, "ptmx", flags, Mode::empty(), resolve)
        .or_errno(FailureKind::Confinement, "ptmx in /dev/pts of the container")?;
    let found = rustix::fs::fstat(&master).or_fail(FailureKind::Confinement, WHAT)?;
    let device = (rustix::fs::major(found.st_rdev), rustix::fs::minor(found.st_rdev));
    if found.st_ino != PTMX_INODE || device != PTMX_DEVICE {
        return Err(failure(FailureKind::Confinement, format!("{WHAT} has a ptmx that is none")));
    }
    Ok(master)
}

fn window(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    }
}

/// What an opcode of RFC 4254, 8 means here.
enum Meaning {
    Code(SpecialCodeIndex),
    Input(InputModes),
    Local(LocalModes),
    Output(OutputModes),
    Control(ControlModes),
    SevenBits,
    EightBits,
    InputSpeed,
    OutputSpeed,
    Nothing,
}

/// The meaning of an opcode. Those of other systems, and those that would break a terminal without a line
/// (flow control by wires, hanging up), mean nothing.
fn meaning(opcode: u8) -> Meaning {
    use Meaning::{Code, Control, Input, Local, Output};
    match opcode {
        1 => Code(SpecialCodeIndex::VINTR),
        2 => Code(SpecialCodeIndex::VQUIT),
        3 => Code(SpecialCodeIndex::VERASE),
        4 => Code(SpecialCodeIndex::VKILL),
        5 => Code(SpecialCodeIndex::VEOF),
        6 => Code(SpecialCodeIndex::VEOL),
        7 => Code(SpecialCodeIndex::VEOL2),
        8 => Code(SpecialCodeIndex::VSTART),
        9 => Code(SpecialCodeIndex::VSTOP),
        10 => Code(SpecialCodeIndex::VSUSP),
        12 => Code(SpecialCodeIndex::VREPRINT),
        13 => Code(SpecialCodeIndex::VWERASE),
        14 => Code(SpecialCodeIndex::VLNEXT),
        16 => Code(SpecialCodeIndex::VSWTC),
        18 => Code(SpecialCodeIndex::VDISCARD),
        30 => Input(InputModes::IGNPAR),
        31 => Input(InputModes::PARMRK),
        32 => Input(InputModes::INPCK),
        33 => Input(InputModes::ISTRIP),
        34 => Input(InputModes::INLCR),
        35 => Input(InputModes::IGNCR),
        36 => Input(InputModes::ICRNL),
        37 => Input(InputModes::IUCLC),
        38 => Input(InputModes::IXON),
        39 => Input(InputModes::IXANY),
        40 => Input(InputModes::IXOFF),
        41 => Input(InputModes::IMAXBEL),
        // RFC 8160.
        42 => Input(InputModes::IUTF8),
        50 => Local(LocalModes::ISIG),
        51 => Local(LocalModes::ICANON),
        52 => Local(LocalModes::XCASE),
        53 => Local(LocalModes::ECHO),
        54 => Local(LocalModes::ECHOE),
        55 => Local(LocalModes::ECHOK),
        56 => Local(LocalModes::ECHONL),
        57 => Local(LocalModes::NOFLSH),
        58 => Local(LocalModes::TOSTOP),
        59 => Local(LocalModes::IEXTEN),
        60 => Local(LocalModes::ECHOCTL),
        61 => Local(LocalModes::ECHOKE),
        62 => Local(LocalModes::PENDIN),
        70 => Output(OutputModes::OPOST),
        71 => Output(OutputModes::OLCUC),
        72 => Output(OutputModes::ONLCR),
        73 => Output(OutputModes::OCRNL),
        74 => Output(OutputModes::ONOCR),
        75 => Output(OutputModes::ONLRET),
        90 => Meaning::SevenBits,
        91 => Meaning::EightBits,
        92 => Control(ControlModes::PARENB),
        93 => Control(ControlModes::PARODD),
        128 => Meaning::InputSpeed,
        129 => Meaning::OutputSpeed,
        _ => Meaning::Nothing,
    }
}

/// Applies what a client says of its own terminal.
fn apply_modes(modes: &mut Termios, asked: &[(u8, u32)]) {
    for (opcode, argument) in asked.iter().take(MODES_MAX) {
        let is_on = *argument != 0;
        match meaning(*opcode) {
            // 255 is how a client says that there is no such character, and 0 how the kernel does.
            Meaning::Code(code) => {
                let code_of = u8::try_from(*argument).unwrap_or(u8::MAX);
                modes.special_codes[code] = if code_of == u8::MAX { 0 } else { code_of };
            }
            Meaning::Input(flag) => modes.input_modes.set(flag, is_on),
            Meaning::Local(flag) => modes.local_modes.set(flag, is_on),
            Meaning::Output(flag) => modes.output_modes.set(flag, is_on),
            Meaning::Control(flag) => modes.control_modes.set(flag, is_on),
            Meaning::SevenBits if is_on => set_size(modes, ControlModes::CS7),
            Meaning::EightBits if is_on => set_size(modes, ControlModes::CS8),
            // Speed 0 hangs up.
            Meaning::InputSpeed if is_on => drop(modes.set_input_speed(*argument)),
            Meaning::OutputSpeed if is_on => drop(modes.set_output_speed(*argument)),
            Meaning::SevenBits
            | Meaning::EightBits
            | Meaning::InputSpeed
            | Meaning::OutputSpeed
            | Meaning::Nothing => {}
        }
    }
}

fn set_size(modes: &mut Termios, size: ControlModes) {
    modes.control_modes.remove(ControlModes::CSIZE);
    modes.control_modes.insert(size);
}

#[cfg(test)]
mod tests;
