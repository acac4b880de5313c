//! Lines as they were, each followed by a line feed. What is no line is marked as ours.

use super::{Controls, passes};
use crate::record::Record;
use crate::wal::Frame;

/// Stands before a control record among plain lines.
pub const CONTROL_MARK: &[u8] = b"[logship] ";

/// The text of a frame when it can be written as it is: from its first record on, nothing but lines.
#[must_use]
pub fn whole(frame: &Frame, from: u32) -> Option<&[u8]> {
    (from == 0 && !frame.block.has_control()).then(|| frame.block.text())
}

/// Adds the records of `frame` from number `from` of it on, until `out` has `limit` bytes; says how many of the
/// frame's records are done then.
pub fn encode(
    frame: &Frame,
    from: u32,
    limit: usize,
    controls: Controls,
    out: &mut Vec<u8>,
) -> u32 {
    if out.len() >= limit {
        return from;
    }
    each(frame, from, controls, out, |_, out| out.len() < limit)
}

/// The same; `written` is called after each record that was written to `out` and says whether to go on.
pub fn each(
    frame: &Frame,
    from: u32,
    controls: Controls,
    out: &mut Vec<u8>,
    mut written: impl FnMut(&Record<'_>, &mut Vec<u8>) -> bool,
) -> u32 {
    let mut done = from;
    for record in frame.block.records().skip(from as usize) {
        done += 1;
        if record.flags.is_control() {
            if !passes(controls, record.line) {
                continue;
            }
            out.extend_from_slice(CONTROL_MARK);
        }
        out.extend_from_slice(record.line);
        out.push(b'\n');
        if !written(&record, out) {
            return done;
        }
    }
    done
}
