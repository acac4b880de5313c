use super::*;

fn said(output: &str) -> Said {
    Said { output: output.as_bytes().to_vec(), ..Said::default() }
}

#[test]
fn the_mark_tells_the_end() {
    let ended = ended("mark", said("rows=a=1\nrows=b=2\n\nmark 3 17\n")).unwrap();
    assert_eq!((ended.code, ended.rest), (3, 17));
    assert_eq!(ended.items("rows"), ["a=1", "b=2"]);
}

#[test]
fn an_output_that_was_cut_has_no_end() {
    assert!(ended("mark", said("rows=a=1\n")).is_err());
    assert!(ended("mark", said("rows=a=1\n\nmark 0")).is_err());
    assert!(ended("mark", said("")).is_err());
}

#[test]
fn what_was_left_unread_is_not_good() {
    let all = Said { code: 0, rest: 0, ..Said::default() };
    let some = Said { code: 0, rest: 9, ..Said::default() };
    assert!(all.is_good());
    assert!(!some.is_good());
    assert_eq!(some.complaint(), "it left 9 bytes of the dump unread");
}

#[test]
fn a_complaint_is_one_line_without_control_characters() {
    let said = Said { code: 2, errors: b"one\n\x1b[31mtwo\n\n".to_vec(), ..Said::default() };
    assert_eq!(said.complaint(), "it ended with status 2: one;  [31mtwo");
}

#[test]
fn only_the_last_part_of_an_output_is_kept() {
    let mut kept = Vec::new();
    assert!(!keep(&mut kept, &[b'a'; 100], 100));
    assert!(keep(&mut kept, b"end", 100));
    assert_eq!(kept.len(), 100);
    assert!(kept.ends_with(b"aend"));
}
