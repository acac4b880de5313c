use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn question(name: &str, family: Family) -> Question {
    Question { id: 0x1234, name: Name::of(name).unwrap(), family }
}

/// A reply with these flags whose records are as given, beside the question.
fn message(question: &Question, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = question.encode();
    bytes[2..4].copy_from_slice(&(FLAG_RESPONSE | flags).to_be_bytes());
    bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    bytes.extend(records.concat());
    bytes
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes.extend([0, 0, 0, 60]);
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Where the name of the question is.
const ASKED: [u8; 2] = [0xc0, 12];

fn wire(name: &str) -> Vec<u8> {
    Name::of(name).unwrap().0
}

#[test]
fn a_question_travels_as_rfc_1035_says() {
    let bytes = question("Db.Example.", Family::V6).encode();
    let mut wanted = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    wanted.extend(b"\x02db\x07example\x00\x00\x1c\x00\x01");
    assert_eq!(bytes, wanted);
}

#[test]
fn only_names_of_hosts_are_names() {
    let label = "x".repeat(63);
    for good in ["db", "a.b.", "_srv._tcp", "xn--bcher-kva.example", &label, "1"] {
        assert!(Name::of(good).is_some(), "{good}");
    }
    let long = [label.as_str(); 4].join(".");
    for bad in [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a\0b",
        "bücher",
        "a/b",
        "a:b",
        &format!("{label}x"),
        &long,
    ] {
        assert!(Name::of(bad).is_none(), "{bad}");
    }
}

#[test]
fn addresses_are_found_and_other_records_are_passed_over() {
    let asked = question("db", Family::V4);
    let records = [
        record(&ASKED, 16, b"\x04text"),
        record(&ASKED, 1, &[10, 0, 0, 1]),
        record(&wire("other"), 1, &[10, 0, 0, 9]),
        record(&wire("DB"), 1, &[10, 0, 0, 2]),
    ];
    let wanted =
        [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)].map(IpAddr::from).to_vec();
    assert_eq!(asked.reply(&message(&asked, 0, &records)), Some(Reply::Addresses(wanted)));
    let asked = question("db", Family::V6);
    let records = [record(&ASKED, 28, &Ipv6Addr::LOCALHOST.octets())];
    let wanted = vec![IpAddr::from(Ipv6Addr::LOCALHOST)];
    assert_eq!(asked.reply(&message(&asked, 0, &records)), Some(Reply::Addresses(wanted)));
}

#[test]
fn aliases_are_followed_to_their_end_in_any_order() {
    let asked = question("a", Family::V4);
    let records = [
        record(&wire("c"), 1, &[10, 0, 0, 1]),
        record(&wire("b"), ALIAS, &wire("c")),
        record(&ASKED, ALIAS, &wire("b")),
    ];
    let wanted = Reply::Addresses(vec![Ipv4Addr::new(10, 0, 0, 1).into()]);
    assert_eq!(asked.reply(&message(&asked, 0, &records)), Some(wanted));
    assert_eq!(asked.reply(&message(&asked, 0, &records[1..])), Some(Reply::NoAddress));
    assert_eq!(asked.reply(&message(&asked, 0, &[])), Some(Reply::NoAddress));
}

#[test]
fn aliases_without_end_and_broken_records_are_failures() {
    let asked = question("a", Family::V4);
    let circle = [record(&ASKED, ALIAS, &wire("b")), record(&wire("b"), ALIAS, &wire("a"))];
    let chain: Vec<_> = (0..20)
        .map(|n| {
            (if n == 0 { wire("a") } else { wire(&format!("n{n}")) }, wire(&format!("n{}", n + 1)))
        })
        .map(|(owner, target)| record(&owner, ALIAS, &target))
        .collect();
    for records in [
        circle.to_vec(),
        chain,
        vec![record(&ASKED, 1, &[10, 0, 0])],
        vec![record(&ASKED, ALIAS, &[0xff, 0xff])],
        vec![vec![0xc0]],
        vec![record(&ASKED, 1, &[10, 0, 0, 1])[..12].to_vec()],
    ] {
        let reply = asked.reply(&message(&asked, 0, &records));
        assert_eq!(reply, Some(Reply::Failed), "{records:?}");
    }
}

#[test]
fn compressed_names_go_only_backwards() {
    let asked = question("a", Family::V4);
    let at = u8::try_from(asked.encode().len()).unwrap();
    for name in
        [vec![0xc0, at], vec![0xc0, at + 2, 0xc0, at], vec![0xc3, 0xff], vec![0x80], vec![0x41]]
    {
        let records = [record(&name, 1, &[10, 0, 0, 1])];
        assert_eq!(asked.reply(&message(&asked, 0, &records)), Some(Reply::Failed), "{name:?}");
    }
}

#[test]
fn codes_of_servers_mean_what_they_say() {
    let asked = question("a", Family::V4);
    for (flags, wanted) in [
        (0, Reply::NoAddress),
        (2, Reply::Failed),
        (3, Reply::NoName),
        (5, Reply::Failed),
        (FLAG_TRUNCATED, Reply::Truncated),
        (FLAG_TRUNCATED | 3, Reply::Truncated),
    ] {
        assert_eq!(asked.reply(&message(&asked, flags, &[])), Some(wanted), "{flags:#x}");
    }
    let mut short = message(&asked, 1, &[])[..12].to_vec();
    short[4..6].copy_from_slice(&[0, 0]);
    assert_eq!(asked.reply(&short), Some(Reply::Failed));
}

#[test]
fn what_is_no_reply_to_the_question_is_none() {
    let asked = question("a", Family::V4);
    let good = message(&asked, 0, &[]);
    let other = |name: &str, family, id| {
        let other = Question { id, ..question(name, family) };
        message(&other, 0, &[])
    };
    let mut not_a_response = good.clone();
    not_a_response[2] = 0;
    let mut two_questions = good.clone();
    two_questions[5] = 2;
    let mut no_question = good.clone();
    no_question[5] = 0;
    for bytes in [
        other("a", Family::V4, 0x1235),
        other("b", Family::V4, 0x1234),
        other("a", Family::V6, 0x1234),
        not_a_response,
        two_questions,
        no_question,
        good[..11].to_vec(),
        Vec::new(),
    ] {
        assert_eq!(asked.reply(&bytes), None, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        question("a", Family::V4).reply(&bytes);
    }

    #[test]
    fn any_records_are_read_without_harm(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xc0), Just(12), 0..4u8], 0..300),
        records in any::<u16>(),
    ) {
        let asked = question("a.b", Family::V6);
        let mut reply = message(&asked, 0, &[bytes]);
        reply[6..8].copy_from_slice(&records.to_be_bytes());
        asked.reply(&reply);
    }

    #[test]
    fn what_was_asked_is_recognised(text in "[a-zA-Z0-9_-]{1,20}(\\.[a-zA-Z0-9_-]{1,20}){0,5}\\.?", id in any::<u16>()) {
        let asked = Question { id, name: Name::of(&text).unwrap(), family: Family::V4 };
        let reply = message(&asked, 0, &[record(&ASKED, 1, &[1, 2, 3, 4])]);
        let wanted = Reply::Addresses(vec![Ipv4Addr::new(1, 2, 3, 4).into()]);
        prop_assert_eq!(asked.reply(&reply), Some(wanted));
    }
}
