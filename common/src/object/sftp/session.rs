//! One connection: a running `ssh`, and questions and answers over it.

use std::io;
use std::ops::Range;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::ssh::{self, Ssh};
use crate::object::error::ErrorKind;
use crate::object::fault::{Fault, shown};
use crate::sftp::{
    Code, Fields, LENGTH_BYTES, PACKET_BYTES_MAX, Packet, Refusal, VERSION, answer, open_flag,
    request,
};
use crate::shutdown::OwnChildren;

/// Bytes of one READ or WRITE: what every server takes (draft 02, 3).
const DATA_BYTES: usize = 32 * 1024;
/// READs or WRITEs that are asked before the first is answered: 2 MiB on their way.
const WINDOW: usize = 64;
/// What `ssh` said that is kept, in bytes.
const SAID_BYTES_MAX: usize = 16 * 1024;
/// How long `ssh` may take to say why it ended.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(5);
/// Pairs of an extension of the attributes that are read over.
const EXTENDED_PAIRS_MAX: u32 = 64;
/// Extensions of the server that are looked at.
const EXTENSIONS_MAX: usize = 64;
/// Longest handle, in bytes (draft 02, 6.2).
const HANDLE_BYTES_MAX: usize = 256;

/// Longest name in a directory, in bytes: no file system of ours has longer ones.
const NAME_BYTES_MAX: usize = 255;
/// Names that one listing may keep, in bytes: those of as many packs as a listing may have.
const NAMES_BYTES_MAX: usize = 512 * 1024 * 1024;
/// A name is taken (`SSH_FX_FILE_ALREADY_EXISTS`, draft 05 and later).
const TAKEN: u32 = 11;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";
/// Read-only, in the flags of statvfs.
const STATVFS_READ_ONLY: u64 = 1;

/// A connection that is ready for questions.
#[derive(Debug)]
pub(super) struct Session {
    /// Dropped with the session, it is killed.
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it says on standard error, and who reads that.
    said: Arc<Mutex<Vec<u8>>>,
    listener: JoinHandle<()>,
    extensions: Vec<String>,
    next_id: u32,
    /// Behind the child, which is killed before.
    _own: OwnChildren,
}

/// Why a question has no good answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server refuses.
    Refused {
        /// Draft 02, 7.
        code: u32,
        /// In the server's words.
        words: String,
    },
    /// There is no answer, or none that makes sense.
    Broken(Fault),
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    File,
    Directory,
    Link,
    Other,
}

/// What the server says about a file (draft 02, 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// With the kind.
    permissions: Option<u32>,
    /// Seconds since the epoch, by the server's clock.
    pub(super) modified: Option<u32>,
}

/// Room on the server's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes for this user.
    pub(super) free: u64,
    /// Files for this user, where they are counted.
    pub(super) files_free: Option<u64>,
    pub(super) is_read_only: bool,
}

/// A question: its kind and its fields.
type Question = (u8, Packet);

/// An answer: its kind and its fields.
#[derive(Debug)]
struct Answer {
    kind: u8,
    fields: Vec<u8>,
}

impl Trouble {
    pub(super) fn is_no_such_file(&self) -> bool {
        self.is(Code::NoSuchFile)
    }

    /// The number for all that has none of its own.
    pub(super) fn is_failure(&self) -> bool {
        self.is(Code::Failure)
    }

    /// Whether it may say that a name is taken.
    fn may_be_taken(&self) -> bool {
        self.is_failure() || matches!(self, Self::Refused { code: TAKEN, .. })
    }

    fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted as u32)
    }

    /// Not what an object is, but what the way to it became: another connection may do better.
    fn nonsense(what: &str) -> Self {
        Self::Broken(Fault::temporary(format!("the server does not speak SFTP: {what}")))
    }
}

