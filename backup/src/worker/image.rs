//! The image a worker is made from.
//!
//! Parent and worker must be of one version: they share the words of the command line and
//! [`super::SOURCE_VARIABLE`]. So without a named image the worker is the very program that runs: in a
//! container its own image, on a host an image of the running executable and nothing else, made once for
//! each content. Only an executable that needs a loader or libraries cannot stand alone in an image; then
//! [`super::DEFAULT_IMAGE`] has to be there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chores_common::engine::{Container, Engine, EngineError, EngineErrorKind, ListedImage};

use super::spec::PROGRAM;
use super::{DEFAULT_IMAGE, WorkerError};

#[cfg(test)]
mod tests;

/// Repository of the images that are made here; the tag is the start of the executable's BLAKE3.
const REPOSITORY: &str = "chores/backup-worker";

/// Digits of such a tag.
const TAG_DIGITS: usize = 16;

/// Label of such an image, `1`.
const IMAGE_LABEL: &str = "chores.backup.worker-image";

/// Label that tells each making of an image from all others.
const BUILD_LABEL: &str = "chores.backup.worker-image.build";

/// This process's program, even where its file was replaced or removed meanwhile (proc_pid_exe(5)).
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Largest executable that is made an image of, in bytes: several debug builds.
const EXECUTABLE_BYTES_MAX: u64 = 1 << 30;

/// How often an image is made that the engine loses while it is made.
const BUILDS_MAX: u32 = 3;

/// How old an image must be to be removed: a run of another program that has just made or found it may be
/// about to use it, and the engine commits an image before it names it, so one without a name may be what
/// another run is making.
const SUPERSEDED_AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// Images removed by one run at the most.
const REMOVED_MAX: usize = 16;

/// Length of the header of a 64-bit ELF file in bytes (elf(5)).
const ELF_HEADER_BYTES: usize = 64;

/// Length of the type at the start of a segment's header, in bytes.
const SEGMENT_TYPE_BYTES: usize = 4;

/// Type of the segment that names a loader (elf(5)).
const PT_INTERP: u64 = 3;

/// A worker's image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WorkerImage {
    /// Name or id.
    pub(super) name: String,
    /// Its program, where that is not the image's own entry point: our own image may be derived from the
    /// one that is built here.
    pub(super) entrypoint: Option<String>,
}

/// The image of the next worker, which is there when this returns.
pub(super) async fn provide(
    engine: &Engine,
    wanted: Option<&str>,
    own: Option<&Container>,
) -> Result<WorkerImage, WorkerError> {
    let image = match (wanted, own) {
        (Some(wanted), _) => WorkerImage { name: wanted.to_owned(), entrypoint: None },
        (None, Some(own)) => WorkerImage {
            name: own.image_id.clone(),
            entrypoint: std::env::current_exe()
                .ok()
                .and_then(|path| path.into_os_string().into_string().ok()),
        },
        (None, None) => match own_executable().map_err(WorkerError::Executable)? {
            Some(executable) => return made_of(engine, executable).await,
            None => WorkerImage { name: DEFAULT_IMAGE.to_owned(), entrypoint: None },
        },
    };
    if !engine.image_exists(&image.name).await? {
        return Err(WorkerError::NoImage(image.name));
    }
    Ok(image)
}

/// An image of the executable, made unless it is there.
async fn made_of(engine: &Engine, executable: File) -> Result<WorkerImage, WorkerError> {
    let tag = content_tag(&executable).map_err(WorkerError::Executable)?;
    let name = format!("{REPOSITORY}:{tag}");
    if !engine.image_exists(&name).await? {
        make(engine, &name, &executable).await?;
    }
    Ok(WorkerImage { name, entrypoint: None })
}

/// Makes the image. Every making has a label of its own as its first layer, so that runs at the same time
/// share no layer that one of them could remove under another; what the engine still loses is made again.
async fn make(engine: &Engine, name: &str, executable: &File) -> Result<(), WorkerError> {
    tracing::info!("making the image {name} of this program for the worker");
    let mut builds = 0;
    loop {
        builds += 1;
        let build = getrandom::u64().map_err(WorkerError::Random)?;
        let context = context(executable, build).map_err(WorkerError::Executable)?;
        let Err(error) = engine.build_image(name, context).await else { return Ok(()) };
        if engine.image_exists(name).await? {
            return Ok(());
        }
        if builds == BUILDS_MAX || !is_lost(&error) {
            return Err(error.into());
        }
        tracing::debug!("making the image again: {error}");
    }
}

