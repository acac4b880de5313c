use super::*;

const STEP: u64 = 128 << 10;

#[test]
fn who_reads_in_a_row_is_read_ahead_of_without_gaps() {
    let mut ahead = Ahead::default();
    let mut asked = None;
    let mut times = 0;
    for number in 0..200 {
        let read = number * STEP..(number + 1) * STEP;
        if let Some(more) = ahead.after(read.clone()) {
            assert!(read.end >= IN_A_ROW_BYTES_MIN);
            assert_eq!(more.start, asked.unwrap_or(read.end), "a gap");
            assert_eq!(more.end, read.end + AHEAD_BYTES);
            asked = Some(more.end);
            times += 1;
        }
        if read.end > IN_A_ROW_BYTES_MIN {
            assert!(asked.unwrap() >= read.end + AHEAD_BYTES / 2 - STEP);
        }
    }
    assert!(times < 20, "{times} times");
}

#[test]
fn requests_that_overtake_each_other_are_in_a_row_all_the_same() {
    let mut ahead = Ahead::default();
    let order = [1, 0, 3, 2, 5, 4, 7, 6, 9, 8];
    let asked = order.map(|number| ahead.after(number * STEP..(number + 1) * STEP).is_some());
    assert_eq!(asked.iter().filter(|asked| **asked).count(), 1);
}

#[test]
fn nothing_is_read_ahead_of_who_jumps_or_looks_at_a_beginning() {
    let mut ahead = Ahead::default();
    assert_eq!(ahead.after(0..STEP), None);
    for number in 1..100 {
        let at = (number * 7919 % 100) * (64 << 20);
        assert_eq!(ahead.after(at..at + STEP), None);
    }
    assert_eq!(ahead.after(u64::MAX - 1..u64::MAX), None);
}
