//! Notices to people: over HTTP to peers that take, refuse, are busy or gone, and as mail to a real server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use backup::notify::{ChannelCounts, Channels, Event, Kind, Outbox, OutboxError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::http_receiver::{Answer, Batch, HttpReceiver};
use e2e::mail_server::{LOGIN, MailServer, POSTPONED, REFUSED, Security};
use e2e::process::Finished;
use e2e::rsyslog::make_certificates;
use e2e::sandbox::Sandbox;
use serde_json::Value;

use crate::tool::{FAILED, WRONG_USAGE, backup};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nobody listens there: the port is reserved (RFC 6335).
const DEAD: &str = "127.0.0.1:1";

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `127.0.0.1:port` of a peer over HTTP.
fn place(peer: &HttpReceiver) -> String {
    format!("127.0.0.1:{}", peer.port())
}

fn channels(urls: &str) -> Channels {
    Channels::from_environment(Some(urls.to_owned()), None).unwrap()
}

fn in_file(text: &str) -> Channels {
    chores_common::settings::parse(text, Channels::read).unwrap()
}

/// A program that another test starts has all files of this process for a moment, until it is that program: the lock of an outbox
/// that is gone, too.
fn outbox(state: &Sandbox, urls: &str) -> Outbox {
    let begun = Instant::now();
    loop {
        match Outbox::open(state.root(), channels(urls)) {
            Err(OutboxError::InUse(_)) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn event(job: &str) -> Event {
    Event {
        time: SystemTime::now().try_into().unwrap(),
        host: "h1".to_owned(),
        job: job.to_owned(),
        kind: Kind::RunFailed,
        text: "the volume is gone".to_owned(),
        details: BTreeMap::from([("volume".to_owned(), "data".to_owned())]),
    }
}

fn body(batch: &Batch) -> Value {
    serde_json::from_slice(&batch.body).unwrap()
}

fn jobs(peer: &HttpReceiver) -> Vec<String> {
    let bodies = peer.batches();
    bodies.iter().map(|batch| body(batch)["job"].as_str().unwrap().to_owned()).collect()
}

fn count(outbox: &Outbox, number: usize) -> ChannelCounts {
    outbox.counts().swap_remove(number)
}

/// `backup notify test` with channels in the environment.
fn test(sandbox: &Sandbox, urls: &str) -> Finished {
    backup(sandbox).args(["notify", "test", "--json"]).env("BACKUP_NOTIFY_URL", urls).finish()
}

/// The same with a file.
fn test_file(sandbox: &Sandbox, text: &str) -> Finished {
    let file = sandbox.file("backup.toml", text);
    backup(sandbox).args(["notify", "test", "--config"]).arg(file).finish()
}

fn everything(finished: &Finished) -> String {
    format!("{}{}", finished.stdout_text(), finished.stderr_text())
}

#[test]
fn a_test_goes_over_every_channel_and_each_is_spoken_to_in_its_own_way() {
    let sandbox = Sandbox::new();
    let peers: Vec<_> = (0..4).map(|_| HttpReceiver::start()).collect();
    let urls = format!(
        "http://{}/hook?key=k3y slack+http://{}/services/T0/B0/x ntfy+http://tk_1@{}/base/t0pic gotify+http://A1@{}/push/",
        place(&peers[0]),
        place(&peers[1]),
        place(&peers[2]),
        place(&peers[3]),
    );
    let finished = test(&sandbox, &urls).expect_code(0);
    let lines = finished.json_lines();
    let taken: Vec<_> = lines.iter().filter(|line| line["taken"] == true).collect();
    assert_eq!(taken.len(), 4, "{finished}");
    assert_eq!(
        (&lines[4]["event"], &lines[4]["taken"]),
        (&"summary".into(), &4.into()),
        "{finished}"
    );
    let got: Vec<_> = peers.iter().map(|peer| peer.batches().swap_remove(0)).collect();
    let paths: Vec<_> = got.iter().map(|batch| batch.path.as_str()).collect();
    assert_eq!(paths, ["/hook?key=k3y", "/services/T0/B0/x", "/base/", "/push/message"]);
    let header =
        |at: usize, name: &str| got[at].headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header(0, "authorization"), None);
    assert_eq!(header(2, "authorization"), Some("Bearer tk_1"));
    assert_eq!(header(3, "x-gotify-key"), Some("A1"));
    let webhook = body(&got[0]);
    assert_eq!((&webhook["version"], &webhook["kind"]), (&1.into(), &"test".into()), "{webhook}");
    assert!(body(&got[1])["text"].as_str().unwrap().starts_with("test: backup notify test on "));
    assert_eq!(body(&got[2])["topic"], "t0pic");
    assert_eq!(body(&got[3])["priority"], 4);
}

#[test]
fn peers_that_refuse_or_are_gone_fail_the_test_and_show_no_secret() {
    let sandbox = Sandbox::new();
    // A server may say what it was told.
    let echo = HttpReceiver::serving(Arc::new(|batch: &Batch| {
        let key = batch.headers.get("x-gotify-key").map(|value| value.as_bytes().to_vec());
        let said = [batch.path.as_bytes(), b" ", &key.unwrap_or_default()].concat();
        (403, said.into())
    }));
    let urls = format!(
        "gotify+http://Ag0tify@{0}/s3cret-path slack+http://{DEAD}/services/s3cret-path http://{0}/s3cret-path?key=s3cret-key",
        place(&echo)
    );
    let finished = test(&sandbox, &urls).expect_code(FAILED);
    let problems: Vec<_> = finished
        .json_lines()
        .iter()
        .filter_map(|line| line["problem"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(problems.len(), 3, "{finished}");
    assert!(
        problems[0].starts_with(&format!("http://{} answered 403 Forbidden", place(&echo))),
        "{finished}"
    );
    assert!(problems[1].starts_with(&format!("cannot send to http://{DEAD}: ")), "{finished}");
    for secret in ["s3cret", "Ag0tify"] {
        assert!(!everything(&finished).contains(secret), "{finished}");
    }
    let outbox = outbox(&Sandbox::new(), &urls);
    assert!(!format!("{outbox:?}").contains("s3cret"));
}

#[test]
fn settings_that_make_no_sense_are_told_before_anything_is_sent() {
    let sandbox = Sandbox::new();
    let peer = HttpReceiver::start();
    let url = format!("http://{}/s3cret", place(&peer));
    for (text, wanted) in [
        (
            format!("[[notify]]\nurl = \"{url}\"\ntitle = \"{{jobb}}\"\n"),
            "backup.toml:3:9: notify[1].title: {jobb} is no placeholder; there are ",
        ),
        (
            format!("[[notify]]\nurl = \"{url}\"\nkinds = [\"all\"]\n"),
            "\"all\" is none of run-failed, ",
        ),
        (
            format!(
                "[[notify]]\nurl = \"{url}\"\nca_file = \"/none\"\n[[notify]]\nurl = \"https://localhost/s3cret\"\nca_file = \"/none\"\n"
            ),
            "cannot read /none",
        ),
        ("[[notify]]\nurl_file = \"/none\"\n".to_owned(), "notify[1].url_file: cannot read /none"),
        ("[[notify\n".to_owned(), "backup.toml:1:"),
        ("other = 1\n".to_owned(), "there is no channel for notices"),
    ] {
        let finished = test_file(&sandbox, &text).expect_code(WRONG_USAGE);
        assert!(everything(&finished).contains(wanted), "{wanted}: {finished}");
        assert!(!everything(&finished).contains("s3cret"), "{finished}");
    }
    let finished = backup(&sandbox)
        .args(["notify", "test"])
        .env("BACKUP_NOTIFY_URL", &url)
        .env("BACKUP_NOTIFY_URL_FILE", "/none")
        .finish()
        .expect_code(WRONG_USAGE);
    assert!(
        finished
            .stderr_text()
            .contains("BACKUP_NOTIFY_URL and BACKUP_NOTIFY_URL_FILE are both set"),
        "{finished}"
    );
    assert_eq!(peer.requests(), 0);
}

#[test]
fn a_busy_peer_gets_the_same_notice_again_until_it_takes_it() {
    let state = Sandbox::new();
    let peer = HttpReceiver::start();
    peer.answer_in_turn(&[
        Answer::Status(503),
        Answer::Close,
        Answer::RetryAfter(429, 1),
        Answer::Status(200),
    ]);
    let outbox = outbox(&state, &format!("http://{}/", place(&peer)));
    outbox.put(&event("web"));
    wait_until("it arrives", || count(&outbox, 0).accepted == 1);
    let counts = count(&outbox, 0);
    assert_eq!((counts.waiting, counts.failures, counts.failing), (0, 3, None));
    assert_eq!((peer.requests(), jobs(&peer)), (4, vec!["web".to_owned()]));
    outbox.finish();
}

#[test]
fn an_answer_of_200_counts_whatever_its_body_is() {
    let state = Sandbox::new();
    let peer = HttpReceiver::serving(Arc::new(|_: &Batch| (200, vec![b'x'; 200 << 10].into())));
    let outbox = outbox(&state, &format!("http://{}/", place(&peer)));
    outbox.put(&event("one"));
    outbox.put(&event("two"));
    wait_until("both are taken", || count(&outbox, 0).accepted == 2);
    assert_eq!(
        (count(&outbox, 0).failures, jobs(&peer)),
        (0, vec!["one".to_owned(), "two".to_owned()])
    );
}

#[test]
fn an_outage_does_not_turn_round_what_is_told() {
    let state = Sandbox::new();
    let peer = HttpReceiver::start();
    peer.answer_in_turn(&[Answer::Status(503), Answer::Status(404), Answer::Status(200)]);
    let outbox = outbox(&state, &format!("http://{}/", place(&peer)));
    for job in ["failed", "recovered"] {
        outbox.put(&event(job));
    }
    wait_until("both are taken", || count(&outbox, 0).accepted == 2);
    assert_eq!(jobs(&peer), ["failed", "recovered"]);
}

/// A mail server that answers each line as told, an empty answer being none, and says how often it was connected to.
fn false_mail_server(answer: fn(&str) -> &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, SeqCst);
            let Ok(mut writer) = stream.try_clone() else { continue };
            let mut is_text = false;
            // Whoever leaves early has seen enough.
            drop(writer.write_all(b"220 false\r\n"));
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                is_text = (is_text && line != ".") || line == "DATA";
                if !is_text || line == "DATA" {
                    drop(writer.write_all(answer(&line).as_bytes()));
                }
            }
        }
    });
    (port, connections)
}

