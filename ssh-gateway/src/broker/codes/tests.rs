use super::*;

/// The code of this secret at the time of RFC 6238, appendix B.
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const CODE: &[u8] = b"050471";
/// Its neighbour in time.
const BEFORE: &[u8] = b"081804";

fn now() -> Timestamp {
    Timestamp::from_second(1_111_111_111).unwrap()
}

fn secret(directory: &Path) -> Secret {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join("secret");
    std::fs::write(&path, SECRET).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Secret::load(&path).unwrap()
}

#[tokio::test]
async fn a_code_counts_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret(directory.path());
    let codes = Arc::new(Codes::load(directory.path(), now()));
    assert_eq!(codes.take("alice", &secret, CODE, now()), Ok(()));
    codes.save().await.unwrap();
    assert_eq!(codes.take("alice", &secret, CODE, now()), Err(CodeError::Used));
    // Neither does one from before.
    assert_eq!(codes.take("alice", &secret, BEFORE, now()), Err(CodeError::Used));
    // Somebody else's is another one.
    assert_eq!(codes.take("bob", &secret, CODE, now()), Ok(()));
    let again = Arc::new(Codes::load(directory.path(), now()));
    assert_eq!(again.take("alice", &secret, CODE, now()), Err(CodeError::Used));
    // What was not kept does not count yet.
    assert_eq!(again.take("bob", &secret, CODE, now()), Ok(()));
}

#[test]
fn where_it_is_not_known_what_was_used_all_of_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret(directory.path());
    for text in ["", "{}", r#"{"version":2,"used":{}}"#, r#"{"version":1,"used":{"alice":-1}}"#] {
        std::fs::write(directory.path().join(FILE), text).unwrap();
        let codes = Codes::load(directory.path(), now());
        assert_eq!(codes.take("alice", &secret, CODE, now()), Err(CodeError::Used), "{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let codes = Arc::new(Codes::load(&directory.path().join("gone"), now()));
    assert!(codes.save().await.is_err());
}

#[test]
fn who_gives_wrong_codes_waits_and_longer_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let secret = secret(directory.path());
    let codes = Codes::load(directory.path(), now());
    for _ in 0..WRONG_MAX {
        assert_eq!(codes.take("alice", &secret, b"000000", now()), Err(CodeError::Wrong));
    }
    // Now not even the right one counts, and only for the one who was wrong.
    assert!(matches!(codes.take("alice", &secret, CODE, now()), Err(CodeError::TooMany(_))));
    assert_eq!(codes.take("bob", &secret, CODE, now()), Ok(()));
    assert_eq!(wait(WRONG_MAX - 1), Duration::ZERO);
    assert_eq!((wait(WRONG_MAX), wait(WRONG_MAX + 1)), (WAIT, 2 * WAIT));
    assert_eq!((wait(WRONG_MAX + 10), wait(u32::MAX)), (WAIT_MAX, WAIT_MAX));
}
