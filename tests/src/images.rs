//! Images for tests, built through the engine's API without any registry.
//!
//! An image is shared by all tests of a process that want the same one at the same time, and removed
//! when the last of them ends. Only what is large outlives a run, since it takes minutes: the Debian base, as a
//! file and as an image, and what [`kept`] puts on it, under names made of everything that decides their content.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    BuildImageOptions, CommitContainerOptions, CreateContainerOptions, CreateImageOptions,
    RemoveContainerOptions, RemoveImageOptions, UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;

use crate::engine::Engine;
use crate::janitor;
use crate::process::{Run, find_program};
use crate::runtime::wait;
use crate::sandbox::{Sandbox, unique_name};

/// Set to `1`, the harness installs no package.
pub const NO_INSTALL_VARIABLE: &str = "CHORES_NO_INSTALL";

/// Where built bases are kept; `~/.cache/chores` by default.
pub const CACHE_VARIABLE: &str = "CHORES_CACHE";

/// Where [`kept`] images are.
const KEPT_REPOSITORY: &str = "chores-test-kept";

/// Part of the name of every Debian base: raise it when the way a base is made changes.
const DEBIAN_RECIPE_VERSION: u32 = 2;

/// Files that a base has before its packages come: nothing is started while they are set up (policy-rc.d, see
/// invoke-rc.d(8)), and PostgreSQL makes no data directory that nobody asked for.
const DEBIAN_SEEDS: [(&str, u32, &str); 2] = [
    ("usr/sbin/policy-rc.d", 0o755, "#!/bin/sh\nexit 101\n"),
    ("etc/postgresql-common/createcluster.conf", 0o644, "create_main_cluster = false\n"),
];

/// How long making a Debian base may take (seconds).
const DEBOOTSTRAP_SECONDS_MAX: u64 = 900;

/// How much of an archive goes into one piece of a request (bytes).
const UPLOAD_PIECE_BYTES: usize = 1 << 20;

/// An image of the engine, removed with its last user.
#[derive(Debug)]
pub struct Image {
    engine: Engine,
    name: String,
}

impl Image {
    /// The name to run it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // A build of the same recipe would find its layers cached and, a moment later, gone.
        let _no_build = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let (docker, name) = (self.engine.docker().clone(), self.name.clone());
        let options = RemoveImageOptions { force: true, ..Default::default() };
        let removed = wait(async move { docker.remove_image(&name, Some(options), None).await });
        let is_gone = |error: &bollard::errors::Error| {
            matches!(
                error,
                bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }
            )
        };
        if let Err(error) = removed
            && !is_gone(&error)
        {
            crate::notice!("left behind: the image {}: {error}", self.name);
        }
    }
}

/// A file of an image.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Path in the build context.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub content: Vec<u8>,
}

/// Builds an image from a Dockerfile and the files of its context.
///
/// # Panics
/// When the engine refuses; the message holds what the build said.
#[must_use]
pub fn build(engine: &Engine, dockerfile: &str, files: &[ImageFile]) -> Arc<Image> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(dockerfile.as_bytes());
    for file in files {
        hasher.update(file.path.as_bytes()).update(&file.mode.to_le_bytes());
        hasher.update(blake3::hash(&file.content).as_bytes());
    }
    shared(hasher.finalize().to_hex().as_str(), || {
        let name = unique_name();
        let context = context(dockerfile, files);
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(name.clone()),
            rm: true,
            forcerm: true,
            labels: Some(janitor::labels()),
            ..BuildImageOptions::default()
        };
        let docker = engine.docker().clone();
        let (said, outcome) = wait(async move {
            let mut said = String::new();
            let mut outcome = Ok(());
            let mut steps = std::pin::pin!(docker.build_image(
                options,
                None,
                Some(bollard::body_full(context))
            ));
            while let Some(step) = steps.next().await {
                match step {
                    Ok(step) => said.push_str(step.stream.as_deref().unwrap_or_default()),
                    Err(error) => outcome = Err(error),
                }
            }
            (said, outcome)
        });
        if let Err(error) = outcome {
            panic!("cannot build the image {name}: {error}\n{said}");
        }
        Image { engine: engine.clone(), name }
    })
}

