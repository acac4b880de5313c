use super::*;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Link {
    text: &'static str,
    source: Option<Box<dyn Error>>,
}

fn link(text: &'static str, source: Option<Link>) -> Link {
    Link { text, source: source.map(|source| Box::new(source) as Box<dyn Error>) }
}

#[test]
fn a_chain_is_one_line() {
    let error = link("cannot back up web", Some(link("cannot read /a", Some(link("EIO", None)))));
    assert_eq!(chain(&error), "cannot back up web: cannot read /a: EIO");
}

#[test]
fn a_source_that_is_printed_already_is_not_repeated() {
    let error = link("cannot read /a: EIO", Some(link("EIO", Some(link("", None)))));
    assert_eq!(chain(&error), "cannot read /a: EIO");
}

#[test]
fn an_endless_chain_ends() {
    let deep = (0..100).fold(link("end", None), |inner, n| {
        link(if n % 2 == 0 { "even" } else { "odd" }, Some(inner))
    });
    assert_eq!(chain(&deep).matches(": ").count(), CHAIN_LENGTH_MAX);
}

#[test]
fn the_codes_are_the_documented_ones() {
    let codes = [
        ExitCode::Done,
        ExitCode::Failed,
        ExitCode::Usage,
        ExitCode::Warnings,
        ExitCode::Interrupted,
    ];
    assert_eq!(codes.map(|code| code as u8), [0, 1, 2, 3, 130]);
}
