use proptest::prelude::*;

use super::*;

fn target(url: &str) -> Result<Target, (&'static str, String)> {
    Target::of(Wanted {
        kind: None,
        url: Secret::new(url.to_owned()),
        token: None,
        user: None,
        password: None,
        from: None,
        to: Vec::new(),
        headers: Vec::new(),
    })
}

#[test]
fn the_topic_of_ntfy_is_the_last_part_of_its_path() {
    let Ok(Target::Ntfy { shown, url, topic, token }) =
        target("ntfy://tk_1@push.example:8443/base/deep/t0pic/")
    else {
        panic!("it is ntfy")
    };
    assert_eq!(shown, "https://push.example:8443");
    assert_eq!(url.expose(), "https://push.example:8443/base/deep/");
    assert_eq!((topic.expose(), token.unwrap().expose()), ("t0pic", "tk_1"));
}

#[test]
fn gotify_is_asked_below_its_base() {
    let Ok(Target::Gotify { url, .. }) = target("gotify://A1@push.example/base/") else {
        panic!("it is gotify")
    };
    assert_eq!(url.expose(), "https://push.example/base/message");
}

#[test]
fn a_mail_server_may_have_an_address_in_brackets() {
    let Ok(Target::Smtp(mail)) = target("smtp+plain://[::1]:2525/?from=a@b.example&to=c@d.example")
    else {
        panic!("it is mail")
    };
    assert_eq!((mail.host.as_str(), mail.port, mail.security), ("::1", 2525, Security::None));
    assert_eq!(mail.shown(), "smtp+plain://[::1]:2525");
}

#[test]
fn names_of_people_are_kept_apart_from_their_address() {
    let mailbox = Mailbox::parse("\"Back Ups\" <a@b.example>").unwrap();
    assert_eq!(
        (mailbox.name.as_deref(), mailbox.address.to_string().as_str()),
        (Some("Back Ups"), "a@b.example")
    );
    for wrong in
        ["", "a", "a@b.example, c@d.example", "<a@b.example", "ä@b.example", "X\r\nY <a@b.example>"]
    {
        Mailbox::parse(wrong).unwrap_err();
    }
}

proptest! {
    #[test]
    fn no_text_is_an_address_of_two_lines(text in any::<String>()) {
        if let Ok(mailbox) = Mailbox::parse(&text) {
            prop_assert!(!mailbox.address.to_string().chars().any(char::is_control));
        }
        if let Some(place) = Place::parse(&text) {
            prop_assert!(!place.host.is_empty() && place.host.is_ascii());
        }
    }
}