/// An image that is kept: `base` with these files and this configuration. One layer and no build step, each of which
/// would compare the whole base on some storage drivers.
///
/// # Panics
/// When the engine refuses.
#[must_use]
pub fn kept(engine: &Engine, base: &str, files: &[ImageFile], config: ContainerConfig) -> String {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let archive =
        archive(files.iter().map(|file| (file.path.as_str(), file.mode, file.content.as_slice())));
    let mut hasher = blake3::Hasher::new();
    hasher.update(base.as_bytes()).update(&archive);
    hasher.update(&serde_json::to_vec(&config).expect("a configuration is JSON"));
    let hash = hasher.finalize().to_hex();
    let tag = hash.get(..16).unwrap_or_default().to_owned();
    let name = format!("{KEPT_REPOSITORY}:{tag}");
    let (docker, wanted, base) = (engine.docker().clone(), name.clone(), base.to_owned());
    let made = wait(async move {
        if docker.inspect_image(&wanted).await.is_ok() {
            return Ok(());
        }
        // Without labels: an image hands on those of its container.
        let body = ContainerCreateBody {
            image: Some(base),
            cmd: Some(vec!["/bin/true".to_owned()]),
            ..Default::default()
        };
        let container = docker.create_container(None::<CreateContainerOptions>, body).await?.id;
        let options = UploadToContainerOptions { path: "/".to_owned(), ..Default::default() };
        let filled = docker
            .upload_to_container(&container, Some(options), bollard::body_full(archive))
            .await;
        let options = CommitContainerOptions {
            container: Some(container.clone()),
            repo: Some(KEPT_REPOSITORY.to_owned()),
            tag: Some(tag),
            ..Default::default()
        };
        let made = match filled {
            Ok(()) => docker.commit_container(options, config).await.map(drop),
            Err(error) => Err(error),
        };
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        made.and(docker.remove_container(&container, Some(options)).await)
    });
    made.unwrap_or_else(|error| panic!("cannot make the image {name}: {error}"));
    name
}

/// An image with one static program as its entry point and nothing else.
#[must_use]
pub fn program(engine: &Engine, path: &Path) -> Arc<Image> {
    let content = crate::engine::read_program(path);
    let file = ImageFile { path: "program".to_owned(), mode: 0o755, content };
    build(engine, "FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n", &[file])
}

/// The image of `backup` that operators get; see [`sidecar`].
///
/// # Panics
/// When the recipe or the binary cannot be read.
#[must_use]
pub fn backup(engine: &Engine, binary: &Path) -> Arc<Image> {
    sidecar(engine, "backup", binary)
}

/// The image operators get, made from `deploy/<name>.Dockerfile` and this binary (stripped of its symbols:
/// the debug build under test is ten times the size).
///
/// # Panics
/// When the recipe or the binary cannot be read.
#[must_use]
pub fn sidecar(engine: &Engine, name: &str, binary: &Path) -> Arc<Image> {
    sidecar_of(engine, name, binary, "")
}

/// The same for one test alone, which has an engine of its own: images are shared by what they are made of.
///
/// # Panics
/// When the recipe or the binary cannot be read.
#[must_use]
pub fn sidecar_of(engine: &Engine, name: &str, binary: &Path, owner: &str) -> Arc<Image> {
    let recipe = format!("{}/../deploy/{name}.Dockerfile", env!("CARGO_MANIFEST_DIR"));
    let mut dockerfile =
        fs::read_to_string(&recipe).unwrap_or_else(|error| panic!("cannot read {recipe}: {error}"));
    if !owner.is_empty() {
        dockerfile.push_str(&format!("LABEL of=\"{owner}\"\n"));
    }
    let mut files =
        vec![ImageFile { path: name.to_owned(), mode: 0o755, content: stripped(binary) }];
    if name == "ssh-gateway" {
        let toolbox = toolbox().unwrap_or_else(|| panic!("no toolbox for the image of {name}"));
        let packed = Run::new("tar").args(["--create", "--sort=name", "--directory"]).arg(toolbox);
        let content = packed.arg(".").succeed().stdout;
        files.push(ImageFile { path: "toolbox.tar".to_owned(), mode: 0o644, content });
    }
    build(engine, &dockerfile, &files)
}

