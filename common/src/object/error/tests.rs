use super::*;

#[test]
fn every_act_is_a_sentence_with_the_object_and_the_store() {
    let sentence = |act, key| {
        ObjectError::new(ErrorKind::Full, act, key, "/repo".to_owned(), "the disk is full")
            .to_string()
    };
    assert_eq!(sentence(Act::Write, "packs/a"), "cannot write packs/a to /repo: the disk is full");
    assert_eq!(sentence(Act::Read, "a"), "cannot read a from /repo: the disk is full");
    assert_eq!(sentence(Act::List, "packs/"), "cannot list packs/ in /repo: the disk is full");
    assert_eq!(sentence(Act::List, ""), "cannot list /repo: the disk is full");
    assert_eq!(sentence(Act::Find, "a"), "cannot find a in /repo: the disk is full");
    assert_eq!(sentence(Act::Delete, "a"), "cannot delete a from /repo: the disk is full");
    assert_eq!(sentence(Act::Open, ""), "cannot use /repo: the disk is full");
    assert_eq!(sentence(Act::CreateRoot, ""), "cannot prepare /repo: the disk is full");
}

#[test]
fn a_refused_key_is_shown_escaped_and_short() {
    let key = format!("a\n{}", "x".repeat(1000));
    let error = ObjectError::invalid_key(Act::Read, &key, "/repo".to_owned());
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().starts_with("cannot read a\\nxxx"));
    assert!(error.to_string().len() < 200);
}
