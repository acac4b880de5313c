use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;

fn path(state: &tempfile::TempDir, name: &str) -> PathBuf {
    state.path().join(DIRECTORY).join(name)
}

fn put(state: &tempfile::TempDir, name: &str, bytes: &[u8], mode: u32) {
    let path = path(state, name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
}

fn text(kind: Kind) -> Zeroizing<String> {
    make(kind).unwrap().to_openssh(LineEnding::LF).unwrap()
}

fn fault(state: &tempfile::TempDir) -> String {
    chain(&HostKeys::load_or_make(state.path()).unwrap_err())
}

#[test]
fn keys_are_made_once_and_found_again() {
    let state = tempfile::tempdir().unwrap();
    let first = HostKeys::load_or_make(&state.path().join("deep")).unwrap();
    let names: Vec<_> =
        first.made().iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["ssh_host_ed25519_key", "ssh_host_ecdsa_key", "ssh_host_rsa_key"]);
    for made in first.made() {
        assert_eq!(made.metadata().unwrap().mode() & 0o7777, 0o600, "{}", made.display());
    }
    let directory = state.path().join("deep").join(DIRECTORY);
    assert_eq!(directory.metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 3);

    let again = HostKeys::load_or_make(&state.path().join("deep")).unwrap();
    assert_eq!((again.made().len(), again.fingerprints()), (0, first.fingerprints()));
    let kinds: Vec<_> = again.fingerprints();
    assert!(kinds[0].starts_with("ssh-ed25519 SHA256:"), "{kinds:?}");
    assert!(kinds[1].starts_with("ecdsa-sha2-nistp256 SHA256:"), "{kinds:?}");
    assert!(kinds[2].starts_with("ssh-rsa SHA256:"), "{kinds:?}");
    let wire = again.to_wire().unwrap();
    assert!(wire.iter().all(|key| key.0.starts_with(b"-----BEGIN OPENSSH PRIVATE KEY-----")));
    assert!(!format!("{again:?}").contains("PRIVATE"));
}

#[test]
fn ssh_keygen_reads_what_was_made_and_we_read_what_it_makes() {
    if Command::new("ssh-keygen").arg("-?").output().is_err() {
        assert!(
            std::env::var_os("CHORES_REQUIRE_ENGINE").is_none(),
            "ssh-keygen is missing, and CHORES_REQUIRE_ENGINE is set"
        );
        println!("skipped: there is no ssh-keygen here");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    for (kind, name) in KINDS {
        put(&state, name, text(kind).as_bytes(), 0o600);
        let read = Command::new("ssh-keygen").arg("-lf").arg(path(&state, name)).output().unwrap();
        let said = String::from_utf8(read.stdout).unwrap();
        let bits = if kind == Kind::Rsa { "3072 SHA256:" } else { "256 SHA256:" };
        assert!(said.starts_with(bits), "{said}");
    }
    for (kind, name, arguments) in [
        (Kind::Ed25519, "a", &["-t", "ed25519"][..]),
        (Kind::Ecdsa, "b", &["-t", "ecdsa", "-b", "521"]),
        (Kind::Rsa, "c", &["-t", "rsa", "-b", "3072"]),
    ] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-f"])
            .arg(path(&state, name))
            .args(arguments)
            .status();
        assert!(made.unwrap().success());
        parse(kind, &read(&path(&state, name)).unwrap().unwrap()).unwrap();
    }
}

#[test]
fn what_cannot_be_used_is_told_and_never_replaced() {
    let ed25519 = "ssh_host_ed25519_key";
    let good = text(Kind::Ed25519);
    let cases: [(&str, &[u8], u32, &str); 7] = [
        (ed25519, b"", 0o600, "it is damaged, or no private key in OpenSSH's format"),
        (ed25519, &good.as_bytes()[..200], 0o600, "it is damaged"),
        (ed25519, &vec![b'x'; 1 + FILE_BYTES_MAX as usize], 0o600, "it is larger than 65536 bytes"),
        (ed25519, good.as_bytes(), 0o640, "its mode is 0640, so others may use it"),
        (ed25519, good.as_bytes(), 0o604, "its mode is 0604"),
        (
            "ssh_host_ecdsa_key",
            good.as_bytes(),
            0o600,
            "it is ssh-ed25519, and must be an ecdsa key",
        ),
        ("ssh_host_rsa_key", good.as_bytes(), 0o600, "it is ssh-ed25519, and must be an RSA key"),
    ];
    for (name, bytes, mode, said) in cases {
        let state = tempfile::tempdir().unwrap();
        put(&state, ed25519, good.as_bytes(), 0o600);
        put(&state, "ssh_host_ecdsa_key", text(Kind::Ecdsa).as_bytes(), 0o600);
        put(&state, name, bytes, mode);
        let told = fault(&state);
        let named = format!("the host key {} cannot be used: {said}", path(&state, name).display());
        assert!(told.starts_with(&named), "{told}");
        assert_eq!(std::fs::read(path(&state, name)).unwrap(), bytes);
    }
}

