//! The file format of the audit: JSON Lines in which each line has the hash of the one before, and signed checkpoints.
//!
//! ```text
//! {"number":7,"time":…,"event":"exit",…,"previous":SHA-256 of line 6}
//! {"number":8,"time":…,"event":"checkpoint","signature":…,"previous":SHA-256 of line 7}      also kept as the head
//! ```
//!
//! Who edits a line breaks the hash in the next one; who writes all hashes anew breaks the signatures; who cuts off the
//! end has a head that names lines which are not there; and who takes the head away too is told of by the next start.
//! Every byte is in `docs/ssh-gateway-recording.md`.

use std::collections::BTreeMap;

use russh::keys::ssh_key::{self, HashAlg, LineEnding, SshSig};
use russh::keys::{PrivateKey, PublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// What the signatures are for (PROTOCOL.sshsig of OpenSSH).
pub const NAMESPACE: &str = "chores-audit";

/// The form of the lines. 2 tells more in the first line of a file and in gaps than 1; 3 has lines about files, and tells
/// more of what a disk has lost. All are read.
pub const FORMAT: u64 = 3;

/// Lines between two checkpoints at the most.
pub const CHECKPOINT_LINES_MAX: u64 = 256;

/// Files that may have been begun since the last checkpoint: a gateway that is killed before it has signed begins again,
/// but not for ever.
const BEGINS_UNSIGNED_MAX: u64 = 16;

/// Longest line, in bytes: what is longer was not written by us.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// The event that begins a file.
pub const BEGIN: &str = "begin";
/// The event that signs what is before it.
pub const CHECKPOINT: &str = "checkpoint";
/// The event that says how many were not written before it.
pub const GAP: &str = "gap";
/// The event that names a whole recording.
pub const RECORDING: &str = "recording";
/// The event that names a file that a store has.
pub const UPLOAD: &str = "upload";

/// What stands for the hash of the line before the first one.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Damages that are told: more of them say nothing new.
pub const DAMAGES_MAX: usize = 100;

/// Notes that lines give rise to, likewise.
const NOTES_MAX: usize = 20;

/// The hash of a line, without its line end, in hexadecimal.
#[must_use]
pub fn hash(line: &[u8]) -> String {
    hex(&Sha256::digest(line))
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a checkpoint signs: everything up to the line before it.
fn signed_text(number: u64, previous: &str) -> String {
    format!("{number} {previous}")
}

/// Where a chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// The number of the last line; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: String,
}

impl Tip {
    /// Before the first line.
    #[must_use]
    pub fn start() -> Self {
        Self { number: 0, hash: NOTHING.to_owned() }
    }

    /// The next line, with its line end; the tip is that line from now on.
    pub fn append(&mut self, time: &str, event: &str, fields: Map<String, Value>) -> String {
        let number = self.number.saturating_add(1);
        let mut line = Map::new();
        line.insert("number".to_owned(), number.into());
        line.insert("time".to_owned(), time.into());
        line.insert("event".to_owned(), event.into());
        line.extend(fields.into_iter().filter(|(_, value)| !value.is_null()));
        line.insert("previous".to_owned(), self.hash.as_str().into());
        let mut text = Value::Object(line).to_string();
        *self = Self { number, hash: hash(text.as_bytes()) };
        text.push('\n');
        text
    }

    /// The line that signs everything before it.
    pub fn checkpoint(&mut self, time: &str, key: &PrivateKey) -> Result<String, ssh_key::Error> {
        let text = signed_text(self.number, &self.hash);
        let signature = key.sign(NAMESPACE, HashAlg::Sha512, text.as_bytes())?;
        let pem = signature.to_pem(LineEnding::LF)?;
        Ok(self.append(time, CHECKPOINT, Map::from_iter([("signature".to_owned(), pem.into())])))
    }
}

/// A line as far as the chain goes.
#[derive(Debug, Deserialize)]
pub struct Link {
    /// From 1, over all files.
    pub number: u64,
    /// What happened.
    pub event: String,
    /// The hash of the line before.
    pub previous: String,
    /// Of a checkpoint.
    #[serde(default)]
    signature: Option<String>,
    /// Of the first line of a file: the end of the file before it, when that was no whole line.
    #[serde(default)]
    torn: Option<Torn>,
    /// Of the first line of a file: the form of the lines from here on.
    #[serde(default)]
    format: Option<u64>,
    /// Of the first line of a file: lines that the head named and that were not there.
    #[serde(default)]
    lost: Option<(u64, u64)>,
    /// Of the first line of a file: the line that the head names was not the head's.
    #[serde(default)]
    changed: bool,
    /// Of the first line of a file: there were lines, and no head.
    #[serde(default)]
    headless: bool,
    /// Of the first line of a file: what was beside the key as its public half was another one.
    #[serde(default)]
    doubtful_key: bool,
    /// Of the first line of a file: lines before it that nothing had signed.
    #[serde(default)]
    unsigned: Option<(u64, u64)>,
    /// Of the first line of a file: lines before it that the disk may not have.
    #[serde(default)]
    unsynced: Option<(u64, u64)>,
    /// Of a gap.
    #[serde(default)]
    left_out: u64,
    /// Of a gap: how many of these were refusals.
    #[serde(default)]
    refusals: u64,
    /// Of a recording: its file.
    #[serde(default)]
    file: Option<String>,
    /// Of a recording.
    #[serde(default)]
    sha256: Option<String>,
    /// Of an upload: the file is not here any more.
    #[serde(default)]
    removed: bool,
}

/// What a file has behind its last line: its writer was killed, or power failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Torn {
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

impl Torn {
    /// What was left of a line; `None` when nothing was.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self { bytes: bytes.len() as u64, sha256: hash(bytes) })
    }
}

