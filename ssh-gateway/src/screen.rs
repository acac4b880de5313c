//! What a terminal showed, without what it must not be told to do by a stranger: for replays and for who watches.
//!
//! Passed on: characters, moves, colours, erasing, scrolling, the alternate screen. Left out: whatever makes a terminal answer,
//! or changes its title, its clipboard, its keyboard or its mouse, and every string that it would take as a command.

#[cfg(test)]
mod tests;

/// Longest sequence that is looked at, in bytes; the rest of a longer one is left out.
const SEQUENCE_BYTES_MAX: usize = 64;

/// Ends of control sequences (ECMA-48) that only change what is shown.
const SHOWING: &[u8] = b"@ABCDEFGHIJKLMPSTXZ`abdefgmrsu";

/// Private modes that only change what is shown: origin, wrapping, cursor, alternate screen.
const SHOWING_MODES: [u32; 8] = [6, 7, 12, 25, 47, 1047, 1048, 1049];

/// To be shown at the end: the main screen, the cursor, no colours, all lines.
pub const RESET: &[u8] = b"\x1b[?1049l\x1b[?25h\x1b[?7h\x1b[r\x1b[0m\x1b(B\x0f";

/// Passes on what may be shown.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    sequence: Vec<u8>,
    /// The beginning of a character, at most three bytes.
    waiting: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind ESC.
    Escape,
    /// Behind ESC and an intermediate byte, such as `(`.
    Designation,
    /// Behind ESC `[`.
    Control,
    /// In a string, until ST or BEL.
    String,
    /// In a string, behind ESC.
    StringEscape,
}

impl Filter {
    /// What may be shown of these bytes.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.byte(*byte, &mut shown);
        }
        shown
    }

    fn byte(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, shown),
            State::Escape => self.escape(byte, shown),
            State::Designation => self.designation(byte, shown),
            State::Control => self.control(byte, shown),
            State::String => match byte {
                0x07 | 0x18 | 0x1a => self.state = State::Text,
                0x1b => self.state = State::StringEscape,
                _ => {}
            },
            State::StringEscape => match byte {
                b'\\' => self.state = State::Text,
                // Another sequence begins where the string was given up.
                _ => self.escape(byte, shown),
            },
        }
    }

    fn text(&mut self, byte: u8, shown: &mut Vec<u8>) {
        if byte >= 0x80 {
            self.character(byte, shown);
            return;
        }
        self.break_off(shown);
        match byte {
            0x1b => self.begin(State::Escape),
            // Bell, tabulators, moves, and the two character sets that lines are drawn with.
            0x07..=0x0f | 0x20..=0x7e => shown.push(byte),
            _ => {}
        }
    }

    /// A byte of a character of more than one byte.
    fn character(&mut self, byte: u8, shown: &mut Vec<u8>) {
        self.waiting.push(byte);
        match std::str::from_utf8(&self.waiting) {
            Ok(text) => {
                // U+0080 to U+009F are controls for some terminals.
                if !text.chars().any(char::is_control) {
                    shown.extend_from_slice(text.as_bytes());
                }
                self.waiting.clear();
            }
            // It may go on.
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                self.waiting.pop();
                self.break_off(shown);
                // The byte may begin another one.
                if (0xc2..=0xf4).contains(&byte) {
                    self.waiting.push(byte);
                } else {
                    push_unknown(shown);
                }
            }
        }
    }

    /// A character that is not whole.
    fn break_off(&mut self, shown: &mut Vec<u8>) {
        if !self.waiting.is_empty() {
            self.waiting.clear();
            push_unknown(shown);
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
    }

    fn escape(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match byte {
            b'[' => self.begin(State::Control),
            // OSC, DCS, SOS, PM and APC.
            b']' | b'P' | b'X' | b'^' | b'_' | b'k' => self.begin(State::String),
            0x20..=0x2f => {
                self.begin(State::Designation);
                self.sequence.push(byte);
            }
            // Cursor kept and put back, line feeds, tabulators.
            b'7' | b'8' | b'D' | b'E' | b'H' | b'M' => {
                shown.extend_from_slice(&[0x1b, byte]);
                self.state = State::Text;
            }
            0x1b => self.begin(State::Escape),
            // A control inside of a sequence has its effect, and the sequence goes on.
            0x08..=0x0d => shown.push(byte),
            _ => self.state = State::Text,
        }
    }

    fn designation(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match byte {
            0x20..=0x2f => self.keep(byte),
            0x30..=0x7e => {
                // Character sets of the screen (ESC ( and ESC )), and double lines (ESC #).
                if let [first @ (b'(' | b')' | b'#')] = self.sequence.as_slice() {
                    shown.extend_from_slice(&[0x1b, *first, byte]);
                }
                self.state = State::Text;
            }
            0x1b => self.begin(State::Escape),
            _ => self.state = State::Text,
        }
    }

    fn control(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match byte {
            0x20..=0x3f => self.keep(byte),
            0x40..=0x7e => {
                if is_showing(&self.sequence, byte) {
                    shown.extend_from_slice(b"\x1b[");
                    shown.extend_from_slice(&self.sequence);
                    shown.push(byte);
                }
                self.state = State::Text;
            }
            0x1b => self.begin(State::Escape),
            0x18 | 0x1a => self.state = State::Text,
            0x08..=0x0d => shown.push(byte),
            _ => {}
        }
    }

    /// A byte of a sequence; one that is too long has one byte more than it may have.
    fn keep(&mut self, byte: u8) {
        if self.sequence.len() <= SEQUENCE_BYTES_MAX {
            self.sequence.push(byte);
        }
    }
}

/// Whether a control sequence only changes what is shown.
fn is_showing(parameters: &[u8], end: u8) -> bool {
    if parameters.len() > SEQUENCE_BYTES_MAX {
        return false;
    }
    let numbers = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b';' | b':'));
    match (parameters, end) {
        ([b'?', modes @ ..], b'h' | b'l') => {
            let modes = std::str::from_utf8(modes).unwrap_or_default();
            modes
                .split(';')
                .all(|mode| mode.parse().is_ok_and(|mode| SHOWING_MODES.contains(&mode)))
        }
        // With more numbers it is about the mouse.
        (parameters, b'T') => parameters.iter().all(u8::is_ascii_digit),
        // Insert and replace.
        ([b'4'], b'h' | b'l') => true,
        // Selective erasing.
        ([b'?', rest @ ..], b'J' | b'K') => numbers(rest),
        (parameters, end) => numbers(parameters) && SHOWING.contains(&end),
    }
}

fn push_unknown(shown: &mut Vec<u8>) {
    shown.extend_from_slice("\u{fffd}".as_bytes());
}
