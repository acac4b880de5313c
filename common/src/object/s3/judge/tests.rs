use super::*;

fn check(status: u16, code: &str, kind: ErrorKind, is_temporary: bool) {
    let fault = judge(status, Some(code), Some("message"));
    assert_eq!((fault.kind, fault.is_temporary), (kind, is_temporary), "{status} {code}");
}

#[test]
fn codes_of_the_service_become_kinds() {
    check(404, "NoSuchBucket", ErrorKind::NoBucket, false);
    check(404, "NoSuchKey", ErrorKind::NotFound, false);
    check(404, "", ErrorKind::NotFound, false);
    check(403, "InvalidAccessKeyId", ErrorKind::Denied, false);
    check(403, "SignatureDoesNotMatch", ErrorKind::Denied, false);
    check(403, "AccessDenied", ErrorKind::Denied, false);
    check(401, "", ErrorKind::Denied, false);
    check(403, "RequestTimeTooSkewed", ErrorKind::Denied, false);
    check(400, "ExpiredToken", ErrorKind::Denied, false);
    check(301, "PermanentRedirect", ErrorKind::Invalid, false);
    check(400, "AuthorizationHeaderMalformed", ErrorKind::Invalid, false);
    check(400, "InvalidRequest", ErrorKind::Invalid, false);
    check(416, "InvalidRange", ErrorKind::Corrupt, false);
    check(507, "", ErrorKind::Full, false);
    check(501, "NotImplemented", ErrorKind::Invalid, false);
}

#[test]
fn only_what_may_pass_is_tried_again() {
    for (status, code) in [
        (500, "InternalError"),
        (502, ""),
        (503, "SlowDown"),
        (504, ""),
        (429, ""),
        (408, ""),
        (409, "OperationAborted"),
        (400, "RequestTimeout"),
    ] {
        check(status, code, ErrorKind::Unavailable, true);
    }
}

#[test]
fn a_message_of_the_service_is_shown_short_and_plain() {
    let message = format!("bad\n\u{1b}[31m{}", "x".repeat(1000));
    let fault = judge(400, Some("InvalidRequest"), Some(&message));
    assert!(fault.reason.starts_with("the store refuses (HTTP 400, InvalidRequest, bad[31mxxx"));
    assert!(fault.reason.len() < 300);
}
