use std::sync::Arc;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;
use crate::authorized_keys::{AuthorizedKeys, line_key};
use crate::wire::Program;

/// 2026-11-30T12:00:00Z.
const NOW: u64 = 1_796_040_000;

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// A certificate of key 1 by authority 9 for alice, valid now and without anything else, as `change` has it.
fn issued(change: impl FnOnce(&mut Builder)) -> Certificate {
    let user = private(1);
    let mut builder = Builder::new([3; 16], user.public_key(), NOW - 60, NOW + 60).unwrap();
    builder.key_id("alice@laptop").unwrap().serial(7).unwrap();
    change(&mut builder);
    // The first one counts, so these are for certificates whose change has none.
    drop(builder.cert_type(CertType::User));
    builder.sign(&private(9)).unwrap()
}

fn for_alice(change: impl FnOnce(&mut Builder)) -> Certificate {
    issued(|builder| {
        builder.valid_principal("alice").unwrap();
        change(builder);
    })
}

fn checked(certificate: &Certificate) -> Result<(), CertificateError> {
    let now = Timestamp::from_second(NOW.cast_signed()).unwrap();
    check(certificate, "192.0.2.7".parse().unwrap(), now)
}

/// The line of authority 9 with these options.
fn line(options: &str) -> Arc<AuthorizedKey> {
    let authority = private(9).public_key().to_openssh().unwrap();
    let text = format!("cert-authority,{options} {authority} authority");
    let read = line_key(text.as_bytes(), &|_| false).unwrap().unwrap();
    let mut keys = AuthorizedKeys::default();
    keys.push(None, "keys", 1, read).unwrap();
    let blob = private(9).public_key().to_bytes().unwrap();
    // The key of an authority is nobody's.
    assert_eq!(keys.of_blob(&blob).count(), 0);
    let mut lines = keys.of_authority(&blob);
    Arc::clone(lines.next().unwrap())
}

fn narrow(options: &str, certificate: &Certificate) -> Result<AuthorizedKey, CertificateError> {
    checked(certificate)?;
    narrowed(&line(options), certificate)
}

#[test]
fn what_every_certificate_must_be() {
    use CertificateError as E;
    assert_eq!(checked(&for_alice(|_| {})), Ok(()));
    let critical = |name: &str| Err(E::Critical(name.to_owned()));
    let option = |name: &'static str, value: &'static str| {
        for_alice(move |builder| {
            builder.critical_option(name, value).unwrap();
        })
    };
    let principal = |name: &'static str| {
        for_alice(move |builder| {
            builder.valid_principal(name).unwrap();
        })
    };
    let extension = |name: &'static str, value: &'static str| {
        for_alice(move |builder| {
            builder.extension(name, value).unwrap();
        })
    };
    for (certificate, wanted) in [
        (issued(|builder| drop(builder.all_principals_valid())), Err(E::Principals)),
        (principal("*"), Err(E::Principals)),
        (principal("al?ce"), Err(E::Principals)),
        (principal(""), Err(E::Principals)),
        (principal("bob"), Ok(())),
        (for_alice(|builder| drop(builder.cert_type(CertType::Host))), Err(E::Host)),
        (option("force-command", "id"), Ok(())),
        (option("force-command", ""), critical("force-command")),
        (option("verify-required", ""), Ok(())),
        (option("verify-required", "yes"), critical("verify-required")),
        (option("source-address", "192.0.2.0/24,2001:db8::/32"), Ok(())),
        (option("source-address", "192.0.2.7"), Ok(())),
        (option("source-address", "198.51.100.0/24"), Err(E::Address)),
        (option("source-address", "192.0.2.*"), critical("source-address")),
        (option("source-address", "0.0.0.0/0,!192.0.2.8"), critical("source-address")),
        (option("source-address", "home"), critical("source-address")),
        (option("source-address", ""), critical("source-address")),
        (option("no-such-option", ""), critical("no-such-option")),
        (option("permit-pty", ""), critical("permit-pty")),
        (extension("permit-pty", ""), Ok(())),
        (extension("permit-pty", "yes"), Err(E::Extension("permit-pty".to_owned()))),
        (extension("login@github.com", "alice"), Ok(())),
    ] {
        assert_eq!(checked(&certificate), wanted, "{certificate:?}");
    }
}

