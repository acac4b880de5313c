use super::*;

#[test]
fn what_is_missing_and_what_is_repeated_is_found() {
    let sequence = Sequence::of("a", b"a 2 x\nb 3 x\na 3 x\na 3 x\n\na 7\na x\n");
    assert_eq!(sequence.missing(1..=9), [1..=1, 4..=6, 8..=9]);
    assert_eq!(sequence.repeated(), BTreeMap::from([(3, 2)]));
    assert_eq!((sequence.last(), sequence.count()), (Some(7), 4));
}

#[test]
#[should_panic(expected = "out of order: Some([2, 1])")]
fn the_order_counts() {
    Sequence::of("a", b"a 2\na 1\n").assert_is(1..=2);
}
