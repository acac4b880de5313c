//! Objects as files of an SFTP server, reached by OpenSSH's `ssh`: mode 0600, in directories of mode 0700,
//! under a temporary name until they are whole and on the server's disk.
//!
//! The transport, and with it host keys, keys, agents, jump hosts and `~/.ssh/config`, is `ssh`'s own; what is
//! said over it is version 3 of the protocol with OpenSSH's extensions `posix-rename`, `fsync` and `statvfs`
//! where the server has them (docs/adr/0033). One act has one connection for itself, so that an act that is
//! given up cannot leave answers to the next one.

mod session;
mod ssh;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use super::body::Body;
use super::error::{Act, ErrorKind, ObjectError, too_long, too_many, too_short};
use super::fault::{Fault, Tries};
use super::key::{Wanted, is_valid_key, join};
use super::location::Location;
use super::remote::{Remote, RemoteSettings};
use super::temporary::{is_temporary, stale};
use super::{LIST_OBJECTS_MAX, ObjectMeta};
use crate::durable;
use session::{Attributes, FileKind, Session, Trouble};
use ssh::Ssh;

#[cfg(test)]
mod tests;

/// Connections at once: below the ten that sshd lets log in at the same time (`MaxStartups`).
const CONNECTIONS_MAX: usize = 4;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Directories that are listed together: the server has an open handle for each.
const DIRECTORIES_AT_ONCE: usize = 32;
/// A listing is given the time of so many bytes: five minutes.
const LISTING_BYTES: u64 = 16 * 1024 * 1024;
/// Most memory that is reserved before the bytes are there.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Sftp {
    remote: Remote,
    tries: Tries,
    /// The directory as the server takes it.
    root: String,
    ssh: Ssh,
    /// Connections that nobody uses.
    idle: Mutex<Vec<Session>>,
}

/// A connection for one act. Only one that is given back is used again.
struct Lease<'a> {
    session: Session,
    sftp: &'a Sftp,
}

/// What is found below the directory.
struct Found {
    key: String,
    attributes: Attributes,
}

