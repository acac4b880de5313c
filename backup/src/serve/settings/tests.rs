use super::*;

fn read(text: &str) -> ServeSettings {
    parse(text, &Typed::default()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn fault(text: &str) -> String {
    let faults = parse(text, &Typed::default()).unwrap_err();
    faults
        .iter()
        .map(|fault| format!("{}: {}", fault.key, fault.message))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn without_a_file_containers_are_saved_every_night() {
    let settings = read("");
    assert!(settings.containers && settings.jobs.is_empty());
    assert_eq!(settings.defaults.schedule, Cron::nightly());
    assert_eq!(settings.zone, TimeZone::UTC);
    assert_eq!((settings.concurrency, settings.jitter_max), (2, Duration::from_secs(300)));
}

#[test]
fn a_whole_file_is_read() {
    let settings = read(
        r#"
        schedule = "30 2 * * *"
        time_zone = "Europe/Berlin"
        jitter = "1m"
        catch_up_delay = "10s"
        concurrency = 3
        containers = false
        containers_with = "shop"
        time_max = "2h"
        overdue_after = "30m"
        retain = { last = 3, within = "7d" }
        check = "0 6 * * 0"
        check_read_data = 5
        prune = "@daily"
        prune_grace = "48h"

        [[job]]
        name = "etc"
        paths = ["/host/etc"]
        exclude = "*.tmp"
        schedule = "@hourly"
        retain = "daily=7"

        [[job]]
        name = "shop"
        volumes = ["uploads"]
        dump = "db=mysql"
        pause = ["web"]
        pre = ["web=sync; a=b"]
        max_pause = "5s"
        drill = "@weekly"
        time_max = "1h"

        [[job]]
        name = "app"
        dump = "app"
        command = ["export", "--all"]
        "#,
    );
    assert_eq!(settings.zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!((settings.concurrency, settings.containers), (3, false));
    assert_eq!(settings.defaults.scope.as_deref(), Some("shop"));
    assert_eq!(settings.check.unwrap().1, Some(5));
    assert_eq!(settings.prune.unwrap().1.as_deref(), Some("48h"));
    let [etc, shop, app] = settings.jobs.as_slice() else { panic!("{:?}", settings.jobs) };
    assert_eq!(etc.what, What::Paths { paths: vec!["/host/etc".to_owned()] });
    assert_eq!(
        (etc.exclude.as_slice(), etc.schedule.to_string().as_str()),
        (&["*.tmp".to_owned()][..], "@hourly")
    );
    assert_eq!(etc.retain.as_ref().unwrap().to_string(), "daily=7");
    assert_eq!(etc.time_max_seconds, 7200);
    assert_eq!(shop.still.pre, [("web".to_owned(), "sync; a=b".to_owned())]);
    assert_eq!(shop.retain.as_ref().unwrap().to_string(), "last=3,within=7d");
    assert_eq!((shop.time_max_seconds, shop.overdue_after_seconds), (3600, 1800));
    assert!(matches!(&app.what, What::Dump { command, .. } if command.len() == 2));
}

#[test]
fn what_is_typed_comes_before_what_the_file_says() {
    let typed = Typed {
        schedule: Some("@hourly".parse().unwrap()),
        zone: Some(TimeZone::UTC),
        jitter: Some(Duration::ZERO),
        concurrency: Some(1),
        scope: Some("b=2".to_owned()),
    };
    let text = "schedule = \"@daily\"\ntime_zone = \"Europe/Berlin\"\njitter = \"1m\"\nconcurrency = 3\ncontainers_with = \"a\"";
    let settings = parse(text, &typed).unwrap();
    assert_eq!(settings.defaults.schedule.to_string(), "@hourly");
    assert_eq!((settings.zone, settings.defaults.scope.as_deref()), (TimeZone::UTC, Some("b=2")));
    assert_eq!((settings.jitter_max, settings.concurrency), (Duration::ZERO, 1));
}

#[test]
fn what_is_wrong_is_told() {
    for (text, said) in [
        ("shedule = \"@daily\"", "no such key"),
        ("schedule = \"often\"", "no schedule"),
        ("time_zone = \"Mars\"", "no time zone"),
        ("concurrency = 0", "out of range"),
        ("time_max = \"0s\"", "at least 1s"),
        ("jitter = \"1000d\"", "at most 366d"),
        ("retain = { dayly = 7 }", "no rule"),
        ("check_read_data = 0", "out of range"),
        ("[[job]]\npaths = [\"/etc\"]", "needs a name"),
        ("[[job]]\nname = \"a\"", "nothing is saved"),
        ("[[job]]\nname = \"\"\npaths = [\"/etc\"]", "1 to 200 bytes"),
        ("[[job]]\nname = \"a\"\npaths = [\"etc\"]", "absolute"),
        ("[[job]]\nname = \"a\"\npaths = [\"/etc\"]\nvolumes = [\"v\"]", "one of them"),
        ("[[job]]\nname = \"a\"\npaths = [\"/etc\"]\ndump = \"db\"", "make it two"),
        ("[[job]]\nname = \"a\"\ndump = \"db=oracle\"", "none of auto"),
        ("[[job]]\nname = \"a\"\ndump = \"db\"\npause = [\"db\"]", "has no pause"),
        ("[[job]]\nname = \"a\"\nvolumes = [\"v\"]\ncommand = [\"x\"]", "job of its own"),
        ("[[job]]\nname = \"a\"\nvolumes = [\"v\"]\npre = [\"x\"]", "CONTAINER=CMD"),
        (
            "[[job]]\nname = \"a\"\npaths = [\"/a\"]\n[[job]]\nname = \"a\"\npaths = [\"/b\"]",
            "two jobs are called a",
        ),
    ] {
        let told = fault(text);
        assert!(told.contains(said), "{text}: {told}");
    }
}
