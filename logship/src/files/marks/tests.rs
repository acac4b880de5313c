use super::*;

#[test]
fn a_file_of_any_length_has_few_marks_all_over_it() {
    let mut marks = Marks::default();
    for step in 1..=100_000_u64 {
        marks.push(step * 1000, step);
    }
    let places = marks.until(u64::MAX);
    assert!(places.len() <= MARKS_MAX && places.len() >= MARKS_MAX / 4, "{places:?}");
    let widest = places.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(widest <= 100_000_000 / 4, "{places:?}");
    assert!(places.iter().all(|(at, hash)| at / 1000 == *hash));
    assert!(marks.until(50_000_000).iter().all(|(at, _)| *at <= 50_000_000));
}

#[test]
fn a_small_file_has_every_place() {
    let mut marks = Marks::default();
    for step in 1..=20 {
        marks.push(step * 10, 0);
    }
    assert_eq!(marks.until(u64::MAX).len(), 20);
}