#[test]
fn a_certificate_counts_from_its_first_second_to_before_its_last() {
    let certificate = for_alice(|_| {});
    let at = |second: u64| {
        let now = Timestamp::from_second(second.cast_signed()).unwrap();
        check(&certificate, "192.0.2.7".parse().unwrap(), now)
    };
    assert_eq!(at(NOW - 61), Err(CertificateError::Time));
    assert_eq!(at(NOW - 60), Ok(()));
    assert_eq!(at(NOW + 59), Ok(()));
    assert_eq!(at(NOW + 60), Err(CertificateError::Time));
    assert_eq!(at(0), Err(CertificateError::Time));
    // What begins while it counts ends with it.
    let narrowed = narrow("principals=\"alice\"", &certificate).unwrap();
    assert_eq!(narrowed.options.expiry.map(Timestamp::as_second), Some((NOW + 60).cast_signed()));
    // For ever, and still no longer than the line says.
    let mut builder = Builder::new([3; 16], private(1).public_key(), 0, u64::MAX).unwrap();
    builder.key_id("x").unwrap().cert_type(CertType::User).unwrap();
    builder.valid_principal("alice").unwrap();
    let eternal = builder.sign(&private(9)).unwrap();
    assert_eq!(narrow("principals=\"alice\"", &eternal).unwrap().options.expiry, None);
    let limited = narrow("principals=\"alice\",expiry-time=\"20271231\"", &eternal).unwrap();
    assert_eq!(limited.options.expiry.unwrap().to_string(), "2027-12-31T00:00:00Z");
}

#[test]
fn principals_are_compared_as_a_whole() {
    let certificate = for_alice(|builder| {
        builder.valid_principal("ops team").unwrap();
    });
    for (principals, is_allowed) in [
        ("alice", true),
        ("bob,alice", true),
        ("ops team", true),
        ("Alice", false),
        ("alic", false),
        ("alice2", false),
        ("bob", false),
        ("ops", false),
    ] {
        let narrowed = narrow(&format!("principals=\"{principals}\""), &certificate);
        assert_eq!(narrowed.is_ok(), is_allowed, "{principals}");
    }
    for options in [
        "cert-authority",
        "principals=\"a\"",
        "cert-authority,principals=\"a*\"",
        "cert-authority,principals=\"\"",
        "cert-authority,principals=\"a, b\"",
        "cert-authority,principals=\"a,\"",
    ] {
        let text = format!("{options} {}", private(9).public_key().to_openssh().unwrap());
        assert!(line_key(text.as_bytes(), &|_| false).is_err(), "{options}");
    }
}

#[test]
fn a_certificate_takes_away_and_never_gives() {
    let all = ["permit-agent-forwarding", "permit-port-forwarding", "permit-pty"];
    let generous = for_alice(|builder| {
        for name in all {
            builder.extension(name, "").unwrap();
        }
    });
    let of = |options: &str, certificate: &Certificate| {
        let options =
            narrow(&format!("{options}principals=\"alice\""), certificate).unwrap().options;
        [options.agent_forwarding, options.port_forwarding, options.pty]
    };
    assert_eq!(of("", &generous), [true; 3]);
    assert_eq!(of("restrict,", &generous), [false; 3]);
    assert_eq!(of("no-pty,", &generous), [true, true, false]);
    assert_eq!(of("no-agent-forwarding,", &generous), [false, true, true]);
    assert_eq!(of("no-port-forwarding,", &generous), [true, false, true]);
    for (place, left_out) in all.iter().enumerate() {
        let less = for_alice(|builder| {
            for name in all.iter().filter(|name| *name != left_out) {
                builder.extension(*name, "").unwrap();
            }
        });
        let wanted = [0, 1, 2].map(|its| its != place);
        assert_eq!(of("", &less), wanted, "{left_out}");
        assert_eq!(of("restrict,", &less), [false; 3]);
    }
    // Without extensions there is nothing but commands.
    assert_eq!(of("", &for_alice(|_| {})), [false; 3]);
    let one = for_alice(|builder| drop(builder.extension("permit-pty", "")));
    assert_eq!(of("", &one), [false, false, true]);
    let touch = |line: &str, certificate: &Certificate| {
        let options = narrow(&format!("{line}principals=\"alice\""), certificate).unwrap().options;
        (options.no_touch_required, options.verify_required)
    };
    let lax = for_alice(|builder| drop(builder.extension("no-touch-required", "")));
    let strict = for_alice(|builder| drop(builder.critical_option("verify-required", "")));
    assert_eq!(touch("no-touch-required,", &lax), (true, false));
    assert_eq!(touch("no-touch-required,", &generous), (false, false));
    assert_eq!(touch("", &lax), (false, false));
    assert_eq!(touch("", &strict), (false, true));
    assert_eq!(touch("verify-required,", &generous), (false, true));
}

#[test]
fn forced_commands_of_both_must_be_one() {
    let forced = for_alice(|builder| drop(builder.critical_option("force-command", "backup now")));
    let command = |options: &str, certificate: &Certificate| {
        narrow(&format!("{options}principals=\"alice\""), certificate)
            .map(|key| key.options.command)
    };
    let backup = Some(Program::Command(b"backup now".to_vec()));
    assert_eq!(command("", &forced), Ok(backup.clone()));
    assert_eq!(command("command=\"backup now\",", &forced), Ok(backup.clone()));
    assert_eq!(command("command=\"backup now\",", &for_alice(|_| {})), Ok(backup));
    assert_eq!(command("command=\"backup\",", &forced), Err(CertificateError::Commands));
    let odd =
        for_alice(|builder| drop(builder.critical_option("force-command", "internal-sftp -d /")));
    assert_eq!(command("", &odd), Err(CertificateError::Critical("force-command".to_owned())));
}

