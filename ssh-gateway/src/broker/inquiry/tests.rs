use super::*;

fn container(id: &str, name: &str, state: ContainerState) -> ListedContainer {
    let labels = [
        ("com.docker.compose.project", "shop\u{1b}[2J"),
        ("com.docker.compose.service", "we\u{202e}b"),
    ];
    ListedContainer {
        id: id.to_owned(),
        name: name.to_owned(),
        image_ref: "image\u{1b}]0;x\u{7}".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        state,
    }
}

#[test]
fn only_whole_questions_are_ours() {
    let of = |text: &str| {
        let inquiry = Inquiry::parse(&Program::Command(text.as_bytes().to_vec()));
        inquiry.map(|inquiry| (inquiry.name(), inquiry.is_json))
    };
    for (text, wanted) in [
        ("ls", ("ls", false)),
        (" ls  --json\n", ("ls", true)),
        ("events", ("events", false)),
        ("events --json", ("events", true)),
    ] {
        assert_eq!(of(text), Some(wanted), "{text}");
    }
    for text in ["", "ls /", "ls -l", "ls; id", "lsof", "--json", "ls --json --json", "sh -c ls"] {
        assert_eq!(of(text), None, "{text}");
    }
    assert_eq!(Inquiry::parse(&Program::Shell), None);
    assert_eq!(Inquiry::parse(&Program::Command(b"ls\xff".to_vec())), None);
}

#[test]
fn an_answer_is_bounded_and_has_nothing_that_a_terminal_obeys() {
    let many: Vec<_> = (0..LISTED_MAX + 7)
        .map(|number| container(&number.to_string(), "web\u{9b}", ContainerState::Paused))
        .collect();
    for text in [table(&many), json(&many)] {
        assert!(text.chars().all(|character| character == '\n' || !character.is_control()));
        assert!(!text.contains('\u{202e}') && !text.contains("\\u"));
        assert!(text.lines().count() <= LISTED_MAX + 2);
    }
    assert!(table(&many).ends_with("and 7 more\n"));
    assert!(json(&many).ends_with("{\"left_out\":7}\n"));
    let one = json(&many[..1]);
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["state"], &one["id"]), (&"paused".into(), &"0".into()));
    let table = table(&[container("1", "web", ContainerState::Running)]);
    assert_eq!(table.lines().next(), Some("CONTAINER  STATE    SERVICE        IMAGE"));
}

#[test]
fn what_happened_follows_from_two_looks() {
    use ContainerState::{NotRunning, Paused, Running};
    let look = |containers: &[(&str, &str, ContainerState)]| {
        let listed: Vec<_> =
            containers.iter().map(|(id, name, state)| container(id, name, *state)).collect();
        known(&listed)
    };
    for (before, now, wanted) in [
        (&[][..], &[("1", "web", Running)][..], &["create web", "start web"][..]),
        (&[], &[("1", "web", NotRunning)], &["create web"]),
        (&[("1", "web", Running)], &[], &["remove web"]),
        (&[("1", "web", Running)], &[("1", "web", Running)], &[]),
        (&[("1", "web", Running)], &[("1", "web", NotRunning)], &["stop web"]),
        (&[("1", "web", Running)], &[("1", "web", Paused)], &["pause web"]),
        (&[("1", "web", Paused)], &[("1", "web", Running)], &["unpause web"]),
        (&[("1", "web", NotRunning)], &[("1", "new", Running)], &["rename new", "start new"]),
        // The same name, and another container.
        (
            &[("1", "web", Running)],
            &[("2", "web", Running)],
            &["remove web", "create web", "start web"],
        ),
    ] {
        let (before, now) = (look(before), look(now));
        let events = changes(&before, &now, "2026-11-30T06:00:00Z");
        let told: Vec<_> =
            events.iter().map(|event| format!("{} {}", event.event, event.name)).collect();
        assert_eq!(told, wanted);
        for event in &events {
            let lines = [event.line(false), event.line(true)].concat();
            assert!(lines.chars().all(|character| character == '\n' || !character.is_control()));
            assert!(lines.starts_with("2026-11-30T06:00:00Z  "), "{lines}");
        }
    }
}

#[test]
fn who_looks_too_often_is_told_so() {
    assert!(refusal_of(Full::OfOne).message.contains("you look at events already"));
    assert!(refusal_of(Full::OfAll).message.contains("too many look at events"));
}

#[tokio::test]
async fn on_a_terminal_whoever_has_had_enough_says_so() {
    let size = WindowSize { columns: 80, rows: 24, width: 0, height: 0 };
    let (out, mut descriptors) = Out::new(Some(size)).unwrap();
    let master = descriptors.pop().unwrap();
    out.say("words\n").await.unwrap();
    rustix::io::write(&master, b"more\r\x03").unwrap();
    timeout(ANSWER_TIME_MAX, out.given_up()).await.unwrap();
}
