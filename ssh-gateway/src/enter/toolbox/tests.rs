use super::*;
use crate::enter::sys::Forked;

fn toolbox(always: bool, trace: bool) -> Toolbox {
    Toolbox { directory: "/toolbox".to_owned(), trace, always }
}

fn command(line: &str) -> Program {
    Program::Command(line.as_bytes().to_vec())
}

#[test]
fn a_toolbox_is_for_what_the_image_cannot_do() {
    let none = |_: &[u8]| false;
    let all = |_: &[u8]| true;
    let auto = toolbox(false, false);
    assert!(is_needed(&auto, &Program::Shell, false, none));
    assert!(!is_needed(&auto, &Program::Shell, true, none));
    // With a shell, only for what is copied with.
    for (line, needed) in [
        ("rsync --server -logDtpre.iLsfxCIvu . /tmp", true),
        ("  rsync", true),
        ("ls", false),
        ("echo rsync", false),
        ("strace -p 1", false),
        ("", false),
    ] {
        assert_eq!(is_needed(&auto, &command(line), true, none), needed, "{line:?}");
        assert!(!is_needed(&auto, &command(line), true, all), "{line:?}");
    }
    assert!(is_needed(&toolbox(false, true), &command("strace -p 1"), true, none));
    // Without one, for everything but a program of the image that needs none.
    let app = |name: &[u8]| name == b"/app";
    for (line, needed) in [
        ("/app --version", false),
        ("/app | head", true),
        ("ls /", true),
        ("A=1 /app", true),
        ("", true),
    ] {
        assert_eq!(is_needed(&auto, &command(line), false, app), needed, "{line:?}");
    }
}

#[test]
fn always_means_programs_and_not_what_is_ours() {
    let all = |_: &[u8]| true;
    let words = Program::Words(vec![b"ls".to_vec()]);
    for is_always in [false, true] {
        let toolbox = toolbox(is_always, true);
        for own in [Program::Sftp, Program::SftpReadOnly, Program::Portal, words.clone()] {
            assert!(!is_needed(&toolbox, &own, false, all), "{own:?}");
        }
        assert_eq!(is_needed(&toolbox, &Program::Shell, true, all), is_always);
        assert_eq!(is_needed(&toolbox, &command("ls"), true, all), is_always);
    }
}

#[test]
fn no_current_directory_comes_into_the_path() {
    for (path, behind) in [
        ("/usr/bin:/bin", "/usr/bin:/bin:/proc/fs/nfsd/bin"),
        ("/bin:", "/bin:/proc/fs/nfsd/bin"),
        ("/bin::", "/bin:/proc/fs/nfsd/bin"),
        ("", "/proc/fs/nfsd/bin"),
        (":", "/proc/fs/nfsd/bin"),
    ] {
        assert_eq!(path_behind(path.as_bytes()), behind.as_bytes(), "{path:?}");
    }
}

#[test]
fn a_user_may_run_what_the_mode_says() {
    let mut file = rustix::fs::stat("/proc/self/exe").unwrap();
    (file.st_uid, file.st_gid) = (10, 20);
    let who = |uid, gid, groups: &[u32]| Identity { uid, gid, groups: groups.to_vec() };
    for (mode, identity, may) in [
        (0o100_755, who(1, 1, &[]), true),
        (0o100_750, who(1, 1, &[]), false),
        (0o100_750, who(1, 20, &[]), true),
        (0o100_750, who(1, 1, &[20]), true),
        (0o100_700, who(10, 1, &[]), true),
        (0o100_077, who(10, 1, &[]), false),
        (0o100_001, who(0, 0, &[]), true),
        (0o100_644, who(0, 0, &[]), false),
        (0o040_755, who(0, 0, &[]), false),
    ] {
        file.st_mode = mode;
        assert_eq!(may_run(&file, &identity), may, "{mode:o} {identity:?}");
    }
}

#[test]
fn it_is_attached_for_the_process_alone_and_cannot_be_written() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount");
        return;
    }
    // Others may write in the directory for temporary files.
    let made = tempfile::tempdir_in("/run").unwrap();
    for directory in ["base/bin", "notices", "trace"] {
        std::fs::create_dir_all(made.path().join(directory)).unwrap();
    }
    std::fs::write(made.path().join("base/bin/word"), "said").unwrap();
    std::fs::write(made.path().join("trace/eye"), "open").unwrap();
    // The directory of a test may be read by its owner alone.
    let mount = make(made.path().to_str().unwrap(), false).unwrap();
    let inside = || -> bool {
        let word = || std::fs::read(format!("{PLACE}/bin/word"));
        let is_attached = matches!(attach(&mount), Ok(Ok(())));
        let is_read_only = std::fs::write(format!("{PLACE}/bin/new"), "")
            .is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem);
        let remounted = rustix::mount::mount_remount(PLACE, rustix::mount::MountFlags::empty(), "");
        is_attached
            && is_read_only
            && word().is_ok_and(|said| said == b"said")
            && remounted == Err(Errno::ROFS)
            && !std::fs::exists(format!("{PLACE}/eye")).unwrap_or(true)
    };
    match sys::fork().unwrap() {
        Forked::Child => super::super::step::live(|| u8::from(!inside())),
        Forked::Parent(child) => {
            let waited =
                rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
            let (_, status) = waited.unwrap().unwrap();
            assert_eq!(status.exit_status(), Some(0));
        }
    }
    assert!(!std::fs::exists(format!("{PLACE}/bin")).unwrap());
    let others = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!others.contains(PLACE), "{others}");
}

#[test]
fn a_toolbox_that_is_not_there_or_not_roots_is_none() {
    assert!(make("/nothing/here", true).unwrap_err().contains("/nothing cannot be read"));
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a toolbox");
        return;
    }
    let made = tempfile::tempdir_in("/run").unwrap();
    std::fs::create_dir(made.path().join("base")).unwrap();
    std::fs::create_dir(made.path().join("trace")).unwrap();
    let path = made.path().to_str().unwrap();
    assert!(make(path, false).unwrap_err().contains("1 directories to join"));
    std::os::unix::fs::chown(made.path().join("trace"), Some(1), None).unwrap();
    assert!(make(path, true).unwrap_err().contains("not root's"));
}
