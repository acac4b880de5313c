use chores_common::settings;

use super::*;

fn parsed(text: &str) -> Result<Channels, String> {
    let faults = |faults: Vec<settings::Fault>| {
        let lines = faults.iter().map(|fault| format!("{}: {}", fault.key, fault.message));
        lines.collect::<Vec<_>>().join("\n")
    };
    settings::parse(text, Channels::read).map_err(faults)
}

fn environment(text: &str) -> Result<Channels, String> {
    Channels::from_environment(Some(text.to_owned()), None).map_err(|error| error.to_string())
}

#[test]
fn a_file_names_channels_of_every_kind() {
    let channels = parsed(
        r#"
        other = "is not looked at"

        [[notify]]
        type = "webhook"
        url = "https://hooks.example/backup?key=s3cret"
        token = "t0ken"
        headers = { X-Team = "ops" }
        kinds = ["run-failed", "recovered"]
        title = "{kind} {job}"

        [[notify]]
        type = "slack"
        url = "https://hooks.slack.com/services/T0/B0/s3cret"

        [[notify]]
        url = "ntfy://ntfy.sh/my-topic"

        [[notify]]
        name = "phone"
        type = "gotify"
        url = "https://push.example/gotify/"
        token = "Agotify"

        [[notify]]
        url = "smtp://mail.example"
        user = "me"
        password = "s3cret"
        from = "Backups <backup@example.org>"
        to = ["a@example.org", "b@example.org"]
        "#,
    )
    .unwrap();
    let shown: Vec<_> = channels.iter().map(|one| format!("{} = {one}", one.name)).collect();
    assert_eq!(
        shown,
        [
            "webhook = webhook at https://hooks.example",
            "slack = slack at https://hooks.slack.com",
            "ntfy = ntfy at https://ntfy.sh",
            "phone = gotify at https://push.example",
            "smtp = smtp at smtp://mail.example:587",
        ]
    );
    let first = channels.iter().next().unwrap();
    assert!(first.wants(Kind::RunFailed) && !first.wants(Kind::Overdue));
    assert!(
        channels.iter().skip(1).all(|channel| Kind::ALL.iter().all(|kind| channel.wants(*kind)))
    );
}

#[test]
fn faults_name_the_key_and_what_would_be_right_and_never_the_url() {
    let url = "url = \"https://x.example/s3cret\"";
    let cases = [
        ("", "notify[1].url: it is missing: give url or url_file"),
        ("url = \"s3cret\"", "it is no URL for notices: write https://"),
        (
            "url = \"https://x.example/s3cret\"\ntype = \"teams\"",
            "\"teams\" is none of webhook, ntfy, slack, gotify and smtp",
        ),
        ("url = \"https://u:s3cret@x.example/\"", "it has a user or token before the `@`"),
        ("url = \"ntfy://ntfy.sh\"", "it has no topic"),
        ("url = \"gotify://push.example\"", "notify[1].token: it is missing"),
        (
            "url = \"https://x.example/s3cret\"\nkinds = [\"failed\"]",
            "\"failed\" is none of run-failed, recovered",
        ),
        (
            "url = \"https://x.example/s3cret\"\ntitle = \"{jobs}\"",
            "notify[1].title: {jobs} is no placeholder; there are {time}",
        ),
        (
            "url = \"https://x.example/s3cret\"\nbody = \"{job\"",
            "has a brace without its other half",
        ),
        (
            "url = \"https://x.example/s3cret\"\nname = \"../x\"",
            "notify[1].name: it has other than letters",
        ),
        (
            "url = \"https://x.example/s3cret\"\nheaders = { Host = \"a\" }",
            "`Host` is no header that may be set",
        ),
        (
            "url = \"https://x.example/s3cret\"\nheaders = { X = \"a\\nb\" }",
            "`X` is no header that may be set",
        ),
        (
            "url = \"https://x.example/s3cret\"\nto = [\"a@b.example\"]",
            "notify[1].to: a channel of the type webhook has none",
        ),
        ("url = \"smtp://mail.example\"\nto = [\"a@b.example\"]", "notify[1].from: it is missing"),
        ("url = \"smtp://mail.example\"\nfrom = \"a@b.example\"", "notify[1].to: it is missing"),
        ("url = \"smtp://mail.example\"\nfrom = \"a@b.example\\nBcc: x@y\"", "is no mail address"),
        (
            "url = \"smtp+plain://mail.example\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]\nuser = \"u\"\npassword = \"s3cret\"",
            "would send the password for everybody to read",
        ),
        (
            "url = \"https://x.example/s3cret\"\nurl_file = \"/x\"",
            "url and url_file are both set; keep one",
        ),
        ("url_file = \"/no/such/file\"", "notify[1].url_file: cannot read /no/such/file"),
        ("url = \"https://x.example/s3cret\"\ntokens = \"x\"", "there is no such key here"),
    ];
    assert!(parsed(&format!("[[notify]]\n{url}")).is_ok());
    for (text, wanted) in cases {
        let fault = parsed(&format!("[[notify]]\n{text}")).unwrap_err();
        assert!(fault.contains(wanted), "{text}: {fault}");
        assert_eq!(fault.lines().count(), 1, "{text}: {fault}");
        assert!(!fault.contains("s3cret"), "{text}: {fault}");
    }
}

#[test]
fn the_environment_has_the_simple_form() {
    let channels = environment(
        "https://hooks.example/s3cret  slack://hooks.slack.com/services/s3cret\n\
         ntfy://tk_s3cret@ntfy.example/topic gotify+http://As3cret@push.example:8080\n\
         smtps://me:s3cr%3Aet@mail.example?from=b@example.org&to=a@example.org ntfy+http://10.0.0.1:81/t",
    )
    .unwrap();
    let shown: Vec<_> = channels.iter().map(|one| format!("{} = {one}", one.name)).collect();
    assert_eq!(
        shown,
        [
            "webhook = webhook at https://hooks.example",
            "slack = slack at https://hooks.slack.com",
            "ntfy = ntfy at https://ntfy.example",
            "gotify = gotify at http://push.example:8080",
            "smtp = smtp at smtps://mail.example:465",
            "ntfy-2 = ntfy at http://10.0.0.1:81",
        ]
    );
    assert!(!format!("{channels:?}").contains("s3cr"));
    let Target::Smtp(mail) = &channels.iter().nth(4).unwrap().target else { panic!("it is mail") };
    let (user, password) = mail.login.as_ref().unwrap();
    assert_eq!((user.as_str(), password.expose()), ("me", "s3cr:et"));
}

#[test]
fn a_wrong_url_in_the_environment_is_told_by_its_number() {
    let error = environment("https://fine.example gopher://s3cret").unwrap_err();
    assert!(
        error.starts_with("the channel 2 of BACKUP_NOTIFY_URL is unusable: it is no URL"),
        "{error}"
    );
    assert!(!error.contains("s3cret"), "{error}");
    let many = vec!["https://x.example"; CHANNELS_MAX + 1].join(" ");
    assert_eq!(
        environment(&many).unwrap_err(),
        "there are 17 channels for notices, at most 16 can be served"
    );
}

#[test]
fn channels_of_file_and_environment_keep_names_of_their_own() {
    let file = parsed("[[notify]]\nurl = \"https://one.example\"\n").unwrap();
    let both = file.clone().and(environment("ntfy://x.example/t").unwrap()).unwrap();
    assert_eq!(both.iter().count(), 2);
    let error = file.and(environment("https://two.example").unwrap()).unwrap_err().to_string();
    assert_eq!(error, "two channels for notices are called webhook: give each its own `name`");
}
