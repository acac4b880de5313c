use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn secret() -> Secret {
    Secret(Zeroizing::new(b"12345678901234567890".to_vec()))
}

#[test]
fn codes_are_those_of_rfc_4226() {
    // Appendix D.
    let wanted = [755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489];
    for (step, code) in (0..).zip(wanted) {
        assert_eq!(secret().code(step), code);
    }
}

#[test]
fn codes_are_those_of_rfc_6238() {
    // Appendix B, SHA-1; the last six of eight digits.
    for (seconds, code) in [
        (59_i64, b"287082"),
        (1_111_111_109, b"081804"),
        (1_111_111_111, b"050471"),
        (1_234_567_890, b"005924"),
        (2_000_000_000, b"279037"),
        (20_000_000_000, b"353130"),
    ] {
        let of = seconds.unsigned_abs() / STEP_SECONDS;
        assert_eq!(secret().step_of(code, at(seconds)), Some(of), "{seconds}");
    }
}

#[test]
fn a_code_counts_one_step_before_and_after() {
    let code = b"050471";
    let of = 1_111_111_111 / STEP_SECONDS;
    for (seconds, counts) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
        let found = secret().step_of(code, at(1_111_111_111 + seconds));
        assert_eq!(found, counts.then_some(of), "{seconds}");
    }
}

#[test]
fn what_is_no_code_is_none() {
    let counts = |given: &[u8]| secret().step_of(given, at(1_111_111_111)).is_some();
    assert!(counts(b"050471") && counts(b"050 471"));
    for given in
        [&b""[..], b"50471", b"0050471", b"05047l", b"+50471", b"-50471", b"050471\n", b"\xff"]
    {
        assert!(!counts(given), "{given:?}");
    }
}

#[test]
fn a_secret_is_read_as_applications_write_it_and_never_shown() {
    let text = secret().base32();
    assert_eq!(text.as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    let spaced = b"gezd gnbv-gy3t qojq gezd gnbv gy3t qojq==\n";
    assert_eq!(Secret::parse(spaced), Some(secret()));
    for wrong in [&b""[..], b"GEZDGNBVGY3TQOJQ", b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ0", b"\xff"] {
        assert_eq!(Secret::parse(wrong), None, "{wrong:?}");
    }
    let uri = secret().uri("alice@example.org");
    assert!(uri.starts_with("otpauth://totp/ssh-gateway:alice%40example.org?secret=GEZDGNBV"));
    assert_eq!(format!("{:?}", secret()), "Secret(…)");
    assert_ne!(Secret::new().unwrap(), Secret::new().unwrap());
}

#[test]
fn a_file_that_others_can_read_is_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    std::fs::write(&path, secret().base32().as_bytes()).unwrap();
    for (mode, is_good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(Secret::load(&path).is_ok(), is_good, "{mode:o}");
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "not a secret").unwrap();
    assert!(matches!(Secret::load(&path), Err(SecretError::Text { .. })));
}
