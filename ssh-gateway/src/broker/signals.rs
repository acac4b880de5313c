//! Signals by their names in SSH.

/// The number of a signal that a client may send (RFC 4254, 6.10); `None` for others.
pub(super) fn number(name: &str) -> Option<i32> {
    let (_, number) = KNOWN.into_iter().find(|(known, _)| *known == name)?;
    Some(number)
}

const KNOWN: [(&str, i32); 16] = [
    ("ABRT", libc::SIGABRT),
    ("ALRM", libc::SIGALRM),
    ("CONT", libc::SIGCONT),
    ("FPE", libc::SIGFPE),
    ("HUP", libc::SIGHUP),
    ("ILL", libc::SIGILL),
    ("INT", libc::SIGINT),
    ("KILL", libc::SIGKILL),
    ("PIPE", libc::SIGPIPE),
    ("QUIT", libc::SIGQUIT),
    ("SEGV", libc::SIGSEGV),
    ("STOP", libc::SIGSTOP),
    ("TERM", libc::SIGTERM),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("WINCH", libc::SIGWINCH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        assert_eq!(number("TERM"), Some(libc::SIGTERM));
        for name in ["", "term", "SIGTERM", "15", "RTMIN", "TERM\0"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