impl From<Refusal> for Trouble {
    fn from(_: Refusal) -> Self {
        Self::nonsense("an answer is too short")
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        let (code, words) = match trouble {
            Trouble::Broken(fault) => return fault,
            Trouble::Refused { code, words } => (code, words),
        };
        let is = |wanted: Code| code == wanted as u32;
        if is(Code::NoSuchFile) {
            Self::lasting(ErrorKind::NotFound, "it does not exist")
        } else if is(Code::PermissionDenied) {
            Self::lasting(ErrorKind::Denied, "the permissions do not allow it")
        } else if is(Code::BadMessage) || is(Code::OpUnsupported) {
            Self::lasting(ErrorKind::Invalid, format!("the server refuses ({words})"))
        } else {
            // A disk that fails, too many open files, a connection behind the server that is lost.
            Self::temporary(format!("the server refuses ({words})"))
        }
    }
}

impl Attributes {
    pub(super) fn kind(&self) -> Result<FileKind, Fault> {
        let unknown =
            || Fault::lasting(ErrorKind::Unavailable, "the server does not say what is a file");
        // The kinds of stat(2), as every server has them.
        Ok(match self.permissions.ok_or_else(unknown)? & 0o170_000 {
            0o100_000 => FileKind::File,
            0o040_000 => FileKind::Directory,
            0o120_000 => FileKind::Link,
            _ => FileKind::Other,
        })
    }

