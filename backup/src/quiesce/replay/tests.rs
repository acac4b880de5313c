use super::super::journal::Document;
use super::*;

#[test]
fn a_journal_is_of_the_engine_that_it_names_or_of_the_address_where_no_name_is_known() {
    let state = tempfile::tempdir().unwrap();
    let started = jiff::Timestamp::UNIX_EPOCH;
    let mut document = Document::new("unix:///a".to_owned(), started, vec![], vec![]).unwrap();
    document.engine_id = Some("one".to_owned());
    let named = Journal::create(state.path(), document.clone()).unwrap();
    assert!(is_of(&named, "unix:///a", Some("one")));
    assert!(is_of(&named, "tcp://elsewhere:1", Some("one")), "the same engine, reached otherwise");
    assert!(!is_of(&named, "unix:///a", Some("two")), "another engine at the same address");
    assert!(is_of(&named, "unix:///a", None));
    drop(named);
    let document = Document { engine_id: None, run: "0".repeat(16), ..document };
    let unnamed = Journal::create(state.path(), document).unwrap();
    assert!(is_of(&unnamed, "unix:///a", Some("two")));
    assert!(!is_of(&unnamed, "unix:///b", Some("two")));
}