/// What `deploy/toolbox.sh` makes of the programs of this machine, kept as long as they are the same. `None`, with the
/// reason on stderr, where there is no static busybox or only others than root can make it.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn toolbox() -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if !rustix::process::geteuid().is_root() {
        crate::notice!("skipped: only root can make a toolbox");
        return None;
    }
    let script = PathBuf::from(format!("{}/../deploy/toolbox.sh", env!("CARGO_MANIFEST_DIR")));
    let others = ["rsync", "strace"].into_iter().filter_map(find_program);
    let mut hasher = blake3::Hasher::new();
    for path in [script.clone(), static_busybox()?].into_iter().chain(others) {
        let content = fs::read(&path);
        let content = content.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        hasher.update(blake3::hash(&content).as_bytes());
    }
    let hash = hasher.finalize().to_hex();
    let cache = cache_directory();
    let made = cache.join(format!("toolbox-{}", hash.get(..16).unwrap_or_default()));
    if !made.exists() {
        let unfinished = cache.join(unique_name());
        Run::new(script).arg(&unfinished).succeed();
        // Another run may have been quicker.
        if fs::rename(&unfinished, &made).is_err() {
            fs::remove_dir_all(&unfinished).ok();
        }
    }
    Some(made)
}

/// The image that this program makes of itself for its workers, for removal with its last user; the program
/// makes it when it needs it.
#[must_use]
pub fn own_worker(engine: &Engine, binary: &Path) -> Arc<Image> {
    let hash = blake3::hash(&crate::engine::read_program(binary)).to_hex();
    let name = format!("chores/backup-worker:{}", hash.get(..16).unwrap_or_default());
    shared(&name, || Image { engine: engine.clone(), name: name.clone() })
}

/// A small image with every applet of a static busybox on `PATH`. `None`, with the reason on stderr,
/// when this machine has no static busybox and may not install it.
///
/// # Panics
/// When the engine refuses.
#[must_use]
pub fn busybox(engine: &Engine) -> Option<Arc<Image>> {
    let content = crate::engine::read_program(&static_busybox()?);
    let file = ImageFile { path: "busybox".to_owned(), mode: 0o755, content };
    let dockerfile = "FROM scratch\n\
        COPY busybox /bin/busybox\n\
        RUN [\"/bin/busybox\", \"mkdir\", \"-p\", \"/usr/bin\", \"/usr/sbin\", \"/sbin\", \"/etc\", \"/tmp\", \"/root\"]\n\
        RUN [\"/bin/busybox\", \"--install\", \"-s\"]\n\
        ENV PATH=/bin:/usr/bin:/sbin:/usr/sbin\n\
        CMD [\"/bin/sh\"]\n";
    Some(build(engine, dockerfile, &[file]))
}

/// Accounts of the images that sessions enter: `www` (1000) belongs to the group `extra` (2000) too.
const ACCOUNTS: [(&str, &str); 2] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nwww:x:1000:1000:www:/home/www:/bin/sh\nodd:x:1001:1001::/nowhere:/bin/nothing\n",
    ),
    ("etc/group", "root:x:0:\nwww:x:1000:\nextra:x:2000:www\n"),
];

/// What SSH sessions enter: every applet of a static busybox, two accounts, and `/probe`; one layer. `None`,
/// with the reason on stderr, when this machine has no static busybox.
///
/// # Panics
/// When the engine refuses.
#[must_use]
pub fn ssh_target(engine: &Engine, probe: &Path) -> Option<Arc<Image>> {
    ssh_target_with(engine, probe, 1000)
}

/// The same with the homes owned by root: engines with user namespaces unpack no others from an archive.
///
/// # Panics
/// When the engine refuses.
#[must_use]
pub fn ssh_target_of_root(engine: &Engine, probe: &Path) -> Option<Arc<Image>> {
    ssh_target_with(engine, probe, 0)
}

