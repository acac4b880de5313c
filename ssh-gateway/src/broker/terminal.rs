//! A terminal of our own between net and something that has none, or not yet: the picker, and programs that the
//! engine runs. Net changes its size as that of any other; nobody tells us, so we look.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, Winsize,
    tcflush, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptor::watched;
use crate::wire::WindowSize;

/// How often the size is looked at.
const SIZE_PERIOD: Duration = Duration::from_millis(200);
/// The key that gives up: Control-C.
const GIVE_UP: u8 = 3;

/// The end at which a program would be.
#[derive(Debug)]
pub(super) struct Terminal {
    end: AsyncFd<OwnedFd>,
    /// How lines are edited on it.
    editing: Termios,
}

impl Terminal {
    /// A terminal of this size in which lines are edited and echoed, and its master for net. Needs a tokio runtime.
    pub(super) fn new(size: WindowSize) -> io::Result<(Self, OwnedFd)> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetwinsize(&slave, winsize(size))?;
        let mut attributes = tcgetattr(&slave)?;
        // Nobody gets signals of this terminal: the key ends a line instead, and is in it.
        attributes.local_modes -= LocalModes::ISIG;
        attributes.input_modes |= InputModes::IUTF8;
        attributes.special_codes[SpecialCodeIndex::VEOL] = GIVE_UP;
        tcsetattr(&slave, OptionalActions::Now, &attributes)?;
        Ok((Self { end: watched(slave)?, editing: attributes }, master))
    }

    /// From now on lines are edited and echoed, as at the beginning.
    pub(super) fn edit_lines(&self) -> io::Result<()> {
        Ok(tcsetattr(self.end.get_ref(), OptionalActions::Now, &self.editing)?)
    }

    /// What was typed and not read is forgotten.
    pub(super) fn forget_typed(&self) -> io::Result<()> {
        Ok(tcflush(self.end.get_ref(), QueueSelector::IFlush)?)
    }

    /// From now on bytes go through as they are.
    pub(super) fn make_raw(&self) -> io::Result<()> {
        let mut attributes = tcgetattr(self.end.get_ref())?;
        attributes.make_raw();
        Ok(tcsetattr(self.end.get_ref(), OptionalActions::Now, &attributes)?)
    }

    /// Its size.
    pub(super) fn size(&self) -> io::Result<WindowSize> {
        let size = tcgetwinsize(self.end.get_ref())?;
        Ok(WindowSize {
            columns: size.ws_col,
            rows: size.ws_row,
            width: size.ws_xpixel,
            height: size.ws_ypixel,
        })
    }

    /// Waits until its size is another one than `known`.
    pub(super) async fn resized(&self, known: WindowSize) -> io::Result<WindowSize> {
        loop {
            tokio::time::sleep(SIZE_PERIOD).await;
            let size = self.size()?;
            if size != known {
                return Ok(size);
            }
        }
    }

    /// Gives this terminal of a program our size, so that what was typed after a change of size comes after it. Where
    /// it has that size already, the kernel tells nobody anything (tty_ioctl(4)).
    pub(super) fn hand_size_to(&self, theirs: &AsyncFd<OwnedFd>) -> io::Result<()> {
        Ok(tcsetwinsize(theirs.get_ref(), winsize(self.size()?))?)
    }

    /// What was typed; 0 when the other end is closed.
    pub(super) async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        read(&self.end, bytes).await
    }

    /// Shows as much of it as can be shown without waiting.
    pub(super) fn write_at_once(&self, bytes: &[u8]) {
        // It may be closed.
        rustix::io::write(self.end.get_ref(), bytes).ok();
    }

    /// Shows all of it.
    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.end, bytes).await
    }
}

/// Carries bytes and sizes between our terminal and that of a program until one of them is closed.
pub(super) async fn join(ours: &Terminal, master: OwnedFd) -> io::Result<()> {
    let theirs = watched(master)?;
    let into = async {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match ours.read(&mut bytes).await? {
                0 => return Ok(()),
                length => {
                    ours.hand_size_to(&theirs)?;
                    write(&theirs, bytes.get(..length).unwrap_or_default()).await?;
                }
            }
        }
    };
    let out = async {
        let mut bytes = vec![0; READ_BYTES];
        loop {
            match read(&theirs, &mut bytes).await? {
                0 => return Ok(()),
                length => ours.write(bytes.get(..length).unwrap_or_default()).await?,
            }
        }
    };
    let sizes = async {
        let mut known = WindowSize::default();
        loop {
            known = ours.resized(known).await?;
            tcsetwinsize(theirs.get_ref(), winsize(known))?;
        }
    };
    tokio::select! {
        ended = into => ended,
        ended = out => ended,
        ended = sizes => ended,
    }
}

/// Bytes that are carried together.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// What can be read; 0 when the other end is closed.
pub(super) async fn read(from: &AsyncFd<OwnedFd>, bytes: &mut [u8]) -> io::Result<usize> {
    let read = from
        .async_io(Interest::READABLE, |descriptor| Ok(rustix::io::read(descriptor, &mut *bytes)?))
        .await;
    match read {
        // So the kernel says that the other end of a terminal is closed.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
        other => other,
    }
}

/// Writes all of it.
pub(super) async fn write(to: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = write_some(to, bytes).await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Writes what there is room for, at least a byte; how much. Dropped before it is ready, it has written nothing.
pub(super) async fn write_some(to: &AsyncFd<OwnedFd>, bytes: &[u8]) -> io::Result<usize> {
    to.async_io(Interest::WRITABLE, |descriptor| Ok(rustix::io::write(descriptor, bytes)?)).await
}

/// A size as the kernel has it.
pub(super) fn winsize(size: WindowSize) -> Winsize {
    Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_typed_after_a_change_of_size_comes_after_it() {
        let small = WindowSize { columns: 70, rows: 12, width: 0, height: 0 };
        let large = WindowSize { columns: 120, rows: 30, width: 0, height: 0 };
        let (ours, net) = Terminal::new(small).unwrap();
        let (program, master) = Terminal::new(small).unwrap();
        for terminal in [&ours, &program] {
            terminal.make_raw().unwrap();
        }
        let joined = tokio::spawn(async move { join(&ours, master).await });
        for size in [large, small, large] {
            tcsetwinsize(&net, winsize(size)).unwrap();
            rustix::io::write(&net, b"x").unwrap();
            assert_eq!(program.read(&mut [0; 1]).await.unwrap(), 1);
            assert_eq!(program.size().unwrap(), size);
        }
        drop(net);
        joined.await.unwrap().unwrap();
    }
}
