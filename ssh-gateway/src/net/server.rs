//! What the server offers: algorithms, sizes and times of russh, each set on purpose.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::ssh_key::{self, Algorithm, EcdsaCurve, HashAlg};
use russh::keys::{Certificate, PrivateKey};
use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use crate::wire::net::{Settings, WINDOW_BYTES};

/// No product version: it helps nobody but scanners.
const IDENTIFICATION: &str = "SSH-2.0-chores";
/// The window of every channel of a slowed client: russh refills it at less than half, and asks for the next
/// one only when it refills, so this must not be 1. In bytes.
pub(super) const WINDOW_SLOW_BYTES: u32 = 2;
/// The most russh allows. In bytes.
const PACKET_BYTES: u32 = 65_535;
/// Messages of a channel that wait for its reader. We have none: bytes go into a spool in the handler.
const CHANNEL_BUFFER: usize = 16;
/// Messages to the client that wait for the session loop.
const EVENT_BUFFER: usize = 10;
/// Every refusal takes this long, so that its reason cannot be told from its time.
const REJECTION: Duration = Duration::from_millis(50);
/// RFC 4253, 9: keys are exchanged anew after this many bytes.
const REKEY_BYTES: usize = 1 << 30;
/// RFC 4253, 9: or after this time.
const REKEY_TIME: Duration = Duration::from_secs(3600);

/// Post-quantum first; the extensions are the server's halves.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const CIPHERS: &[cipher::Name] =
    &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::AES_256_CTR];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];
/// No `ssh-rsa`: it signs with SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// The configuration of every connection.
pub(super) fn config(settings: &Settings) -> Result<Config, ssh_key::Error> {
    let keys = settings
        .host_keys
        .iter()
        .map(|key| PrivateKey::from_openssh(&key.0))
        .collect::<Result<Vec<_>, _>>()?;
    let certificates = settings
        .host_certificates
        .iter()
        .map(|text| Certificate::from_openssh(text))
        .collect::<Result<Vec<_>, _>>()?;
    let limits = &settings.limits;
    Ok(Config {
        server_id: SshId::Standard(Cow::Borrowed(IDENTIFICATION)),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REJECTION,
        // The `none` that every client begins with.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        certificates,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: CHANNEL_BUFFER,
        event_buffer_size: EVENT_BUFFER,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(KEYS),
            host_key_certificates: Cow::Borrowed(&[]),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
        },
        // russh counts that `none` too.
        max_auth_attempts: limits.auth_attempts as usize + 1,
        // Any packet would restart it: times are ours.
        inactivity_timeout: None,
        keepalive_interval: seconds(limits.keepalive_seconds),
        keepalive_max: limits.keepalive_count as usize,
        // For russh's own listener only; ours sets it.
        nodelay: true,
    })
}

fn seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}
