use super::*;
use crate::encode::tests::unhex;

/// A batch of `{}` and `x` as librdkafka 2.0.2 would sum it: attributes, offsets, times, who, how many, records.
#[test]
fn a_batch_is_laid_out_and_summed_as_brokers_check_it() {
    let message = |time_ms, value| Message { time_ms, key: b"k", value };
    let messages = [message(1000, &b"{}"[..]), message(999, b"x")];
    let producer = Producer { id: 7, epoch: 1, sequence: 5 };
    let bytes = batch(&messages, producer, false).unwrap();
    let summed = unhex(concat!(
        "0000",
        "00000001",
        "00000000000003e8",
        "00000000000003e8",
        "0000000000000007",
        "0001",
        "00000005",
        "00000002",
        "12000000026b047b7d00",
        "10000102026b027800",
    ));
    let mut expected = unhex("0000000000000000");
    expected.extend_from_slice(&u32::try_from(summed.len() + 9).unwrap().to_be_bytes());
    expected.extend_from_slice(&unhex("ffffffff02"));
    expected.extend_from_slice(&crc32c::crc32c(&summed).to_be_bytes());
    expected.extend_from_slice(&summed);
    assert_eq!(bytes, expected);
}

#[test]
fn a_request_says_how_long_it_is_and_who_asks() {
    let bytes = request(Api::Metadata, 3, &metadata_request("logs"));
    assert_eq!(
        bytes,
        unhex(
            "0000001b00030001000000030007 6c6f6773686970 00000001 0004 6c6f6773"
                .replace(' ', "")
                .as_str()
        )
    );
}

#[test]
fn answers_of_a_real_library_are_understood() {
    // What the mock brokers of librdkafka 2.0.2 said.
    let bytes = unhex(concat!(
        "0000000200000001",
        "0009",
        "3132372e302e302e31",
        "0000afc1",
        "ffff",
        "00000002",
        "0009",
        "3132372e302e302e31",
        "0000936d",
        "ffff",
        "00000000",
        "00000001",
        "0000",
        "0004",
        "6c6f6773",
        "00",
        "00000002",
        "0000",
        "00000001",
        "00000002",
        "00000002",
        "00000002",
        "00000001",
        "00000002",
        "00000002",
        "00000001",
        "0000",
        "00000000",
        "00000001",
        "00000001",
        "00000001",
        "00000001",
        "00000001",
    ));
    let metadata = metadata(&bytes).unwrap();
    assert_eq!(metadata.partitions, [(0, 1), (1, 2)]);
    assert_eq!(metadata.brokers[1], (2, "127.0.0.1".to_owned(), 37_741));
    for end in 0..bytes.len() {
        assert_eq!(super::metadata(&bytes[..end]), Err(Gibberish), "{end}");
    }
    let (error, known) = producer(&unhex("000000000000000000002b4276800000")).unwrap();
    assert_eq!((error, known), (0, Producer { id: 0x2b42_7680, epoch: 0, sequence: 0 }));
    let answer = "0000000100046c6f677300000001000000020000000000000000002a000000000000000000000000";
    assert_eq!(produced(&unhex(answer)), Ok(0));
    assert_eq!(login(&unhex("003a")), Ok(58));
}

#[test]
fn an_error_tells_whether_to_try_again() {
    let fates = [0, 46, 10, 59, 6, -1].map(fate);
    let expected =
        [Fate::Stored, Fate::Stored, Fate::Never, Fate::Stranger, Fate::Later, Fate::Later];
    assert_eq!(fates, expected);
}
