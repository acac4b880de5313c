use super::*;

fn reached() -> Reached {
    Reached {
        alias: "chores".to_owned(),
        host: "gateway.example".to_owned(),
        port: 2222,
        operator: "_".to_owned(),
    }
}

#[test]
fn containers_are_hosts_behind_the_gateway() {
    let names = ["db", "shop~web"].map(str::to_owned);
    assert_eq!(
        config(&reached(), &names),
        "Host chores\n    HostName gateway.example\n    Port 2222\n    User _\n    HostKeyAlias chores\n    ProxyJump none\n\n\
         Host db shop~web\n    Port 22\n    ProxyJump chores\n    HostKeyAlias chores\n"
    );
    let many: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let text = config(&reached(), &many);
    assert_eq!(text.lines().filter(|line| line.starts_with("Host ")).count(), 4);
}

#[test]
fn keys_are_told_without_their_comments() {
    let keys = ["ssh-ed25519 AAAA root@host".to_owned(), "ssh-rsa BBBB".to_owned()];
    assert_eq!(known_hosts("chores", &keys), "chores ssh-ed25519 AAAA\nchores ssh-rsa BBBB\n");
}

#[test]
fn words_have_nothing_in_them_that_means_more() {
    for word in ["web", "shop~web~2", "gateway.example", "2001:db8::1", "shop-*", "a_b?"] {
        assert!(is_word(word), "{word}");
    }
    for text in ["", "a b", "a\n", "-o", "a\"b", "a#b", "%h", "$(x)", "a'b", "a\\b", "!a", "a,b"] {
        assert!(!is_word(text), "{text:?}");
    }
}

#[test]
fn a_name_that_ends_as_hosts_do_leads_into_what_is_before() {
    for (name, container) in [
        ("web.chores", Some("web")),
        ("web.chores.chores", Some("web.chores")),
        ("web", None),
        ("*.chores", None),
        ("web?.chores", None),
        (".chores", None),
    ] {
        assert_eq!(leads_into(name), container, "{name}");
        if let Some(container) = container {
            assert_eq!(crate::login::host_container(name), container);
        }
    }
}

#[test]
fn a_container_takes_no_other_hosts_place() {
    for name in ["web", "shop-web", "chores2", "gateway", "localhost-1"] {
        assert!(is_nobody_elses(name, &reached()), "{name}");
    }
    for name in
        ["github.com", "10.0.0.7", "db.1", "chores", "Chores", "localhost", "gateway.example"]
    {
        assert!(!is_nobody_elses(name, &reached()), "{name}");
    }
    let short = Reached { host: "gateway".to_owned(), ..reached() };
    assert!(!is_nobody_elses("gateway", &short));
}