#[test]
fn a_mail_server_that_takes_no_leave_gets_its_mail_once() {
    let state = Sandbox::new();
    let (port, connections) = false_mail_server(|line| match line.get(..4) {
        Some("DATA") => "354 go on\r\n",
        Some("QUIT") => "",
        _ => "250 yes\r\n",
    });
    let url = format!("smtp+plain://127.0.0.1:{port}?from=a@example.org&to=b@example.org");
    let outbox = outbox(&state, &url);
    outbox.put(&event("one"));
    wait_until("it is taken", || count(&outbox, 0).accepted == 1);
    let counts = count(&outbox, 0);
    assert_eq!((counts.waiting, counts.failures, connections.load(SeqCst)), (0, 0, 1));
}

#[test]
fn what_is_said_in_the_clear_behind_starttls_is_not_believed() {
    let sandbox = Sandbox::new();
    let authority = Sandbox::new();
    make_certificates(authority.root());
    let (port, _) = false_mail_server(|line| match line.get(..4) {
        Some("EHLO") => "250-false\r\n250 STARTTLS\r\n",
        _ => "220 go on\r\n250 sneaked in\r\n250 sneaked in\r\n",
    });
    let file = format!(
        "[[notify]]\nurl = \"smtp://127.0.0.1:{port}?from=a@example.org&to=b@example.org\"\nca_file = \"{}\"\n",
        authority.path("ca.pem").display()
    );
    let finished = test_file(&sandbox, &file).expect_code(FAILED);
    assert!(everything(&finished).contains("it says more than it was asked for"), "{finished}");
}

