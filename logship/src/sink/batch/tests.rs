use super::*;
use crate::encode::tests::engine_meta;

fn batch(records: &[(&str, &str)]) -> Batch {
    let meta = Arc::new(engine_meta());
    let mut heads: BTreeMap<&str, Arc<[u8]>> = BTreeMap::new();
    let mut batch = Batch::default();
    for (seq, (head, bytes)) in (7..).zip(records) {
        let head = heads.entry(head).or_insert_with(|| head.as_bytes().into());
        batch.push(&meta, Encoded { seq, head, bytes: bytes.as_bytes() });
    }
    batch
}

#[test]
fn records_can_be_had_alone_together_and_by_what_they_share() {
    let batch = batch(&[("a", "one"), ("b", "two"), ("a", ""), ("a", "three")]);
    assert_eq!(batch.record(1), b"two");
    assert_eq!(batch.record(2), b"");
    assert_eq!(batch.record(4), b"");
    assert!(matches!(batch.joined(&[1, 2, 3]), std::borrow::Cow::Borrowed(b"twothree")));
    assert_eq!(batch.joined(&[0, 3]).as_ref(), b"onethree");
    assert_eq!(batch.joined(&[]).as_ref(), b"");
    let grouped = batch.grouped(&batch.all());
    let expected: [(&[u8], Vec<&[u8]>); 2] =
        [(b"a", vec![b"one", b"", b"three"]), (b"b", vec![b"two"])];
    assert_eq!(grouped, expected);
}

#[test]
fn neighbours_that_are_given_up_are_one_hole() {
    let batch = batch(&[("a", "0"), ("a", "1"), ("a", "2"), ("a", "3")]);
    let mut refusals = Refusals::new(Poison::Drop);
    for at in [0, 1, 3] {
        refusals.refuse(&batch, at, "no").unwrap();
    }
    let holes: Vec<_> = refusals.take().iter().map(|hole| (hole.first_seq, hole.records)).collect();
    assert_eq!(holes, [(7, 2), (10, 1)]);
    assert_eq!(refusals.take(), []);
    let failure = Refusals::new(Poison::Block).refuse(&batch, 0, "x answered 400").unwrap_err();
    assert!(failure.sentence.starts_with("x answered 400; "), "{failure}");
}
