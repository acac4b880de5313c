use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use super::*;

fn dial(addresses: &[IpAddr], port: u16) -> io::Result<OwnedFd> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(first(addresses.to_vec(), port))
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Nothing that a machine has an address or a route for (RFC 3849, RFC 4291).
const NOWHERE: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_refusal_says_more_than_a_missing_family() {
    if dial(&[NOWHERE], 1).is_err_and(|error| !is_of_family(&error)) {
        eprintln!("not tested: this machine has a route for addresses of documentation");
        return;
    }
    let port = closed_port();
    for addresses in [[LOCAL, NOWHERE], [NOWHERE, LOCAL]] {
        let error = dial(&addresses, port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{addresses:?}: {error}");
    }
}

/// Wherever the name came from. On another error something was sent there.
#[test]
fn nothing_is_sent_to_the_metadata_of_clouds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for metadata in ["169.254.169.254", "::ffff:169.254.169.254", "168.63.129.16", "fd20:ce::254"] {
        let metadata: IpAddr = metadata.parse().unwrap();
        let told = dial(&[metadata], port).unwrap_err().to_string();
        assert_eq!(told, "it is the metadata service of a cloud", "{metadata}");
        assert!(dial(&[metadata, LOCAL], port).is_ok());
    }
}

#[test]
fn the_first_address_that_answers_wins() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let second = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    assert!(dial(&[second, LOCAL], port).is_ok());
    assert!(dial(&[second], port).is_err());
    assert!(dial(&[], port).is_err());
}