#[test]
fn what_was_not_delivered_is_told_after_a_restart_in_its_order_and_once() {
    let state = Sandbox::new();
    let first = outbox(&state, &format!("http://{DEAD}/"));
    let names: Vec<_> = (0..5).map(|number| format!("job {number}")).collect();
    for name in &names {
        first.put(&event(name));
    }
    wait_until("it was tried", || count(&first, 0).failures > 0);
    first.finish();
    let peer = HttpReceiver::start();
    let second = outbox(&state, &format!("http://{}/", place(&peer)));
    wait_until("all arrive", || count(&second, 0).accepted == 5);
    second.finish();
    assert_eq!(jobs(&peer), names);
    let ids: BTreeSet<_> =
        peer.batches().iter().map(|batch| body(batch)["id"].to_string()).collect();
    assert_eq!(ids.len(), 5);
    let third = outbox(&state, &format!("http://{}/", place(&peer)));
    third.put(&event("last"));
    wait_until("it arrives", || count(&third, 0).accepted == 1);
    assert_eq!(jobs(&peer).len(), 6);
}

#[test]
fn too_many_notices_drop_the_oldest_and_the_next_delivery_says_so() {
    let state = Sandbox::new();
    let first = outbox(&state, &format!("http://{DEAD}/"));
    for number in 0..103 {
        first.put(&event(&format!("job {number}")));
    }
    let counts = count(&first, 0);
    assert_eq!((counts.waiting, counts.dropped), (100, 3));
    first.finish();
    let peer = HttpReceiver::start();
    let second = outbox(&state, &format!("http://{}/", place(&peer)));
    wait_until("all arrive", || count(&second, 0).accepted == 100);
    let bodies: Vec<_> =
        peer.batches().iter().map(|batch| body(batch)["body"].to_string()).collect();
    assert!(
        bodies[0].contains("(3 notices before this one could not be delivered)"),
        "{}",
        bodies[0]
    );
    assert!(bodies[1..].iter().all(|body| !body.contains("could not be delivered")));
    assert_eq!(jobs(&peer)[0], "job 3");
}

