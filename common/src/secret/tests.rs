use super::*;

#[test]
fn a_secret_is_never_shown_by_debug() {
    let secret = Secret::new("hunter2".to_owned());
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    assert_eq!(format!("{:?}", Some(secret.clone())), "Some(Secret(…))");
    assert_eq!(secret.expose(), "hunter2");
}
