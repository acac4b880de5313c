use super::*;

const KNOWN: [(&str, u8); 3] = [("a", 1), ("b", 2), ("c", 3)];

#[test]
fn placeholders_are_filled_in_and_what_is_filled_in_is_not_read_again() {
    let template = Template::parse("x{a}-{b}{a}y", &KNOWN).unwrap();
    let text = template.expand(|placeholder| match placeholder {
        1 => Cow::Borrowed("{b}"),
        _ => Cow::Borrowed("two"),
    });
    assert_eq!(text, "x{b}-two{b}y");
    assert!(template.has(1) && !template.has(3));
}

#[test]
fn what_is_no_placeholder_is_named_with_all_that_there_are() {
    let error = Template::parse("x{d}", &KNOWN).unwrap_err().to_string();
    assert_eq!(error, "{d} is no placeholder; there are {a}, {b} and {c}");
    for text in ["{", "}", "a{a", "a}", "}{a}", "{a}}"] {
        let error = Template::parse(text, &KNOWN).unwrap_err();
        assert_eq!(error, TemplateError::Brace(text.to_owned()), "{text}");
    }
}