/// The same while it is read.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    bytes: u64,
    hash: Sha256,
    has_line_end: bool,
    has_zero: bool,
}

impl Tail {
    /// More of it.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.hash.update(bytes);
        self.has_line_end |= bytes.contains(&b'\n');
        self.has_zero |= bytes.contains(&0);
    }

    /// Whether a writer that was cut short can have left it: no whole line, or blocks of a disk that were never written.
    /// A whole line that is none of ours, without such a block in it, was written by somebody.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        !self.has_line_end || self.has_zero
    }

    /// What is told of it.
    #[must_use]
    pub fn torn(&self) -> Torn {
        Torn { bytes: self.bytes, sha256: hex(&self.hash.clone().finalize()) }
    }
}

impl Link {
    /// Reads a line without its line end; `None` when it is none of ours.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(line).ok()
    }

    /// Whether it is a checkpoint, signed by this key.
    fn is_signed(&self, key: &PublicKey) -> bool {
        let text = signed_text(self.number.saturating_sub(1), &self.previous);
        let signature = self.signature.as_ref().and_then(|pem| SshSig::from_pem(pem).ok());
        self.event == CHECKPOINT
            && signature.is_some_and(|its| key.verify(NAMESPACE, text.as_bytes(), &its).is_ok())
    }
}

/// The place of a line that is a checkpoint of this key's holder; `None` when it is none.
#[must_use]
pub fn checkpoint(line: &[u8], key: &PublicKey) -> Option<Tip> {
    let link = Link::parse(line).filter(|link| link.is_signed(key))?;
    Some(Tip { number: link.number, hash: hash(line) })
}

/// The last checkpoint, as it is kept beside the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// Nobody has looked: what is read is not all there is.
    Elsewhere,
    /// There is none, and there should be.
    Missing,
    /// These bytes.
    Kept(Vec<u8>),
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u64,
    /// One sentence.
    pub what: String,
}