#[test]
fn a_certificate_counts_at_every_address_that_it_names_and_nowhere_else() {
    let several = for_alice(|builder| {
        let list = "192.0.2.0/24,198.51.100.7,2001:db8:1::/48,2001:db8:2::7";
        builder.critical_option("source-address", list).unwrap();
    });
    let now = Timestamp::from_second(NOW.cast_signed()).unwrap();
    for (peer, wanted) in [
        ("192.0.2.7", Ok(())),
        ("198.51.100.7", Ok(())),
        ("198.51.100.8", Err(CertificateError::Address)),
        ("2001:db8:1:2::3", Ok(())),
        ("2001:db8:2::7", Ok(())),
        ("2001:db8:2::8", Err(CertificateError::Address)),
        ("::", Err(CertificateError::Address)),
    ] {
        assert_eq!(check(&several, peer.parse().unwrap(), now), wanted, "{peer}");
    }
}

/// What ssh-keygen makes with an authority of this kind, which signs with this algorithm.
fn signed_by(kind: &[&str], algorithm: Option<&str>) -> Certificate {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let keygen = |words: &[&str]| {
        let mut command = std::process::Command::new("ssh-keygen");
        let made = command.arg("-q").args(words).current_dir(&directory).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    keygen(&[kind, &["-N", "", "-f", "authority"]].concat());
    std::fs::write(path("user.pub"), private(1).public_key().to_openssh().unwrap()).unwrap();
    let with = algorithm.map_or(Vec::new(), |algorithm| vec!["-t", algorithm]);
    keygen(&[&["-s", "authority", "-I", "x"], &with[..], &["-n", "alice", "user.pub"]].concat());
    let text = std::fs::read_to_string(path("user-cert.pub")).unwrap();
    Certificate::from_openssh(&text).unwrap()
}

#[test]
fn authorities_of_every_kind_count_and_none_with_sha1() {
    let rsa = &["-t", "rsa", "-b", "2048"][..];
    for (kind, algorithm, wanted) in [
        (rsa, None, Ok(())),
        (rsa, Some("rsa-sha2-256"), Ok(())),
        (rsa, Some("rsa-sha2-512"), Ok(())),
        (rsa, Some("ssh-rsa"), Err(CertificateError::Signature)),
        (&["-t", "ecdsa", "-b", "256"], None, Ok(())),
        (&["-t", "ecdsa", "-b", "384"], None, Ok(())),
        (&["-t", "ecdsa", "-b", "521"], None, Ok(())),
        (&["-t", "ed25519"], None, Ok(())),
    ] {
        let certificate = signed_by(kind, algorithm);
        assert_eq!(checked(&certificate), wanted, "{kind:?} {algorithm:?}");
        assert!(blobs(&certificate).is_some());
    }
}

/// A chain of them is none: who was certified is no authority.
#[test]
fn a_certificate_of_a_certificate_is_none() {
    let good = for_alice(|_| {});
    let bytes = good.to_bytes().unwrap();
    let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
    let authority = string(&private(9).public_key().to_bytes().unwrap());
    let at = bytes.windows(authority.len()).rposition(|window| window == authority).unwrap();
    let chained = [&bytes[..at], &string(&bytes), &bytes[at + authority.len()..]].concat();
    let counts = |read: Certificate| blobs(&read).is_some() && checked(&read).is_ok();
    assert!(!Certificate::from_bytes(&chained).is_ok_and(counts));
    // As the key that is certified.
    let point = private(1).public_key().key_data().ed25519().unwrap().0;
    let key = string(&point);
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    let nested = [&bytes[..at], &string(&bytes), &bytes[at + key.len()..]].concat();
    assert!(!Certificate::from_bytes(&nested).is_ok_and(counts));
}

#[test]
fn a_certificate_that_its_authority_has_not_signed_is_none() {
    let good = for_alice(|_| {});
    let bytes = good.to_bytes().unwrap();
    // The principal, changed behind the back of the authority.
    let at = bytes.windows(5).rposition(|window| window == b"alice").unwrap();
    let mut forged = bytes.clone();
    forged[at] = b'b';
    let forged = Certificate::from_bytes(&forged).unwrap();
    assert_eq!(checked(&forged), Err(CertificateError::Signature));
    let (key, authority) = blobs(&good).unwrap();
    assert_eq!(key, private(1).public_key().to_bytes().unwrap());
    assert_eq!(authority, private(9).public_key().to_bytes().unwrap());
    let narrowed = narrow("principals=\"alice\"", &good).unwrap();
    let said = narrowed.issued.unwrap();
    assert_eq!((said.key_id.as_str(), said.serial), ("alice@laptop", 7));
    assert_eq!(said.authority, private(9).public_key().fingerprint(HashAlg::Sha256).to_string());
    assert_eq!(
        narrowed.fingerprint,
        private(1).public_key().fingerprint(HashAlg::Sha256).to_string()
    );
}
