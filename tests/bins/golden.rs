//! Makes the golden repository of the current format, once, when a format is released:
//! `cargo build -p e2e --bins && cargo run -p e2e --bin make-golden -- tests/testdata/format-N [encrypted]`.
//!
//! The tree is small and holds what every privileged container may restore; each snapshot's manifest
//! stands beside the repository.

use std::error::Error;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use backup::keys::identity::Identities;
use e2e::process::Run;
use e2e::random::Random;
use e2e::sandbox::Sandbox;
use e2e::tree;

fn main() -> Result<(), Box<dyn Error>> {
    let golden = PathBuf::from(std::env::args_os().nth(1).ok_or("name the folder to make")?);
    if golden.exists() {
        return Err(
            format!("{} exists: a golden repository never changes", golden.display()).into()
        );
    }
    let program = std::env::current_exe()?.with_file_name("backup-under-test");
    let sandbox = Sandbox::new();
    let source = sandbox.directory("source");
    let is_encrypted = std::env::args_os().nth(2).is_some_and(|word| word == "encrypted");
    let keys: &[(&str, &str)] = if is_encrypted { &[("BACKUP_KEY_FILE", "key")] } else { &[] };
    let backup = |args: &[&str]| {
        Run::new(&program)
            .env("HOME", sandbox.root())
            .envs(keys.iter().map(|(variable, name)| (*variable, golden.join(name))))
            .arg("--repo")
            .arg(golden.join("repo"))
            .arg("--no-cache")
            .args(args.iter().copied())
            .succeed()
    };
    fs::create_dir_all(&golden)?;
    if is_encrypted {
        let identities = Identities::generate();
        fs::write(golden.join("identity"), identities.to_text().as_bytes())?;
        let public = identities.public().next().ok_or("no recipient")?;
        backup(&["init", "--recipient", &public]);
    } else {
        backup(&["init"]);
    }
    first_tree(&source)?;
    for round in 0..2 {
        if round == 1 {
            second_tree(&source)?;
        }
        let wanted = tree::manifest(&tree::read(&source));
        let created = backup(&[
            "create",
            "--json",
            "--name",
            "golden",
            "--host",
            "golden",
            &source.to_string_lossy(),
        ]);
        let summary = created.last_json();
        let id = summary
            .get("snapshot")
            .and_then(|id| id.as_str())
            .ok_or("the summary names no snapshot")?;
        fs::write(golden.join(format!("{id}.manifest")), wanted)?;
    }
    Ok(())
}

/// One of everything that format 1 can say.
fn first_tree(root: &Path) -> Result<(), Box<dyn Error>> {
    let mut random = Random::new(1);
    fs::write(root.join("several-chunks"), random.text(700_000))?;
    fs::write(root.join("one-chunk"), random.bytes(9000))?;
    fs::write(root.join("empty"), "")?;
    fs::create_dir_all(root.join("directory/empty"))?;
    fs::hard_link(root.join("one-chunk"), root.join("directory/another-name"))?;
    symlink("../one-chunk", root.join("directory/link"))?;
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not-utf-8-\xff")), "content")?;
    fs::write(root.join("new\nline"), "content")?;
    let sparse = File::create(root.join("holes"))?;
    sparse.set_len(10 << 20)?;
    sparse.write_all_at(&random.bytes(5000), 4 << 20)?;
    // More pieces than one line of the tree takes.
    let pieces = File::create(root.join("many-pieces"))?;
    for piece in 0..200_u8 {
        pieces.write_all_at(&[piece + 1], u64::from(piece) << 16)?;
    }
    // More lines than one piece of the tree takes.
    fs::create_dir(root.join("many-names"))?;
    for number in 0..60 {
        let name = format!("{}-{number:02}", "a-long-name".repeat(20));
        fs::write(root.join("many-names").join(name), format!("{number}"))?;
    }
    let foreign = root.join(std::ffi::OsStr::from_bytes(b"directory-\xfe"));
    fs::create_dir(&foreign)?;
    fs::write(
        foreign.join(std::ffi::OsStr::from_bytes(b"ends in two new lines\xff\n\n")),
        "content",
    )?;
    symlink(std::ffi::OsStr::from_bytes(b"to-\xff"), foreign.join("-link"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )?;
    fs::hard_link(root.join("fifo"), foreign.join("fifo"))?;
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("one-chunk"), "user.note", b"two\nlines\0", flags)?;
    std::os::unix::fs::chown(root.join("empty"), Some(1234), Some(4_000_000_000))?;
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o4750))?;
    let old = SystemTime::UNIX_EPOCH - Duration::new(1_000_000, 250_000_000);
    File::options().write(true).open(root.join("empty"))?.set_modified(old)?;
    Ok(())
}

/// Some of it changed, so that the second snapshot shares chunks with the first.
fn second_tree(root: &Path) -> Result<(), Box<dyn Error>> {
    let file = File::options().write(true).open(root.join("several-chunks"))?;
    file.write_all_at(b"an edit in the middle", 300_000)?;
    fs::remove_file(root.join("new\nline"))?;
    fs::write(root.join("directory/new"), "new")?;
    Ok(())
}