impl Sftp {
    pub(super) fn new(remote: Remote, settings: &RemoteSettings) -> Result<Self, ObjectError> {
        let name = remote.to_string();
        let invalid = |reason: String| {
            ObjectError::new(ErrorKind::Invalid, Act::Open, "", name.clone(), reason)
        };
        let Remote::Sftp { path, .. } = &remote else {
            return Err(invalid("it is no SFTP server".to_owned()));
        };
        let ssh = Ssh::new(&remote, settings).map_err(invalid)?;
        // What does not begin with `/` is below the user's home (draft 02, 6.2).
        let root = path.strip_prefix("/~/").unwrap_or(path).to_owned();
        Ok(Self {
            root,
            tries: Tries::at(name, CONNECTIONS_MAX),
            remote,
            ssh,
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn location(&self) -> Location {
        Location::Remote(self.remote.clone())
    }

    pub(super) async fn create_root(&self) -> Result<(), ObjectError> {
        self.tries
            .attempts(Act::CreateRoot, "", 0, async || {
                let mut session = self.session().await?;
                if let Some(fault) = self.root_fault(&mut session).await? {
                    if fault.kind != ErrorKind::NoBucket {
                        return Err(fault);
                    }
                    let mut directories = ancestors(&self.root);
                    directories.push(self.root.clone());
                    let refused = session.make_directories(&directories, DIRECTORY_MODE).await?;
                    if let Some(fault) = self.root_fault(&mut session).await? {
                        return Err(match refused {
                            Some(trouble) => self.explain_write(&mut session, trouble, &[]).await,
                            None => fault,
                        });
                    }
                    session.sync_directories(&ancestors(&self.root)).await?;
                }
                session.give_back();
                Ok(())
            })
            .await
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        self.put_as(key, bytes, false).await.map(drop)
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.put_as(key, bytes, true).await
    }

    /// Says whether it was stored. What `is_new` is not where something is under the key.
    async fn put_as(&self, key: &str, bytes: Bytes, is_new: bool) -> Result<bool, ObjectError> {
        let path = self.path(Act::Write, key)?;
        self.tries
            .attempts(Act::Write, key, bytes.len() as u64, async || {
                let mut session = self.session().await?;
                let is_stored = self.write(&mut session, key, &path, &bytes, is_new).await?;
                session.give_back();
                Ok(is_stored)
            })
            .await
    }

    /// Nothing that is stored there comes as a stream.
    pub(super) async fn put_stream(&self, key: &str, _: Body) -> Result<u64, ObjectError> {
        let reason = "only whole objects are stored there";
        Err(self.tries.error(ErrorKind::Invalid, Act::Write, key, reason))
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let path = self.path(Act::Read, key)?;
        self.tries
            .attempts(Act::Read, key, bytes_max.min(RESERVE_BYTES_MAX), async || {
                let mut session = self.session().await?;
                let (handle, length) = self.open(&mut session, &path).await?;
                if length > bytes_max {
                    return Err(Fault::corrupt(too_long(length, bytes_max)));
                }
                let bytes = read(&mut session, &handle, 0..length).await?;
                session.close(&handle).await?;
                session.give_back();
                Ok(bytes)
            })
            .await
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        let path = self.path(Act::Read, key)?;
        let wanted = range.end.saturating_sub(range.start);
        self.tries
            .attempts(Act::Read, key, wanted, async || {
                let mut session = self.session().await?;
                let (handle, length) = self.open(&mut session, &path).await?;
                if length < range.end {
                    return Err(Fault::corrupt(too_short(length, &range)));
                }
                let bytes = read(&mut session, &handle, range.clone()).await?;
                session.close(&handle).await?;
                session.give_back();
                Ok(bytes)
            })
            .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let Some(wanted) = Wanted::below(prefix) else { return Ok(Vec::new()) };
        self.tries
            .attempts(Act::List, prefix, LISTING_BYTES, async || {
                let found = self.walk(wanted.folder, &|key: &str| wanted.leads(key)).await?;
                found.into_iter().filter(|found| wanted.has(&found.key)).map(meta).collect()
            })
            .await
    }

    pub(super) async fn temporaries(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        let mut found = self.all().await?;
        found.retain(|file| is_temporary(&file.key));
        Ok(found)
    }

    /// Objects and temporary files.
    async fn all(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.tries
            .attempts(Act::List, "", LISTING_BYTES, async || {
                let found =
                    self.walk("", &|key: &str| is_valid_key(key) || is_temporary(key)).await?;
                found.into_iter().map(meta).collect()
            })
            .await
    }

    /// By the server's clock alone, which is not before the newest file there.
    pub(super) async fn remove_temporaries(&self, age: Duration) -> Result<u64, ObjectError> {
        let mut removed = 0;
        for file in stale(self.all().await?, age) {
            let path = format!("{}/{}", self.root, file.key);
            self.tries
                .attempts(Act::Delete, &file.key, 0, async || {
                    let mut session = self.session().await?;
                    remove(&mut session, &path).await?;
                    session.give_back();
                    Ok(())
                })
                .await?;
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(Act::Find, key)?;
        self.tries
            .attempts(Act::Find, key, 0, async || {
                let mut session = self.session().await?;
                let found = match session.stat(&path).await {
                    Ok(attributes) => attributes,
                    Err(trouble) => return Err(self.explain(&mut session, trouble).await),
                };
                session.give_back();
                match found.kind()? {
                    FileKind::File => meta(Found { key: key.to_owned(), attributes: found }),
                    _ => Err(Fault::corrupt("it is no file")),
                }
            })
            .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(Act::Delete, key)?;
        self.tries
            .attempts(Act::Delete, key, 0, async || {
                let mut session = self.session().await?;
                if !remove(&mut session, &path).await?
                    && let Some(fault) = self.root_fault(&mut session).await?
                {
                    return Err(fault);
                }
                session.give_back();
                Ok(())
            })
            .await
    }

    /// Writes beside, makes it durable, and renames. Says whether it did the last: what `is_new` replaces nothing.
    async fn write(
        &self,
        session: &mut Session,
        key: &str,
        path: &str,
        bytes: &[u8],
        is_new: bool,
    ) -> Result<bool, Fault> {
        let unnamed = |error: std::io::Error| Fault::lasting(ErrorKind::Invalid, error.to_string());
        let temporary = durable::temporary_path(Path::new(path)).map_err(unnamed)?;
        let temporary = temporary.to_string_lossy();
        let handle = match session.create(&temporary, FILE_MODE).await {
            Ok(handle) => handle,
            Err(trouble) if trouble.is_no_such_file() => {
                // The directory itself is not made: an unmounted disk is noticed instead of being written over.
                if let Some(fault) = self.root_fault(session).await? {
                    return Err(fault);
                }
                let parents: Vec<_> = ancestors(key).iter().map(|key| self.below(key)).collect();
                let refused = session.make_directories(&parents, DIRECTORY_MODE).await?;
                match session.create(&temporary, FILE_MODE).await {
                    Ok(handle) => {
                        // The last of the parents follows when the name is in it.
                        let mut holders = parents;
                        holders.pop();
                        holders.push(self.root.clone());
                        session.sync_directories(&holders).await?;
                        handle
                    }
                    Err(trouble) => {
                        let trouble = refused.unwrap_or(trouble);
                        return Err(self.explain_write(session, trouble, bytes).await);
                    }
                }
            }
            Err(trouble) => return Err(self.explain_write(session, trouble, bytes).await),
        };
        let written = match session.write(&handle, bytes).await {
            Ok(()) => session.finish(&handle, bytes.len() as u64).await,
            Err(trouble) => Err(trouble),
        };
        let moved = match written {
            Ok(()) if is_new => session.rename_new(&temporary, path).await,
            Ok(()) => session.rename(&temporary, path).await.map(|()| true),
            Err(trouble) => Err(trouble),
        };
        let left = match moved {
            Ok(true) => {
                let holder = ancestors(path).pop().into_iter().collect::<Vec<_>>();
                session.sync_directories(&holder).await?;
                return Ok(true);
            }
            Ok(false) => Ok(false),
            Err(trouble) => {
                let fault = self.explain_write(session, trouble, bytes).await;
                Err(if is_new { fault.of_condition() } else { fault })
            }
        };
        if !left.as_ref().is_err_and(|fault| fault.is_temporary)
            && let Err(error) = remove(session, &temporary).await
        {
            tracing::debug!(reason = error.reason, "a temporary file is left behind");
        }
        left
    }

    /// Opens an object and says its length.
    async fn open(&self, session: &mut Session, path: &str) -> Result<(Vec<u8>, u64), Fault> {
        let opened = async {
            let handle = session.open(path).await?;
            let attributes = session.stat_handle(&handle).await?;
            Ok::<_, Trouble>((handle, attributes))
        };
        let (handle, attributes) = match opened.await {
            Ok(opened) => opened,
            Err(trouble) => return Err(self.explain(session, trouble).await),
        };
        match (attributes.kind()?, attributes.size) {
            (FileKind::File, Some(size)) => Ok((handle, size)),
            (FileKind::File, None) => Err(Fault::corrupt("the server does not say its length")),
            _ => Err(Fault::corrupt("it is no file")),
        }
    }

    /// Everything below `folder` that is a file and whose key, like those of the directories above, is
    /// `wanted`. Links are followed: an operator may keep a folder on another disk.
    async fn walk(
        &self,
        folder: &str,
        wanted: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<Vec<Found>, Fault> {
        let mut session = self.session().await?;
        if let Some(fault) = self.root_fault(&mut session).await? {
            return Err(fault);
        }
        let (mut found, mut seen) = (Vec::new(), 0);
        let mut pending = vec![folder.to_owned()];
        while !pending.is_empty() {
            let batch = pending.split_off(pending.len().saturating_sub(DIRECTORIES_AT_ONCE));
            let paths = batch.iter().map(|folder| self.below(folder)).collect::<Vec<_>>();
            let Some(listed) = session.list(&paths, LIST_OBJECTS_MAX.saturating_sub(seen)).await?
            else {
                return Err(Fault::corrupt(too_many("names")));
            };
            seen += listed.len();
            let mut links = BTreeMap::new();
            for (number, name, attributes) in listed {
                let Some(folder) = batch.get(number) else { continue };
                let key = join(folder, &name);
                if !wanted(&key) {
                    continue;
                }
                match attributes.kind()? {
                    FileKind::File => found.push(Found { key, attributes }),
                    FileKind::Directory => pending.push(key),
                    FileKind::Link => drop(links.insert(self.below(&key), key)),
                    FileKind::Other => {}
                }
            }
            let paths: Vec<_> = links.keys().cloned().collect();
            for (key, attributes) in links.into_values().zip(session.stat_all(&paths).await?) {
                // One that leads nowhere is no object.
                let Some(attributes) = attributes else { continue };
                match attributes.kind()? {
                    FileKind::File => found.push(Found { key, attributes }),
                    FileKind::Directory => pending.push(key),
                    FileKind::Link | FileKind::Other => {}
                }
            }
        }
        session.give_back();
        Ok(found)
    }

    /// What is wrong with the directory itself.
    async fn root_fault(&self, session: &mut Session) -> Result<Option<Fault>, Fault> {
        match session.stat(&self.root).await {
            Ok(attributes) if attributes.kind()? == FileKind::Directory => Ok(None),
            Ok(_) => Ok(Some(Fault::lasting(ErrorKind::NoBucket, "it is no directory"))),
            Err(trouble) if trouble.is_no_such_file() => {
                Ok(Some(Fault::lasting(ErrorKind::NoBucket, "the directory does not exist")))
            }
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Something that does not exist because the directory does not is a missing store, not a missing
    /// object.
    async fn explain(&self, session: &mut Session, trouble: Trouble) -> Fault {
        if !trouble.is_no_such_file() {
            return trouble.into();
        }
        match self.root_fault(session).await {
            Ok(None) => trouble.into(),
            // Where that cannot be known, nothing is known to be missing.
            Ok(Some(fault)) | Err(fault) => fault,
        }
    }

    /// The protocol has one number for all that the server's disk may have against a write.
    async fn explain_write(&self, session: &mut Session, trouble: Trouble, bytes: &[u8]) -> Fault {
        if trouble.is_no_such_file() {
            return Fault::temporary("what was being written is gone");
        }
        if !trouble.is_failure() {
            return trouble.into();
        }
        match session.space(&self.root).await {
            Ok(Some(space)) if space.is_read_only => {
                Fault::lasting(ErrorKind::ReadOnly, "the directory is mounted read-only")
            }
            Ok(Some(space)) if space.free < bytes.len() as u64 || space.files_free == Some(0) => {
                Fault::lasting(ErrorKind::Full, "the disk is full")
            }
            _ => trouble.into(),
        }
    }

    fn below(&self, key: &str) -> String {
        if key.is_empty() { self.root.clone() } else { format!("{}/{key}", self.root) }
    }

    fn path(&self, act: Act, key: &str) -> Result<String, ObjectError> {
        self.tries.full_key(act, &format!("{}/", self.root), key)
    }

    /// A connection, an idle one if there is one. Who asks has a turn.
    async fn session(&self) -> Result<Lease<'_>, Fault> {
        let session = match self.take_idle() {
            Some(session) => session,
            None => Session::start(&self.ssh).await?,
        };
        Ok(Lease { session, sftp: self })
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // What ended one connection has most likely ended all of them.
        if self.tries.take_trouble() {
            idle.clear();
        }
        idle.pop()
    }
}

impl Lease<'_> {
    /// Every question was answered, and no handle is open.
    fn give_back(self) {
        self.sftp.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.session);
    }
}

impl Deref for Lease<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Whether it was there.
async fn remove(session: &mut Session, path: &str) -> Result<bool, Fault> {
    match session.remove(path).await {
        Ok(()) => Ok(true),
        Err(trouble) if trouble.is_no_such_file() => Ok(false),
        Err(trouble) => Err(trouble.into()),
    }
}

/// Exactly the bytes of `range`, which are there unless the file shrinks.
async fn read(session: &mut Session, handle: &[u8], range: Range<u64>) -> Result<Bytes, Fault> {
    let wanted = range.end.saturating_sub(range.start);
    let reserve = usize::try_from(wanted.min(RESERVE_BYTES_MAX)).unwrap_or(0);
    let mut bytes = BytesMut::with_capacity(reserve);
    while (bytes.len() as u64) < wanted {
        let from = range.start + bytes.len() as u64;
        if !session.read(handle, from..range.end, &mut bytes).await? {
            return Err(Fault::corrupt(too_short(from, &range)));
        }
    }
    Ok(bytes.freeze())
}

/// The folders a path is in, the outermost first: `a`, `a/b` for `a/b/c`, and `/a` for `/a/b`.
fn ancestors(path: &str) -> Vec<String> {
    let borders = path.match_indices('/').filter(|(at, _)| *at > 0);
    borders.filter_map(|(at, _)| path.get(..at).map(str::to_owned)).collect()
}

fn meta(found: Found) -> Result<ObjectMeta, Fault> {
    let Found { key, attributes } = found;
    let (Some(size), Some(modified)) = (attributes.size, attributes.modified) else {
        let reason = format!("the server does not say the size and time of {key}");
        return Err(Fault::lasting(ErrorKind::Unavailable, reason));
    };
    let modified = UNIX_EPOCH + Duration::from_secs(modified.into());
    Ok(ObjectMeta { key, size, modified })
}