fn ssh_target_with(engine: &Engine, probe: &Path, home_owner: u64) -> Option<Arc<Image>> {
    let busybox = static_busybox()?;
    let applets = Run::new(&busybox).arg("--list-full").succeed().stdout_text();
    let mut archive = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, owner: u64, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(size as u64);
        header
    };
    for (path, mode, owner) in [
        ("bin", 0o755, 0),
        ("sbin", 0o755, 0),
        ("usr/bin", 0o755, 0),
        ("usr/sbin", 0o755, 0),
        ("etc", 0o755, 0),
        ("root", 0o700, 0),
        ("home/www", 0o755, home_owner),
        ("tmp", 0o1777, 0),
    ] {
        let mut header = header(tar::EntryType::Directory, mode, owner, 0);
        archive.append_data(&mut header, path, io::empty()).expect("an archive in memory");
    }
    let programs =
        [("bin/busybox", crate::engine::read_program(&busybox)), ("probe", stripped(probe))];
    for (path, content) in &programs {
        let mut header = header(tar::EntryType::Regular, 0o755, 0, content.len());
        archive.append_data(&mut header, path, content.as_slice()).expect("an archive in memory");
    }
    for (path, content) in ACCOUNTS {
        let mut header = header(tar::EntryType::Regular, 0o644, 0, content.len());
        archive.append_data(&mut header, path, content.as_bytes()).expect("an archive in memory");
    }
    for path in applets.lines().filter(|path| *path != "bin/busybox") {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0, 0);
        archive.append_link(&mut header, path, "/bin/busybox").expect("an archive in memory");
    }
    let content = archive.into_inner().expect("an archive in memory");
    let file = ImageFile { path: "rootfs.tar".to_owned(), mode: 0o644, content };
    let dockerfile = "FROM scratch\nADD rootfs.tar /\nENV PATH=/bin:/usr/bin:/sbin:/usr/sbin IMAGE_WORD=\"two words\"\n\
        CMD [\"/probe\", \"hold\"]\n";
    Some(build(engine, dockerfile, &[file]))
}

/// A Debian that SSH sessions enter, with git, OpenSSH's clients, Python and rsync, and `/probe`. `None`, with
/// the reason on stderr, when its base cannot be made.
///
/// # Panics
/// When the engine refuses.
#[must_use]
pub fn ssh_debian(engine: &Engine, probe: &Path) -> Option<Arc<Image>> {
    let base = debian(engine, &["git", "openssh-client", "python3", "rsync"])?;
    let file = ImageFile { path: "probe".to_owned(), mode: 0o755, content: stripped(probe) };
    let dockerfile = format!(
        "FROM {base}\nCOPY probe /probe\n\
         RUN useradd --uid 1000 --create-home --shell /bin/bash www\nCMD [\"/probe\", \"hold\"]\n"
    );
    Some(build(engine, &dockerfile, &[file]))
}

/// An image with `/probe` and nothing else.
#[must_use]
pub fn ssh_scratch(engine: &Engine, probe: &Path) -> Arc<Image> {
    let file = ImageFile { path: "probe".to_owned(), mode: 0o755, content: stripped(probe) };
    build(engine, "FROM scratch\nCOPY probe /probe\nCMD [\"/probe\", \"hold\"]\n", &[file])
}

/// A static busybox of this machine, installed if need be.
fn static_busybox() -> Option<PathBuf> {
    let is_static = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| is_static_elf(&bytes));
    if let Some(path) = find_program("busybox").filter(is_static) {
        return Some(path);
    }
    install("busybox-static")?;
    find_program("busybox").filter(is_static)
}