#[test]
fn one_notice_that_a_peer_chokes_on_does_not_hold_up_the_others() {
    let state = Sandbox::new();
    let choking = HttpReceiver::serving(Arc::new(|batch: &Batch| {
        let text = String::from_utf8_lossy(&batch.body);
        (if text.contains("poison") { 500 } else { 200 }, Default::default())
    }));
    let refusing = HttpReceiver::start();
    refusing.answer(Answer::RefuseWith("poison"));
    let urls = format!("http://{}/ http://{}/", place(&choking), place(&refusing));
    let outbox = outbox(&state, &urls);
    for job in ["one", "poison", "two", "three"] {
        outbox.put(&event(job));
    }
    wait_until("the others arrive", || {
        count(&outbox, 0).accepted == 3 && count(&outbox, 1).accepted == 3
    });
    assert_eq!(jobs(&refusing), ["one", "two", "three"]);
    wait_until("it is refused", || count(&outbox, 1).refused == 1);
    let refused = count(&outbox, 1);
    assert_eq!((refused.waiting, refused.failures), (0, 0));
    assert_eq!(count(&outbox, 0).waiting, 1);
}

#[test]
fn a_peer_that_never_answers_holds_up_neither_who_tells_nor_the_end() {
    let state = Sandbox::new();
    let silent = HttpReceiver::start();
    silent.answer(Answer::Stall);
    let well = HttpReceiver::start();
    let outbox = outbox(&state, &format!("http://{}/ http://{}/", place(&silent), place(&well)));
    outbox.put(&event("one"));
    wait_until("it was asked", || silent.requests() == 1);
    outbox.put(&event("two"));
    wait_until("the other one has both", || jobs(&well) == ["one", "two"]);
    assert_eq!(count(&outbox, 0).waiting, 2);
    outbox.finish();
    let heals = HttpReceiver::start();
    let again = self::outbox(&state, &format!("http://{}/", place(&heals)));
    wait_until("what was left arrives", || count(&again, 0).accepted == 2);
    assert_eq!(jobs(&heals), ["one", "two"]);
}

