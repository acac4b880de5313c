use proptest::prelude::*;

use super::*;

fn servers(addresses: &[&str]) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), PORT)).collect()
}

#[test]
fn the_engines_own_file_is_understood() {
    let settings = Settings::of(b"nameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n");
    let wanted = Settings {
        servers: servers(&["127.0.0.11"]),
        search: Vec::new(),
        dots: 0,
        timeout: Duration::from_secs(5),
        attempts: 2,
    };
    assert_eq!(settings, wanted);
}

#[test]
fn everything_has_a_bound_and_the_last_search_counts() {
    let settings = Settings::of(
        b"# comment\n; another\nsearch old.example\nsearch a b c d e f g h i j\n\
          nameserver 10.0.0.1 # first\nnameserver fd00::1\nnameserver nonsense\n\
          nameserver 10.0.0.2\nnameserver 10.0.0.3\n\xff\xfe\n\
          options ndots:99 timeout:4000000000 attempts:0\noptions ndots timeout:x rotate\n",
    );
    assert_eq!(settings.servers, servers(&["10.0.0.1", "fd00::1", "10.0.0.2"]));
    assert_eq!(settings.search, ["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert_eq!((settings.dots, settings.attempts), (15, 1));
    assert_eq!(settings.timeout, Duration::from_secs(5));
}

#[test]
fn without_a_server_it_is_this_machine() {
    assert_eq!(Settings::of(b"").servers, servers(&["127.0.0.1"]));
    assert_eq!(Settings::of(b"domain one two").search, ["one"]);
}

#[test]
fn names_are_completed_as_resolv_conf_says() {
    let of = |dots: usize, host: &str| -> Vec<Name> {
        let settings = Settings {
            search: vec![
                "corp.example".into(),
                ".".into(),
                "not a domain".into(),
                "example.".into(),
            ],
            dots,
            ..Settings::of(b"")
        };
        settings.candidates(host, &Name::of(host).unwrap())
    };
    let names = |texts: &[&str]| -> Vec<Name> {
        texts.iter().map(|text| Name::of(text).unwrap()).collect()
    };
    assert_eq!(of(1, "db"), names(&["db.corp.example", "db.example", "db"]));
    assert_eq!(of(1, "db.x"), names(&["db.x", "db.x.corp.example", "db.x.example"]));
    assert_eq!(of(5, "db.x"), names(&["db.x.corp.example", "db.x.example", "db.x"]));
    assert_eq!(of(0, "db"), names(&["db", "db.corp.example", "db.example"]));
    assert_eq!(of(5, "db."), names(&["db"]));
}

#[test]
fn hosts_are_found_by_any_of_their_names() {
    let table = b"127.0.0.1 localhost\n::1 localhost ip6\n172.17.0.2 Web web.local # web2\n\
        nonsense web\n172.17.0.2 web\nfd00::2\tweb\n\xff web\n";
    let found = |host: &str, most: usize| -> Vec<String> {
        listed(table, host, most).iter().map(ToString::to_string).collect()
    };
    assert_eq!(found("web", 16), ["172.17.0.2", "fd00::2"]);
    assert_eq!(found("WEB.LOCAL.", 16), ["172.17.0.2"]);
    assert_eq!(found("web", 1), ["172.17.0.2"]);
    for missing in ["web2", "172.17.0.2", "nonsense", ""] {
        assert!(found(missing, 16).is_empty(), "{missing}");
    }
}

proptest! {
    #[test]
    fn any_file_is_read_without_harm(content in prop::collection::vec(any::<u8>(), 0..2000), host in ".{0,40}") {
        let settings = Settings::of(&content);
        prop_assert!(!settings.servers.is_empty() && settings.servers.len() <= SERVERS_MAX);
        prop_assert!(settings.search.len() <= SEARCH_MAX);
        prop_assert!(listed(&content, &host, 3).len() <= 3);
        if let Some(name) = Name::of(&host) {
            prop_assert!(settings.candidates(&host, &name).len() <= SEARCH_MAX + 1);
        }
    }
}
