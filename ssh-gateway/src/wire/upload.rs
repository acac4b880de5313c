//! Between the broker and the uploader: [`Setup`] once, then orders one after the other, each with an open file, and a
//! report on each.

use serde::{Deserialize, Serialize};

use super::Opaque;

/// Where to, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// `s3://bucket/prefix`.
    pub location: String,
    /// `http://host:port` or `https://host`; AWS when absent.
    pub endpoint: Option<String>,
    /// The store's own when absent.
    pub region: Option<String>,
    /// Who signs.
    pub access_key: String,
    /// With what.
    pub secret_key: Opaque,
    /// For temporary credentials.
    pub session_token: Option<Opaque>,
}

/// A file that is to be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Comes back with the report.
    pub number: u64,
    /// Its key below the location.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// The hash of its bytes.
    pub sha256: [u8; 32],
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// That of the order.
    pub number: u64,
    /// It is there, and was read back.
    pub result: Result<(), Failure>,
}

/// Why it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// Not now: one sentence.
    Later(String),
    /// Something else is there under its key. It stays.
    Taken,
    /// The file is not what it was said to be any more.
    Changed,
}
