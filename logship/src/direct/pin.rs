//! Hard links to the engine's log files: the engine deletes a file by one name, and what was not read yet stays under
//! another, also while no shipper runs. They cost the disk until what is in them is in the log.
//!
//! A link needs one mount that is writable and has both directories: `link(2)` gives EXDEV between two mounts, even
//! of one file system, and EROFS in a read-only one.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, linkat};
use rustix::io::Errno;

use crate::cursor::{Cursor, FileIdentity};
use crate::intake::Sources;
use crate::proof::FileFacts;
use crate::source::Origin;

use super::content::Content;
use super::entry::{Decoder, Format, Step};
use super::found::{Found, is_id};

/// Bytes at the beginning of a file in which its first message is.
const FIRST_BYTES: usize = 128 << 10;

/// A file that could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the log file {} in {}{hint}", path.display(), directory.display())]
pub struct PinError {
    path: PathBuf,
    directory: PathBuf,
    hint: &'static str,
    source: io::Error,
}

/// The directory of the links.
#[derive(Debug)]
pub struct Pins {
    directory: PathBuf,
    sources: Arc<Sources>,
    /// Links that were over when they were last looked at.
    over: HashSet<PathBuf>,
}

impl Pins {
    /// In `directory`, which is made if it is not there. `sources` tell what was written down.
    pub fn new(directory: PathBuf, sources: Arc<Sources>) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, sources, over: HashSet::new() })
    }

    fn path(&self, id: &str, file: &FileIdentity) -> PathBuf {
        self.directory.join(format!("{id}.{}.{}", file.inode, file.born.unwrap_or_default()))
    }

    /// Links an open file, whatever its name is by now.
    pub fn add(&self, id: &str, found: &Found) -> Result<(), PinError> {
        let open = format!("/proc/self/fd/{}", found.file.as_raw_fd());
        let link = self.path(id, &found.identity);
        let linked = linkat(CWD, open, CWD, link, AtFlags::SYMLINK_FOLLOW);
        let Err(errno) = linked else { return Ok(()) };
        let hint = match errno {
            // The engine was faster: what has no name any more cannot get one.
            Errno::EXIST | Errno::NOENT => return Ok(()),
            Errno::XDEV => ": it must be in the same mount as the engine's files",
            Errno::ROFS => ": the mount is read-only; pins need one that is writable",
            Errno::PERM | Errno::ACCESS => {
                ": links to files of others need root, or CAP_FOWNER (fs.protected_hardlinks)"
            }
            _ => "",
        };
        let (path, directory) = (found.path.clone(), self.directory.clone());
        Err(PinError { path, directory, hint, source: errno.into() })
    }

    /// Adds the files that only links keep to `files`, newest first. Their compressed forms are left out.
    pub fn merge(&self, id: &str, format: Format, files: &mut Vec<Found>) -> io::Result<()> {
        let kept = self.of(id)?.into_iter().map(|(_, found)| found);
        let is_there = |kept: &Found| files.iter().any(|file| file.identity == kept.identity);
        let kept: Vec<Found> = kept.filter(|kept| !is_there(kept)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let heads: Vec<Vec<u8>> =
            kept.iter().filter_map(|kept| Content::new(kept).head().ok()).collect();
        let is_copy = |file: &Found| {
            file.is_compressed && Content::new(file).head().is_ok_and(|head| heads.contains(&head))
        };
        files.retain(|file| !is_copy(file));
        files.extend(kept);
        // A file without a message is the newest.
        files.sort_by_cached_key(|file| std::cmp::Reverse(first_time(file, format)));
        Ok(())
    }

    fn of(&self, id: &str) -> io::Result<Vec<(PathBuf, Found)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if container_of(&entry.path()).is_none_or(|of| of != id) {
                continue;
            }
            let path = entry.path();
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let facts = FileFacts::of(&file)?;
            let file = Arc::new(file);
            let is_compressed = is_gzip(&file)?;
            let identity = facts.identity;
            found.push((path.clone(), Found { path, identity, file, is_compressed }));
        }
        Ok(found)
    }

    /// Removes links whose files are read and written down. Called from time to time: a link goes when it was
    /// found to be over twice, so that what stands for it is durable by then.
    pub fn release(&mut self, formats: &HashMap<String, Format>) {
        let mut cursors: HashMap<String, Option<FileIdentity>> = HashMap::new();
        for (_, meta, cursor) in self.sources.all() {
            if let Origin::Engine { id, .. } = &meta.origin {
                let at = match cursor {
                    Some(Cursor::Direct(cursor)) => Some(cursor.at.file),
                    _ => None,
                };
                cursors.insert(id.clone(), at);
            }
        }
        let ids: HashSet<String> = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| container_of(&entry.ok()?.path()))
            .collect();
        let mut over = HashSet::new();
        for id in ids {
            let Ok(mut kept) = self.of(&id) else { continue };
            match (cursors.get(&id), formats.get(&id)) {
                // The source is over: everything was read.
                (None, None) => over.extend(kept.into_iter().map(|(path, _)| path)),
                (Some(Some(at)), Some(format)) => {
                    kept.sort_by_cached_key(|(_, found)| first_time(found, *format));
                    if let Some(index) = kept.iter().position(|(_, found)| found.identity == *at) {
                        over.extend(kept.into_iter().take(index).map(|(path, _)| path));
                    }
                }
                _ => {}
            }
        }
        for path in over.intersection(&self.over) {
            if let Err(error) = fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "cannot remove a link");
            }
        }
        self.over = over;
    }
}

/// The container whose file a link keeps.
fn container_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (id, _) = name.split_once('.')?;
    is_id(id).then(|| id.to_owned())
}

fn is_gzip(file: &File) -> io::Result<bool> {
    let mut magic = [0; 2];
    Ok(file.read_at(&mut magic, 0)? == 2 && magic == [0x1f, 0x8b])
}

/// The time of the first message.
fn first_time(found: &Found, format: Format) -> i64 {
    let mut bytes = vec![0; FIRST_BYTES];
    let length = Content::new(found).read_at(&mut bytes, 0).unwrap_or_default();
    let mut rest = bytes.get(..length).unwrap_or_default();
    let mut decoder = Decoder::new(format);
    loop {
        match decoder.step(rest, true) {
            Step::Entry(entry, _) => return entry.ts,
            Step::Corrupt(used) => rest = rest.get(used..).unwrap_or_default(),
            Step::More => return i64::MAX,
        }
    }
}