    fn take(fields: &mut Fields<'_>) -> Result<Self, Trouble> {
        let flags = fields.u32()?;
        let mut attributes = Self::default();
        if flags & 0x1 != 0 {
            attributes.size = Some(fields.u64()?);
        }
        if flags & 0x2 != 0 {
            fields.u64()?;
        }
        if flags & 0x4 != 0 {
            attributes.permissions = Some(fields.u32()?);
        }
        if flags & 0x8 != 0 {
            fields.u32()?;
            attributes.modified = Some(fields.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            let pairs = fields.u32()?;
            if pairs > EXTENDED_PAIRS_MAX {
                return Err(Trouble::nonsense("attributes without an end"));
            }
            for _pair in 0..pairs {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(attributes)
    }
}

impl Answer {
    /// The fields of an answer of `kind`; where it is a status instead, that is the trouble.
    fn expect(&self, kind: u8) -> Result<Fields<'_>, Trouble> {
        let mut fields = Fields(&self.fields);
        match self.kind {
            found if found == kind => Ok(fields),
            answer::STATUS => {
                let code = fields.u32()?;
                let words = shown(&String::from_utf8_lossy(fields.string().unwrap_or_default()));
                Err(Trouble::Refused { code, words })
            }
            found => Err(Trouble::nonsense(&format!("an answer of kind {found}, not {kind}"))),
        }
    }

    /// The handle that is given.
    fn handle(&self) -> Result<Vec<u8>, Trouble> {
        let handle = self.expect(answer::HANDLE)?.string()?;
        if handle.len() > HANDLE_BYTES_MAX {
            return Err(Trouble::nonsense("a handle that is too long"));
        }
        Ok(handle.to_vec())
    }

    /// The status, which must be that it is done.
    fn done(&self) -> Result<(), Trouble> {
        match self.expect(0) {
            Err(trouble) if trouble.is(Code::Ok) => Ok(()),
            Err(trouble) => Err(trouble),
            Ok(_) => Err(Trouble::nonsense("an answer without a kind")),
        }
    }

    /// The fields, or `None` at the end of a file or directory.
    fn unless_end(&self, kind: u8) -> Result<Option<Fields<'_>>, Trouble> {
        match self.expect(kind) {
            Err(trouble) if trouble.is(Code::Eof) => Ok(None),
            fields => fields.map(Some),
        }
    }
}

impl Session {
    /// Starts `ssh`, and says hello to the server.
    pub(super) async fn start(ssh: &Ssh) -> Result<Self, Fault> {
        let own = OwnChildren::begin();
        let mut child = ssh
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| ssh::not_started(&error))?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Fault::lasting(ErrorKind::Invalid, "`ssh` has no pipes"));
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::spawn(listen(errors, Arc::clone(&said)));
        let output = BufReader::with_capacity(PACKET_BYTES_MAX, output);
        let extensions = Vec::new();
        let mut session =
            Self { child, input, output, said, listener, extensions, next_id: 0, _own: own };
        match session.hello().await {
            Ok(()) => Ok(session),
            Err(Trouble::Broken(fault)) if fault.is_temporary => {
                let said = session.last_words().await;
                Err(ssh::judge(&said, ssh).unwrap_or(fault))
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    async fn hello(&mut self) -> Result<(), Trouble> {
        let hello = Packet::new(request::INIT).u32(VERSION);
        let mut bytes = Vec::new();
        push(&mut bytes, hello.bytes());
        // What is no server may be gone already, and what it said tells more.
        let sent = self.send(&bytes).await;
        let packet = self.receive().await?;
        sent?;
        let Some((&answer::VERSION, fields)) = packet.split_first() else {
            return Err(Trouble::nonsense("it does not say its version"));
        };
        let mut fields = Fields(fields);
        let version = fields.u32()?;
        if version != VERSION {
            let reason = format!("the server speaks version {version} of SFTP, not {VERSION}");
            return Err(Trouble::Broken(Fault::lasting(ErrorKind::Invalid, reason)));
        }
        while !fields.is_empty() && self.extensions.len() < EXTENSIONS_MAX {
            self.extensions.push(String::from_utf8_lossy(fields.string()?).into_owned());
            fields.string()?;
        }
        Ok(())
    }

    /// Attributes of a path, links followed.
    pub(super) async fn stat(&mut self, path: &str) -> Result<Attributes, Trouble> {
        self.attributes(request::STAT, path.as_bytes()).await
    }

    /// Attributes of what is open.
    pub(super) async fn stat_handle(&mut self, handle: &[u8]) -> Result<Attributes, Trouble> {
        self.attributes(request::FSTAT, handle).await
    }

    /// Attributes of paths, links followed; `None` for what is not there.
    pub(super) async fn stat_all(
        &mut self,
        paths: &[String],
    ) -> Result<Vec<Option<Attributes>>, Trouble> {
        let mut found = Vec::with_capacity(paths.len());
        for paths in paths.chunks(WINDOW) {
            let questions = paths.iter().map(|path| (request::STAT, text(path))).collect();
            for answer in self.ask(questions).await? {
                match answer.expect(answer::ATTRS) {
                    Ok(mut fields) => found.push(Some(Attributes::take(&mut fields)?)),
                    Err(trouble) if trouble.is_no_such_file() => found.push(None),
                    Err(trouble) => return Err(trouble),
                }
            }
        }
        Ok(found)
    }

    /// Opens a file for reading.
    pub(super) async fn open(&mut self, path: &str) -> Result<Vec<u8>, Trouble> {
        let fields = text(path).u32(open_flag::READ).u32(0);
        self.ask_one(request::OPEN, fields).await?.handle()
    }

    /// Makes a file that is not there yet, for writing.
    pub(super) async fn create(&mut self, path: &str, mode: u32) -> Result<Vec<u8>, Trouble> {
        let flags = open_flag::WRITE | open_flag::CREAT | open_flag::EXCL;
        let fields = text(path).u32(flags).u32(0x4).u32(mode);
        self.ask_one(request::OPEN, fields).await?.handle()
    }

    /// Gives a handle back.
    pub(super) async fn close(&mut self, handle: &[u8]) -> Result<(), Trouble> {
        self.ask_one(request::CLOSE, bytes(handle)).await?.done()
    }

    /// Reads the beginning of `range`, as much as goes in one window; `false` at the end of the file.
    pub(super) async fn read(
        &mut self,
        handle: &[u8],
        range: Range<u64>,
        into: &mut BytesMut,
    ) -> Result<bool, Trouble> {
        let step = DATA_BYTES as u64;
        let starts: Vec<u64> = (0..WINDOW as u64)
            .map(|number| range.start.saturating_add(number * step))
            .take_while(|start| *start < range.end)
            .collect();
        let length = |start: u64| u32::try_from((range.end - start).min(step)).unwrap_or(u32::MAX);
        let questions = starts
            .iter()
            .map(|start| (request::READ, bytes(handle).u64(*start).u32(length(*start))))
            .collect();
        let mut is_more = false;
        let answers = self.ask(questions).await?;
        for (start, answer) in starts.into_iter().zip(answers) {
            let Some(mut fields) = answer.unless_end(answer::DATA)? else { break };
            let data = fields.string()?;
            let wanted = length(start) as usize;
            if data.is_empty() || data.len() > wanted {
                return Err(Trouble::nonsense("it sends another number of bytes than was asked"));
            }
            into.extend_from_slice(data);
            is_more = true;
            // What follows a short one is asked again.
            if data.len() < wanted {
                break;
            }
        }
        Ok(is_more)
    }

    /// Writes from the beginning of the file.
    pub(super) async fn write(&mut self, handle: &[u8], content: &[u8]) -> Result<(), Trouble> {
        let mut at = 0_u64;
        for window in content.chunks(DATA_BYTES * WINDOW) {
            let mut questions = Vec::with_capacity(WINDOW);
            for part in window.chunks(DATA_BYTES) {
                questions.push((request::WRITE, bytes(handle).u64(at).string(part)));
                at += part.len() as u64;
            }
            for answer in self.ask(questions).await? {
                answer.done()?;
            }
        }
        Ok(())
    }

    /// Has the server write the file to its disk where it can, proves its length, and closes it.
    pub(super) async fn finish(&mut self, handle: &[u8], length: u64) -> Result<(), Trouble> {
        if self.has(FSYNC) {
            let fields = text(FSYNC).string(handle);
            self.ask_one(request::EXTENDED, fields).await?.done()?;
        }
        let size = self.stat_handle(handle).await?.size;
        self.close(handle).await?;
        match size {
            Some(size) if size == length => Ok(()),
            size => Err(Trouble::Broken(Fault::corrupt(format!(
                "{length} bytes were written, and the server has {}",
                size.map_or("no number for it".to_owned(), |size| size.to_string())
            )))),
        }
    }

    /// Gives a file another name, replacing what has it.
    pub(super) async fn rename(&mut self, from: &str, to: &str) -> Result<(), Trouble> {
        if self.has(POSIX_RENAME) {
            let fields = text(POSIX_RENAME).string(from.as_bytes()).string(to.as_bytes());
            return self.ask_one(request::EXTENDED, fields).await?.done();
        }
        if self.rename_new(from, to).await? {
            return Ok(());
        }
        let reason =
            "the server cannot replace a file by another at once (posix-rename@openssh.com)";
        Err(Trouble::Broken(Fault::lasting(ErrorKind::Invalid, reason)))
    }

    /// Gives a file a name that nothing has, and says whether it did: of several at once, one does.
    pub(super) async fn rename_new(&mut self, from: &str, to: &str) -> Result<bool, Trouble> {
        let fields = text(from).string(to.as_bytes());
        let refused = match self.ask_one(request::RENAME, fields).await?.done() {
            Ok(()) => return Ok(true),
            Err(trouble) if trouble.may_be_taken() => trouble,
            Err(trouble) => return Err(trouble),
        };
        match self.stat(to).await {
            Ok(_) => Ok(false),
            Err(look) if look.is_no_such_file() => Err(refused),
            // Nobody knows whether something is there.
            Err(look) => Err(look),
        }
    }

    /// Removes a file.
    pub(super) async fn remove(&mut self, path: &str) -> Result<(), Trouble> {
        self.ask_one(request::REMOVE, text(path)).await?.done()
    }

    /// Makes directories, in their order. One that exists is refused like one that may not be made: the last
    /// refusal counts where one is missing afterwards.
    pub(super) async fn make_directories(
        &mut self,
        paths: &[String],
        mode: u32,
    ) -> Result<Option<Trouble>, Trouble> {
        let questions =
            paths.iter().map(|path| (request::MKDIR, text(path).u32(0x4).u32(mode))).collect();
        let answers = self.ask(questions).await?;
        Ok(answers.last().and_then(|answer| answer.done().err()))
    }

    /// Has the server write the names in directories to its disk, where it opens directories for that.
    pub(super) async fn sync_directories(&mut self, paths: &[String]) -> Result<(), Trouble> {
        if !self.has(FSYNC) {
            return Ok(());
        }
        let questions = paths
            .iter()
            .map(|path| (request::OPEN, text(path).u32(open_flag::READ).u32(0)))
            .collect();
        let mut handles = Vec::new();
        for answer in self.ask(questions).await? {
            match answer.handle() {
                Ok(handle) => handles.push(handle),
                Err(Trouble::Refused { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let synced = handles.iter().map(|handle| (request::EXTENDED, text(FSYNC).string(handle)));
        let closed = handles.iter().map(|handle| (request::CLOSE, bytes(handle)));
        let questions = synced.chain(closed).collect();
        for answer in self.ask(questions).await? {
            match answer.done() {
                Ok(()) | Err(Trouble::Refused { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// What is in directories: the number of the directory in `paths`, the name, and what it is, of links
    /// themselves. What is no directory, or not there, is empty; names that are no UTF-8, or longer than any of ours, are left out.
    /// `None`: there are more than `names_max`, or so many bytes of them.
    pub(super) async fn list(
        &mut self,
        paths: &[String],
        names_max: usize,
    ) -> Result<Option<Vec<(usize, String, Attributes)>>, Trouble> {
        let questions = paths.iter().map(|path| (request::OPENDIR, text(path))).collect();
        let mut open = Vec::new();
        for (number, answer) in self.ask(questions).await?.iter().enumerate() {
            match answer.handle() {
                Ok(handle) => open.push((number, handle)),
                Err(trouble) if trouble.is_no_such_file() => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let (mut found, mut seen, mut kept_bytes) = (Vec::new(), 0_usize, 0_usize);
        while !open.is_empty() {
            let questions = open.iter().map(|(_, handle)| (request::READDIR, bytes(handle)));
            let answers = self.ask(questions.collect()).await?;
            let (mut ended, mut left) = (Vec::new(), Vec::new());
            for ((number, handle), answer) in open.into_iter().zip(answers) {
                let Some(mut fields) = answer.unless_end(answer::NAME)? else {
                    ended.push((request::CLOSE, bytes(&handle)));
                    continue;
                };
                let count = fields.u32()?;
                if count == 0 {
                    return Err(Trouble::nonsense("names without a name"));
                }
                for _entry in 0..count {
                    let name = fields.string()?;
                    let is_ours = name.len() <= NAME_BYTES_MAX;
                    let name = std::str::from_utf8(name);
                    fields.string()?;
                    let attributes = Attributes::take(&mut fields)?;
                    // A directory may have no end, also of names that nobody is told of.
                    seen += 1;
                    match name {
                        Ok(name) if name.contains('/') => {
                            let reason = "the listing names what is outside of what was asked for";
                            return Err(Trouble::Broken(Fault::corrupt(reason)));
                        }
                        Ok(name) if is_ours && name != "." && name != ".." => {
                            kept_bytes += name.len();
                            found.push((number, name.to_owned(), attributes));
                        }
                        _ => {}
                    }
                }
                left.push((number, handle));
                if seen > names_max || kept_bytes > NAMES_BYTES_MAX {
                    return Ok(None);
                }
            }
            for answer in self.ask(ended).await? {
                answer.done()?;
            }
            open = left;
        }
        Ok(Some(found))
    }

    /// How much room there is, where the server says it.
    pub(super) async fn space(&mut self, path: &str) -> Result<Option<Space>, Trouble> {
        if !self.has(STATVFS) {
            return Ok(None);
        }
        let fields = text(STATVFS).string(path.as_bytes());
        let answer = self.ask_one(request::EXTENDED, fields).await?;
        let mut fields = answer.expect(answer::EXTENDED_REPLY)?;
        // The fields of statvfs(3), in its order.
        let mut numbers = [0_u64; 11];
        for number in &mut numbers {
            *number = fields.u64()?;
        }
        let [_, fragment, _, _, free, files, _, files_free, _, flags, _] = numbers;
        Ok(Some(Space {
            free: free.saturating_mul(fragment),
            files_free: (files > 0).then_some(files_free),
            is_read_only: flags & STATVFS_READ_ONLY != 0,
        }))
    }

    fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|offered| offered == extension)
    }

    async fn attributes(&mut self, kind: u8, of: &[u8]) -> Result<Attributes, Trouble> {
        let answer = self.ask_one(kind, bytes(of)).await?;
        Attributes::take(&mut answer.expect(answer::ATTRS)?)
    }

    async fn ask_one(&mut self, kind: u8, fields: Packet) -> Result<Answer, Trouble> {
        let mut answers = self.ask(vec![(kind, fields)]).await?;
        answers.pop().ok_or_else(|| Trouble::nonsense("no answer"))
    }

    /// Asks everything, then reads the answers, in the order of the questions. What waits for us meanwhile is
    /// less than a pipe holds: answers to WRITEs are small, and so are questions with large answers.
    async fn ask(&mut self, questions: Vec<Question>) -> Result<Vec<Answer>, Trouble> {
        let first = self.next_id;
        let mut packets = Vec::new();
        for (kind, fields) in &questions {
            let packet = Packet::to(*kind, self.next_id).raw(fields.bytes());
            push(&mut packets, packet.bytes());
            self.next_id = self.next_id.wrapping_add(1);
        }
        self.send(&packets).await?;
        let mut answers: Vec<Option<Answer>> = questions.iter().map(|_| None).collect();
        for _answer in 0..questions.len() {
            let packet = self.receive().await?;
            let Some((&kind, rest)) = packet.split_first() else {
                return Err(Trouble::nonsense("an empty packet"));
            };
            let mut fields = Fields(rest);
            let number = fields.u32()?.wrapping_sub(first);
            let place = usize::try_from(number).ok().and_then(|number| answers.get_mut(number));
            match place {
                Some(place @ None) => *place = Some(Answer { kind, fields: fields.0.to_vec() }),
                _ => return Err(Trouble::nonsense("an answer that nobody has asked for")),
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn send(&mut self, packets: &[u8]) -> Result<(), Trouble> {
        let sent = async {
            self.input.write_all(packets).await?;
            self.input.flush().await
        };
        sent.await.map_err(|error| broken(&error))
    }

    /// One packet without its length.
    async fn receive(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut length = [0; LENGTH_BYTES];
        self.output.read_exact(&mut length).await.map_err(|error| broken(&error))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > PACKET_BYTES_MAX {
            return Err(Trouble::nonsense(
                "what comes is no packet; does the shell there print something?",
            ));
        }
        let mut packet = vec![0; length];
        self.output.read_exact(&mut packet).await.map_err(|error| broken(&error))?;
        Ok(packet)
    }

    /// What `ssh` said, once it has ended.
    async fn last_words(&mut self) -> String {
        let ended = async {
            // Either way there is nothing more to be heard.
            drop(self.child.wait().await);
            drop((&mut self.listener).await);
        };
        if tokio::time::timeout(LAST_WORDS_TIME_MAX, ended).await.is_err() {
            tracing::debug!("ssh has closed its pipes and goes on");
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// Keeps the beginning of what comes, and reads all of it.
async fn listen(mut errors: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = errors.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SAID_BYTES_MAX.saturating_sub(said.len());
        said.extend(buffer.iter().take(length.min(room)));
    }
}

fn broken(error: &io::Error) -> Trouble {
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "the connection ended".to_owned()
        }
        _ => format!("the connection ended: {error}"),
    };
    Trouble::Broken(Fault::temporary(reason))
}

fn push(packets: &mut Vec<u8>, packet: &[u8]) {
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    packets.extend_from_slice(&length.to_be_bytes());
    packets.extend_from_slice(packet);
}

fn text(text: &str) -> Packet {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> Packet {
    Packet::fields().string(bytes)
}
