use super::*;

#[test]
fn modes() {
    let cases = [
        (0o100644, "-rw-r--r-- "),
        (0o040755, "drwxr-xr-x "),
        (0o120777, "lrwxrwxrwx "),
        (0o010600, "prw------- "),
        (0o140000, "s--------- "),
        (0o020666, "crw-rw-rw- "),
        (0o060660, "brw-rw---- "),
        (0o104755, "-rwsr-xr-x "),
        (0o104644, "-rwSr--r-- "),
        (0o102755, "-rwxr-sr-x "),
        (0o041777, "drwxrwxrwt "),
        (0o041776, "drwxrwxrwT "),
        (0o000000, "?--------- "),
    ];
    for (bits, expected) in cases {
        assert_eq!(mode(bits), expected, "{bits:o}");
    }
}

#[test]
fn times() {
    let now = 1_795_000_000; // 2026-11-18T11:06:40Z
    assert_eq!(time(now, now), "Nov 18 11:06");
    assert_eq!(time(now + 3600, now), "Nov 18 12:06");
    assert_eq!(time(0, now), "Jan  1  1970");
    assert_eq!(time(-1, now), "Dec 31  1969");
    assert_eq!(time(i64::MAX, now), i64::MAX.to_string());
    assert_eq!(time(i64::MIN, now), i64::MIN.to_string());
}

#[test]
fn a_line() {
    let mut stat = rustix::fs::stat("/").expect("the root");
    (stat.st_mode, stat.st_nlink, stat.st_size, stat.st_mtime) = (0o100640, 1, 1234, 0);
    let line = line(&stat, "root", "staff", b"a \xffname", 1_795_000_000);
    let expected: &[u8] = b"-rw-r-----    1 root     staff        1234 Jan  1  1970 a \xffname";
    assert_eq!(line, expected, "{}", String::from_utf8_lossy(&line));
}