/// Installs a Debian package; `None`, with the reason on stderr, when that cannot or may not be done.
fn install(package: &str) -> Option<()> {
    let reason = if std::env::var_os(NO_INSTALL_VARIABLE).is_some_and(|value| value == "1") {
        format!("{NO_INSTALL_VARIABLE}=1")
    } else if !rustix::process::geteuid().is_root() {
        "not root".to_owned()
    } else if let Some(apt_get) = find_program("apt-get") {
        crate::notice!("installing the package {package}");
        let finished = Run::new(apt_get)
            .args(["install", "--yes", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .deadline(Duration::from_secs(DEBOOTSTRAP_SECONDS_MAX))
            .finish();
        if finished.code() == Some(0) {
            return Some(());
        }
        finished.to_string()
    } else {
        "no apt-get on this machine".to_owned()
    };
    crate::notice!("skipped: the package {package} is missing and cannot be installed: {reason}");
    None
}

/// A Debian base with these packages: the host's release, from the host's mirror, made by debootstrap
/// (variant minbase) once per list of packages and then kept. The name of the image, or `None` with the
/// reason on stderr.
///
/// # Panics
/// When the engine refuses the archive.
#[must_use]
pub fn debian(engine: &Engine, packages: &[&str]) -> Option<String> {
    let suite = host_suite().or_else(|| {
        crate::notice!("skipped: no Debian base: /etc/os-release names no release of Debian");
        None
    })?;
    let mirror = host_mirror();
    let recipe = format!("{DEBIAN_RECIPE_VERSION}\n{suite}\n{}", packages.join(","));
    let hash = blake3::hash(recipe.as_bytes()).to_hex();
    let short = &hash.as_str().get(..16).unwrap_or_default();
    let name = format!("chores-debian-{suite}:{short}");
    let (docker, wanted) = (engine.docker().clone(), name.clone());
    if wait(async move { docker.inspect_image(&wanted).await }).is_ok() {
        return Some(name);
    }
    let archive = debian_archive(&suite, &mirror, packages, short)?;
    let docker = engine.docker().clone();
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(format!("chores-debian-{suite}")),
        tag: Some((*short).to_owned()),
        changes: vec!["CMD [\"/bin/bash\"]".to_owned()],
        ..CreateImageOptions::default()
    };
    wait(async move {
        let file = tokio::fs::File::open(&archive).await.map_err(|error| error.to_string())?;
        let pieces = futures_util::stream::unfold(file, |mut file| async move {
            let mut piece = vec![0; UPLOAD_PIECE_BYTES];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some((Ok(Bytes::from(piece)), file))
                }
                Err(error) => Some((Err(error), file)),
            }
        });
        docker
            .create_image(Some(options), Some(bollard::body_try_stream(pieces)), None)
            .try_collect::<Vec<_>>()
            .await
            .map_err(|error| error.to_string())
    })
    .unwrap_or_else(|error| panic!("cannot import the Debian base {name}: {error}"));
    Some(name)
}

/// The archive of a Debian base, from the cache or made now.
fn debian_archive(suite: &str, mirror: &str, packages: &[&str], hash: &str) -> Option<PathBuf> {
    let cache = cache_directory();
    fs::create_dir_all(&cache)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", cache.display()));
    let archive = cache.join(format!("debian-{suite}-{hash}.tar"));
    // Several test processes may want the same base: one makes it, the others wait here.
    let lock = File::create(cache.join(format!("debian-{suite}-{hash}.lock")))
        .unwrap_or_else(|error| panic!("cannot lock {}: {error}", archive.display()));
    lock.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", archive.display()));
    if archive.exists() {
        return Some(archive);
    }
    if !rustix::process::geteuid().is_root() {
        crate::notice!("skipped: no Debian base: debootstrap needs root");
        return None;
    }
    let debootstrap = find_program("debootstrap")
        .or_else(|| install("debootstrap").and_then(|()| find_program("debootstrap")))?;
    let sandbox = Sandbox::new();
    let root = sandbox.directory("root");
    for (path, mode, content) in DEBIAN_SEEDS {
        let path = sandbox.file(Path::new("root").join(path), content);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .unwrap_or_else(|error| panic!("cannot open {} up: {error}", path.display()));
    }
    let mut run = Run::new(debootstrap)
        .arg("--variant=minbase")
        .deadline(Duration::from_secs(DEBOOTSTRAP_SECONDS_MAX));
    if !packages.is_empty() {
        run = run.arg(format!("--include={}", packages.join(",")));
    }
    let finished = run.arg(suite).arg(&root).arg(mirror).finish();
    if finished.code() != Some(0) {
        crate::notice!("skipped: no Debian base: {finished}");
        return None;
    }
    let unfinished = cache.join(format!("{}.tar", unique_name()));
    Run::new("tar")
        .args([
            "--create",
            "--numeric-owner",
            "--one-file-system",
            "--exclude=./var/cache/apt/archives/*.deb",
            "--exclude=./var/lib/apt/lists/*",
        ])
        .arg("--exclude=./dev/*")
        .arg("--file")
        .arg(&unfinished)
        .arg("--directory")
        .arg(&root)
        .arg(".")
        .deadline(Duration::from_secs(DEBOOTSTRAP_SECONDS_MAX))
        .succeed();
    fs::rename(&unfinished, &archive)
        .unwrap_or_else(|error| panic!("cannot keep {}: {error}", archive.display()));
    Some(archive)
}

