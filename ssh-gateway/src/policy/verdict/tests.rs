use super::*;

#[test]
fn actions_are_read_as_they_are_told() {
    for text in [
        "enter",
        "shell",
        "exec",
        "sftp",
        "sftp-read",
        "terminal",
        "agent",
        "forward db:5432",
        "forward [2001:db8::1]:80",
        "forward /run/app.sock",
        "listen localhost:8080",
    ] {
        let read = text.parse::<Action>().map(|action| action.to_string());
        assert_eq!(read, Ok(text.to_owned()));
    }
    assert_eq!("listen 80".parse::<Action>(), "listen localhost:80".parse());
    for text in
        ["", "Shell", "shell ", "forward", "forward db", "forward *:1", "forward db:*", "listen *"]
    {
        assert!(text.parse::<Action>().is_err(), "{text:?}");
    }
}

#[test]
fn what_no_forward_reaches_is_said_as_far_as_it_can_be() {
    let of = |text: &str| match text.parse().unwrap() {
        Action::Forward(place) => reserved(&place),
        other => panic!("{other}"),
    };
    assert!(of("forward 169.254.169.254:80").is_err());
    assert!(of("forward [::ffff:169.254.169.254]:80").is_err());
    assert_eq!(of("forward db:80"), Ok(()));
}