/// A recording that the audit names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its path below the directory of recordings.
    pub file: String,
    /// The hash of its bytes, in hexadecimal.
    pub sha256: String,
    /// A store has it, and it is not here any more. The path is below the state directory then.
    pub is_elsewhere: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Lines that were read.
    pub lines: u64,
    /// The number of the first one: more than 1 when older files are kept elsewhere.
    pub first: u64,
    /// The last number that a signature covers.
    pub signed: u64,
    /// The number of the last one.
    pub last: u64,
    /// In their order, at most [`DAMAGES_MAX`].
    pub damages: Vec<Damage>,
    /// What is no damage and should be known.
    pub notes: Vec<String>,
}

/// Reads the lines of all files in their order, and finds what was done to them.
#[derive(Debug)]
pub struct Verifier<'k> {
    key: &'k PublicKey,
    head: Head,
    /// What the head is; `None` when it is no checkpoint of ours.
    head_tip: Option<Tip>,
    /// Hashes of lines that somebody has kept elsewhere.
    expected: BTreeMap<u64, String>,
    file: String,
    line: u64,
    /// Where the chain is; `None` before the first line.
    tip: Option<Tip>,
    /// Where the line of the tip is.
    tip_at: (String, u64),
    /// A line that does not fit to the one before: which of both was changed is seen at the next one.
    doubt: Option<Doubt>,
    /// Lines since the last checkpoint, or the first line.
    unsigned: u64,
    /// First lines of files since then, which are not among them.
    begins: u64,
    /// The hash that the first line has of the one before it.
    before: String,
    gaps: Gaps,
    junk: Option<Junk>,
    is_head_seen: bool,
    report: Report,
}

/// What was not written.
#[derive(Debug, Default)]
struct Gaps {
    /// Events, refusals too.
    left_out: u64,
    refusals: u64,
    /// The numbers of the first and the last line that tell of it.
    told: Option<(u64, u64)>,
}

/// What is behind the last line of a file, as far as it was read, and what there was before it.
#[derive(Debug)]
struct Junk {
    tail: Tail,
    /// Lines of it, at most [`DAMAGES_MAX`].
    lines: Vec<(String, u64)>,
    /// What has no line end.
    rest: Option<(String, u64)>,
    tip: Option<Tip>,
    tip_at: (String, u64),
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    before: (String, u64),
    itself: (String, u64),
}

impl Junk {
    /// Where it begins.
    fn place(&self) -> (String, u64) {
        let first = self.lines.first().or(self.rest.as_ref());
        first.unwrap_or(&self.tip_at).clone()
    }
}

impl<'k> Verifier<'k> {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(key: &'k PublicKey, head: Head, expected: BTreeMap<u64, String>) -> Self {
        let head_tip = match &head {
            Head::Kept(bytes) => checkpoint(bytes, key),
            Head::Elsewhere | Head::Missing => None,
        };
        Self {
            key,
            head,
            head_tip,
            expected,
            file: String::new(),
            line: 0,
            tip: None,
            tip_at: (String::new(), 0),
            doubt: None,
            unsigned: 0,
            begins: 0,
            before: String::new(),
            gaps: Gaps::default(),
            junk: None,
            is_head_seen: false,
            report: Report::default(),
        }
    }

    /// The lines that follow are in this file.
    pub fn file(&mut self, name: &str) {
        self.file = name.to_owned();
        self.line = 0;
    }

    /// Files are missing before the one that was told last.
    pub fn gap(&mut self, what: String) {
        let at = (self.file.clone(), 0);
        self.damage(&at, what);
    }

    /// What is behind the last line end of a file. It may come in pieces.
    pub fn rest(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let here = (self.file.clone(), self.line + 1);
        let junk = self.junk();
        junk.tail.add(bytes);
        junk.rest.get_or_insert(here);
    }

    /// The beginning of a line that is too long to be one. What follows of it, with its line end, comes by
    /// [`more`](Self::more).
    pub fn long_line(&mut self, bytes: &[u8]) {
        self.line += 1;
        self.report.lines += 1;
        self.no_line(bytes);
    }

