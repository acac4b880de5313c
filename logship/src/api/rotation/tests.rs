use super::*;

fn of(driver: &str, options: &[(&str, &str)]) -> Rotation {
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Rotation::of(driver, &options.collect())
}

#[test]
fn a_json_file_is_rotated_only_when_asked_for() {
    assert!(of("json-file", &[]).is_never());
    assert!(of("json-file", &[("max-size", "-1")]).is_never());
    let rotation = of("json-file", &[("max-size", "10m"), ("max-file", "3")]);
    assert_eq!(rotation.retained_bytes, Some(30_000_000));
    assert!(rotation.pieces_share_time);
}

#[test]
fn other_drivers_rotate_unless_told_otherwise() {
    assert_eq!(of("local", &[]).retained_bytes, Some(100_000_000));
    let rotation = of("journald", &[]);
    assert_eq!((rotation.file_bytes, rotation.retained_bytes), (Some(UNKNOWN_FILE_BYTES), None));
    assert!(!rotation.pieces_share_time);
}

#[test]
fn only_docker_reads_a_tail_and_follows_at_one_place() {
    let docker = of("json-file", &[]);
    assert!(docker.is_never() && !docker.tail_may_skip);
    let podman = docker.elsewhere();
    assert!(!podman.is_never() && podman.tail_may_skip && !podman.pieces_share_time);
    // What is guessed tells nothing of how much there is.
    assert_eq!(podman.retained_bytes, None);
    let limited = of("json-file", &[("max-size", "10m")]).elsewhere();
    assert_eq!(limited.file_bytes, Some(10_000_000));
}

#[test]
fn sizes_are_read_as_the_engine_reads_them() {
    let sizes = [("100", 100), ("1.5k", 1500), ("10m", 10_000_000), ("2 GB", 2_000_000_000)];
    for (text, bytes) in sizes {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "k", "ten", "10x", "-1", "nan"] {
        assert_eq!(size(text), None, "{text}");
    }
}
