use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Selector {
    Selector::Name(text.to_owned())
}

fn compose_of(project: &str, service: &str, number: Option<u32>) -> Selector {
    Selector::Compose { project: project.to_owned(), service: service.to_owned(), number }
}

fn labels_of(pairs: &[(&str, &str)]) -> Selector {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Selector::Labels(pairs.collect())
}

#[test]
fn what_login_names_mean() {
    let cases = [
        ("web", name("web"), None),
        ("web+www-data", name("web"), Some("www-data")),
        ("web+1000", name("web"), Some("1000")),
        ("web+1000.5", name("web"), Some("1000:5")),
        ("web+0", name("web"), Some("0")),
        ("web+john.doe", name("web"), Some("john.doe")),
        ("web+HOST$", name("web"), Some("HOST$")),
        ("My_web-1.x", name("My_web-1.x"), None),
        ("0123456789ab", name("0123456789ab"), None),
        ("shop~web", compose_of("shop", "web", None), None),
        ("shop~web~2", compose_of("shop", "web", Some(2)), None),
        ("shop~web~2+root", compose_of("shop", "web", Some(2)), Some("root")),
        ("tier=db", labels_of(&[("tier", "db")]), None),
        ("tier=db,env=prod", labels_of(&[("tier", "db"), ("env", "prod")]), None),
        ("tier=+root", labels_of(&[("tier", "")]), Some("root")),
        ("a=b=c", labels_of(&[("a", "b=c")]), None),
        ("com.example.team=a~b", labels_of(&[("com.example.team", "a~b")]), None),
    ];
    for (text, selector, user) in cases {
        let login = Login::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(login.selector, selector, "{text}");
        assert_eq!(login.user.as_ref().map(UserName::as_str), user, "{text}");
        assert_eq!(Login::parse(&login.to_string()), Ok(login), "{text}");
    }
}

#[test]
fn what_is_no_login_name_is_said_in_one_sentence() {
    let long = "x".repeat(LOGIN_BYTES_MAX + 1);
    let many: String = (0..=LABELS_MAX).map(|number| format!("k{number}=v,")).collect();
    let cases = [
        ("", "the login name names no container: give for example web, shop~web~2 or tier=db"),
        ("+root", "the login name names no container"),
        (&long, "the login name is longer than 512 bytes"),
        ("web:root", "':' cannot be in a login name"),
        ("a/b", "'/' cannot be in a login name"),
        ("%h", "'%' cannot be in a login name"),
        ("a@b", "'@' cannot be in a login name"),
        ("a b", "' ' cannot be in a login name"),
        ("a\u{1b}[2J", "the character U+001B cannot be in a login name"),
        ("a\u{202e}b", "the character U+202E cannot be in a login name"),
        ("web+a+b", "there is more than one + in the login name"),
        ("web+", " is no user"),
        ("web+-x", "-x is no user: give a name, a number, or UID.GID"),
        ("web+007", "007 is no user"),
        ("web+4294967295", "4294967295 is no user"),
        ("web+2147483648", "2147483648 is no user"),
        ("web+1.2.3", "1.2.3 is no user"),
        ("web+.5", ".5 is no user"),
        ("web+5.", "5. is no user"),
        ("web+a~b", "a~b is no user"),
        ("-web", "-web is no name of a container"),
        ("wéb", "wéb is no name of a container"),
        ("web,", "web, is no name of a container"),
        ("~web", "~web is no project~service or project~service~number"),
        ("shop~", "shop~ is no project~service"),
        ("shop~web~x", "shop~web~x is no project~service"),
        ("shop~web~02", "shop~web~02 is no project~service"),
        ("shop~web~2~3", "shop~web~2~3 is no project~service"),
        ("=x", "=x is no list of up to 16 different labels key=value"),
        ("a=b,", "a=b, is no list of up to 16 different labels"),
        ("a=b,a=c", "a=b,a=c is no list of up to 16 different labels"),
        (many.trim_end_matches(','), "k0=v,"),
    ];
    for (text, said) in cases {
        let error = Login::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(said), "{text:?}: {error}");
        assert!(!error.contains('\n') && !error.contains('\u{1b}'), "{error:?}");
    }
}

#[test]
fn a_host_behind_the_gateway_is_a_container() {
    let of = |user: &str, host: &str| {
        Login::of(&LoginName { user: user.to_owned(), host: Some(host.to_owned()) })
    };
    assert_eq!(of("root", "web").unwrap().to_string(), "web+root");
    assert_eq!(of("b", "web+a"), Err(LoginError::Pluses));
    assert!(of("b", "10.0.0.1:22").is_err());
    assert!(of("", "web").is_err());
    let direct = LoginName { user: "web+root".to_owned(), host: None };
    assert_eq!(Login::of(&direct), Login::parse("web+root"));
}