/// Whether what the engine was building on is gone: another client removed it meanwhile.
fn is_lost(error: &EngineError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    error.kind() == EngineErrorKind::NotFound
        || ["no such image", "layer does not exist", "unknown parent image", "failed to get digest"]
            .iter()
            .any(|phrase| text.contains(phrase))
}

/// After a run with the image `current`, if it is of our making: removes images of other versions of this
/// program, and those that lost their name to a run at the same time, that no container uses. What
/// cannot be removed stays for the next run.
pub(super) async fn remove_superseded(engine: &Engine, current: &str) {
    if !is_of_our_making(current) {
        return;
    }
    let listed = match engine.list_images(&format!("{IMAGE_LABEL}=1")).await {
        Ok(listed) => listed,
        Err(error) => return tracing::debug!("{error}"),
    };
    for name in superseded(&listed, current, SystemTime::now()).into_iter().take(REMOVED_MAX) {
        // Without force the engine keeps what a container, running or not, was made from.
        match engine.remove_image(&name).await {
            Ok(()) => tracing::debug!("removed the old worker image {name}"),
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

fn is_of_our_making(name: &str) -> bool {
    name.strip_prefix(REPOSITORY).is_some_and(|rest| rest.starts_with(':'))
}

/// Names or ids of what is to be removed: old enough, and named by nobody or nobody but us.
fn superseded(listed: &[ListedImage], current: &str, now: SystemTime) -> Vec<String> {
    let is_ours = |tag: &String| is_of_our_making(tag) && tag != current;
    listed
        .iter()
        .filter(|image| image.tags.iter().all(is_ours))
        .filter(|image| {
            let made = UNIX_EPOCH.checked_add(Duration::from_secs(image.created));
            let age = made.and_then(|made| now.duration_since(made).ok());
            age.is_some_and(|age| age >= SUPERSEDED_AGE_MIN)
        })
        .flat_map(|image| match image.tags.as_slice() {
            [] => vec![image.id.clone()],
            tags => tags.to_vec(),
        })
        .collect()
}

/// The running program, where it can stand alone in an image.
fn own_executable() -> io::Result<Option<File>> {
    let file = match File::open(OWN_EXECUTABLE) {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!("{OWN_EXECUTABLE}: {error}");
            return Ok(None);
        }
    };
    let bytes = file.metadata()?.len();
    Ok((bytes <= EXECUTABLE_BYTES_MAX && is_static(&file)?).then_some(file))
}

/// Whether this is a 64-bit little-endian ELF program that names no loader (elf(5)).
fn is_static(file: &File) -> io::Result<bool> {
    let mut header = [0; ELF_HEADER_BYTES];
    if !read_all_at(file, &mut header, 0)? || !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let (table, size, count) =
        (number(&header, 32, 8), number(&header, 54, 2), number(&header, 56, 2));
    for index in 0..count {
        let mut segment = [0; SEGMENT_TYPE_BYTES];
        let Some(at) = table.checked_add(index * size) else { return Ok(false) };
        if !read_all_at(file, &mut segment, at)?
            || number(&segment, 0, SEGMENT_TYPE_BYTES) == PT_INTERP
        {
            return Ok(false);
        }
    }
    Ok(count > 0)
}

/// Whether the file goes that far.
fn read_all_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        // The kernel's offsets are signed.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The little-endian number of `length` bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let field = bytes.iter().skip(at).take(length);
    field.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Names the content.
fn content_tag(mut executable: &File) -> io::Result<String> {
    executable.seek(SeekFrom::Start(0))?;
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut executable.take(EXECUTABLE_BYTES_MAX), &mut hasher)?;
    Ok(hasher.finalize().to_hex().chars().take(TAG_DIGITS).collect())
}

/// A tar with the recipe and the executable. The label we know our images by comes last: what a build
/// stands on meanwhile must not look like one of them.
fn context(mut executable: &File, build: u64) -> io::Result<Bytes> {
    let recipe = format!(
        "FROM scratch\nLABEL {BUILD_LABEL}={build:016x}\nCOPY backup {PROGRAM}\n\
         ENTRYPOINT [\"{PROGRAM}\"]\nLABEL {IMAGE_LABEL}=1\n"
    );
    let bytes = executable.metadata()?.len();
    executable.seek(SeekFrom::Start(0))?;
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "Dockerfile", 0o644, recipe.len() as u64, recipe.as_bytes())?;
    append(&mut archive, "backup", 0o755, bytes, executable.take(bytes))?;
    Ok(archive.into_inner()?.into())
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    mode: u32,
    bytes: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes);
    archive.append_data(&mut header, name, content)
}
