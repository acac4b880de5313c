use super::*;

#[test]
fn masks_have_names() {
    assert_eq!(list(0), "");
    assert_eq!(list(1 | 1 << 21), "CHOWN, SYS_ADMIN");
    assert_eq!(names(1 | 1 << 40), ["CHOWN", "CHECKPOINT_RESTORE"]);
    assert_eq!(list(1 << 63), "capability 63");
}

#[test]
fn names_have_numbers() {
    assert_eq!(number("CAP_SYS_PTRACE"), Some(SYS_PTRACE as usize));
    assert_eq!(number("CHOWN"), Some(0));
    assert_eq!(number("chown"), None);
    assert_eq!(number("CAP_CAP_CHOWN"), None);
}
