use super::*;

#[test]
fn where_to_listen_is_read_and_shown() {
    for (text, shown) in [
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
        ("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375"),
        ("tcp:[::1]:2375", "tcp://[::1]:2375"),
    ] {
        assert_eq!(Listen::parse(text).unwrap().to_string(), shown);
    }
    for text in
        ["", "/run/a.sock", "unix:a.sock", "tcp://engine:2375", "tcp:2375", "http://127.0.0.1:1"]
    {
        assert!(Listen::parse(text).unwrap_err().contains("is no address: give"), "{text}");
    }
}
