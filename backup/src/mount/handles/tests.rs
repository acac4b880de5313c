use super::*;

const OPEN_MAX: usize = 50;

#[test]
fn handles_are_given_once_and_not_without_end() {
    let mut handles = Handles::new(OPEN_MAX);
    let first = handles.add(1).unwrap();
    let second = handles.add(2).unwrap();
    assert!(first != 0 && second != first);
    assert_eq!(
        (handles.get(first).as_deref(), handles.get(second).as_deref()),
        (Some(&1), Some(&2))
    );
    handles.remove(first);
    assert_eq!((handles.get(first), handles.open.len()), (None, 1));
    for number in 1..OPEN_MAX {
        assert!(handles.add(number).unwrap() > second);
    }
    assert_eq!((handles.add(0), handles.open.len()), (None, OPEN_MAX));
    handles.remove(second);
    assert!(handles.add(0).is_some());
}