    /// More of such a line.
    pub fn more(&mut self, bytes: &[u8]) {
        self.junk().tail.add(bytes);
    }

    fn junk(&mut self) -> &mut Junk {
        let Self { tip, tip_at, doubt, .. } = self;
        self.junk.get_or_insert_with(|| Junk {
            tail: Tail::default(),
            lines: Vec::new(),
            rest: None,
            tip: tip.clone(),
            tip_at: tip_at.clone(),
            doubt: doubt.take(),
        })
    }

    /// A line that is none. What it means is seen by what follows.
    fn no_line(&mut self, bytes: &[u8]) {
        let here = (self.file.clone(), self.line);
        let junk = self.junk();
        junk.tail.add(bytes);
        if junk.lines.len() < DAMAGES_MAX {
            junk.lines.push(here.clone());
        }
        // Whatever it was, the next line says what it should have been.
        if let Some(tip) = &mut self.tip {
            *tip = Tip { number: tip.number.saturating_add(1), hash: hash(bytes) };
            self.tip_at = here;
        }
    }

    /// A line without its line end. Gives the recording that it names.
    pub fn line(&mut self, bytes: &[u8]) -> Option<Recorded> {
        self.line += 1;
        self.report.lines += 1;
        let here = (self.file.clone(), self.line);
        let Some(link) = Link::parse(bytes) else {
            self.no_line(bytes);
            self.more(b"\n");
            return None;
        };
        self.check_torn(&link, &here);
        let is_signed = self.check_signature(&link, &here);
        self.check_place(&link, &here, is_signed);
        self.hear(&link, &here);
        let hash = hash(bytes);
        if let Some(expected) = self.expected.remove(&link.number)
            && expected != hash
        {
            self.damage(
                &here,
                format!("line {} is not the one that was kept elsewhere", link.number),
            );
        }
        self.check_head(&link, &hash, &here);
        self.report.last = link.number;
        self.tip = Some(Tip { number: link.number, hash });
        self.tip_at = here;
        match (link.event.as_str(), link.file, link.sha256) {
            (RECORDING, Some(file), Some(sha256)) => {
                Some(Recorded { file, sha256, is_elsewhere: false })
            }
            (UPLOAD, Some(file), Some(sha256)) if link.removed => {
                Some(Recorded { file, sha256, is_elsewhere: true })
            }
            _ => None,
        }
    }

    /// Everything was read.
    #[must_use]
    pub fn end(mut self) -> Report {
        if let Some(junk) = self.junk.take() {
            if junk.tail.is_torn() {
                let (file, line) = junk.place();
                self.report.notes.push(format!(
                    "{file} line {line} is not whole ({} bytes): the gateway is writing it, or was killed there",
                    junk.tail.bytes
                ));
                (self.tip, self.tip_at, self.doubt) = (junk.tip, junk.tip_at, junk.doubt);
            } else {
                self.blame(&junk);
            }
        }
        self.settle(None);
        self.end_head();
        let at = self.tip_at.clone();
        for number in std::mem::take(&mut self.expected).into_keys() {
            self.damage(&at, format!("line {number}, which was kept elsewhere, is not there"));
        }
        if self.report.first > 1 {
            self.report.notes.push(format!(
                "the first line here has the number {}: what was before is not here",
                self.report.first
            ));
        }
        let Gaps { left_out, refusals, told } = &self.gaps;
        if let Some((from, to)) = told {
            self.report.notes.push(format!(
                "{left_out} events were not written, {refusals} of them refusals: lines {from} to {to} tell of it"
            ));
        }
        if self.report.last > self.report.signed {
            self.report.notes.push(format!(
                "lines {} to {} are not signed yet",
                self.report.signed + 1,
                self.report.last
            ));
        }
        self.report
    }

