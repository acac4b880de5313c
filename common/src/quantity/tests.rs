use super::*;

#[test]
fn a_size_is_a_number_and_a_unit() {
    let cases = [
        ("0", 0),
        ("512", 512),
        ("100MB", 100_000_000),
        ("1GiB", 1 << 30),
        ("8 mib", 8 << 20),
        ("3k", 3_000),
        ("2TiB", 2 << 40),
    ];
    for (text, bytes) in cases {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn a_duration_is_a_number_and_a_unit() {
    let cases = [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000)];
    for (text, milliseconds) in cases {
        assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
    }
    assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
}

#[test]
fn what_is_neither_is_named() {
    for text in ["", "MB", "-1", "1.5GB", "1XB", "1 0", "99999999999999999999"] {
        assert_eq!(size(text), Err(QuantityError::Size(text.to_owned())), "{text}");
    }
    for text in ["", "5", "m", "1 week", "-3s", "1M"] {
        assert_eq!(duration(text), Err(QuantityError::Duration(text.to_owned())), "{text}");
    }
    assert!(matches!(size("99999999TiB"), Err(QuantityError::TooLarge(_))));
}
