use super::*;
use crate::pack::ChunkPlace;

fn pack(name: u8, chunks: &[u8]) -> IndexedPack {
    let places = chunks.iter().map(|id| ChunkPlace {
        id: ChunkId([*id; 16]),
        frame: 0,
        offset: 512,
        length: 10,
    });
    let index = PackIndex {
        kind: PackKind::Data,
        frames: vec![FramePlace { start: 0, stored: 100, content: 1024 }],
        chunks: places.collect(),
    };
    IndexedPack { id: PackId(ChunkId([name; 16])), bytes: 1000, index, sealed_by: None }
}

#[test]
fn what_was_encoded_is_decoded_and_every_truncation_is_refused() {
    let packs = [pack(1, &[10, 11]), pack(2, &[])];
    let bytes = encode(&packs);
    assert_eq!(decode(&bytes).unwrap(), packs);
    assert_eq!(decode(&encode(&[])).unwrap(), []);
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length}");
    }
    assert!(decode(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn absent_packs_are_left_out_and_repeated_ones_count_once() {
    let packs = [pack(1, &[10, 11]), pack(2, &[11, 12]), pack(1, &[10, 11]), pack(3, &[13])];
    let index = Index::new(packs, &HashSet::from([PackId(ChunkId([3; 16]))]));
    assert_eq!((index.packs().len(), index.chunk_count()), (2, 3));
    assert!(index.find(&ChunkId([13; 16])).is_none());
    let place = index.find(&ChunkId([12; 16])).unwrap();
    assert_eq!(index.pack(place.pack).unwrap().id, PackId(ChunkId([2; 16])));
}

#[test]
fn a_chunk_in_several_packs_has_each_of_its_places() {
    let index =
        Index::new([pack(1, &[10, 11]), pack(2, &[11, 12]), pack(3, &[11])], &HashSet::new());
    let packs = |id: u8| -> Vec<u8> {
        let id = ChunkId([id; 16]);
        let places = index.find(&id).into_iter().chain(index.copies(&id));
        places.map(|place| index.pack(place.pack).unwrap().id.0.0[0]).collect()
    };
    assert_eq!(packs(10), [1]);
    assert_eq!(packs(11), [1, 2, 3]);
    assert!(packs(13).is_empty());
}

#[test]
fn objects_are_joined_in_their_order_and_the_lowest_rank_counts() {
    let mut builder = IndexBuilder::default();
    builder.expect(1000);
    // As they come when they are read at the same time.
    builder.add(2, [pack(5, &[11])]);
    builder.add(0, [pack(4, &[10, 11]), pack(2, &[12])]);
    builder.add(1, [pack(4, &[10, 11]), pack(3, &[10]), pack(1, &[13])]);
    assert_eq!(builder.known().len(), 5);
    let index = builder.finish(|pack| match pack.id.0.0[0] {
        1 => None,
        5 => Some(0),
        _ => Some(1),
    });
    let names: Vec<_> = index.packs().iter().map(|pack| pack.id.0.0[0]).collect();
    assert_eq!(names, [5, 4, 2, 3]);
    let pack_of = |id: u8| {
        let place = index.find(&ChunkId([id; 16]))?;
        Some(index.pack(place.pack).unwrap().id.0.0[0])
    };
    assert_eq!([10, 11, 12, 13].map(pack_of), [Some(4), Some(5), Some(2), None]);
    let copies: Vec<_> = index.copies(&ChunkId([11; 16])).map(|place| place.pack).collect();
    assert_eq!(copies, [PackNumber(1)]);
}
