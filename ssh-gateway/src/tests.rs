use super::*;

fn answer_to(arguments: &[&str]) -> Answer {
    answer(std::iter::once("ssh-gateway").chain(arguments.iter().copied()).map(OsString::from))
}

#[test]
fn help_and_version_are_answered_and_promise_no_command() {
    let version = answer_to(&["--version"]);
    assert_eq!(version.text, concat!("ssh-gateway ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(version.exit, 0);
    let help = answer_to(&["--help"]);
    assert_eq!(help.exit, 0);
    let words = help.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("not in this release"), "{words}");
    assert!(!help.text.contains("Commands:"), "{}", help.text);
}

#[test]
fn any_use_is_refused_in_one_sentence() {
    let refusal = Answer { text: format!("{NOT_YET}\n"), exit: 2 };
    for arguments in [&[][..], &["serve"], &["--unknown"], &["--", "x"]] {
        assert_eq!(answer_to(arguments), refusal, "{arguments:?}");
    }
}