    /// Whether what was read ends where the head says.
    fn end_head(&mut self) {
        let (at, kept) = (self.tip_at.clone(), ("head".to_owned(), 1));
        let (first, last) = (self.report.first, self.report.last);
        match (std::mem::replace(&mut self.head, Head::Elsewhere), self.head_tip.take()) {
            (Head::Elsewhere, _) => self
                .report
                .notes
                .push("there is no head, so that a cut at the end would not be seen".to_owned()),
            (Head::Missing, _) => {
                let what = "the head is missing, so that nobody can say what was cut off here";
                self.damage(&at, what.to_owned());
            }
            (Head::Kept(_), None) => {
                self.damage(&kept, "this is no checkpoint of the gateway's".to_owned());
            }
            (Head::Kept(_), Some(_)) if self.is_head_seen => {}
            (Head::Kept(_), Some(head)) if head.number > last => {
                let what = format!("lines {} to {} were cut off here", last + 1, head.number);
                self.damage(&at, what);
            }
            // The gateway was killed before it had another head, and what was before was moved away.
            (Head::Kept(_), Some(head)) if head.number + 1 == first && head.hash == self.before => {
            }
            (Head::Kept(_), Some(head)) if head.number < first => {
                let what =
                    format!("it is line {}, and what is here does not go on from it", head.number);
                self.damage(&kept, what);
            }
            // Its number is missing among those that are here, which is told there.
            (Head::Kept(_), Some(_)) => {}
        }
    }

    /// What the gateway itself says of the lines before.
    fn hear(&mut self, link: &Link, here: &(String, u64)) {
        let mut found = Vec::new();
        if let Some((from, to)) = link.lost {
            found.push(format!("lines {from} to {to} were gone when the gateway started here"));
        }
        if link.changed {
            found.push(
                "the last checkpoint before was another one when the gateway started here"
                    .to_owned(),
            );
        }
        if link.headless {
            found.push(
                "there was no head when the gateway started here: lines before may be anybody's, or gone"
                    .to_owned(),
            );
        }
        if link.doubtful_key {
            found.push(
                "key.pub was not the public half of the key when the gateway started here: one of the two was exchanged"
                    .to_owned(),
            );
        }
        for what in found {
            self.damage(here, what);
        }
        let number = link.number;
        if let Some((from, to)) = link.unsigned {
            let by = number.saturating_add(1);
            self.note(format!(
                "lines {from} to {to} were signed only when the gateway had started again, by line {by}"
            ));
        }
        if let Some((from, to)) = link.unsynced {
            self.note(format!(
                "lines {from} to {to} may not be on the disk: making them durable failed before line {number}"
            ));
        }
        if let Some(format) = link.format.filter(|format| *format > FORMAT) {
            self.note(format!(
                "line {number} has the format {format}: a newer program may find more"
            ));
        }
        if link.event == GAP {
            let Gaps { left_out, refusals, told } = &mut self.gaps;
            *left_out = left_out.saturating_add(link.left_out);
            *refusals = refusals.saturating_add(link.refusals);
            *told = Some((told.map_or(number, |(first, _)| first), number));
        }
    }

    /// Whether the end of the file before is the one that this first line of the next knows of.
    fn check_torn(&mut self, link: &Link, here: &(String, u64)) {
        match (self.junk.take(), &link.torn) {
            (None, None) => {}
            (Some(junk), Some(known)) if junk.tail.torn() == *known => {
                let (file, line) = junk.place();
                self.note(format!(
                    "{file} line {line} was not whole ({} bytes) when the gateway started again: it was killed there, or power failed",
                    known.bytes
                ));
                (self.tip, self.tip_at, self.doubt) = (junk.tip, junk.tip_at, junk.doubt);
            }
            (Some(junk), _) => self.blame(&junk),
            (None, Some(_)) => {
                self.damage(here, "the end of the file before was cut off or changed".to_owned());
            }
        }
    }

