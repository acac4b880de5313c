use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

#[test]
fn the_files_that_docker_mounts_name_the_container() {
    let mountinfo = format!(
        "588 520 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l/{OTHER}\n\
         601 588 8:1 /var/lib/docker/volumes/{OTHER}/_data /data rw - ext4 /dev/sda1 rw\n\
         602 588 8:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n"
    );
    assert_eq!(id_in_mountinfo(&mountinfo), Some(ID));
}

#[test]
fn the_files_that_podman_mounts_name_the_container() {
    let mountinfo = format!(
        "700 688 0:25 /containers/storage/overlay-containers/{ID}/userdata/hostname /etc/hostname \
         rw,nosuid - tmpfs tmpfs rw\n"
    );
    assert_eq!(id_in_mountinfo(&mountinfo), Some(ID));
}

#[test]
fn a_machine_outside_of_containers_names_none() {
    let mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                     23 22 0:4 / /proc rw\n\nbroken\n";
    assert_eq!(id_in_mountinfo(mountinfo), None);
    assert_eq!(id_in_cgroup("0::/user.slice/user-1000.slice/session-1.scope\n"), None);
    assert!(candidates(mountinfo, "0::/\n", "server-1").is_empty());
}

#[test]
fn every_form_of_a_cgroup_path_names_the_container() {
    for path in [
        format!("12:memory:/docker/{ID}\n"),
        format!("0::/system.slice/docker-{ID}.scope\n"),
        format!("0::/machine.slice/libpod-{ID}.scope/container\n"),
        format!("1:cpu:/kubepods.slice/cri-containerd-{ID}.scope\n"),
        format!("0::/docker/{OTHER}/docker/{ID}\n"),
    ] {
        assert_eq!(id_in_cgroup(&path), Some(ID), "{path}");
    }
    assert_eq!(id_in_cgroup("nonsense\n0::/docker/short\n"), None);
}

#[test]
fn the_host_name_is_tried_last_and_an_id_once() {
    let short = ID.split_at(SHORT_ID_DIGITS).0;
    let cgroup = format!("0::/docker/{ID}\n");
    assert_eq!(candidates("", &cgroup, short), [ID]);
    assert_eq!(candidates("", "0::/\n", short), [short]);
    assert_eq!(candidates("", &cgroup, "fedcba987654"), [ID, "fedcba987654"]);
}
