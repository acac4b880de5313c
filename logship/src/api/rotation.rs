//! How the engine rotates the log of a container, as far as a reader must know.

use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// What is taken for the size of one file where the driver is not known, in bytes.
const UNKNOWN_FILE_BYTES: u64 = 5 << 20;

/// What the driver `local` does unless told otherwise.
const LOCAL_FILE_BYTES: u64 = 20_000_000;
const LOCAL_FILES: u64 = 5;

/// How a log is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of one file; `None`: it is never rotated, so that a follower leaves nothing out.
    pub file_bytes: Option<u64>,
    /// Bytes that are retained, about; `None`: nobody knows, or there is no limit.
    pub retained_bytes: Option<u64>,
    /// All pieces of a long line carry the time of the first.
    pub pieces_share_time: bool,
    /// An answer that begins with a tail may leave out lines behind it. Podman reads the tail of the file and then goes on
    /// from its end, whether it follows or not (`GetLogFile` in its `libpod/logs/log.go`); Docker does both at one
    /// place.
    pub tail_may_skip: bool,
}

impl Rotation {
    /// By the log driver of Docker and its options, as `inspect` tells them.
    #[must_use]
    pub fn of(driver: &str, options: &BTreeMap<String, String>) -> Self {
        let size = options.get("max-size").and_then(|text| size(text)).filter(|size| *size > 0);
        let files = options.get("max-file").and_then(|text| text.parse().ok());
        let files = files.filter(|files| *files > 0);
        let retained = |bytes: u64, usual: u64| bytes.saturating_mul(files.unwrap_or(usual));
        match driver {
            "json-file" => Self {
                file_bytes: size,
                retained_bytes: size.map(|size| retained(size, 1)),
                pieces_share_time: true,
                tail_may_skip: false,
            },
            "local" => {
                let size = size.unwrap_or(LOCAL_FILE_BYTES);
                Self {
                    file_bytes: Some(size),
                    retained_bytes: Some(retained(size, LOCAL_FILES)),
                    pieces_share_time: true,
                    tail_may_skip: false,
                }
            }
            _ => Self {
                file_bytes: Some(size.unwrap_or(UNKNOWN_FILE_BYTES)),
                retained_bytes: size.map(|size| retained(size, 1)),
                pieces_share_time: false,
                tail_may_skip: false,
            },
        }
    }

    /// The same where it is not Docker that answers: podman calls its driver `k8s-file` by the name `json-file`.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        Self {
            file_bytes: self.file_bytes.or(Some(UNKNOWN_FILE_BYTES)),
            pieces_share_time: false,
            tail_may_skip: true,
            ..self
        }
    }

    /// Nothing is ever removed, so nothing can be left out.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.file_bytes.is_none()
    }
}

/// `10m`, `1g`, `512k`, `100`: the engine reads them with powers of 1000.
fn size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let factor = match text.strip_prefix(digits)?.trim() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return None,
    };
    let value: f64 = digits.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((value * factor) as u64)
}
