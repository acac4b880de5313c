//! Objects in WebDAV collections and in clouds; the only user of opendal.
//!
//! Its layers are off: attempts are counted here, and answers are judged in [`transport`]. WebDAV has no
//! promise that a PUT is whole or nothing, so objects come under a temporary name and are moved (MOVE is a
//! rename on the servers that were tried); Azure has that promise, and no rename. Nothing is believed of a listing
//! that a prune would have to believe: a name outside of what was asked, or an object without a time, is an
//! error.

#[cfg(feature = "stores-cloud")]
mod azure;
mod transport;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use opendal::options::{ListOptions, WriteOptions};
use opendal::services::Webdav;
use opendal::{EntryMode, Metadata, Operator};
use tokio::task::JoinSet;

use super::body::Body;
use super::error::{Act, ErrorKind, ObjectError, too_long, too_many, too_short};
use super::fault::{self, Fault, Tries};
use super::key::{Wanted, is_valid_key};
use super::location::Location;
use super::part::bytes_of_part;
use super::remote::{Remote, RemoteSettings};
use super::temporary::{is_temporary, stale};
use super::{LIST_OBJECTS_MAX, ObjectMeta};
use crate::durable;
use transport::{Judge, Moves};

#[cfg(test)]
mod tests;

/// How long the removal of what a failed write left may take.
const CLEANUP_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests at once.
const REQUESTS_MAX: usize = 16;
/// Folders that are listed at once.
const FOLDERS_AT_ONCE: usize = 8;
/// A listing is given the time of so many bytes: five minutes.
const LISTING_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of which the time of a read is counted.
const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Service {
    remote: Arc<Remote>,
    tries: Tries,
    /// What the keys are below, with `/` at its end unless it is empty.
    prefix: String,
    operator: Operator,
    /// The same, which gives nothing a name that is taken.
    keeping: Operator,
}

/// What one folder holds.
#[derive(Debug, Default)]
struct Folder {
    files: Vec<(String, Metadata)>,
    folders: Vec<String>,
}