pub(crate) fn cache_directory() -> PathBuf {
    if let Some(directory) = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty()) {
        return PathBuf::from(directory);
    }
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    home.join(".cache/chores")
}

/// The code name of this machine's Debian release.
fn host_suite() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        release.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix('=')
                .map(|value| value.trim_matches('"').to_owned())
        })
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME")).flatten()
}

/// The mirror this machine's own packages come from.
fn host_mirror() -> String {
    let lists = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let texts = std::iter::once(PathBuf::from("/etc/apt/sources.list"))
        .chain(lists.map(|entry| entry.path()))
        .filter_map(|path| fs::read_to_string(path).ok());
    texts
        .filter_map(|text| mirror_in(&text))
        .next()
        .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first mirror of Debian itself (not of its security updates, nor of other makers' packages) that
/// an apt source list names, in either of its two formats (sources.list(5)).
fn mirror_in(sources: &str) -> Option<String> {
    sources.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        match words.next()? {
            "URIs:" | "deb" => words
                .find(|word| {
                    word.contains("://") && word.trim_end_matches('/').ends_with("/debian")
                })
                .map(str::to_owned),
            _ => None,
        }
    })
}

/// The images of this process by key. Held while one is built or removed.
static IN_USE: LazyLock<Mutex<HashMap<String, Weak<Image>>>> = LazyLock::new(Mutex::default);

/// Runs `make` unless an image of the same key is in use somewhere in this process.
fn shared(key: &str, make: impl FnOnce() -> Image) -> Arc<Image> {
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(image) = in_use.get(key).and_then(Weak::upgrade) {
        return image;
    }
    let image = Arc::new(make());
    in_use.insert(key.to_owned(), Arc::downgrade(&image));
    image
}

fn context(dockerfile: &str, files: &[ImageFile]) -> Bytes {
    let recipe = ("Dockerfile", 0o644, dockerfile.as_bytes());
    let files = files.iter().map(|file| (file.path.as_str(), file.mode, file.content.as_slice()));
    archive(std::iter::once(recipe).chain(files))
}

/// A tar archive of paths, modes and contents, all root's.
fn archive<'a>(files: impl Iterator<Item = (&'a str, u32, &'a [u8])>) -> Bytes {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, content).expect("an archive in memory");
    }
    archive.into_inner().expect("an archive in memory").into()
}

/// The program without its symbols, as far as this machine has `strip`.
fn stripped(binary: &Path) -> Vec<u8> {
    let Some(strip) = find_program("strip") else { return crate::engine::read_program(binary) };
    let sandbox = Sandbox::new();
    let output = sandbox.path("stripped");
    Run::new(strip).arg("-o").arg(&output).arg(binary).succeed();
    crate::engine::read_program(&output)
}

/// Whether these bytes are an ELF program that asks for no interpreter (elf(5)): one without a segment
/// of type `PT_INTERP`.
#[must_use]
pub fn is_static_elf(bytes: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let interpreter = || -> Option<bool> {
        let table = usize::try_from(number(32, 8)?).ok()?;
        let (size, count) =
            (usize::try_from(number(54, 2)?).ok()?, usize::try_from(number(56, 2)?).ok()?);
        let mut found = false;
        for index in 0..count {
            found |= number(table.checked_add(index * size)?, 4)? == u64::from(PT_INTERP);
        }
        Some(found)
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && interpreter() == Some(false)
}

#[cfg(test)]
mod tests;