/// A container: name, first digits of the id, state, labels `key=value`.
fn container(name: &str, id: &str, state: ContainerState, labels: &[&str]) -> ListedContainer {
    let labels = labels.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap();
        let key = match key {
            "project" => COMPOSE_PROJECT,
            "service" => COMPOSE_SERVICE,
            "number" => COMPOSE_NUMBER,
            "oneoff" => COMPOSE_ONE_OFF,
            "enable" => ENABLE_LABEL,
            key => key,
        };
        (key.to_owned(), value.to_owned())
    });
    ListedContainer {
        id: format!("{id:0<64}"),
        name: name.to_owned(),
        image_ref: "image".to_owned(),
        labels: labels.collect(),
        state,
    }
}

fn zoo() -> Vec<ListedContainer> {
    use ContainerState::{NotRunning, Paused, Running};
    vec![
        container("web", "aaaaaaaaaaaa1", Running, &["tier=front"]),
        container(
            "shop-web-1",
            "bbbbbbbbbbbb1",
            Running,
            &["project=shop", "service=web", "number=1"],
        ),
        container(
            "shop-web-2",
            "bbbbbbbbbbbb2",
            Running,
            &["project=shop", "service=web", "number=2"],
        ),
        container("shop-db-1", "cccccccccccc1", Paused, &["project=shop", "service=db", "tier=db"]),
        container(
            "blog-db-1",
            "cccccccccccc2",
            NotRunning,
            &["project=blog", "service=db", "tier=db"],
        ),
        container("blog-cron-1", "dddddddddddd1", NotRunning, &["project=blog", "service=cron"]),
        container(
            "blog-run-1",
            "dddddddddddd2",
            Running,
            &["project=blog", "service=cron", "oneoff=True"],
        ),
        container("secret", "eeeeeeeeeeee1", Running, &["enable=false", "tier=front"]),
        container("odd", "eeeeeeeeeeee2", Running, &["enable=yes"]),
        container("worker", "ffffffffffff1", Running, &["enable=true", "tier=back"]),
        // Its name is how the id of another one begins, and a service is named like it.
        container("aaaaaaaaaaaa1", "0000000000001", Running, &[]),
        container("other", "0000000000002", Running, &["project=x", "service=worker"]),
    ]
}