impl Service {
    pub(super) fn new(remote: Remote, settings: &RemoteSettings) -> Result<Self, ObjectError> {
        let name = remote.to_string();
        let (operator, keeping) = operators(&remote, settings).map_err(|reason| {
            ObjectError::new(ErrorKind::Invalid, Act::Open, "", name.clone(), reason)
        })?;
        let path = match &remote {
            Remote::WebDav { path, .. } | Remote::Sftp { path, .. } => path,
            Remote::Azure { prefix, .. } => prefix,
        };
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Self {
            remote: Arc::new(remote),
            tries: Tries::at(name, REQUESTS_MAX),
            prefix,
            operator,
            keeping,
        })
    }

    pub(super) fn location(&self) -> Location {
        Location::Remote(Remote::clone(&self.remote))
    }

    /// Whether there are folders, which have to be made, listed one by one, and may be missing.
    fn has_folders(&self) -> bool {
        self.remote.has_directories()
    }

    pub(super) async fn create_root(&self) -> Result<(), ObjectError> {
        self.tries
            .attempts(Act::CreateRoot, "", 0, async || {
                if self.has_folders() && !self.prefix.is_empty() {
                    return match self.root_fault().await? {
                        Some(fault) if fault.kind == ErrorKind::NoBucket => {
                            self.operator.create_dir(&self.prefix).await.map_err(Fault::from)
                        }
                        Some(fault) => Err(fault),
                        None => Ok(()),
                    };
                }
                let options = ListOptions { limit: Some(1), ..ListOptions::default() };
                let mut lister = self
                    .operator
                    .lister_options(&self.prefix, options)
                    .await
                    .map_err(Fault::from)?;
                let first = lister.try_next().await;
                first.map(drop).map_err(|error| no_bucket(Fault::from(error)))
            })
            .await
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        let path = self.tries.full_key(Act::Write, &self.prefix, key)?;
        self.tries
            .attempts(Act::Write, key, bytes.len() as u64, async || {
                self.write(&path, &bytes, false).await
            })
            .await
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        let path = self.tries.full_key(Act::Write, &self.prefix, key)?;
        self.tries
            .attempts(Act::Write, key, bytes.len() as u64, async || {
                let Err(fault) = self.write(&path, &bytes, true).await else { return Ok(true) };
                // Servers have several numbers for it.
                match self.stat(&path).await {
                    Ok(_) => Ok(false),
                    Err(look) if look.kind == ErrorKind::NotFound => Err(fault.of_condition()),
                    // Nobody knows whether something is there, and nobody may take it for nothing.
                    Err(look) => Err(look),
                }
            })
            .await
    }

    /// What `is_new` replaces nothing.
    async fn write(&self, path: &str, bytes: &Bytes, is_new: bool) -> Result<(), Fault> {
        if !self.has_folders() {
            let options = WriteOptions { if_not_exists: is_new, ..WriteOptions::default() };
            let written = self.operator.write_options(path, bytes.clone(), options).await;
            return written.map(drop).map_err(|error| no_bucket(Fault::from(error)));
        }
        // Folders are made on the way, and this one is not to be: an unmounted disk is noticed.
        if let Some(fault) = self.root_fault().await? {
            return Err(fault);
        }
        let unnamed = |error: std::io::Error| Fault::lasting(ErrorKind::Invalid, error.to_string());
        let temporary = durable::temporary_path(Path::new(path)).map_err(unnamed)?;
        let temporary = temporary.to_string_lossy();
        let mover = if is_new { &self.keeping } else { &self.operator };
        let moved = self.write_and_move(&temporary, path, bytes, mover).await;
        if moved.is_err() {
            let removed = self.operator.delete(&temporary);
            let removed = tokio::time::timeout(CLEANUP_TIME_MAX, removed).await;
            if !matches!(removed, Ok(Ok(()))) {
                tracing::debug!("a temporary file is left behind");
            }
        }
        // Nothing is missing from a write but what it wrote itself.
        moved.map_err(|fault| match fault.kind {
            ErrorKind::NotFound => Fault::temporary("what was being written is gone"),
            _ => fault,
        })
    }

    async fn write_and_move(
        &self,
        from: &str,
        to: &str,
        bytes: &Bytes,
        mover: &Operator,
    ) -> Result<(), Fault> {
        self.operator.write(from, bytes.clone()).await.map_err(Fault::from)?;
        let found = self.operator.stat(from).await.map_err(Fault::from)?.content_length();
        if found != bytes.len() as u64 {
            let length = bytes.len();
            return Err(Fault::temporary(format!(
                "{length} bytes were written, and the server has {found}"
            )));
        }
        mover.rename(from, to).await.map_err(Fault::from)
    }

    /// What is sent is sent in one request, whose length is known.
    pub(super) async fn put_stream(&self, key: &str, _: Body) -> Result<u64, ObjectError> {
        let reason = "only whole objects are stored there";
        Err(self.tries.error(ErrorKind::Invalid, Act::Write, key, reason))
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        let path = self.tries.full_key(Act::Read, &self.prefix, key)?;
        self.tries
            .attempts(Act::Read, key, bytes_max.min(READ_BYTES_MAX), async || {
                let length = self.stat(&path).await?.content_length();
                if length > bytes_max {
                    return Err(Fault::corrupt(too_long(length, bytes_max)));
                }
                let bytes = self.read(&path, 0..length).await?;
                // What took its place meanwhile may be longer, and this its beginning.
                match self.stat(&path).await?.content_length() {
                    after if after == length => Ok(bytes),
                    _ => Err(Fault::temporary("it was replaced while it was read")),
                }
            })
            .await
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        let path = self.tries.full_key(Act::Read, &self.prefix, key)?;
        self.tries
            .attempts(Act::Read, key, bytes_of_part(&range), async || {
                match self.read(&path, range.clone()).await {
                    Err(fault) if fault.kind == ErrorKind::NotFound => {
                        Err(self.explain(fault).await)
                    }
                    read => read,
                }
            })
            .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let Some(wanted) = Wanted::below(prefix) else { return Ok(Vec::new()) };
        self.tries
            .attempts(Act::List, prefix, LISTING_BYTES, async || {
                let found = self.walk(wanted.folder, &|key: &str| wanted.leads(key)).await?;
                let found = found.into_iter().filter(|(key, _)| wanted.has(key));
                found.map(|(key, metadata)| meta(key, &metadata)).collect()
            })
            .await
    }

    pub(super) async fn temporaries(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        let mut found = self.all().await?;
        found.retain(|file| is_temporary(&file.key));
        Ok(found)
    }

    /// Objects and temporary files; of a store that has none of the latter, nothing.
    async fn all(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        if !self.has_folders() {
            return Ok(Vec::new());
        }
        self.tries
            .attempts(Act::List, "", LISTING_BYTES, async || {
                let found =
                    self.walk("", &|key: &str| is_valid_key(key) || is_temporary(key)).await?;
                found.into_iter().map(|(key, metadata)| meta(key, &metadata)).collect()
            })
            .await
    }

    /// By the server's clock alone, which is not before the newest file there.
    pub(super) async fn remove_temporaries(&self, age: Duration) -> Result<u64, ObjectError> {
        let mut removed = 0;
        for file in stale(self.all().await?, age) {
            let path = format!("{}{}", self.prefix, file.key);
            self.tries
                .attempts(Act::Delete, &file.key, 0, async || {
                    self.operator.delete(&path).await.map_err(Fault::from)
                })
                .await?;
            removed += 1;
        }
        Ok(removed)
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let path = self.tries.full_key(Act::Find, &self.prefix, key)?;
        self.tries
            .attempts(Act::Find, key, 0, async || meta(key.to_owned(), &self.stat(&path).await?))
            .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.tries.full_key(Act::Delete, &self.prefix, key)?;
        self.tries
            .attempts(Act::Delete, key, 0, async || {
                // What is not there is no error, unless nothing is.
                if let Some(fault) = self.root_fault().await? {
                    return Err(fault);
                }
                self.operator.delete(&path).await.map_err(Fault::from)
            })
            .await
    }

    async fn stat(&self, path: &str) -> Result<Metadata, Fault> {
        let found = match self.operator.stat(path).await.map_err(Fault::from) {
            Ok(found) => found,
            Err(fault) => return Err(self.explain(fault).await),
        };
        if found.mode() == EntryMode::FILE {
            Ok(found)
        } else {
            Err(Fault::corrupt("it is no file"))
        }
    }

    /// Exactly the bytes of `range`.
    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes, Fault> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = self.operator.read_with(path).range(range.clone()).await;
        let bytes = read.map_err(Fault::from)?.to_bytes();
        match range.start + bytes.len() as u64 {
            end if end == range.end => Ok(bytes),
            end => Err(Fault::corrupt(too_short(end, &range))),
        }
    }

    /// Every file below `folder` whose key, like those of the folders above it, is `wanted`.
    async fn walk(
        &self,
        folder: &str,
        wanted: &(impl Fn(&str) -> bool + Sync),
    ) -> Result<Vec<(String, Metadata)>, Fault> {
        if let Some(fault) = self.root_fault().await? {
            return Err(fault);
        }
        // That a folder is missing is believed only of the one it would be in.
        let mut above = String::new();
        for part in folder.split('/').filter(|part| self.has_folders() && !part.is_empty()) {
            let listed = self.list_folder(&above).await?;
            above = if above.is_empty() { part.to_owned() } else { format!("{above}/{part}") };
            if !listed.folders.contains(&above) {
                return Ok(Vec::new());
            }
        }
        let (mut found, mut folders) = (Vec::new(), 0);
        let mut pending = BTreeSet::from([folder.to_owned()]);
        let mut running = JoinSet::new();
        loop {
            while running.len() < FOLDERS_AT_ONCE
                && let Some(folder) = pending.pop_first()
            {
                let service = self.clone();
                running.spawn(async move { service.list_folder(&folder).await });
            }
            let Some(listed) = running.join_next().await else { return Ok(found) };
            let ended = |error: tokio::task::JoinError| {
                let reason = format!("the listing cannot be read: {error}");
                Fault::lasting(ErrorKind::Unavailable, reason)
            };
            let listed = listed.map_err(ended)??;
            folders += listed.folders.len();
            found.extend(listed.files.into_iter().filter(|(key, _)| wanted(key)));
            pending.extend(listed.folders.into_iter().filter(|key| wanted(key)));
            if found.len() + folders > LIST_OBJECTS_MAX {
                return Err(Fault::corrupt(too_many("objects and folders")));
            }
        }
    }

    async fn list_folder(&self, folder: &str) -> Result<Folder, Fault> {
        let asked = match folder.is_empty() {
            true => self.prefix.clone(),
            false => format!("{}{folder}/", self.prefix),
        };
        // Where there are no folders, one listing has everything.
        let options = ListOptions { recursive: !self.has_folders(), ..ListOptions::default() };
        let listed = self.operator.lister_options(&asked, options).await;
        let mut listed = listed.map_err(|error| no_bucket(Fault::from(error)))?;
        let mut found = Folder::default();
        let mut is_there = false;
        let mut first = None;
        while let Some(entry) =
            listed.try_next().await.map_err(|error| no_bucket(Fault::from(error)))?
        {
            let (path, metadata) = entry.into_parts();
            // opendal asks for the first page again of a store that does not say that there is no other.
            match &first {
                None => first = Some(path.clone()),
                Some(first) if !self.has_folders() && *first == path => {
                    return Err(Fault::corrupt("the listing begins anew instead of ending"));
                }
                Some(_) => {}
            }
            if found.files.len() + found.folders.len() > LIST_OBJECTS_MAX {
                return Err(Fault::corrupt(too_many("objects and folders")));
            }
            // The folder itself is one of the answers.
            if path == asked || (asked.is_empty() && path == "/") {
                is_there = true;
                continue;
            }
            let key = path
                .strip_prefix(&asked)
                .and_then(|_| path.strip_prefix(&self.prefix))
                .ok_or_else(|| {
                    Fault::corrupt("the listing names what is outside of what was asked for")
                })?;
            match metadata.mode() {
                EntryMode::DIR => found.folders.push(key.trim_end_matches('/').to_owned()),
                _ => found.files.push((key.to_owned(), metadata)),
            }
        }
        // opendal makes an empty listing of a 404, which a proxy says as well while the server is away.
        if self.has_folders() && !is_there {
            let reason = format!("the folder {asked} is there and cannot be listed (HTTP 404)");
            return Err(Fault::temporary(reason));
        }
        Ok(found)
    }

    /// What is wrong with the place itself, where it can be missing.
    async fn root_fault(&self) -> Result<Option<Fault>, Fault> {
        if !self.has_folders() || self.prefix.is_empty() {
            return Ok(None);
        }
        match self.operator.stat(&self.prefix).await.map_err(Fault::from) {
            Ok(found) if found.mode() == EntryMode::DIR => Ok(None),
            Ok(_) => Ok(Some(Fault::lasting(ErrorKind::NoBucket, "it is no directory"))),
            Err(fault) if fault.kind == ErrorKind::NotFound => {
                Ok(Some(Fault::lasting(ErrorKind::NoBucket, "the directory does not exist")))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Something that does not exist because the place does not is a missing store, not a missing object.
    async fn explain(&self, fault: Fault) -> Fault {
        if fault.kind != ErrorKind::NotFound {
            return fault;
        }
        match self.root_fault().await {
            Ok(None) => fault,
            // Where that cannot be known, nothing is known to be missing.
            Ok(Some(root)) | Err(root) => root,
        }
    }
}

/// How one store is spoken to.
struct Way {
    operator: Operator,
    judge: Judge,
    /// Without TLS.
    is_plain: bool,
}

/// The client of one store, and one that replaces nothing when it moves; or the end of a sentence that says what is wrong with
/// its settings.
fn operators(remote: &Remote, settings: &RemoteSettings) -> Result<(Operator, Operator), String> {
    let Way { operator, judge, is_plain } = match remote {
        Remote::WebDav { is_tls, authority, .. } => web_dav(*is_tls, authority, settings),
        Remote::Azure { container, .. } => azure(container, settings),
        Remote::Sftp { .. } => Err("it is no service of HTTP".to_owned()),
    }?;
    let client = transport::client(&remote.to_string(), is_plain)?;
    let context = |moves| transport::context(client.clone(), moves, judge);
    let keeping = operator.clone().with_context(context(Moves::Keeping));
    Ok((operator.with_context(context(Moves::Replacing)), keeping))
}

fn web_dav(is_tls: bool, authority: &str, settings: &RemoteSettings) -> Result<Way, String> {
    let endpoint = format!("http{}://{authority}", if is_tls { "s" } else { "" });
    let builder = Webdav::default().endpoint(&endpoint).root("/");
    let builder = match (&settings.webdav_user, &settings.webdav_password) {
        (Some(user), Some(password)) if !user.is_empty() => {
            builder.username(user).password(password.expose())
        }
        (None, None) => builder,
        _ => {
            return Err("BACKUP_WEBDAV_USER and BACKUP_WEBDAV_PASSWORD belong together".to_owned());
        }
    };
    let operator = Operator::new(builder).map_err(|error| fault::root(&error))?;
    Ok(Way { operator, judge: transport::judge, is_plain: !is_tls })
}

#[cfg(feature = "stores-cloud")]
fn azure(container: &str, settings: &RemoteSettings) -> Result<Way, String> {
    azure::way(container, settings)
}

#[cfg(not(feature = "stores-cloud"))]
fn azure(_container: &str, _settings: &RemoteSettings) -> Result<Way, String> {
    Err("this build has no Azure Blob Storage: build it with `--features stores-cloud`".to_owned())
}

/// Of a listing, what does not exist is the bucket.
fn no_bucket(fault: Fault) -> Fault {
    match fault.kind {
        ErrorKind::NotFound => Fault::lasting(ErrorKind::NoBucket, "it does not exist"),
        _ => fault,
    }
}

fn meta(key: String, metadata: &Metadata) -> Result<ObjectMeta, Fault> {
    let Some(modified) = metadata.last_modified() else {
        let reason = format!("the store does not say the time of {key}");
        return Err(Fault::lasting(ErrorKind::Unavailable, reason));
    };
    if metadata.mode() != EntryMode::FILE {
        let reason = format!("the store does not say the size of {key}");
        return Err(Fault::lasting(ErrorKind::Unavailable, reason));
    }
    Ok(ObjectMeta { key, size: metadata.content_length(), modified: modified.into() })
}
