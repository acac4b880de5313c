use std::collections::BTreeMap;

use chores_common::settings;

use super::*;
use crate::notify::channel::Channels;
use crate::notify::event::Kind;

fn channel(url: &str, more: &str) -> Channel {
    let text = format!("[[notify]]\nurl = \"{url}\"\n{more}\n");
    settings::parse(&text, Channels::read).unwrap().into_iter().next().unwrap()
}

fn notice(job: &str) -> Notice {
    let event = Event {
        time: "2026-11-30T14:00:00Z".parse().unwrap(),
        host: "h1".to_owned(),
        job: job.to_owned(),
        kind: Kind::RunFailed,
        text: "the volume is gone".to_owned(),
        details: BTreeMap::from([("volume".to_owned(), "data".to_owned())]),
    };
    Notice { id: "ab".to_owned(), event: event.plain() }
}

fn sent(channel: &Channel, notice: &Notice) -> Value {
    document(&channel.target, notice, &words(channel, &notice.event, 0)).unwrap()
}

#[test]
fn a_webhook_gets_everything() {
    let channel = channel("https://x.example", "");
    assert_eq!(
        sent(&channel, &notice("web")),
        json!({
            "version": 1, "id": "ab", "time": "2026-11-30T14:00:00Z", "host": "h1", "job": "web", "kind": "run-failed",
            "text": "the volume is gone", "details": {"volume": "data"},
            "title": "backup failed: web on h1", "body": "the volume is gone\nvolume: data",
        })
    );
}

#[test]
fn templates_are_filled_in_once() {
    let channel = channel(
        "https://x.example",
        "title = \"{kind}/{job} {time}\"\nbody = \"{details}|{what}\"",
    );
    let document = sent(&channel, &notice("{host}"));
    assert_eq!(document["title"], "run-failed/{host} 2026-11-30 14:00:00 UTC");
    assert_eq!(document["body"], "volume: data|backup failed");
}

#[test]
fn values_have_no_markup_for_slack_and_call_nobody() {
    let channel = channel("slack://x.example/s", "body = \"{text} <!here>\"");
    let text = sent(&channel, &notice("<!channel> a&b @here"))["text"].as_str().unwrap().to_owned();
    assert_eq!(
        text,
        "backup failed: &lt;!channel&gt; a&amp;b @\u{2060}here on h1\nthe volume is gone <!here>"
    );
}

#[test]
fn ntfy_and_gotify_are_told_how_urgent_it_is() {
    let ntfy = channel("ntfy://x.example/t", "");
    let gotify = channel("gotify://A@x.example", "");
    let mut notice = notice("web");
    assert_eq!(
        (&sent(&ntfy, &notice)["topic"], &sent(&ntfy, &notice)["priority"]),
        (&json!("t"), &json!(4))
    );
    assert_eq!(sent(&gotify, &notice)["priority"], 8);
    notice.event.kind = Kind::Recovered;
    assert_eq!(
        (&sent(&ntfy, &notice)["priority"], &sent(&gotify, &notice)["priority"]),
        (&json!(3), &json!(4))
    );
}

#[test]
fn titles_are_one_line_and_bodies_are_bounded() {
    let channel = channel(
        "https://x.example",
        "title = \"a\\nb {job}\"\nbody = \"{text}{text}{text}{text}\"",
    );
    let mut notice = notice(&"j".repeat(500));
    notice.event.text = "é".repeat(1900);
    let words = words(&channel, &notice.event, 3);
    assert!(
        words.title.chars().count() <= TITLE_CHARS_MAX && words.title.starts_with("a b j"),
        "{}",
        words.title
    );
    assert!(words.body.len() < BODY_BYTES_MAX + 100);
    assert!(
        words.body.ends_with("\n(3 notices before this one could not be delivered)"),
        "{}",
        words.body
    );
}