#[test]
fn which_container_a_login_name_means() {
    let zoo = zoo();
    let cases = [
        ("web", "one web"),
        ("worker", "one worker"),
        ("aaaaaaaaaaaa1", "one aaaaaaaaaaaa1"),
        ("aaaaaaaaaaaa", "one web"),
        ("bbbbbbbbbbbb2", "one shop-web-2"),
        ("bbbbbbbbbbbb", "many shop-web-1 shop-web-2"),
        ("bbbbbbbbbbb", "none "),
        ("BBBBBBBBBBBB2", "none "),
        ("db", "projects blog-db-1 shop-db-1"),
        ("shop~db", "one shop-db-1"),
        ("shop~web", "many shop-web-1 shop-web-2"),
        ("shop~web~2", "one shop-web-2"),
        ("shop~web~3", "none "),
        ("blog~db", "stopped blog-db-1"),
        ("blog-db-1", "stopped blog-db-1"),
        ("cron", "stopped blog-cron-1"),
        ("blog-run-1", "one blog-run-1"),
        ("tier=db", "one shop-db-1"),
        ("tier=front", "one web"),
        ("tier=front,x=y", "none "),
        ("secret", "none "),
        ("eeeeeeeeeeee1", "none "),
        ("odd", "none "),
        ("wob", "none web"),
        ("shop-web-3", "none shop-web-1 shop-web-2"),
        ("secre", "none "),
        ("Worker", "none worker"),
        ("nothing-like-it", "none "),
    ];
    for (text, wanted) in cases {
        let login = Login::parse(text).unwrap();
        let resolution = resolve(&login.selector, &zoo);
        let names = |many: &[&ListedContainer]| {
            many.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let found = match &resolution {
            Resolution::One(one) => format!("one {}", one.name),
            Resolution::Projects(found) => format!("projects {}", names(found)),
            Resolution::Many(many) => format!("many {}", names(many)),
            Resolution::Stopped(stopped) => format!("stopped {}", names(stopped)),
            Resolution::None(similar) => format!("none {}", similar.join(" ")),
        };
        assert_eq!(found, wanted, "{text}");
        let said = explain(&login.selector, &resolution);
        assert_eq!(said.is_none(), matches!(resolution, Resolution::One(_)), "{text}");
        assert!(text == "secret" || said.is_none_or(|said| !said.contains("secret")), "{text}");
    }
    let whole = &zoo[0].id;
    assert_eq!(resolve(&name(whole), &zoo), Resolution::One(&zoo[0]));
}

#[test]
fn what_the_client_is_told() {
    let zoo = zoo();
    let said = |text: &str| {
        let selector = text.parse().unwrap();
        explain(&selector, &resolve(&selector, &zoo)).unwrap()
    };
    assert_eq!(said("shop~web"), "shop~web means 2 containers: shop-web-1, shop-web-2");
    assert_eq!(said("blog~db"), "the container blog-db-1 is not running");
    assert_eq!(said("zzz"), "there is no container zzz that this key may enter");
    assert_eq!(said("wob"), "there is no container wob that this key may enter; did you mean web?");
    let selector = "wob".parse().unwrap();
    assert_eq!(
        explain_to_operator(&selector, &resolve(&selector, &zoo)).unwrap(),
        "there is no container wob; did you mean web?"
    );
    let many: Vec<_> = (0..50)
        .map(|number| {
            let name = format!("c{number:02}\u{1b}]0;x\u{7}");
            container(&name, &format!("{number:013x}"), ContainerState::Running, &["a=b"])
        })
        .collect();
    let selector = labels_of(&[("a", "b")]);
    let said = explain(&selector, &resolve(&selector, &many)).unwrap();
    assert!(said.starts_with("a=b means 50 containers: c00\u{fffd}]0;x\u{fffd}, c01"), "{said}");
    assert!(said.ends_with(" and 30 more"), "{said}");
}

#[test]
fn foreign_texts_are_shown_without_what_deceives() {
    assert_eq!(shown("plain ünï 漢"), "plain ünï 漢");
    assert_eq!(shown("a\u{9b}2Jb\rc\nd\0"), "a\u{fffd}2Jb\u{fffd}c\u{fffd}d\u{fffd}");
    assert_eq!(shown("a\u{202e}b\u{2066}\u{200b}"), "a\u{fffd}b\u{fffd}\u{fffd}");
    assert_eq!(shown(&"x".repeat(200)), format!("{}…", "x".repeat(128)));
}

#[test]
fn the_distance_of_names() {
    for (left, right, wanted) in
        [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("WEB", "web", 0), ("web", "wbe", 2)]
    {
        assert_eq!(distance(left, right), wanted, "{left} {right}");
        assert_eq!(distance(right, left), wanted, "{left} {right}");
    }
    assert_eq!(distance(&"x".repeat(129), "x"), usize::MAX);
}

#[test]
fn the_advice_at_the_end_of_a_sentence_of_ours_is_told() {
    let sentence = format!("{} so do this\u{1b}", "long ".repeat(100));
    assert!(told(&sentence).ends_with("so do this\u{fffd}"));
    assert!(!shown(&sentence).contains("do this"));
    assert_eq!(told(&"x".repeat(5000)).chars().count(), TOLD_CHARACTERS_MAX + 1);
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,40}|[a-c~=,+.$0-9:/%@ \\\\-]{0,24}|.{0,20}") {
        match Login::parse(&text) {
            Ok(login) => {
                prop_assert!(!text.contains([':', '/', '%', '@', '\\', '\n', '\0']));
                // What is shown and audited means the same again.
                prop_assert_eq!(Login::parse(&login.to_string()), Ok(login.clone()));
                let zoo = zoo();
                let resolution = resolve(&login.selector, &zoo);
                let said = explain(&login.selector, &resolution).unwrap_or_default();
                prop_assert!(!said.chars().any(is_hostile));
            }
            Err(error) => prop_assert!(!error.to_string().chars().any(is_hostile)),
        }
    }

    #[test]
    fn who_is_disabled_is_never_found(enable in "[a-z0-9]{0,6}", text in "(web|[a-f]{12}|a=b|p~web)") {
        let enable_label = format!("enable={enable}");
        let labels = ["a=b", "project=p", "service=web", &enable_label];
        let one = [container("web", "aaaaaaaaaaaa", ContainerState::Running, &labels)];
        let found = resolve(&text.parse().unwrap(), &one);
        if enable != "true" {
            prop_assert_eq!(found, Resolution::None(Vec::new()));
        }
    }
}
