use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// An ELF program of 64 bits with segments of these types.
fn program(is_little: bool, segments: &[u32]) -> Vec<u8> {
    let number = |value: u64, length: usize| -> Vec<u8> {
        let bytes = value.to_le_bytes();
        let bytes = bytes[..length].to_vec();
        if is_little { bytes } else { bytes.into_iter().rev().collect() }
    };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, if is_little { 1 } else { 2 }];
    bytes.resize(32, 0);
    bytes.extend(number(64, 8));
    bytes.resize(54, 0);
    bytes.extend(number(56, 2));
    bytes.extend(number(segments.len() as u64, 2));
    bytes.resize(64, 0);
    for segment in segments {
        let begin = bytes.len();
        bytes.extend(number(u64::from(*segment), 4));
        bytes.resize(begin + 56, 0);
    }
    bytes
}

#[test]
fn a_static_program_is_one_without_an_interpreter() {
    for is_little in [true, false] {
        assert_eq!(is_static(&program(is_little, &[1, 2, 7])), Some(true));
        assert_eq!(is_static(&program(is_little, &[6, 3, 1])), Some(false));
        let whole = program(is_little, &[1, 2]);
        for length in 0..whole.len() - 52 {
            assert_eq!(is_static(&whole[..length]), None, "{length}");
        }
    }
    assert_eq!(is_static(b"#!/bin/sh\n"), None);
    let mut endless = program(true, &[1]);
    endless[32..40].fill(0xff);
    endless[54..58].fill(0xff);
    assert_eq!(is_static(&endless), None);
}

#[test]
fn what_programs_are_run_from_is_roots_alone() {
    let (file, directory) = (libc::S_IFREG, libc::S_IFDIR);
    for (uid, mode, is_link, word) in [
        (0, file | 0o755, false, None),
        (0, directory | 0o755, false, None),
        (0, directory | 0o2755, false, None),
        (0, libc::S_IFLNK | 0o777, true, None),
        (1000, file | 0o755, false, Some("not root's")),
        (1000, libc::S_IFLNK | 0o777, true, Some("not root's")),
        (0, file | 0o775, false, Some("written by others")),
        (0, directory | 0o1777, false, Some("written by others")),
        (0, file | 0o4755, false, Some("set-user-ID")),
        (0, file | 0o2755, false, Some("set-user-ID")),
    ] {
        let fault = owner_fault(uid, mode, is_link);
        assert_eq!(fault.is_some(), word.is_some(), "{uid} {mode:o}");
        assert!(fault.unwrap_or_default().contains(word.unwrap_or_default()), "{fault:?}");
    }
}

/// A toolbox as it should be; `None` where it cannot be root's.
fn toolbox() -> Option<tempfile::TempDir> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a toolbox");
        return None;
    }
    // Others may write in the directory for temporary files.
    let made = tempfile::tempdir_in("/run").unwrap();
    for directory in ["base/bin", "notices", "trace/bin"] {
        std::fs::create_dir_all(made.path().join(directory)).unwrap();
    }
    std::fs::write(made.path().join("base/bin/box"), program(true, &[1])).unwrap();
    symlink("box", made.path().join("base/bin/sh")).unwrap();
    Some(made)
}

#[test]
fn each_fault_of_a_toolbox_is_told_with_its_place() {
    let Some(good) = toolbox() else { return };
    assert_eq!(check(good.path()).unwrap(), ["base", "notices", "trace"]);
    type Change = fn(&Path);
    let cases: [(Change, &str); 9] = [
        (|root| std::fs::remove_dir_all(root.join("base")).unwrap(), "no directory base"),
        (|root| std::fs::remove_dir_all(root.join("notices")).unwrap(), "nothing but base"),
        (|root| std::fs::remove_file(root.join("base/bin/sh")).unwrap(), "bin/sh cannot be read"),
        (
            |root| std::fs::write(root.join("base/bin/box"), program(true, &[3])).unwrap(),
            "static shell",
        ),
        (|root| std::fs::write(root.join("base/bin/box"), "#!/bin/ash").unwrap(), "no program"),
        (|root| symlink("/bin/ls", root.join("base/bin/ls")).unwrap(), "bin/ls is a link"),
        (
            |root| {
                let mode = std::fs::Permissions::from_mode(0o775);
                std::fs::set_permissions(root.join("trace/bin"), mode).unwrap();
            },
            "trace/bin can be written",
        ),
        (
            |root| {
                let mut path = root.join("notices");
                for _ in 0..=DEPTH_MAX {
                    path.push("d");
                }
                std::fs::create_dir_all(path).unwrap();
            },
            "deeper than 16",
        ),
        (
            |root| {
                for number in 0..LAYERS.end() - 2 {
                    std::fs::create_dir(root.join(format!("more{number}"))).unwrap();
                }
            },
            "17 directories",
        ),
    ];
    for (change, words) in cases {
        let Some(made) = toolbox() else { return };
        change(made.path());
        let said = chores_common::exit::chain(&check(made.path()).unwrap_err());
        assert!(said.contains(words), "{said}");
    }
    assert!(check(Path::new("/nothing/here")).is_err());
}

#[test]
fn nobody_but_root_can_put_another_toolbox_in_its_place() {
    let Some(made) = toolbox() else { return };
    let above = made.path().join("above");
    let inner = above.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    assert!(open(&inner).is_ok());
    let said = |path: &Path| chores_common::exit::chain(&open(path).unwrap_err());
    for mode in [0o777, 0o1777, 0o775] {
        std::fs::set_permissions(&above, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(said(&inner).contains("above is above it"), "{mode:o}: {}", said(&inner));
    }
    std::fs::set_permissions(&above, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&above, Some(1), None).unwrap();
    assert!(said(&inner).contains("above is above it"), "{}", said(&inner));
    std::os::unix::fs::chown(&above, Some(0), None).unwrap();
    symlink(&above, made.path().join("link")).unwrap();
    assert!(said(&made.path().join("link")).contains("link is a link"));
    assert!(said(&made.path().join("link/inner")).contains("link is a link"));
    assert!(said(&above.join("../above")).contains("no plain path"));
}
