use super::*;

fn unmarked(mark: &Mark, output: &[u8], piece: usize) -> (Vec<u8>, Option<i64>) {
    let mut unmark = Unmark::new(mark.clone());
    let mut found: Vec<u8> = output.chunks(piece).flat_map(|piece| unmark.push(piece)).collect();
    let (rest, code) = unmark.finish();
    found.extend(rest);
    (found, code)
}

#[test]
fn the_mark_is_taken_off_however_the_output_is_cut() {
    let mark = Mark::new().unwrap();
    assert_ne!(mark, Mark::new().unwrap());
    for content in [&b""[..], b"x", b"rows\n", b"rows without an end", &[b'\n'; 200]] {
        for code in [0, 1, 137, 255] {
            let output = [content, format!("\n{} {code}\n", mark.text()).as_bytes()].concat();
            for piece in 1..output.len() {
                assert_eq!(unmarked(&mark, &output, piece), (content.to_vec(), Some(code)));
            }
        }
    }
}

#[test]
fn a_cut_output_and_one_with_something_behind_its_mark_have_none() {
    let mark = Mark::new().unwrap();
    let output = format!("rows\n{} 0\n", mark.text()).into_bytes();
    for length in 0..output.len() {
        assert_eq!(unmarked(&mark, &output[..length], 7).1, None, "{length}");
    }
    for behind in ["x", "\n", "\nrows\n"] {
        let more = [output.as_slice(), behind.as_bytes()].concat();
        assert_eq!(unmarked(&mark, &more, 7), (more.clone(), None));
    }
    let other = format!("rows\n{} 0\n", Mark::new().unwrap().text()).into_bytes();
    assert_eq!(unmarked(&mark, &other, 7).1, None);
}
