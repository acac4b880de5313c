use super::*;

#[test]
fn a_label_is_itself_with_or_without_a_mode() {
    for (attribute, is_it) in [
        ("docker-default (enforce)\n", true),
        ("docker-default", true),
        ("docker-default\0", true),
        ("docker-default2 (enforce)", false),
        ("docker-default//child (enforce)", false),
        ("unconfined\n", false),
        ("", false),
    ] {
        assert_eq!(is_label(attribute, "docker-default"), is_it, "{attribute}");
    }
}

#[test]
fn the_proc_for_labels_has_processes_and_nothing_else() {
    let Ok(proc) = proc_of_processes() else {
        println!("skipped: needs root, and Linux 5.8");
        return;
    };
    let own = kernel_file(&proc, "thread-self/stat").unwrap();
    assert!(own.starts_with(|first: char| first.is_ascii_digit()), "{own}");
    for absent in ["sys", "sysrq-trigger", "kcore", "mounts", "filesystems"] {
        let found = openat(&proc, absent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        // `mounts` is a link into `self`.
        assert!(found.is_err() || absent == "mounts", "{absent}");
    }
}
