use super::*;

const OBJECT: &str = "0123456789";

/// The bytes 2 to 5 out of an answer, however its body is cut up, or why not.
fn read(sent: Option<&str>, body: &str, is_length_known: bool) -> Result<String, Fault> {
    read_as(sent.is_some(), sent, body, is_length_known)
}

/// The same with what the status says: whether it is a part.
fn read_as(
    is_part: bool,
    sent: Option<&str>,
    body: &str,
    is_length_known: bool,
) -> Result<String, Fault> {
    let mut found = Vec::new();
    for step in [1, 2, 3, 100] {
        let length = is_length_known.then_some(body.len() as u64);
        let mut cut = Cut::of(&(2..5), is_part, sent, length)?;
        let mut taken = String::new();
        for piece in body.as_bytes().chunks(step) {
            if cut.is_done() {
                break;
            }
            let part = cut.take(&Bytes::copy_from_slice(piece));
            taken.push_str(std::str::from_utf8(&part).unwrap());
        }
        assert!(taken.len() as u64 == cut.length() && cut.is_done());
        found.push(taken);
    }
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
    Ok(found.remove(0))
}

#[test]
fn a_part_that_is_named_is_taken_and_one_out_of_a_whole_is_cut() {
    for (sent, body, wanted) in [
        (Some("bytes 2-4/10"), "234", "234"),
        (Some("bytes 2-4/*"), "234", "234"),
        // The object ends there.
        (Some("bytes 2-3/4"), "23", "23"),
        (None, OBJECT, "234"),
        (None, "01234", "234"),
    ] {
        assert_eq!(read(sent, body, true), Ok(wanted.to_owned()), "{sent:?}");
    }
    assert_eq!(read(Some("bytes 2-4/10"), "234", false), Ok("234".to_owned()));
}

#[test]
fn what_may_be_other_bytes_is_no_answer() {
    for (sent, body, is_length_known, kind, reason) in [
        (Some("bytes 0-2/10"), "012", true, ErrorKind::Unavailable, "sends another part"),
        (Some("bytes 2-5/10"), "2345", true, ErrorKind::Unavailable, "sends another part"),
        (Some("bytes 4-2/10"), "234", true, ErrorKind::Unavailable, "not say which part"),
        (Some("bytes */10"), "234", true, ErrorKind::Unavailable, "not say which part"),
        (Some("pages 2-4/10"), "234", true, ErrorKind::Unavailable, "not say which part"),
        (Some("bytes 2-4/10"), "2345", true, ErrorKind::Unavailable, "4 bytes and says that"),
        (None, "234", true, ErrorKind::Corrupt, "it ends at byte 3, but bytes 2 to 5"),
        (None, OBJECT, false, ErrorKind::Invalid, "cannot send a part of a file"),
    ] {
        let fault = read(sent, body, is_length_known).unwrap_err();
        assert_eq!(fault.kind, kind, "{sent:?}: {}", fault.reason);
        assert!(fault.reason.contains(reason), "{sent:?}: {}", fault.reason);
    }
}

#[test]
fn no_large_object_is_read_for_a_small_part() {
    let far = WHOLE_BYTES_MAX..WHOLE_BYTES_MAX + 1;
    let fault = Cut::of(&far, false, None, Some(u64::MAX)).unwrap_err();
    assert_eq!(fault.kind, ErrorKind::Invalid);
    let near = WHOLE_BYTES_MAX - 1..WHOLE_BYTES_MAX;
    assert_eq!(Cut::of(&near, false, None, Some(u64::MAX)).unwrap().length(), 1);
}

#[test]
fn a_part_that_says_nothing_of_itself_is_never_taken_for_the_whole() {
    for body in ["234", "01234", OBJECT] {
        let fault = read_as(true, None, body, true).unwrap_err();
        assert!(fault.is_temporary && fault.reason.contains("not say which part"), "{fault:?}");
    }
}

#[test]
fn the_time_of_a_part_is_that_of_all_before_it_as_far_as_it_is_read() {
    assert_eq!(bytes_of_part(&(2..5)), 5);
    assert_eq!(bytes_of_part(&(WHOLE_BYTES_MAX..WHOLE_BYTES_MAX + 9)), WHOLE_BYTES_MAX);
    assert_eq!(bytes_of_part(&(0..2 * WHOLE_BYTES_MAX)), 2 * WHOLE_BYTES_MAX);
}

#[cfg(feature = "stores")]
#[test]
fn a_request_says_what_it_wants() {
    assert_eq!(asked("bytes=2-4"), Some(2..5));
    for text in ["bytes=-5", "bytes=2-", "bytes 2-4", "bytes=0-18446744073709551615"] {
        assert_eq!(asked(text), None, "{text}");
    }
}
