//! The command line that a client wrote for a shell.

use crate::sftp::Accounts;

/// No command line is longer. In bytes.
const COMMAND_BYTES_MAX: usize = 128 * 1024;
/// No command line has more words.
const WORDS_MAX: usize = 4096;

/// A byte of a word, and whether it was quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) byte: u8,
    pub(super) quoted: bool,
}

impl Letter {
    /// Whether it is this byte, with its meaning for the shell.
    pub(super) fn means(self, byte: u8) -> bool {
        self.byte == byte && !self.quoted
    }
}

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Word(pub(super) Vec<Letter>);

impl Word {
    /// Without quotes; patterns as they are.
    pub(super) fn literal(&self) -> Vec<u8> {
        self.0.iter().map(|letter| letter.byte).collect()
    }

    /// With its `~` replaced, which is the current directory: sessions begin in the user's home.
    pub(super) fn home_expanded(&self) -> Self {
        let Some((tilde, rest)) = self.0.split_first() else { return self.clone() };
        let end = rest.iter().position(|letter| letter.byte == b'/').unwrap_or(rest.len());
        let (user, rest) = rest.split_at_checked(end).unwrap_or_default();
        if !tilde.means(b'~') || user.iter().any(|letter| letter.quoted) {
            return self.clone();
        }
        let user: Vec<u8> = user.iter().map(|letter| letter.byte).collect();
        let home = if user.is_empty() {
            b".".to_vec()
        } else {
            match Accounts::default().home(&user) {
                Some(home) => home,
                None => return self.clone(),
            }
        };
        let home = home.into_iter().map(|byte| Letter { byte, quoted: true });
        Self(home.chain(rest.iter().copied()).collect())
    }

    /// The path it means when its patterns mean themselves.
    pub(super) fn path(&self) -> Vec<u8> {
        self.home_expanded().literal()
    }
}

/// Cuts a command line into words. `None` if it needs more of a shell than quotes, `~` and patterns.
pub(super) fn parse(command: &[u8]) -> Option<Vec<Word>> {
    if command.len() > COMMAND_BYTES_MAX {
        return None;
    }
    let mut bytes = command.iter().copied();
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next()? {
                        b'\'' => break,
                        byte => word.0.push(Letter { byte, quoted: true }),
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    let byte = match bytes.next()? {
                        b'"' => break,
                        b'$' | b'`' => return None,
                        b'\\' => match bytes.next()? {
                            byte @ (b'"' | b'\\' | b'$' | b'`') => byte,
                            b'\n' => continue,
                            other => {
                                word.0.push(Letter { byte: b'\\', quoted: true });
                                other
                            }
                        },
                        byte => byte,
                    };
                    word.0.push(Letter { byte, quoted: true });
                }
            }
            b'\\' => match bytes.next()? {
                b'\n' => {}
                byte => word.get_or_insert_default().0.push(Letter { byte, quoted: true }),
            },
            b'#' if word.is_none() => return None,
            b'\n' | b'\0' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' => {
                return None;
            }
            byte => word.get_or_insert_default().0.push(Letter { byte, quoted: false }),
        }
        if words.len() > WORDS_MAX {
            return None;
        }
    }
    words.extend(word);
    Some(words)
}

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// `-f`: from here.
    Source,
    /// `-t`: to here.
    Sink,
}

/// What scp was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) direction: Direction,
    /// `-r`: directories as well.
    pub(super) recursive: bool,
    /// `-p`: times and exact modes.
    pub(super) preserve: bool,
    /// `-d`: the target has to be a directory.
    pub(super) directory: bool,
}

impl Options {
    /// The options of these words, and which is the first that is a path. `None` if this is not our side of scp.
    pub(super) fn of(words: &[Vec<u8>]) -> Option<(Self, usize)> {
        let (program, _) = words.split_first()?;
        if program != b"scp" && !(program.starts_with(b"/") && program.ends_with(b"/scp")) {
            return None;
        }
        let mut direction = None;
        let (mut recursive, mut preserve, mut directory) = (false, false, false);
        let mut first_path = 1;
        for word in words.iter().skip(1) {
            let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty())
            else {
                break;
            };
            first_path += 1;
            if letters == b"-" {
                break;
            }
            for letter in letters {
                match letter {
                    b't' if direction != Some(Direction::Source) => {
                        direction = Some(Direction::Sink);
                    }
                    b'f' if direction != Some(Direction::Sink) => {
                        direction = Some(Direction::Source);
                    }
                    b'r' => recursive = true,
                    b'p' => preserve = true,
                    b'd' => directory = true,
                    // How much is said, and by which addresses: nothing to us.
                    b'v' | b'q' | b'4' | b'6' | b'B' | b'C' => {}
                    _ => return None,
                }
            }
        }
        let options = Self { direction: direction?, recursive, preserve, directory };
        Some((options, first_path))
    }
}

#[cfg(test)]
mod tests;