#[test]
fn a_channel_hears_only_of_what_it_asked_for() {
    let sandbox = Sandbox::new();
    let (some, all) = (HttpReceiver::start(), HttpReceiver::start());
    let file = format!(
        "[[notify]]\nurl = \"http://{}/\"\nkinds = [\"recovered\"]\n[[notify]]\nurl = \"http://{}/\"\n",
        place(&some),
        place(&all)
    );
    let channels = in_file(&file);
    let outbox = Outbox::open(sandbox.root(), channels).unwrap();
    outbox.put(&event("one"));
    outbox.put(&Event { kind: Kind::Recovered, ..event("two") });
    wait_until("both arrive", || {
        count(&outbox, 1).accepted == 2 && count(&outbox, 0).accepted == 1
    });
    assert_eq!(
        (jobs(&some), jobs(&all)),
        (vec!["two".to_owned()], vec!["one".to_owned(), "two".to_owned()])
    );
}

/// `[[notify]]` of a mail server.
fn mail(server: &MailServer, scheme: &str, more: &str) -> String {
    let (user, password) = LOGIN;
    let login = match scheme {
        "smtp+plain" => String::new(),
        _ => format!("user = \"{user}\"\npassword = \"{password}\"\n"),
    };
    format!(
        "[[notify]]\nurl = \"{scheme}://localhost:{}\"\nfrom = \"Backups <backup@example.org>\"\n{login}{more}\n",
        server.port()
    )
}

fn trusting(server: &MailServer) -> String {
    format!("ca_file = \"{}\"", server.authority().display())
}

const TO: &str = "to = [\"a@example.org\", \"b@example.org\"]\n";

