use proptest::prelude::*;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::{Decode as _, Encode as _};
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

use super::*;

const SESSION: [u8; 32] = [7; 32];
const APPLICATION: &str = "ssh:";

fn key_of(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn blob_of(key: &PrivateKey) -> Vec<u8> {
    key.public_key().to_bytes().unwrap()
}

/// What RFC 4252 wants signed, with each of its parts.
fn request(session: &[u8], words: [&str; 4], flag: u8, blob: &[u8]) -> Vec<u8> {
    let [user, service, method, algorithm] = words;
    let mut data = Vec::new();
    session.encode(&mut data).unwrap();
    50_u8.encode(&mut data).unwrap();
    for word in [user, service, method] {
        word.encode(&mut data).unwrap();
    }
    flag.encode(&mut data).unwrap();
    algorithm.encode(&mut data).unwrap();
    blob.encode(&mut data).unwrap();
    data
}

const WORDS: [&str; 4] = ["web", "ssh-connection", "publickey", "ssh-ed25519"];

fn sign(key: &PrivateKey, data: Vec<u8>) -> Signed {
    let mut signature = Vec::new();
    key.try_sign(&data).unwrap().encode(&mut signature).unwrap();
    Signed { signature, data }
}

#[test]
fn a_proof_is_for_one_user_key_and_session() {
    let key = key_of(1);
    let blob = blob_of(&key);
    let whole = request(&SESSION, WORDS, 1, &blob);
    let signed = sign(&key, whole.clone());
    let presence = Presence::Signed { touched: false, verified: false };
    let proof = Proof { session: SESSION.to_vec(), presence };
    assert_eq!(verify("web", &blob, &signed), Ok(proof));
    assert_eq!(verify("db", &blob, &signed), Err(ProofError::Other));
    assert_eq!(verify("web", &blob_of(&key_of(2)), &signed), Err(ProofError::Other));
    // Somebody else's key in what was signed with one's own.
    let others = request(&SESSION, WORDS, 1, &blob_of(&key_of(2)));
    let forged = sign(&key, others);
    assert_eq!(verify("web", &blob_of(&key_of(2)), &forged), Err(ProofError::Forged));
    // Data of another session than was signed.
    let moved = Signed { data: request(&[8; 32], WORDS, 1, &blob), ..signed.clone() };
    assert_eq!(verify("web", &blob, &moved), Err(ProofError::Forged));
    let [user, service, method, algorithm] = WORDS;
    for (session, words, flag) in [
        (&SESSION[..31], WORDS, 1),
        (&[7; 65], WORDS, 1),
        (&[], WORDS, 1),
        (&SESSION, WORDS, 0),
        (&SESSION, [user, "ssh-userauth", method, algorithm], 1),
        (&SESSION, [user, service, "hostbased", algorithm], 1),
    ] {
        let signed = sign(&key, request(session, words, flag, &blob));
        assert_eq!(verify("web", &blob, &signed), Err(ProofError::Request), "{words:?}");
    }
    // Something in front of it, something behind it, and an end that is missing.
    for data in [[&[0][..], &whole].concat(), [&whole[..], &[0]].concat(), whole[..99].to_vec()] {
        assert_eq!(verify("web", &blob, &sign(&key, data)), Err(ProofError::Request));
    }
    for algorithm in ["ssh-rsa", "ssh-dss", "rsa-sha2-512", "x", "", "ssh-ed25519-cert-v01@x"] {
        let signed = sign(&key, request(&SESSION, [user, service, method, algorithm], 1, &blob));
        assert_eq!(verify("web", &blob, &signed), Err(ProofError::Signature), "{algorithm}");
    }
    let mut long = signed.clone();
    long.signature.push(0);
    assert_eq!(verify("web", &blob, &long), Err(ProofError::Signature));
    // A blob with something behind it is another one.
    let padded = [&blob[..], &[0]].concat();
    let signed = sign(&key, request(&SESSION, WORDS, 1, &padded));
    assert_eq!(verify("web", &padded, &signed), Err(ProofError::Key));
}

/// A security key that signs as its device would, with these flags.
fn signed_by_device(flags: u8) -> (Vec<u8>, Signed) {
    const KIND: &str = "sk-ssh-ed25519@openssh.com";
    let inner = key_of(1);
    let point = inner.public_key().key_data().ed25519().unwrap().0;
    let mut blob = Vec::new();
    KIND.encode(&mut blob).unwrap();
    point[..].encode(&mut blob).unwrap();
    APPLICATION.encode(&mut blob).unwrap();
    let data = request(&SESSION, ["web", "ssh-connection", "publickey", KIND], 1, &blob);
    let mut device = HashAlg::Sha256.digest(APPLICATION.as_bytes());
    device.extend([flags, 0, 0, 0, 7]);
    device.extend(HashAlg::Sha256.digest(&data));
    let mut signature = Vec::new();
    KIND.encode(&mut signature).unwrap();
    inner.try_sign(&device).unwrap().as_bytes().encode(&mut signature).unwrap();
    signature.extend([flags, 0, 0, 0, 7]);
    (blob, Signed { signature, data })
}

/// No name of an algorithm stands for a key of another kind, nor for a certificate that is none.
#[test]
fn kinds_are_not_mixed() {
    let key = key_of(1);
    let blob = blob_of(&key);
    let [user, service, method, _] = WORDS;
    let of = |algorithm: &str, blob: &[u8]| {
        let words = [user, service, method, algorithm];
        verify("web", blob, &sign(&key, request(&SESSION, words, 1, blob))).map(drop)
    };
    assert_eq!(of("ssh-ed25519", &blob), Ok(()));
    assert_eq!(of("ssh-ed25519-cert-v01@openssh.com", &blob), Err(ProofError::Signature));
    let mut builder = Builder::new([3; 16], key.public_key(), 0, u64::MAX).unwrap();
    builder.cert_type(CertType::User).unwrap().valid_principal("alice").unwrap();
    let certificate = builder.sign(&key_of(9)).unwrap().to_bytes().unwrap();
    assert_eq!(of("ssh-ed25519-cert-v01@openssh.com", &certificate), Ok(()));
    assert_eq!(of("ssh-ed25519", &certificate), Err(ProofError::Signature));
    // Somebody else's certificate, and that of the authority itself, with one's own key.
    for other in [2, 9] {
        let words = [user, service, method, "ssh-ed25519-cert-v01@openssh.com"];
        let by = sign(&key_of(other), request(&SESSION, words, 1, &certificate));
        assert_eq!(verify("web", &certificate, &by), Err(ProofError::Forged), "{other}");
    }
    // What a device signs, under the name of another kind of key.
    let (blob, mut signed) = signed_by_device(1);
    let data = request(&SESSION, [user, service, method, "rsa-sha2-512"], 1, &blob);
    let mut rest = signed.signature.as_slice();
    let (_, body): (String, _) = (String::decode(&mut rest).unwrap(), rest.to_vec());
    let mut renamed = Vec::new();
    "rsa-sha2-512".encode(&mut renamed).unwrap();
    renamed.extend(body);
    (signed.signature, signed.data) = (renamed, data);
    assert_eq!(verify("web", &blob, &signed).map(drop), Err(ProofError::Signature));
}

#[test]
fn a_security_key_says_how_it_was_used() {
    for (flags, touched, verified) in [
        (0x00, false, false),
        (0x01, true, false),
        (0x04, false, true),
        (0x05, true, true),
        (0xfa, false, false),
    ] {
        let (blob, signed) = signed_by_device(flags);
        let presence = verify("web", &blob, &signed).unwrap().presence;
        assert_eq!(presence, Presence::Signed { touched, verified }, "{flags:#04x}");
        // The flags are signed too.
        let mut forged = signed;
        let at = forged.signature.len() - TRAILER_BYTES;
        forged.signature[at] ^= USER_PRESENT;
        assert_eq!(verify("web", &blob, &forged), Err(ProofError::Forged));
    }
}

#[test]
fn a_session_is_taken_once() {
    let mut sessions = Sessions::default();
    assert_eq!(sessions.take(&[1]), Ok(()));
    assert_eq!(sessions.take(&[1]), Err(ProofError::Used));
    for number in 0..SESSIONS_MAX - 1 {
        assert_eq!(sessions.take(&number.to_be_bytes()), Ok(()));
    }
    assert_eq!((sessions.known.len(), sessions.order.len()), (SESSIONS_MAX, SESSIONS_MAX));
    assert_eq!(sessions.take(&[1]), Err(ProofError::Used));
    assert_eq!(sessions.take(&[2]), Ok(()));
    assert_eq!(sessions.take(&[1]), Ok(()), "the oldest one was forgotten");
    assert_eq!((sessions.known.len(), sessions.order.len()), (SESSIONS_MAX, SESSIONS_MAX));
}

proptest! {
    #[test]
    fn nothing_but_the_signed_bytes_is_a_proof(
        noise in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0_u32..8,
    ) {
        let key = key_of(1);
        let blob = blob_of(&key);
        let signed = sign(&key, request(&SESSION, WORDS, 1, &blob));
        let noisy = Signed { signature: noise.clone(), data: noise.clone() };
        prop_assert!(verify("web", &noise, &noisy).is_err());
        let swapped = Signed { data: noise, ..signed.clone() };
        prop_assert!(verify("web", &blob, &swapped).is_err());
        let flip = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            bytes
        };
        let forged = Signed { signature: flip(&signed.signature), ..signed.clone() };
        prop_assert!(verify("web", &blob, &forged).is_err());
        let forged = Signed { data: flip(&signed.data), ..signed };
        prop_assert!(verify("web", &blob, &forged).is_err());
    }
}
