use std::net::Ipv4Addr;

use super::*;

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NOW: i64 = 1_795_515_630 * SECOND;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn with_token() -> Access {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let settings = AccessSettings { token_file: Some(file), ..AccessSettings::default() };
    Access::new(settings, address("0.0.0.0:9465")).unwrap()
}

fn with_proxy() -> Access {
    let settings = AccessSettings {
        hosts: vec!["Logs.Example.org".to_owned()],
        user_header: Some("x-remote-user".to_owned()),
        proxies: vec!["10.1.2.0/24".parse().unwrap()],
        ..AccessSettings::default()
    };
    Access::new(settings, address("0.0.0.0:9465")).unwrap()
}

#[test]
fn everybody_of_this_host_may_look_and_nobody_else() {
    for listen in ["127.0.0.1:1", "[::1]:1", "127.8.8.8:1"] {
        let access = Access::new(AccessSettings::default(), address(listen)).unwrap();
        assert_eq!(access.admits(&HeaderMap::new(), HOME, NOW), Ok(()));
    }
    for listen in ["0.0.0.0:1", "[::]:1", "192.168.1.1:1"] {
        let error = Access::new(AccessSettings::default(), address(listen)).unwrap_err();
        assert!(matches!(error, AccessError::Open(_)), "{error}");
    }
}

#[test]
fn half_a_setting_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let listen = address("127.0.0.1:1");
    let new = |settings| Access::new(settings, listen).unwrap_err().to_string();
    let token = AccessSettings { token_file: Some(file.clone()), ..AccessSettings::default() };
    assert!(new(token.clone()).contains("LOGSHIP_UI_TOKEN_FILE"));
    std::fs::write(&file, "short\n").unwrap();
    assert!(new(token).contains("shorter than 16 bytes"));
    let header = |name: &str| AccessSettings {
        user_header: Some(name.to_owned()),
        ..AccessSettings::default()
    };
    assert!(new(header("x-user")).contains("belong together"));
    assert!(new(header("x user")).contains("no name of a header"));
    let proxies = vec!["10.0.0.1".parse().unwrap()];
    assert!(new(AccessSettings { proxies, ..AccessSettings::default() }).contains("together"));
}

