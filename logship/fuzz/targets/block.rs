//! The records of a frame: what is accepted can be read to its end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logship::block::Block;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(block) = Block::decode(bytes.to_vec().into(), 0) {
        assert_eq!(block.records().count(), block.count() as usize);
    }
});
