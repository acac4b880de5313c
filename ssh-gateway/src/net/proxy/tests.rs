use proptest::prelude::*;

use super::*;

/// What is read of these bytes, and what is left of them.
async fn read_from(mut bytes: &[u8]) -> (Option<Option<SocketAddr>>, Vec<u8>) {
    let read = read(&mut bytes, HEADER_TIME_MAX).await;
    (read.ok(), bytes.to_vec())
}

fn binary_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x13, 0x88, 8, 0xae];

#[tokio::test]
async fn headers_of_both_versions_are_read_and_nothing_behind_them() {
    let at = |text: &str| Some(Some(text.parse().unwrap()));
    let v6 = [
        &"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..],
        &[0; 16],
        &[0x13, 0x88, 8, 0xae],
    ]
    .concat();
    for (header, wanted) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 2222\r\n".to_vec(), at("192.0.2.7:5000")),
        (b"PROXY TCP6 2001:db8::7 ::1 5000 2222\r\n".to_vec(), at("[2001:db8::7]:5000")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some(None)),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Some(None)),
        (binary_header(0x21, 0x11, &V4), at("192.0.2.7:5000")),
        (binary_header(0x21, 0x11, &[&V4[..], b"\x03\x00\x01x"].concat()), at("192.0.2.7:5000")),
        (binary_header(0x21, 0x21, &v6), at("[2001:db8::7]:5000")),
        (binary_header(0x20, 0x00, b""), Some(None)),
        (binary_header(0x20, 0x11, &V4), Some(None)),
        (binary_header(0x21, 0x00, b""), Some(None)),
    ] {
        let (read, rest) = read_from(&[&header[..], b"SSH-2.0-x\r\n"].concat()).await;
        assert_eq!(read, wanted, "{:?}", String::from_utf8_lossy(&header));
        assert_eq!(rest, b"SSH-2.0-x\r\n", "{:?}", String::from_utf8_lossy(&header));
    }
}

#[tokio::test]
async fn what_is_no_header_is_none() {
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
    for bytes in [
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5000\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 2222 1\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::7 10.0.0.1 5000 2222\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.7 ::1 5000 2222\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 +500 2222\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 2222\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.07 10.0.0.1 5000 2222\r\n".to_vec(),
        b"PROXY  TCP4 192.0.2.7 10.0.0.1 5000 2222\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.7 10.0.0.1 5000 2222\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 5000 2222\n".to_vec(),
        long.into_bytes(),
        binary_header(0x31, 0x11, &V4),
        binary_header(0x22, 0x11, &V4),
        binary_header(0x21, 0x12, &V4),
        binary_header(0x21, 0x31, &[0; 216]),
        binary_header(0x21, 0x11, &V4[..11]),
        binary_header(0x21, 0x11, &[0; 2000]),
        SIGNATURE.to_vec(),
        b"PROXY".to_vec(),
        Vec::new(),
    ] {
        let (read, _) = read_from(&bytes).await;
        assert_eq!(read, None, "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let (mut ours, _theirs) = tokio::io::duplex(64);
    let late = read(&mut ours, Duration::ZERO).await;
    assert!(matches!(late, Err(HeaderError::Late)));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..300), is_begun in any::<bool>()) {
        let all = if is_begun { [&SIGNATURE[..], &bytes].concat() } else { bytes };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(read_from(&all));
    }
}
