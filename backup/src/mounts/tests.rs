use super::*;

/// Docker 20.10, cgroup v1, fuse-overlayfs: `docker run --init --tmpfs /scratch` with a named volume,
/// an anonymous volume, a bind mount and the engine's socket.
const DOCKER: &str = include_str!("docker-20.10.mountinfo");

/// Podman 4 as its documentation and proc_pid_mountinfo(5) describe it: rootless, cgroup v2, SELinux.
const PODMAN: &str = include_str!("podman-4.mountinfo");

fn check(text: &str, own: &[&str], expected: &[&str]) {
    let own: Vec<PathBytes> = own.iter().map(|path| path.as_bytes().to_vec()).collect();
    let found: Vec<String> = volumes(&parse(text.as_bytes()), &own)
        .into_iter()
        .map(|volume| String::from_utf8(volume.mount_point).unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn named_anonymous_and_bind_volumes_of_docker_are_picked() {
    check(DOCKER, &[], &["data", "srv/repo", "var/lib/anon"]);
    check(DOCKER, &["srv/repo"], &["data", "var/lib/anon"]);
}

#[test]
fn volumes_of_podman_are_picked() {
    check(PODMAN, &[], &["data", "overlay"]);
}

#[test]
fn mounts_below_the_repository_are_left_out_and_neighbours_stay() {
    let line = |point: &str| format!("1 2 0:1 / {point} rw - ext4 /dev/a rw\n");
    let text: String = ["/repo", "/repo/packs", "/repository"].map(line).concat();
    check(&text, &["repo"], &["repository"]);
}

#[test]
fn a_volume_knows_type_source_and_whether_it_is_read_only() {
    let volumes = volumes(&parse(DOCKER.as_bytes()), &[]);
    let data = volumes.first().unwrap();
    assert_eq!((data.fs_type.as_str(), data.source.as_slice()), ("ext4", &b"/dev/vda"[..]));
    assert!(data.read_only);
    assert!(!volumes.last().unwrap().read_only);
}

#[test]
fn escaped_names_and_any_number_of_optional_fields_are_read() {
    let text =
        br"1 2 0:1 /a\134b /sp\040ace\011and\012more rw shared:1 master:2 x:3 - nfs4 host:/x rw";
    let mounts = parse(text);
    let [mount] = mounts.as_slice() else { panic!("{mounts:?}") };
    assert_eq!(mount.mount_point, b"sp ace\tand\nmore");
    assert_eq!(mount.root, br"/a\b");
    assert_eq!(unescape(br"\8\04\777\"), br"\8\04\777\");
}

#[test]
fn the_last_mount_on_a_point_counts() {
    let text = "1 2 0:1 / /data rw - ext4 /dev/a rw\n3 1 0:2 / /data rw - tmpfs tmpfs rw\n";
    check(text, &[], &[]);
}

#[test]
fn damaged_lines_are_passed_over() {
    let text = "\n1 2 3\n1 2 0:1 / data rw - ext4 a rw\n1 2 0:1 / /x rw ext4 a rw\n";
    assert_eq!(parse(text.as_bytes()), []);
}

#[test]
fn below_means_inside_and_not_beside() {
    assert!(is_below(b"a/b", b"a"));
    assert!(is_below(b"a", b""));
    assert!(!is_below(b"a", b"a"));
    assert!(!is_below(b"ab", b"a"));
    assert!(!is_below(b"", b""));
}