#[test]
fn mail_goes_to_a_real_server_with_tls_and_a_login() {
    let sandbox = Sandbox::new();
    for (security, scheme) in
        [(Security::StartTls, "smtp"), (Security::Tls, "smtps"), (Security::None, "smtp+plain")]
    {
        let Some(server) = MailServer::start(security) else { return };
        test_file(&sandbox, &mail(&server, scheme, &format!("{TO}{}", trusting(&server))))
            .expect_code(0);
        let mails = server.mails();
        assert_eq!(mails.len(), 1, "{scheme}");
        let is_secure = security != Security::None;
        assert_eq!(
            (&mails[0]["tls"], &mails[0]["authenticated"]),
            (&is_secure.into(), &is_secure.into()),
            "{scheme}"
        );
        assert_eq!(mails[0]["from"], "backup@example.org");
        assert_eq!(mails[0]["to"], serde_json::json!(["a@example.org", "b@example.org"]));
        let text = mails[0]["text"].as_str().unwrap();
        assert!(text.contains("\r\nSubject: test: backup notify test on "), "{text}");
        assert!(text.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{text}");
    }
}

#[test]
fn mail_is_not_given_to_strangers_nor_in_the_clear_nor_with_a_wrong_password() {
    let sandbox = Sandbox::new();
    let strangers = Sandbox::new();
    make_certificates(strangers.root());
    let stranger = format!("ca_file = \"{}\"", strangers.path("ca.pem").display());
    for (security, scheme) in [(Security::StartTls, "smtp"), (Security::Tls, "smtps")] {
        let Some(server) = MailServer::start(security) else { return };
        let finished = test_file(&sandbox, &mail(&server, scheme, &format!("{TO}{stranger}")))
            .expect_code(FAILED);
        assert!(everything(&finished).contains("certificate"), "{finished}");
        let wrong = mail(&server, scheme, &format!("{TO}{}", trusting(&server)))
            .replace(LOGIN.1, "wr0ng-p4ss");
        let finished = test_file(&sandbox, &wrong).expect_code(FAILED);
        assert!(everything(&finished).contains("535"), "{finished}");
        assert!(!everything(&finished).contains("wr0ng-p4ss"), "{finished}");
        assert_eq!(server.mails(), Vec::<Value>::new());
    }
    let Some(server) = MailServer::start(Security::None) else { return };
    let finished =
        test_file(&sandbox, &mail(&server, "smtp", &format!("{TO}{}", trusting(&server))))
            .expect_code(FAILED);
    assert!(everything(&finished).contains("STARTTLS is not supported"), "{finished}");
    assert_eq!(server.mails(), Vec::<Value>::new());
}

#[test]
fn a_recipient_who_is_gone_does_not_keep_the_others_from_their_mail() {
    let sandbox = Sandbox::new();
    let Some(server) = MailServer::start(Security::None) else { return };
    let to = |names: &[&str]| format!("to = {names:?}\n");
    test_file(&sandbox, &mail(&server, "smtp+plain", &to(&[REFUSED, "a@example.org"])))
        .expect_code(0);
    assert_eq!(server.mails()[0]["to"], serde_json::json!(["a@example.org"]));
    let outbox = Outbox::open(
        sandbox.root(),
        in_file(&format!(
            "{}{}",
            mail(&server, "smtp+plain", &to(&[REFUSED])),
            mail(&server, "smtp+plain", &to(&[POSTPONED])),
        )),
    )
    .unwrap();
    outbox.put(&event("web"));
    wait_until("one is refused for good and one is tried again", || {
        count(&outbox, 0).refused == 1 && count(&outbox, 1).failures > 1
    });
    assert_eq!((count(&outbox, 0).waiting, count(&outbox, 1).waiting), (0, 1));
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn a_hostile_name_makes_neither_a_header_nor_a_recipient_nor_markup() {
    let state = Sandbox::new();
    let Some(server) = MailServer::start(Security::None) else { return };
    let slack = HttpReceiver::start();
    let file = format!(
        "{}[[notify]]\nurl = \"slack+http://{}/s\"\n",
        mail(&server, "smtp+plain", TO),
        place(&slack)
    );
    let outbox = Outbox::open(state.root(), in_file(&file)).unwrap();
    let hostile =
        "web\r\nBcc: all@example.org\r\n\r\n.\r\nMAIL FROM:<x@y>\r\n<!channel> \u{202e}gnp.";
    let mut event = event(hostile);
    event.text = "one\r\n.\r\nRCPT TO:<all@example.org>".to_owned();
    outbox.put(&event);
    wait_until("both arrive", || outbox.counts().iter().all(|one| one.accepted == 1));
    outbox.finish();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0]["to"], serde_json::json!(["a@example.org", "b@example.org"]));
    let text = mails[0]["text"].as_str().unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap();
    let names: Vec<_> = headers.split("\r\n").filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(names.len(), 9, "{headers}");
    assert!(!headers.to_lowercase().contains("\r\nbcc:"), "{headers}");
    let body = STANDARD.decode(body.replace("\r\n", "")).unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(body, "one  .  RCPT TO:<all@example.org>\r\nvolume: data\r\n");
    let shown = serde_json::from_slice::<Value>(&slack.bodies()[0]).unwrap()["text"].to_string();
    assert!(shown.contains("&lt;!channel&gt; gnp."), "{shown}");
    assert!(!shown.contains("<!channel>") && !shown.contains('\u{202e}'), "{shown}");
}
