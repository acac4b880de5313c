//! What a terminal sends, as keys. Whatever the bytes are: nothing is kept of them but the beginning of one key.
//!
//! ```text
//! ESC [ parameters letter   ESC O letter      keys      ESC [ 200 ~ … ESC [ 201 ~     pasted
//! ESC ] … BEL|ST, ESC P … ST, ESC _ … ST      answers and orders of terminals: left out
//! ```

/// Bytes of the parameters of one key; a longer sequence is no key.
const PARAMETERS_MAX: usize = 16;
/// Bytes of an answer that are left out; what follows is taken as typed again.
const ANSWER_BYTES_MAX: usize = 4096;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Character(char),
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Backspace,
    /// All that was typed is wrong.
    Clear,
    Enter,
    GiveUp,
    /// The screen is to be drawn anew.
    Redraw,
}

/// Cuts bytes into keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    is_pasted: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// The first bytes of a character.
    Character(Vec<u8>),
    Escape,
    /// Behind `ESC [`: its parameters.
    Sequence(Vec<u8>),
    /// The same, but too many.
    Endless,
    /// Behind `ESC O`.
    Function,
    /// An answer: how long it is, and whether its last byte was an escape.
    Answer(usize, bool),
}

impl Keys {
    /// Whether an escape was typed that may be the key of this name, or the beginning of another.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.state == State::Escape
    }

    /// Nothing has followed the escape: it was the key.
    pub(super) fn settle(&mut self) -> Option<Key> {
        let is_key = self.is_in_doubt() && !self.is_pasted;
        self.state = State::Ground;
        is_key.then_some(Key::GiveUp)
    }

    /// Takes a byte; gives the key that is whole with it.
    pub(super) fn take(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Character(bytes) => self.character(bytes, byte),
            State::Escape => self.escape(byte),
            State::Sequence(parameters) => self.sequence(parameters, byte),
            State::Endless => {
                self.state = if is_final(byte) { State::Ground } else { State::Endless };
                None
            }
            State::Function => self.named(byte, b""),
            State::Answer(length, is_escaped) => {
                let is_over = byte == BELL || (is_escaped && byte == b'\\');
                if !is_over && length < ANSWER_BYTES_MAX {
                    self.state = State::Answer(length + 1, byte == ESCAPE);
                }
                None
            }
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        let key = match byte {
            ESCAPE => {
                self.state = State::Escape;
                return None;
            }
            0x20..0x7f => return Some(Key::Character(char::from(byte))),
            0xc2..=0xf4 => {
                self.state = State::Character(vec![byte]);
                return None;
            }
            b'\r' | b'\n' => Key::Enter,
            0x08 | 0x7f => Key::Backspace,
            0x03 | 0x04 => Key::GiveUp,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x0c => Key::Redraw,
            0x15 | 0x17 => Key::Clear,
            _ => return None,
        };
        // Of what is pasted only text is meant; who gives up is heard although a paste has no end.
        (!self.is_pasted || key == Key::GiveUp).then_some(key)
    }

    fn character(&mut self, mut bytes: Vec<u8>, byte: u8) -> Option<Key> {
        if !(0x80..0xc0).contains(&byte) {
            // It was none.
            return self.take(byte);
        }
        bytes.push(byte);
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.chars().next().map(Key::Character),
            Err(error) if error.error_len().is_none() => {
                self.state = State::Character(bytes);
                None
            }
            Err(_) => None,
        }
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Sequence(Vec::new()),
            b'O' => self.state = State::Function,
            b']' | b'P' | b'_' | b'^' | b'X' => self.state = State::Answer(0, false),
            ESCAPE => {
                self.state = State::Escape;
                return (!self.is_pasted).then_some(Key::GiveUp);
            }
            // A key with Alt: none of ours.
            _ => {}
        }
        None
    }

    fn sequence(&mut self, mut parameters: Vec<u8>, byte: u8) -> Option<Key> {
        match byte {
            ESCAPE => self.state = State::Escape,
            _ if is_final(byte) => return self.named(byte, &parameters),
            0x20..0x40 if parameters.len() < PARAMETERS_MAX => {
                parameters.push(byte);
                self.state = State::Sequence(parameters);
            }
            0x20..0x40 => self.state = State::Endless,
            // No part of any sequence.
            _ => {}
        }
        None
    }

    fn named(&mut self, last: u8, parameters: &[u8]) -> Option<Key> {
        let key = match (last, parameters) {
            (b'~', b"200") => {
                self.is_pasted = true;
                return None;
            }
            (b'~', b"201") => {
                self.is_pasted = false;
                return None;
            }
            (b'A', _) => Key::Up,
            (b'B', _) => Key::Down,
            (b'H', _) | (b'~', b"1" | b"7") => Key::First,
            (b'F', _) | (b'~', b"4" | b"8") => Key::Last,
            (b'~', b"5") => Key::PageUp,
            (b'~', b"6") => Key::PageDown,
            (b'M', b"") => Key::Enter,
            _ => return None,
        };
        (!self.is_pasted).then_some(key)
    }
}

fn is_final(byte: u8) -> bool {
    (0x40..0x7f).contains(&byte)
}

#[cfg(test)]
mod tests;
