use super::*;

fn check(method: &Method, status: u16, kind: ErrorKind, is_temporary: bool) {
    let fault = judge(method, StatusCode::from_u16(status).unwrap(), &HeaderMap::new()).unwrap();
    assert_eq!((fault.kind, fault.is_temporary), (kind, is_temporary), "{method} {status}");
}

#[test]
fn a_status_becomes_a_kind() {
    check(&Method::PUT, 401, ErrorKind::Denied, false);
    check(&Method::PUT, 403, ErrorKind::Denied, false);
    check(&Method::PUT, 405, ErrorKind::Invalid, false);
    check(&Method::PUT, 413, ErrorKind::Invalid, false);
    check(&Method::GET, 416, ErrorKind::Corrupt, false);
    check(&Method::PUT, 507, ErrorKind::Full, false);
    for status in [408, 409, 423, 429, 500, 502, 503, 504] {
        check(&Method::PUT, status, ErrorKind::Unavailable, true);
    }
}

#[test]
fn what_opendal_has_to_see_passes() {
    let mkcol = Method::from_bytes(b"MKCOL").unwrap();
    for status in [200, 201, 204, 206, 207, 404] {
        assert_eq!(
            judge(&Method::GET, StatusCode::from_u16(status).unwrap(), &HeaderMap::new()),
            None
        );
    }
    for status in [405, 409] {
        assert_eq!(judge(&mkcol, StatusCode::from_u16(status).unwrap(), &HeaderMap::new()), None);
    }
}

#[test]
fn a_redirect_is_not_followed_but_said() {
    let place = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("https://other/"))]);
    let fault = judge(&Method::GET, StatusCode::MOVED_PERMANENTLY, &place).unwrap();
    assert_eq!(fault.reason, "the server sends us to https://other/ (HTTP 301): give that place");
}

#[test]
fn of_where_a_redirect_leads_no_password_and_no_token_is_repeated() {
    for (place, shown) in [
        ("https://u:p@h:8443/x?X-Amz-Signature=s#t", "https://h:8443/x"),
        ("https://h/a@b/?token=s", "https://h/a@b/"),
        ("https://u@p@h", "https://h"),
        ("//u:p@h/x", "//h/x"),
        ("/login?next=s", "/login"),
        ("other", "other"),
    ] {
        assert_eq!(bare(place), shown);
    }
}

#[test]
fn a_judgement_survives_its_way_through_opendal() {
    let fault = Fault::lasting(ErrorKind::Full, "the store is full");
    assert_eq!(Fault::from(judged(fault.clone())), fault);
    let temporary = Fault::temporary("it is away");
    assert_eq!(Fault::from(judged(temporary.clone())), temporary);
}

#[test]
fn what_opendal_itself_says_becomes_a_kind() {
    let of = |kind| Fault::from(Error::new(kind, "words"));
    assert_eq!(of(opendal::ErrorKind::NotFound).kind, ErrorKind::NotFound);
    assert_eq!(of(opendal::ErrorKind::PermissionDenied).kind, ErrorKind::Denied);
    assert_eq!(of(opendal::ErrorKind::RangeNotSatisfied).kind, ErrorKind::Corrupt);
    assert!(of(opendal::ErrorKind::RateLimited).is_temporary);
    let other = of(opendal::ErrorKind::Unexpected);
    assert_eq!((other.kind, other.is_temporary), (ErrorKind::Invalid, false));
}