#[test]
fn the_token_lets_in_by_header_and_by_session() {
    let access = with_token();
    let admits = |pairs: &[(&'static str, &str)]| access.admits(&headers(pairs), HOME, NOW);
    assert_eq!(admits(&[]), Err(Refusal::Unknown));
    assert_eq!(admits(&[("authorization", &format!("Bearer {TOKEN}"))]), Ok(()));
    assert_eq!(admits(&[("authorization", &format!("bearer {TOKEN}"))]), Ok(()));
    for wrong in ["Bearer ", "Bearer x", TOKEN, &format!("Basic {TOKEN}")] {
        assert_eq!(admits(&[("authorization", wrong)]), Err(Refusal::Unknown), "{wrong}");
    }
    // A header of a proxy that was not set up means nothing.
    assert_eq!(admits(&[("x-remote-user", "root")]), Err(Refusal::Unknown));

    let log_in = |pairs: &[(&'static str, &str)]| {
        let set = access.session(&headers(pairs), HOME, NOW).unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        (set, cookie)
    };
    let (set, cookie) = log_in(&[("origin", "https://logs")]);
    for part in ["logship_9465=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Secure"] {
        assert!(set.contains(part), "{set}");
    }
    let (other, _) = log_in(&[]);
    assert!(!other.contains("Secure"));
    assert_eq!(admits(&[("cookie", &format!("a=b; {cookie}"))]), Ok(()));
    let session = headers(&[("cookie", &cookie)]);
    let late = NOW + SESSION_SECONDS * SECOND;
    assert_eq!(access.admits(&session, HOME, late), Err(Refusal::Unknown));
    // Whoever listens on another port of this host gets the cookie too: it is of no use elsewhere.
    let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    assert_eq!(access.admits(&session, elsewhere, NOW), Err(Refusal::Unknown));
    let same = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    assert_eq!(access.admits(&session, same, NOW), Ok(()));
    assert_eq!(with_token().admits(&session, HOME, NOW), Err(Refusal::Unknown));
    for forged in ["logship_9465=", "logship_9465=00", "logship_9464=00"] {
        assert_eq!(admits(&[("cookie", forged)]), Err(Refusal::Unknown), "{forged}");
    }
    // Logged out, the cookie is worth nothing, wherever it went.
    assert!(access.end_session(&session).contains("=; Path=/; Max-Age=0;"));
    assert_eq!(access.admits(&session, HOME, NOW), Err(Refusal::Unknown));
}

#[test]
fn those_who_logged_in_first_make_room_for_others() {
    let access = with_token();
    let cookies: Vec<String> = (0..=SESSIONS_MAX)
        .map(|_| access.session(&HeaderMap::new(), HOME, NOW).unwrap())
        .map(|set| set.split(';').next().unwrap().to_owned())
        .collect();
    let admits = |cookie: &str| access.admits(&headers(&[("cookie", cookie)]), HOME, NOW);
    assert_eq!(admits(&cookies[0]), Err(Refusal::Unknown));
    assert_eq!(admits(&cookies[1]), Ok(()));
    assert_eq!(admits(&cookies[SESSIONS_MAX]), Ok(()));
}

#[test]
fn a_proxy_is_believed_from_its_addresses_only() {
    let access = with_proxy();
    let user = headers(&[("x-remote-user", "ada")]);
    for (peer, wanted) in [
        ("10.1.2.3", Ok(())),
        ("::ffff:10.1.2.3", Ok(())),
        ("10.1.3.3", Err(Refusal::Unknown)),
        ("127.0.0.1", Err(Refusal::Unknown)),
        ("::a01:203", Err(Refusal::Unknown)),
    ] {
        assert_eq!(access.admits(&user, peer.parse().unwrap(), NOW), wanted, "{peer}");
    }
    let peer = "10.1.2.3".parse().unwrap();
    for nobody in [headers(&[]), headers(&[("x-remote-user", "")])] {
        assert_eq!(access.admits(&nobody, peer, NOW), Err(Refusal::Unknown));
    }
    // Without a token nobody can log in.
    assert!(!access.is_token(&Secret::new(String::new())));
}

#[test]
fn networks_are_read() {
    for (text, address, wanted) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.1", false),
        ("0.0.0.0/0", "9.9.9.9", true),
        ("10.0.0.5", "10.0.0.6", false),
        ("fd00::/8", "fd12::1", true),
        ("::/0", "1.2.3.4", true),
    ] {
        let network: Network = text.parse().unwrap();
        assert_eq!(network.holds(address.parse().unwrap()), wanted, "{text} {address}");
    }
    for text in ["", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "::/129"] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn only_our_names_and_our_page_ask() {
    let access = with_proxy();
    for host in ["127.0.0.1:9465", "[::1]:9465", "localhost", "logs.example.org:443", "10.9.8.7"] {
        assert_eq!(access.is_ours(&headers(&[("host", host)])), Ok(()), "{host}");
    }
    for host in ["evil.example", "logs.example.org.evil.example", "localhost.evil:80", "", "::1"] {
        assert_eq!(access.is_ours(&headers(&[("host", host)])), Err(Refusal::Host), "{host}");
    }
    let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
    assert_eq!(access.is_ours(&two), Err(Refusal::Host));
    assert_eq!(access.is_ours(&headers(&[])), Err(Refusal::Host));
    let site = |site: &str, mode: &str| {
        let pairs = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
        access.is_ours(&headers(&pairs))
    };
    assert_eq!(site("same-origin", "cors"), Ok(()));
    assert_eq!(site("none", "navigate"), Ok(()));
    assert_eq!(site("cross-site", "navigate"), Ok(()));
    assert_eq!(site("cross-site", "cors"), Err(Refusal::Site));
    assert_eq!(site("same-site", "no-cors"), Err(Refusal::Site));
    let form = |origin| access.is_own_form(&headers(&[("host", "a:1"), ("origin", origin)]));
    assert_eq!(form("http://a:1"), Ok(()));
    for origin in ["http://a:2", "http://evil", "null", "https://a:1.evil"] {
        assert_eq!(form(origin), Err(Refusal::Site), "{origin}");
    }
}