    /// Nobody knows of what is behind the last line.
    fn blame(&mut self, junk: &Junk) {
        for at in &junk.lines {
            self.damage(at, "this is no line of an audit".to_owned());
        }
        if let Some(at) = &junk.rest {
            self.damage(at, "the line is cut".to_owned());
        }
    }

    /// Whether the line belongs behind the one before it. What a signed line says of it is true.
    fn check_place(&mut self, link: &Link, here: &(String, u64), is_signed: bool) {
        let Some(tip) = self.tip.clone() else {
            self.report.first = link.number;
            self.before.clone_from(&link.previous);
            self.report.signed = self.report.signed.max(link.number.saturating_sub(1));
            if (link.number == 1) != (link.previous == NOTHING) {
                self.damage(here, "the first line was changed".to_owned());
            }
            return;
        };
        let fits = link.previous == tip.hash;
        self.settle(Some(fits));
        let wanted = tip.number.saturating_add(1);
        if link.number != wanted {
            let is = link.number;
            self.damage(here, format!("line {is} stands where line {wanted} belongs"));
        } else if !fits {
            self.doubt = Some(Doubt { before: self.tip_at.clone(), itself: here.clone() });
            if is_signed {
                self.settle(Some(true));
            }
        }
    }

    /// A line that did not fit was changed itself when the next one does not fit to it either; else it was the line
    /// before it.
    fn settle(&mut self, next_fits: Option<bool>) {
        let Some(Doubt { before, itself }) = self.doubt.take() else { return };
        let (at, what) = match next_fits {
            Some(true) => (before, "the line was changed"),
            Some(false) => (itself, "the line was changed"),
            None => (itself, "this line or the one before it was changed"),
        };
        self.damage(&at, what.to_owned());
    }

    /// Whether the line is a checkpoint that the gateway has signed.
    fn check_signature(&mut self, link: &Link, here: &(String, u64)) -> bool {
        if link.event != CHECKPOINT {
            // A gateway that is killed again and again begins again and again.
            if link.event == BEGIN && self.line == 1 {
                self.begins += 1;
                if self.begins == BEGINS_UNSIGNED_MAX + 1 {
                    let what = format!(
                        "there is no checkpoint in the {BEGINS_UNSIGNED_MAX} files up to here"
                    );
                    self.damage(here, what);
                }
                return false;
            }
            self.unsigned += 1;
            if self.unsigned == CHECKPOINT_LINES_MAX + 1 {
                let what =
                    format!("there is no checkpoint in {CHECKPOINT_LINES_MAX} lines up to here");
                self.damage(here, what);
            }
            return false;
        }
        let is_signed = link.is_signed(self.key);
        if is_signed {
            self.report.signed = link.number;
            self.unsigned = 0;
            self.begins = 0;
        } else {
            let from = self.report.signed.max(self.report.first.saturating_sub(1)) + 1;
            let what = format!(
                "the signature is not the gateway's: lines {from} to {} may be anybody's",
                link.number
            );
            self.damage(here, what);
        }
        is_signed
    }

    fn check_head(&mut self, link: &Link, hash: &str, here: &(String, u64)) {
        let Some(head) = self.head_tip.as_ref().filter(|head| head.number == link.number) else {
            return;
        };
        let is_same = head.hash == hash;
        self.is_head_seen = true;
        if !is_same {
            self.damage(here, "this line is not the checkpoint that the head has".to_owned());
        }
    }

    fn note(&mut self, what: String) {
        if self.report.notes.len() < NOTES_MAX {
            self.report.notes.push(what);
        }
    }

    fn damage(&mut self, at: &(String, u64), what: String) {
        let damage = Damage { file: at.0.clone(), line: at.1, what };
        if self.report.damages.len() < DAMAGES_MAX && !self.report.damages.contains(&damage) {
            self.report.damages.push(damage);
        }
    }
}
