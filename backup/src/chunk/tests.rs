use fastcdc::v2020::FastCDC;
use proptest::prelude::*;

use super::*;

fn params() -> ChunkerParams {
    ChunkerParams { min_bytes: 256, average_bytes: 1024, max_bytes: 4096, ..Default::default() }
}

#[test]
fn an_id_is_32_lower_case_hex_digits_and_nothing_else() {
    let text = "00ff0a1b2c3d4e5f60718293a4b5c6d7";
    assert_eq!(text.parse::<ChunkId>().unwrap().to_string(), text);
    for bad in [
        "",
        "00",
        text.get(1..).unwrap(),
        &format!("{text}0"),
        &text.to_uppercase(),
        "é0ff0a1b2c3d4e5f60718293a4b5c6d",
    ] {
        assert!(bad.parse::<ChunkId>().is_err(), "{bad}");
    }
}

#[test]
fn ids_depend_on_key_and_content() {
    let (one, two) = (DedupKey::generate().unwrap(), DedupKey::generate().unwrap());
    assert_ne!(one.id_of(b"a"), two.id_of(b"a"));
    assert_ne!(one.id_of(b"a"), one.id_of(b"b"));
    assert_eq!(DedupKey::from_hex(&one.to_hex()), Some(one.clone()));
    assert_eq!(DedupKey::from_hex("12"), None);
    assert!(!format!("{one:?}").contains(&one.to_hex()));
}

#[test]
fn unusable_parameters_are_refused() {
    let good = ChunkerParams::default();
    Cutter::new(&good).unwrap();
    for bad in [
        ChunkerParams { algorithm: "rabin".to_owned(), ..good.clone() },
        ChunkerParams { normalization: 4, ..good.clone() },
        ChunkerParams { min_bytes: 0, ..good.clone() },
        ChunkerParams { min_bytes: 128 << 10, ..good.clone() },
        ChunkerParams { average_bytes: 512 << 10, ..good.clone() },
        ChunkerParams { max_bytes: 4 << 20, ..good.clone() },
        ChunkerParams { average_bytes: 65_537, ..good.clone() },
        ChunkerParams { whole_file_bytes_max: u32::MAX, ..good.clone() },
    ] {
        assert!(Cutter::new(&bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn cuts_are_those_of_fastcdc_over_the_whole_buffer_however_it_arrives(
        seed in any::<u64>(),
        length in 0_usize..60_000,
        steps in prop::collection::vec(1_usize..9000, 1..20),
        repeat in 1_usize..300,
    ) {
        let noise = crate::create::tests::noise(seed, length.div_ceil(repeat));
        let content: Vec<u8> = noise.iter().copied().cycle().take(if noise.is_empty() { 0 } else { length }).collect();
        let params = params();
        let cutter = Cutter::new(&params).unwrap();
        let whole: Vec<usize> = FastCDC::with_level(&content, 256, 1024, 4096, Normalization::Level1)
            .map(|chunk| chunk.length)
            .collect();
        let (mut cuts, mut pending, mut rest) = (Vec::new(), Vec::new(), content.as_slice());
        for step in steps.iter().cycle() {
            let (head, tail) = rest.split_at((*step).min(rest.len()));
            pending.extend_from_slice(head);
            rest = tail;
            while let Some(length) = cutter.next_cut(&pending, rest.is_empty()) {
                cuts.push(length);
                pending.drain(..length);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(pending.is_empty());
        prop_assert_eq!(cuts, whole);
    }
}