/// What clients are shown, whether they come by themselves or through another connection.
#[test]
fn a_host_certificate_is_shown_when_it_counts_and_ends_the_start_when_it_is_none() {
    use russh::keys::ssh_key::certificate::Builder;

    const NOW: u64 = 1_796_040_000;
    let (key, other, authority) =
        (make(Kind::Ed25519).unwrap(), make(Kind::Ed25519).unwrap(), make(Kind::Ed25519).unwrap());
    let certified = |key: &PrivateKey, kind: CertType, from: u64, to: u64| {
        let mut builder = Builder::new([3; 16], key.public_key(), from, to).unwrap();
        builder.cert_type(kind).unwrap().key_id("gateway").unwrap();
        builder.valid_principal("gateway").unwrap();
        builder.sign(&authority).unwrap().to_openssh().unwrap()
    };
    let state = tempfile::tempdir().unwrap();
    let now = Timestamp::from_second(NOW.cast_signed()).unwrap();
    let read = |text: &str| {
        put(&state, "certificate", text.as_bytes(), 0o600);
        certificate(&path(&state, "certificate"), &key, now)
    };
    assert_eq!(certificate(&state.path().join("none"), &key, now).unwrap(), None);
    let host = CertType::Host;
    for (from, to, is_shown) in [
        (NOW - 60, NOW + 60, true),
        (0, u64::MAX, true),
        (NOW, NOW + 1, true),
        // Over, not begun, and over this very second.
        (NOW - 60, NOW - 1, false),
        (NOW + 1, NOW + 60, false),
        (NOW - 60, NOW, false),
    ] {
        let shown = read(&certified(&key, host, from, to)).unwrap();
        assert_eq!(shown.is_some(), is_shown, "{from} {to}");
    }
    let good = certified(&key, host, 0, u64::MAX);
    let mut forged = Certificate::from_openssh(&good).unwrap().to_bytes().unwrap();
    let at = forged.windows(7).rposition(|window| window == b"gateway").unwrap();
    forged[at] = b'x';
    let forged = Certificate::from_bytes(&forged).unwrap().to_openssh().unwrap();
    for (text, fault) in [
        (
            certified(&key, CertType::User, 0, u64::MAX),
            "it is for a user: sign it with ssh-keygen -h",
        ),
        (certified(&other, host, 0, u64::MAX), "it is for another key"),
        (forged, "it is not signed by its authority"),
        (key.public_key().to_openssh().unwrap(), "it is no certificate of OpenSSH"),
        (String::new(), "it is no certificate of OpenSSH"),
    ] {
        let told = chain(&read(&text).unwrap_err());
        assert!(told.contains(fault), "{told}");
    }
}

#[test]
fn links_pipes_and_open_directories_are_refused() {
    let state = tempfile::tempdir().unwrap();
    put(&state, "elsewhere", text(Kind::Ed25519).as_bytes(), 0o600);
    let name = "ssh_host_ed25519_key";
    std::os::unix::fs::symlink(path(&state, "elsewhere"), path(&state, name)).unwrap();
    assert!(fault(&state).contains("it is a symbolic link"));
    std::fs::remove_file(path(&state, name)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path(&state, name),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(fault(&state).contains("it is no regular file"));
    std::fs::remove_file(path(&state, name)).unwrap();
    let directory = state.path().join(DIRECTORY);
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(fault(&state).contains("its mode is 0755"));
}

#[test]
fn the_key_of_the_audit_is_made_once_and_never_replaced() {
    let state = tempfile::tempdir().unwrap();
    let first = audit_key(state.path()).unwrap();
    let directory = state.path().join(AUDIT_DIRECTORY);
    let public = std::fs::read_to_string(directory.join("key.pub")).unwrap();
    assert_eq!(public.trim_end(), first.key.public_key().to_openssh().unwrap());
    std::fs::remove_file(directory.join("key.pub")).unwrap();
    let again = audit_key(state.path()).unwrap();
    assert_eq!(again.key.public_key(), first.key.public_key());
    assert!(directory.join("key.pub").exists() && !first.is_doubtful && !again.is_doubtful);
    for path in [directory.join("key"), directory] {
        let fault = |state: &tempfile::TempDir| chain(&audit_key(state.path()).unwrap_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(fault(&state).contains("its mode is 0755"), "{}", fault(&state));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    }
    let directory = state.path().join(AUDIT_DIRECTORY);
    std::fs::write(directory.join("key"), "no key").unwrap();
    let fault = || chain(&audit_key(state.path()).unwrap_err());
    assert!(fault().contains("it is damaged"), "{}", fault());
    // A public half that is somebody else's, or nothing: it is told, and no reason not to start.
    let private = text(Kind::Ed25519);
    std::fs::write(directory.join("key"), private.as_bytes()).unwrap();
    for public in [&b"ssh-ed25519 AAAA"[..], b"", b"\xff", public.as_bytes()] {
        std::fs::write(directory.join("key.pub"), public).unwrap();
        let doubtful = audit_key(state.path()).unwrap();
        assert!(doubtful.is_doubtful, "{public:?}");
        let told = audit_key_fault(state.path()).unwrap().unwrap();
        assert!(told.contains("key.pub is not the public half of"), "{told}");
        assert_eq!(doubtful.key.to_openssh(LineEnding::LF).unwrap(), private);
        assert_eq!(std::fs::read(directory.join("key.pub")).unwrap(), public, "it stays");
    }
    // None at all, while there is what it has signed.
    std::fs::remove_file(directory.join("key")).unwrap();
    assert!(fault().contains("it is gone, and there is what it has signed"), "{}", fault());
    std::fs::remove_file(directory.join("key.pub")).unwrap();
    for name in ["audit-00000001.jsonl", "head"] {
        std::fs::write(directory.join(name), "").unwrap();
        assert!(fault().contains("move the directory"), "{}", fault());
        assert!(!directory.join("key").exists());
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    assert_eq!(audit_key_fault(state.path()).unwrap(), None);
    audit_key(state.path()).unwrap();
    assert_eq!(audit_key_fault(state.path()).unwrap(), None);
    std::fs::remove_file(directory.join("key")).unwrap();
    assert!(audit_key_fault(state.path()).is_err());
    assert!(!directory.join("key").exists(), "nothing is changed");
}
