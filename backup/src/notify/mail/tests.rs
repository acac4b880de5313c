use proptest::prelude::*;

use super::*;
use crate::notify::channel::Channels;
use crate::notify::channel::address::{Security, Target};

fn settings() -> MailSettings {
    let url = "smtp+plain://mail.example?from=Bäck%20%3Cb@example.org%3E&to=a@example.org&to=c@example.org"
        .replace('ä', "%C3%A4");
    let channels = Channels::from_environment(Some(url), None).unwrap();
    let Target::Smtp(mail) = channels.into_iter().next().unwrap().target else {
        panic!("it is mail")
    };
    assert_eq!(mail.security, Security::None);
    mail
}

fn headers(title: &str) -> String {
    let words = Words { title: title.to_owned(), body: "body".to_owned() };
    let text = text(&settings(), "ab", Timestamp::UNIX_EPOCH, &words);
    text.split_once("\r\n\r\n").unwrap().0.to_owned()
}

#[test]
fn a_mail_has_the_headers_that_a_mail_has() {
    assert_eq!(
        headers("backup failed: web"),
        "From: =?UTF-8?B?QsOkY2s=?= <b@example.org>\r\nTo: a@example.org,\r\n c@example.org\r\n\
         Subject: backup failed: web\r\nDate: Thu, 01 Jan 1970 00:00:00 +0000\r\n\
         Message-ID: <ab.backup@example.org>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64"
    );
}

#[test]
fn the_body_is_base64_in_short_lines() {
    let body = format!("{}\n.\nend", "é".repeat(100));
    let words = Words { title: "t".to_owned(), body: body.clone() };
    let text = text(&settings(), "ab", Timestamp::UNIX_EPOCH, &words);
    let (_, encoded) = text.split_once("\r\n\r\n").unwrap();
    assert!(encoded.lines().all(|line| line.len() <= 76));
    let decoded = STANDARD.decode(encoded.replace("\r\n", "")).unwrap();
    assert_eq!(String::from_utf8(decoded).unwrap(), format!("{}\r\n", body.replace('\n', "\r\n")));
}

proptest! {
    #[test]
    fn no_title_begins_a_header(title in any::<String>()) {
        let headers = headers(&crate::notify::event::plain(&title, 200));
        let names: Vec<_> = headers
            .split("\r\n")
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split_once(": ").unwrap().0.to_owned())
            .collect();
        prop_assert_eq!(
            names,
            ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
             "Content-Transfer-Encoding"]
        );
        prop_assert!(headers.is_ascii());
        prop_assert!(headers.split("\r\n").all(|line| line.len() <= 76));
    }
}
