use std::process::Command;

use proptest::prelude::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::*;

/// Format, version, date, flags, what is reserved, and no comment.
const HEADER_BYTES: usize = 4 + 3 * 8 + 4 + 4;

fn private(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn blob(seed: u8) -> Vec<u8> {
    private(seed).public_key().to_bytes().unwrap()
}

fn certificate(user: u8, authority: u8, serial: u64, key_id: &str) -> Certificate {
    let mut builder = Builder::new([3; 16], private(user).public_key(), 0, u64::MAX).unwrap();
    builder.serial(serial).unwrap().key_id(key_id).unwrap();
    builder.cert_type(CertType::User).unwrap().valid_principal("alice").unwrap();
    builder.sign(&private(authority)).unwrap()
}

/// A list that ssh-keygen makes of this specification, for the certificates of authority 9 or of any.
fn list(specification: &str, is_of_any: bool) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let public = |seed: u8| private(seed).public_key().to_openssh().unwrap();
    std::fs::write(path("ca.pub"), public(9)).unwrap();
    std::fs::write(path("specification"), specification).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.arg("-q").arg("-k").arg("-f").arg(path("krl"));
    if !is_of_any {
        command.arg("-s").arg(path("ca.pub"));
    }
    let made = command.arg(path("specification")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let made = path("krl");
    (directory, made)
}

fn revoked(specification: &str, is_of_any: bool) -> Revoked {
    let (_directory, path) = list(specification, is_of_any);
    Revoked::load(&[path]).map_err(|error| error.to_string()).unwrap()
}

fn has(revoked: &Revoked, certificate: &Certificate, user: u8, authority: u8) -> bool {
    revoked.has_certificate(certificate, &blob(user), &blob(authority))
}

#[test]
fn lists_of_ssh_keygen_are_understood() {
    // Close together, far apart, and a span: ssh-keygen chooses how it writes them.
    let serials: String =
        (0..200).step_by(3).map(|serial| format!("serial: {}\n", serial + 5000)).collect();
    let revoked_ones =
        revoked(&format!("serial: 7\nserial: 100-200\nid: lost laptop\n{serials}"), false);
    for (serial, key_id, wanted) in [
        (7, "x", true),
        (8, "x", false),
        (99, "x", false),
        (100, "x", true),
        (200, "x", true),
        (201, "x", false),
        (5000, "x", true),
        (5001, "x", false),
        (5003, "x", true),
        (5198, "x", true),
        (8, "lost laptop", true),
        (8, "lost", false),
        // Not numbered, so it is not among the numbers.
        (0, "x", false),
    ] {
        let its = certificate(1, 9, serial, key_id);
        assert_eq!(has(&revoked_ones, &its, 1, 9), wanted, "{serial} {key_id}");
        // Another authority has numbers of its own.
        let others = certificate(1, 8, serial, key_id);
        assert!(!has(&revoked_ones, &others, 1, 8), "{serial} {key_id}");
    }
    assert!(!revoked_ones.has_key(&blob(1)) && !revoked_ones.has_key(&blob(9)));
}

#[test]
fn keys_and_authorities_are_revoked_with_all_that_they_sign() {
    let public = |seed: u8| private(seed).public_key().to_openssh().unwrap();
    let sha256 = |seed: u8| private(seed).public_key().fingerprint(HashAlg::Sha256);
    for specification in [
        format!("{}\n", public(1)),
        format!("key: {}\n", public(1)),
        format!("sha256: {}\n", public(1)),
        format!("hash: {}\n", sha256(1)),
    ] {
        let revoked = revoked(&specification, true);
        assert!(revoked.has_key(&blob(1)) && !revoked.has_key(&blob(2)), "{specification}");
        assert!(has(&revoked, &certificate(1, 9, 1, "x"), 1, 9));
        assert!(has(&revoked, &certificate(2, 1, 1, "x"), 2, 1), "its authority is revoked");
        assert!(!has(&revoked, &certificate(2, 9, 1, "x"), 2, 9));
    }
    // Without ssh-keygen: a line each.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("revoked");
    std::fs::write(&path, format!("# gone\n\n{} alice\n", public(1))).unwrap();
    let revoked = Revoked::load(std::slice::from_ref(&path)).unwrap();
    assert!(revoked.has_key(&blob(1)) && !revoked.has_key(&blob(2)));
    std::fs::write(&path, format!("{}\nnonsense\n", public(1))).unwrap();
    let told = Revoked::load(&[path]).unwrap_err().to_string();
    assert!(told.ends_with("line 2 is no public key"), "{told}");
}

#[test]
fn what_is_not_understood_makes_the_list_unusable() {
    let public = private(1).public_key().to_openssh().unwrap();
    let (_directory, path) = list(&format!("sha1: {public}\n"), true);
    let told = Revoked::load(&[path]).unwrap_err().to_string();
    assert!(told.contains("it has SHA-1 fingerprints"), "{told}");
    let (_directory, path) = list("serial: 7\n", false);
    let whole = std::fs::read(&path).unwrap();
    for length in MAGIC.len()..whole.len() {
        let mut revoked = Revoked::default();
        // What is cut at the border of a section says less, and cannot be told from a whole one.
        let is_border = length == MAGIC.len() + HEADER_BYTES;
        assert_eq!(revoked.add(&whole[..length]).is_ok(), is_border, "{length}");
    }
    let with = |kind: u8, section: &[u8]| {
        let mut bytes = whole.clone();
        bytes.push(kind);
        bytes.extend((section.len() as u32).to_be_bytes());
        bytes.extend(section);
        Revoked::default().add(&bytes)
    };
    assert!(with(6, b"").unwrap_err().contains("unknown kind 6"));
    assert!(with(SECTION_SIGNATURE, b"").unwrap_err().contains("it is signed"));
    assert_eq!(with(SECTION_EXTENSION, b"\0\0\0\x01x\0\0\0\0\0"), Ok(()));
    assert!(with(SECTION_EXTENSION, b"\0\0\0\x01x\x01\0\0\0\0").is_err());
    let mut format = whole.clone();
    format[MAGIC.len() + 3] = 2;
    assert!(Revoked::default().add(&format).unwrap_err().contains("format 2"));
    // A span of all numbers takes no more room than one; a bitmap of so many would.
    let span = |part: &[u8]| {
        let mut section = vec![0, 0, 0, 0, 0, 0, 0, 0, CERTIFICATES_SERIAL_RANGE];
        section.extend((part.len() as u32).to_be_bytes());
        section.extend(part);
        with(SECTION_CERTIFICATES, &section)
    };
    assert_eq!(span(&[[0; 8], [0xff; 8]].concat()), Ok(()));
    assert!(span(&[[0xff; 8], [0; 8]].concat()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(Revoked::default().add(&bytes));
        drop(Revoked::default().add(&[MAGIC, &bytes].concat()));
        let header = [MAGIC, &[0, 0, 0, 1], &[0; 32]].concat();
        drop(Revoked::default().add(&[&header[..], &bytes].concat()));
    }
}
