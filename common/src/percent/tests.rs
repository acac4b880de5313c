use super::*;

#[test]
fn escapes_are_undone_and_broken_ones_are_none() {
    assert_eq!(decoded("a%2Fb%C3%a9+"), Some("a/bé+".to_owned()));
    for broken in ["%", "%2", "%zz", "%ff"] {
        assert_eq!(decoded(broken), None, "{broken}");
    }
}
